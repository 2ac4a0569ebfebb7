//! The member `traffic` of the document as an operator writes it, and its check.

use serde::Deserialize;

use super::names::{check_cluster, check_glob, check_name};
use crate::config::{ConfigError, Object};
use crate::traffic::{Shed, Traffic};

/// Rows of each list. They go with the identity of each request.
const MAX_ROWS: usize = 32;

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "what is out of use")]
pub(super) struct RawTraffic {
    drained: Vec<String>,
    shed: Vec<Object<RawShed>>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a tier, and perhaps a model")]
struct RawShed {
    tier: String,
    #[serde(default = "every_model")]
    model: String,
}

fn every_model() -> String {
    "*".to_owned()
}

impl RawTraffic {
    /// Checks each row; all that is wrong is reported, with paths below the document.
    pub(super) fn check(self, errors: &mut Vec<ConfigError>) -> Traffic {
        for (name, rows) in [("drained", self.drained.len()), ("shed", self.shed.len())] {
            if rows > MAX_ROWS {
                let expected = format!("at most {MAX_ROWS} rows");
                errors.push(ConfigError::expected(format!("traffic.{name}"), rows, &expected));
            }
        }
        for (at, target) in self.drained.iter().enumerate() {
            check_cluster(target, || format!("traffic.drained[{at}]"), errors);
        }
        let shed = self.shed.into_iter().enumerate();
        let shed = shed.map(|(at, Object(RawShed { tier, model }))| {
            let path = format!("traffic.shed[{at}]");
            check_name(&tier, &format!("{path}.tier"), errors);
            check_glob(&model, || format!("{path}.model"), errors);
            Shed { tier, model }
        });
        Traffic {
            shed: shed.collect(),
            drained: self.drained,
        }
    }
}
