//! The forms of the chain: three modules, one that does what they do, or a native library that does.
//!
//! Tests are written for the files of the three. In the other forms these still hold the settings, and the one file
//! that Envoy reads is made of them anew whenever one changes: so every test runs against all.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::config::CONFIGURATION;

/// How the filters are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `tollgate-key-auth.wasm`, `tollgate-tenant-router.wasm`, `tollgate-rate-limit.wasm`.
    Chain,
    /// `tollgate-gateway.wasm`.
    Gateway,
    /// The same filter in `libtollgate.so`, and the others with it.
    Native,
}

/// The section of the one module's file for each file of the three.
const SECTIONS: [(&str, &str); 3] = [
    ("key-auth", "key_auth"),
    ("tenant-router", "tenant_router"),
    ("rate-limit", "rate_limit"),
];

/// Whether the filters come from the native library.
///
/// # Panics
/// `TOLLGATE_FORM` names no form.
pub fn is_native() -> bool {
    Form::of_environment() == Form::Native
}

impl Form {
    /// What `TOLLGATE_FORM` says: `gateway`, `native`, or by default the chain.
    ///
    /// # Panics
    /// It says something else.
    pub(crate) fn of_environment() -> Self {
        match std::env::var("TOLLGATE_FORM").as_deref() {
            Ok("gateway") => Self::Gateway,
            Ok("native") => Self::Native,
            Ok("chain" | "") | Err(_) => Self::Chain,
            Ok(other) => panic!("TOLLGATE_FORM is `{other}`, expected `gateway`, `native` or `chain`"),
        }
    }

    /// The name by which Envoy knows what `filter` became.
    pub(crate) fn filter(self, filter: &str) -> &str {
        if self != Self::Chain && SECTIONS.iter().any(|(one, _)| *one == filter) {
            "gateway"
        } else {
            filter
        }
    }

    /// Whether the file of the one module is made of this one.
    pub(crate) fn is_made_of(self, file: &str) -> bool {
        let is_it = |(filter, _): &(&str, &str)| file == format!("filters/{filter}.yaml");
        self != Self::Chain && SECTIONS.iter().any(is_it)
    }

    /// What an operator edits for the filters, and what it is about.
    pub(crate) fn files(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Chain => vec![
                ("filters/key-auth.yaml", "where keys come from"),
                ("filters/tenant-router.yaml", "models, and who is served where"),
                ("filters/rate-limit.yaml", "how much each may ask for"),
            ],
            Self::Gateway | Self::Native => {
                vec![(
                    self.file(),
                    "who may call, which models there are, what is limited",
                )]
            }
        }
    }

    /// The file of the one filter.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Chain | Self::Gateway => "filters/gateway.yaml",
            Self::Native => "filters/gateway-native.yaml",
        }
    }

    /// Where the configuration lies within it.
    pub(crate) const fn configuration(self) -> &'static str {
        match self {
            Self::Chain | Self::Gateway => CONFIGURATION,
            Self::Native => "/resources/0/typed_config/filter_config/value",
        }
    }
}

/// The file of the one module, with the configurations that `of` gives for each of the three.
pub(crate) fn joined(mut file: Value, at: &str, of: impl Fn(&str) -> Result<Value>) -> Result<Value> {
    let place = file
        .pointer_mut(at)
        .context("the filter's file has no configuration")?;
    for (filter, section) in SECTIONS {
        place[section] = of(filter)?;
    }
    Ok(file)
}

/// `listener.yaml` with one filter in the place of three; comments and the rest stay.
pub(crate) fn one_filter(listener: &str, file: &str) -> Result<String> {
    let mut kept = String::new();
    let mut dropping = false;
    let mut found = 0;
    for line in listener.lines() {
        if let Some(name) = line.strip_prefix("        - name: ") {
            let of_ours = SECTIONS
                .iter()
                .position(|(filter, _)| name == format!("tollgate.{filter}"));
            found += usize::from(of_ours.is_some());
            dropping = of_ours.is_some_and(|at| at > 0);
        } else if line.starts_with("        #") {
            dropping = false;
        }
        if !dropping {
            let line = line
                .replace("- name: tollgate.key-auth", "- name: tollgate.gateway")
                .replace("envoy/filters/key-auth.yaml", &format!("envoy/{file}"));
            kept += &line;
            kept.push('\n');
        }
    }
    anyhow::ensure!(
        found == SECTIONS.len(),
        "listener.yaml has {found} of the three filters"
    );
    Ok(kept)
}

/// What Envoy calls a filter in wasm, and one in a native library.
pub(crate) const KINDS: [&str; 2] = [
    "envoy.extensions.filters.http.wasm.v3.Wasm",
    "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
];

/// Puts `library` in the place of the wasm module in a file: from the line with `"@type": WASM` to the configuration, which
/// stays as it is. `names` are how a library's item says which it is, and what it is to do.
pub(crate) fn native(file: &str, kinds: [&str; 2], names: [&str; 2], library: &str) -> Result<String> {
    let [wasm, dynamic] = kinds;
    let type_of = |kind: &str| format!("\"@type\": type.googleapis.com/{kind}\n");
    let (before, item) = file
        .split_once(&type_of(wasm))
        .with_context(|| format!("the file has no {wasm}"))?;
    let indent = " ".repeat(before.len() - before.trim_end_matches(' ').len());
    // What is further in belongs to it.
    let is_its = |line: &&str| line.trim().is_empty() || line.starts_with(&indent);
    let item: String = item.split_inclusive('\n').take_while(is_its).collect();
    let behind = &file[before.len() + type_of(wasm).len() + item.len()..];
    let (_, name) = item.split_once("root_id: ").context("the item has no root_id")?;
    let name = name.lines().next().unwrap_or_default();
    let [named, configured] = names;
    let mut native = format!(
        "{before}{}{indent}dynamic_module_config: {{module: {{local: {{filename: {library}}}}}, do_not_close: true}}\n\
         {indent}{named}: {name}\n",
        type_of(dynamic)
    );
    if let Some((_, configuration)) = item.split_once("configuration:\n") {
        native += &format!("{indent}{configured}:\n{configuration}");
    }
    Ok(native + behind)
}

/// `listener.yaml` with the library's own logger in the place of the file logger of usage records, as the comment at the
/// head of the native filter's file says it.
pub(crate) fn usage_logger(listener: &str, filter: &str, log: &str, journal: &str) -> Result<String> {
    let (_, logger) = filter
        .split_once("file logger of usage records")
        .and_then(|(_, behind)| behind.split_once('\n'))
        .context("the filter's file has no logger of usage records")?;
    let logger = logger.lines().map_while(|line| line.strip_prefix("# "));
    let logger: String = logger.map(|line| format!("        {line}\n")).collect();
    let logger = logger
        .replace("/run/tollgate", journal)
        .replace("/var/log/tollgate/usage.jsonl", log);
    let (before, item) = listener
        .split_once(&format!("path: {log} # usage records"))
        .context("listener.yaml has no usage records")?;
    let begin = before.rfind("        - name: envoy.access_loggers.file");
    let before = begin.and_then(|begin| before.get(..begin));
    let (_, behind) = item
        .split_once("\n\n")
        .context("nothing follows the logger of usage records")?;
    Ok(format!(
        "{}{logger}\n{behind}",
        before.context("usage records have no logger")?
    ))
}
