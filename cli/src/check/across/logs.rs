//! Access loggers: usage records, and the attempts that limits hear of.

use std::rc::Rc;

use crate::files::envoy_files::EnvoyFiles;
use crate::files::finding::Report;
use crate::files::kind::Kind;
use crate::files::survey::{Chain, named, plugin_kind};
use crate::files::tree::{Node, Value};

/// What the filter leaves for loggers.
const USAGE: &str = "wasm.tollgate.usage";

/// Checks the loggers of a chain that meters.
pub(super) fn check(files: &EnvoyFiles<'_>, chain: &Chain, report: &mut Report) {
    let meters = |kind| matches!(kind, Some(Kind::RateLimit | Kind::Gateway));
    if chain.is_upstream() || !chain.filters.iter().any(|link| meters(files.kind(link))) {
        return;
    }
    let mut records = 0;
    let mut attempts = Vec::new();
    chain.owner.walk(&mut |node| match plugin_kind(node) {
        Some(Kind::Usage) => records += 1,
        Some(Kind::Attempts) => attempts.push(node),
        _ => {}
    });
    for logger in chain
        .owner
        .get("access_log")
        .map(|list| list.items())
        .unwrap_or_default()
    {
        if mentions(logger, USAGE) {
            records += 1;
            line(logger, report);
        }
    }
    if records == 0 {
        let text = "no access logger of this chain writes usage records: add the one of envoy/listener.yaml (docs/usage-record.md)";
        report.warning(chain.place, text);
    }
    for logger in attempts {
        shared(files, chain, logger, report);
    }
}

fn mentions(node: &Rc<Node>, text: &str) -> bool {
    let mut found = false;
    node.walk(&mut |node| found |= node.text().is_some_and(|scalar| scalar.contains(text)));
    found
}

/// A record that is put together as text.
fn line(logger: &Rc<Node>, report: &mut Report) {
    logger.walk(&mut |node| {
        let Some(line) = node.at(&["text_format_source", "inline_string"]) else { return };
        let text = line.text().unwrap_or_default();
        if !text.contains(USAGE) {
            return;
        }
        if node.text_at(&["omit_empty_values"]) != Some("true") {
            let text = "a usage record needs `omit_empty_values: true`: Envoy writes `-` for what is not there, and that is no JSON";
            report.error(line.place, text);
        }
        for (operator, what) in [
            ("tollgate.request_id", "the request's id"),
            ("%START_TIME", "when the request began"),
            ("%RESPONSE_CODE%", "the status"),
        ] {
            if !text.contains(operator) {
                report.error(line.place, format!("the usage record lacks {what} (`{operator}`): docs/usage-record.md has the whole line"));
            }
        }
        for operator in ["%REQ(", "%PATH", "%STREAM_ID%"] {
            if text.contains(operator) {
                report.error(line.place, format!("`{operator}` is what a client wrote, and the usage record is put together as text: a client could write its own"));
            }
        }
    });
}

/// The logger of attempts knows what the router knows only in the same VM.
fn shared(files: &EnvoyFiles<'_>, chain: &Chain, logger: &Rc<Node>, report: &mut Report) {
    let Some(id) = logger.at(&["vm_config"]).and_then(|vm| named(vm, "vm_id")) else {
        return;
    };
    let routers = chain
        .filters
        .iter()
        .filter(|link| matches!(files.kind(link), Some(Kind::TenantRouter | Kind::Gateway)));
    let Some(router) = routers.filter_map(|link| files.good(link)).next() else {
        return;
    };
    let Some(theirs) = router.plugin.node.text_at(&["vm_config", "vm_id"]) else {
        return;
    };
    if matches!(logger.value, Value::Map(_)) && theirs != id.name {
        let text = format!(
            "the logger of attempts shares what it knows with `{}` by this name: expected `{theirs}`",
            router.kind.name()
        );
        report.error(id.place, text);
    }
}
