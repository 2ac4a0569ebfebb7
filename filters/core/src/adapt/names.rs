//! What a provider calls a model.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::config::ConfigError;
use crate::glob::fits;

/// From the gateway's names of models to the provider's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelNames {
    exact: BTreeMap<String, String>,
    /// The most specific pattern first.
    patterns: Vec<(String, String)>,
}

impl ModelNames {
    /// Checks a mapping as an operator wrote it: names, and patterns with `*`. A `*` on the right stands for what the
    /// one on the left stood for.
    pub fn new(mapping: BTreeMap<String, String>) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut names = Self::default();
        for (model, name) in mapping {
            if let Err(problem) = check(&model, &name) {
                errors.push(ConfigError::expected(&model, &name, problem));
            }
            if model.contains('*') {
                names.patterns.push((model, name));
            } else {
                names.exact.insert(model, name);
            }
        }
        // Envoy hands a mapping over in no order, so the order in the file can't decide.
        names
            .patterns
            .sort_by_cached_key(|(pattern, _)| (core::cmp::Reverse(literals(pattern)), pattern.clone()));
        if errors.is_empty() { Ok(names) } else { Err(errors) }
    }

    /// Whether every model keeps its name.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.patterns.is_empty()
    }

    /// The provider's name of `model`: that of its own entry, else of the most specific pattern (the one with most
    /// characters besides `*`) that fits, else its own.
    pub fn of<'a>(&'a self, model: &'a str) -> Cow<'a, str> {
        if let Some(name) = self.exact.get(model) {
            return Cow::Borrowed(name);
        }
        match self.patterns.iter().find(|(pattern, _)| fits(pattern, model)) {
            Some((pattern, name)) => match taken(pattern, model).filter(|_| name.contains('*')) {
                Some(taken) => Cow::Owned(name.replace('*', taken)),
                None => Cow::Borrowed(name),
            },
            None => Cow::Borrowed(model),
        }
    }
}

/// What the `*` of a pattern with one stands for.
fn taken<'a>(pattern: &str, model: &'a str) -> Option<&'a str> {
    let (before, after) = pattern.split_once('*')?;
    model.strip_prefix(before)?.strip_suffix(after)
}

fn literals(pattern: &str) -> usize {
    pattern.bytes().filter(|byte| *byte != b'*').count()
}

fn check(model: &str, name: &str) -> Result<(), &'static str> {
    let stars = |text: &str| text.matches('*').count();
    if !(1..=256).contains(&name.len()) || name.chars().any(char::is_control) {
        return Err("the provider's name of the model, of 1 to 256 characters");
    }
    match (stars(model), stars(name)) {
        (_, 0) | (1, 1) => Ok(()),
        _ => Err("a name without `*`, or one `*` for the one on the left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(mapping: &[(&str, &str)]) -> Result<ModelNames, Vec<ConfigError>> {
        ModelNames::new(
            mapping
                .iter()
                .map(|(model, name)| ((*model).into(), (*name).into()))
                .collect(),
        )
    }

    #[test]
    fn exact_then_the_most_specific_pattern_then_its_own() {
        let names = names(&[
            ("llama-70b", "meta-llama/llama-3.3-70b-instruct"),
            ("llama-*", "meta-llama/*"),
            ("llama-*-vision", "vision"),
            ("gpt-*", "openai/gpt"),
            ("gpt-oss-*", "openai/gpt-oss:*"),
        ])
        .unwrap();
        for (model, name) in [
            ("llama-70b", "meta-llama/llama-3.3-70b-instruct"),
            ("llama-8b", "meta-llama/8b"),
            ("llama-8b-vision", "vision"),
            ("gpt-4", "openai/gpt"),
            ("gpt-oss-120b", "openai/gpt-oss:120b"),
            ("mistral", "mistral"),
        ] {
            assert_eq!(names.of(model), name, "{model}");
        }
        assert!(!names.is_empty());
        assert_eq!(ModelNames::default().of("x"), "x");
    }

    #[test]
    fn what_can_be_no_name_is_refused() {
        for (model, name) in [
            ("a", ""),
            ("a", "b\nc"),
            ("a", "b*"),
            ("a*", "b*c*"),
            ("a*b*", "c*"),
        ] {
            let errors = names(&[(model, name)]).unwrap_err();
            assert_eq!(
                (errors.len(), errors[0].path.as_str()),
                (1, model),
                "{model} {name}"
            );
        }
    }
}
