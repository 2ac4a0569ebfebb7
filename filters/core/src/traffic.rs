//! What operators took out of use for a while: targets that are drained, and models that are shed from a tier.
//!
//! It is a part of the directory, so that it is in force as fast as a revoked key. What of it concerns a caller, goes with
//! its identity to the router.

use serde::{Deserialize, Serialize};

use crate::glob::fits_any;
use crate::state::{Keyspace, Value};

/// What is out of use, for all callers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Envoy's clusters.
    pub(crate) drained: Vec<String>,
    pub(crate) shed: Vec<Shed>,
}

/// Models that a tier is not served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shed {
    pub(crate) tier: String,
    /// A pattern of models.
    pub(crate) model: String,
}

/// What one caller is not served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// Envoy's clusters.
    targets: Vec<String>,
    /// Patterns of models.
    models: Vec<String>,
}

impl Traffic {
    /// What a caller of a tier is not served.
    pub fn withheld(&self, tier: &str) -> Withheld {
        let shed = self.shed.iter().filter(|shed| shed.tier == tier);
        Withheld {
            targets: self.drained.clone(),
            models: shed.map(|shed| shed.model.clone()).collect(),
        }
    }
}

impl Value for Traffic {
    const KEYSPACE: Keyspace = Keyspace::TRAFFIC;

    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

impl Withheld {
    /// Nothing, as nearly always.
    pub const NOTHING: Self = Self {
        targets: Vec::new(),
        models: Vec::new(),
    };

    /// Whether no new request goes to this target.
    pub fn has_target(&self, cluster: &str) -> bool {
        self.targets.iter().any(|target| target == cluster)
    }

    /// Whether the caller is not served by this model, named by its own name.
    pub fn has_model(&self, model: &str) -> bool {
        fits_any(&self.models, model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic() -> Traffic {
        let shed = |tier: &str, model: &str| Shed {
            tier: tier.into(),
            model: model.into(),
        };
        Traffic {
            drained: vec!["gpu-a".into()],
            shed: vec![shed("free", "llama-*"), shed("free", "qwen"), shed("trial", "*")],
        }
    }

    #[test]
    fn a_drained_target_is_withheld_from_everybody_and_a_shed_model_from_its_tier() {
        let traffic = traffic();
        let (free, trial, pro) = (
            traffic.withheld("free"),
            traffic.withheld("trial"),
            traffic.withheld("pro"),
        );
        for withheld in [&free, &trial, &pro] {
            assert!(withheld.has_target("gpu-a") && !withheld.has_target("gpu"));
        }
        let models =
            |withheld: &Withheld| ["llama-70b", "qwen", "qwen-2"].map(|model| withheld.has_model(model));
        assert_eq!(models(&free), [true, true, false]);
        assert_eq!(models(&trial), [true, true, true]);
        assert_eq!(models(&pro), [false, false, false]);
        assert_eq!(Traffic::default().withheld("free"), Withheld::NOTHING);
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        assert_eq!(Traffic::decode(&traffic().encode()), Some(traffic()));
        assert_eq!(Traffic::decode(&[1, 2]), None);
    }
}
