//! A bootstrap made of a file of resources: Envoy looks at no file that it is only to watch.

use std::collections::HashSet;
use std::rc::Rc;

use serde_json::{Value as Json, json};

use crate::files::finding::Place;
use crate::files::locate::{Found, find};
use crate::files::scalar::Reader;
use crate::files::survey::type_of;
use crate::files::tree::Node;

/// Resources as a bootstrap, and which of them stands where in it.
pub(super) struct StandIn {
    pub(super) json: Vec<u8>,
    parts: Vec<(String, Rc<Node>)>,
}

impl StandIn {
    /// Of the listeners, clusters and route tables of a file; `None` where it has none.
    pub(super) fn of(root: &Node) -> Option<Self> {
        let (mut listeners, mut clusters, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for node in root.get("resources").map(|list| list.items()).unwrap_or_default() {
            let kind = type_of(node);
            let (path, list, value) = if kind.ends_with(".listener.v3.Listener") {
                ("static_resources.listeners", &mut listeners, plain(node))
            } else if kind.ends_with(".cluster.v3.Cluster") {
                ("static_resources.clusters", &mut clusters, plain(node))
            } else if kind.ends_with(".route.v3.RouteConfiguration") {
                (
                    "static_resources.listeners",
                    &mut listeners,
                    in_listener(plain(node)),
                )
            } else {
                continue;
            };
            parts.push((format!("{path}[{}]", list.len()), Rc::clone(node)));
            list.push(value);
        }
        let bootstrap = json!({"static_resources": {"listeners": listeners, "clusters": clusters}});
        (!parts.is_empty()).then(|| Self {
            json: serde_json::to_vec(&bootstrap).unwrap_or_default(),
            parts,
        })
    }

    /// What a path of the bootstrap's is about in the file of resources.
    pub(super) fn find(&self, path: &str) -> Option<Found<'_>> {
        let mut parts = self.parts.iter();
        parts.find_map(|(prefix, node)| {
            let rest = path.strip_prefix(prefix.as_str())?;
            let rest = rest.strip_prefix(IN_LISTENER).unwrap_or(rest);
            Some(find(node, rest))
        })
    }
}

/// A resource as Envoy reads it, without its type.
fn plain(node: &Node) -> Json {
    let without: HashSet<Place> = node.entry("@type").map(|entry| entry.place).into_iter().collect();
    serde_json::from_slice(&Reader::Envoy.json(node, &without)).unwrap_or_default()
}

/// Where a route table stands in the listener around it.
const IN_LISTENER: &str = ".filter_chains[0].filters[0].typed_config.route_config";

fn in_listener(mut routes: Json) -> Json {
    // Those of a table that is watched may name clusters that are not there yet.
    if let Some(routes) = routes.as_object_mut() {
        routes.entry("validate_clusters").or_insert(false.into());
    }
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let types = "type.googleapis.com/envoy.extensions.filters";
    let router =
        json!({"name": "router", "typed_config": {"@type": format!("{types}.http.router.v3.Router")}});
    let manager = json!({
        "@type": format!("{types}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "check",
        "route_config": routes,
        "http_filters": [router],
    });
    json!({"address": address, "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}]})
}
