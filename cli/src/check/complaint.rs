//! What Envoy says of a file that it refuses.

use crate::files::finding::masked;

/// How much of a reason is repeated, in characters.
const MAX_CHARS: usize = 300;

/// What Envoy does not like, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) text: String,
    /// The path in the bootstrap, where it tells one.
    pub(super) path: Option<String>,
    /// Whether it is about the name of a member, and not about its value.
    pub(super) of_name: bool,
}

impl Complaint {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            path: None,
            of_name: false,
        }
    }

    /// From what it wrote. It repeats the whole configuration with many reasons, which may hold what no log should.
    pub(super) fn of(said: &str) -> Self {
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let reason = match said.split_once("error initializing configuration '") {
            Some((_, reason)) => reason.split_once("': ").map_or(reason, |(_, reason)| reason),
            None => said.rsplit("] ").next().unwrap_or_default(),
        };
        if let Some((_, chain)) = reason.rsplit_once("Proto constraint validation failed (") {
            return Self::constraint(chain);
        }
        if reason.contains("goo.gle/debug") {
            return Self::plain("its reason repeats the configuration: ask it with `envoy --mode validate`");
        }
        Self::form(reason)
    }

    /// `A.One: embedded message failed validation | caused by B.Two: value must be greater than 0)`
    fn constraint(chain: &str) -> Self {
        let chain = chain
            .split("): ")
            .next()
            .unwrap_or_default()
            .trim_end_matches(')');
        let steps: Vec<(&str, &str)> = chain
            .split(" | caused by ")
            .filter_map(|step| step.split_once('.')?.1.split_once(": "))
            .collect();
        let path: Vec<String> = steps.iter().map(|(field, _)| snake(field)).collect();
        let why = steps.last().map_or(chain, |(_, why)| why);
        let path = path.join(".");
        Self {
            text: masked(&format!("{path}: {why}")),
            path: Some(path),
            of_name: false,
        }
    }

    /// `… (INVALID_ARGUMENT: invalid JSON in TYPE @ PATH: message TYPE, near 1:46 (offset 45): no such field: 'x') …`
    fn form(reason: &str) -> Self {
        let at = reason.split_once(" @ ").and_then(|(_, at)| at.split_once(": "));
        let mut path = at.map(|(path, _)| path.replace(".<any>", ""));
        let why = reason
            .split_once("(offset ")
            .and_then(|(_, why)| why.split_once("): "));
        let why = why.map_or(reason, |(_, why)| why);
        let why = why.split("): ").next().unwrap_or_default();
        let why = why.trim_end_matches(" has unknown fields").trim_end_matches(')');
        let field = why.split_once("no such field: '");
        if let Some((path, (_, field))) = path.as_mut().zip(field) {
            path.push('.');
            path.push_str(field.trim_end_matches('\''));
        }
        Self {
            text: masked(&why.chars().take(MAX_CHARS).collect::<String>()),
            path,
            of_name: field.is_some(),
        }
    }

    /// Whether it is about a file that is not here.
    pub(super) fn is_of_elsewhere(&self) -> bool {
        self.text.contains("Invalid path: ")
    }
}

/// `SocketAddress` as `socket_address`.
fn snake(field: &str) -> String {
    let mut name = String::new();
    for letter in field.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_has_a_path_and_repeats_no_configuration() {
        for (said, text, path) in [
            (
                "[1][critical][main] [x.cc:76] error initializing configuration 'x.json': Protobuf message (type envoy.config.bootstrap.v3.Bootstrap reason INVALID_ARGUMENT: invalid JSON in envoy.config.bootstrap.v3.Bootstrap @ static_resources.listeners[0].typed_config.<any>: message M, near   1:46 (offset 45):  no  such field:  'http_filter') has unknown fields",
                "no such field: 'http_filter'",
                Some("static_resources.listeners[0].typed_config.http_filter"),
            ),
            (
                "error initializing configuration 'x.json': Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in T @ node.cluster: string, near 1:20 (offset 19): unexpected character: 't'; expected '\"'): {\"node\":{\"secret\":1}}",
                "unexpected character: 't'; expected '\"'",
                Some("node.cluster"),
            ),
            (
                "error initializing configuration 'x.json': goo.gle/debugonly node { secret: 1 } : Proto constraint validation failed (BootstrapValidationError.Admin: embedded message failed validation | caused by AdminValidationError.PortValue: value must be less than 9)",
                "admin.port_value: value must be less than 9",
                Some("admin.port_value"),
            ),
            (
                "error initializing configuration 'x.json': Invalid path: dist/x.wasm",
                "Invalid path: dist/x.wasm",
                None,
            ),
        ] {
            let complaint = Complaint::of(said);
            assert_eq!((complaint.text.as_str(), complaint.path.as_deref()), (text, path));
        }
    }
}
