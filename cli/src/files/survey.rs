//! What stands in a file of Envoy's that is about Tollgate, wherever it stands: filters and loggers of ours, chains of
//! filters, clusters.

use std::rc::Rc;

use super::finding::Place;
use super::kind::Kind;
use super::tree::Node;

/// Everything found in some files.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) plugins: Vec<Plugin>,
    pub(crate) chains: Vec<Chain>,
    pub(crate) clusters: Vec<Cluster>,
    /// Services of wasm: what runs a module outside of chains.
    pub(crate) services: Vec<Rc<Node>>,
    /// Route tables' bounds on bodies.
    pub(crate) body_limits: Vec<Rc<Node>>,
}

/// A filter, logger or fetcher of ours.
#[derive(Debug, Clone)]
pub(crate) struct Plugin {
    /// `None` where its name is none that we have.
    pub(crate) kind: Option<Kind>,
    pub(crate) form: Form,
    /// The map that has its name, its code and its configuration.
    pub(crate) node: Rc<Node>,
    /// Name of the resource that it is, where it has a file of its own.
    pub(crate) resource: Option<Named>,
}

/// How a filter is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Wasm,
    Native,
}

/// A name, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) place: Place,
}

/// A list `http_filters`.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) place: Place,
    /// The map that it stands in: a connection manager, or the options of a cluster.
    pub(crate) owner: Rc<Node>,
    pub(crate) filters: Vec<Link>,
}

/// A filter of a chain.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) name: Named,
    /// Its own configuration, where it stands here.
    pub(crate) typed: Option<Rc<Node>>,
    /// The file that has it, where it is in another.
    pub(crate) path: Option<Named>,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) name: Named,
    pub(crate) node: Rc<Node>,
}

impl Chain {
    /// Whether it is a cluster's: for attempts, and not for requests.
    pub(crate) fn is_upstream(&self) -> bool {
        type_of(&self.owner).ends_with(".HttpProtocolOptions")
    }
}

impl Survey {
    /// Adds what stands in a file.
    pub(crate) fn add(&mut self, root: &Rc<Node>) {
        root.walk(&mut |node| self.look(node));
        let lists = [
            root.at(&["static_resources", "clusters"]),
            root.get("clusters").map(Rc::as_ref),
        ];
        for list in lists.into_iter().flatten() {
            list.items().iter().for_each(|node| self.cluster(node));
        }
    }

    fn look(&mut self, node: &Rc<Node>) {
        let kind = type_of(node);
        if kind.ends_with(".TypedExtensionConfig") {
            self.resource(node);
        } else if kind.ends_with(".cluster.v3.Cluster") {
            self.cluster(node);
        } else if kind.ends_with(".WasmService") {
            self.services.push(Rc::clone(node));
        }
        if let Some(plugin) = plugin(node)
            && !self.plugins.iter().any(|known| Rc::ptr_eq(&known.node, node))
        {
            self.plugins.push(plugin);
        }
        if let Some(filters) = node.entry("http_filters") {
            self.chains.push(Chain {
                place: filters.place,
                owner: Rc::clone(node),
                filters: filters.value.items().iter().filter_map(link).collect(),
            });
        }
        self.body_limits
            .extend(node.get("request_body_buffer_limit").cloned());
    }

    /// A filter with a file of its own.
    fn resource(&mut self, node: &Rc<Node>) {
        let Some(typed) = node.get("typed_config") else {
            return;
        };
        let resource = named(node, "name");
        typed.walk(&mut |inner| {
            self.plugins.extend(plugin(inner).map(|plugin| Plugin {
                resource: resource.clone(),
                ..plugin
            }));
        });
    }

    fn cluster(&mut self, node: &Rc<Node>) {
        let known = |name: &Named| self.clusters.iter().any(|known| known.name.place == name.place);
        if let Some(name) = named(node, "name").filter(|name| !known(name)) {
            self.clusters.push(Cluster {
                name,
                node: Rc::clone(node),
            });
        }
    }
}

/// The last part of `@type`, or all of it.
pub(crate) fn type_of(node: &Node) -> &str {
    node.text_at(&["@type"]).unwrap_or_default()
}

pub(crate) fn named(node: &Node, member: &str) -> Option<Named> {
    let value = node.get(member)?;
    Some(Named {
        name: value.text()?.to_owned(),
        place: value.place,
    })
}

fn link(node: &Rc<Node>) -> Option<Link> {
    let path = node.at(&["config_discovery", "config_source", "path_config_source"]);
    Some(Link {
        name: named(node, "name")?,
        typed: node.get("typed_config").cloned(),
        path: path.and_then(|source| named(source, "path")),
    })
}

fn plugin(node: &Rc<Node>) -> Option<Plugin> {
    let (form, kind) = if node.get("dynamic_module_config").is_some() {
        (Form::Native, native(node)?)
    } else if node.get("vm_config").is_some() || node.get("root_id").is_some() {
        (Form::Wasm, wasm(node)?)
    } else {
        return None;
    };
    Some(Plugin {
        kind,
        form,
        node: Rc::clone(node),
        resource: None,
    })
}

/// The members that name what of a native library is meant, and that hold its configuration.
pub(crate) const NATIVE: [(&str, &str); 3] = [
    ("filter_name", "filter_config"),
    ("logger_name", "logger_config"),
    ("extension_name", "extension_config"),
];

/// The kind of a native one; none of either where it is somebody else's.
fn native(node: &Node) -> Option<Option<Kind>> {
    let mut names = NATIVE.iter();
    let kind = names
        .find_map(|(name, _)| node.text_at(&[name]))
        .and_then(Kind::named);
    let module = node.get("dynamic_module_config")?;
    let file = module
        .text_at(&["module", "local", "filename"])
        .or(module.text_at(&["name"]));
    let ours = file.is_some_and(|file| file.contains("tollgate"));
    (ours || kind.is_some()).then_some(kind)
}

fn wasm(node: &Node) -> Option<Option<Kind>> {
    let kind = node.text_at(&["root_id"]).and_then(Kind::named);
    let begins = |path: &[&str]| node.text_at(path).is_some_and(|text| text.contains("tollgate"));
    let ours = begins(&["name"])
        || begins(&["vm_config", "vm_id"])
        || begins(&["vm_config", "code", "local", "filename"]);
    ours.then_some(kind)
}

/// Which part of ours a map loads, if any.
pub(crate) fn plugin_kind(node: &Rc<Node>) -> Option<Kind> {
    plugin(node).and_then(|plugin| plugin.kind)
}
