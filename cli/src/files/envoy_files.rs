//! The files of one Envoy, put together: which filters work together, and what they know of each other.

use std::path::Path;
use std::rc::Rc;

use super::document::{Contents, Document};
use super::finding::Report;
use super::kind::Kind;
use super::parse;
use super::scalar::Reader;
use super::settings::{self, ValidPlugin};
use super::survey::{Chain, Link, Survey};
use super::tree::{Entry, Node};

/// A file that was read.
#[derive(Debug)]
pub(crate) struct File<'p> {
    pub(crate) number: u32,
    pub(crate) path: &'p Path,
    /// The same from the root.
    pub(crate) full: &'p Path,
}

/// All that belongs to one Envoy.
#[derive(Debug)]
pub(crate) struct EnvoyFiles<'p> {
    pub(crate) survey: Survey,
    /// Filters of ours whose configuration is good.
    pub(crate) good: Vec<ValidPlugin>,
    /// Directory documents that are files of their own.
    pub(crate) documents: Vec<Rc<Node>>,
    pub(crate) files: Vec<File<'p>>,
}

/// Filters that work together on a request, as far as their configurations are known.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub(crate) key_auth: Vec<Rc<Node>>,
    pub(crate) router: Vec<Rc<Node>>,
    pub(crate) limits: Vec<Rc<Node>>,
    /// The documents that say who there is; none where they come from elsewhere.
    pub(crate) directories: Vec<Rc<Node>>,
}

/// A model of a catalogue.
pub(crate) struct Model<'n> {
    pub(crate) entry: &'n Entry,
}

impl Model<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.entry.name
    }

    pub(crate) fn aliases(&self) -> impl Iterator<Item = &str> {
        let aliases = self.entry.value.get("aliases").into_iter();
        aliases
            .flat_map(|list| list.items())
            .filter_map(|alias| alias.text())
    }

    pub(crate) fn endpoints(&self) -> Vec<&str> {
        let list = self.entry.value.get("endpoints");
        list.map(|list| list.names().into_iter().map(|(name, _)| name).collect())
            .unwrap_or_default()
    }
}

impl Scope {
    /// Every model of its catalogues.
    pub(crate) fn models(&self) -> Vec<Model<'_>> {
        let catalogues = self.router.iter();
        let models = catalogues.filter_map(|router| router.at(&["catalogue", "models"]));
        models
            .flat_map(|models| models.entries())
            .map(|entry| Model { entry })
            .collect()
    }

    /// Every organization of its directories.
    pub(crate) fn orgs(&self) -> impl Iterator<Item = &Entry> {
        let directories = self.directories.iter();
        directories
            .filter_map(|directory| directory.get("orgs"))
            .flat_map(|orgs| orgs.entries())
    }

    /// Every key of its directories.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Rc<Node>> {
        let directories = self.directories.iter();
        directories
            .filter_map(|directory| directory.get("keys"))
            .flat_map(|keys| keys.items())
    }

    fn add(&mut self, good: &ValidPlugin) {
        let section = |name: &str| good.root.get(name).cloned();
        match good.kind {
            Kind::KeyAuth => self.key_auth.push(Rc::clone(&good.root)),
            Kind::TenantRouter => self.router.push(Rc::clone(&good.root)),
            Kind::RateLimit => self.limits.push(Rc::clone(&good.root)),
            Kind::Gateway => {
                self.key_auth.extend(section("key_auth"));
                self.router.extend(section("tenant_router"));
                self.limits.extend(section("rate_limit"));
            }
            _ => {}
        }
    }
}

impl<'p> EnvoyFiles<'p> {
    /// What the files of one Envoy say; what is wrong with each by itself is reported.
    pub(crate) fn of(group: &[&Document<'p>], report: &mut Report) -> Self {
        let mut files = Self {
            survey: Survey::default(),
            good: Vec::new(),
            documents: Vec::new(),
            files: Vec::new(),
        };
        for document in group {
            files.files.push(File {
                number: document.source.file,
                path: &document.source.path,
                full: &document.source.full,
            });
            match document.contents {
                Contents::Bootstrap | Contents::Envoy => files.survey.add(&document.root),
                Contents::Bare(Kind::Document) => {
                    if parse::check(Kind::Document, &document.root, Reader::Tool, report) {
                        files.documents.push(Rc::clone(&document.root));
                    }
                }
                Contents::Bare(kind) => {
                    if parse::check(kind, &document.root, Reader::Envoy, report) {
                        files.good.push(ValidPlugin::bare(kind, &document.root));
                    }
                }
                Contents::Foreign => {}
            }
        }
        let plugins = files.survey.plugins.iter();
        let good: Vec<_> = plugins
            .filter_map(|plugin| settings::check(plugin, report))
            .collect();
        files.good.extend(good);
        files
    }
}

impl EnvoyFiles<'_> {
    /// The filters of each chain, and those that are in none.
    pub(crate) fn scopes(&self) -> Vec<Scope> {
        let mut scopes: Vec<Scope> = Vec::new();
        let mut used: Vec<*const Node> = Vec::new();
        for chain in self.survey.chains.iter().filter(|chain| !chain.is_upstream()) {
            let mut scope = Scope::default();
            for good in chain.filters.iter().filter_map(|link| self.good(link)) {
                used.push(Rc::as_ptr(&good.root));
                scope.add(good);
            }
            scopes.push(scope);
        }
        scopes.extend(self.loose(&used));
        for scope in &mut scopes {
            scope.directories = self.directories(scope);
        }
        scopes
    }

    /// What no chain of these files has: each whole gateway by itself, and the rest together, unless a chain has some of
    /// it already; then they are other forms of what that has.
    fn loose(&self, used: &[*const Node]) -> Vec<Scope> {
        let unused = || {
            self.good
                .iter()
                .filter(|good| !used.contains(&Rc::as_ptr(&good.root)))
        };
        let (whole, parts): (Vec<&ValidPlugin>, Vec<&ValidPlugin>) =
            unused().partition(|good| good.kind == Kind::Gateway);
        let mut scopes: Vec<Scope> = whole
            .into_iter()
            .map(|good| {
                let mut scope = Scope::default();
                scope.add(good);
                scope
            })
            .collect();
        let part = |good: &&ValidPlugin| good.kind.is_filter() && good.kind != Kind::Gateway;
        let taken = self.good.iter().filter(part).count() > parts.iter().copied().filter(part).count();
        if !taken {
            let mut rest = Scope::default();
            parts.into_iter().for_each(|good| rest.add(good));
            scopes.push(rest);
        }
        scopes
    }

    /// Whether each catalogue could be read, so that what is in none is nowhere.
    pub(crate) fn knows_all_models(&self) -> bool {
        let routes = |kind| matches!(kind, Kind::TenantRouter | Kind::Gateway);
        let plugins = self.survey.plugins.iter();
        let mut routers = plugins.filter(|plugin| plugin.kind.is_some_and(routes));
        let good = |node: &Rc<Node>| self.good.iter().any(|good| Rc::ptr_eq(&good.plugin.node, node));
        routers.all(|plugin| good(&plugin.node))
    }

    fn directories(&self, scope: &Scope) -> Vec<Rc<Node>> {
        let inline = scope.key_auth.iter();
        let inline: Vec<Rc<Node>> = inline
            .filter_map(|config| config.get("directory")?.get("inline").cloned())
            .collect();
        let fetched = scope
            .key_auth
            .iter()
            .all(|config| config.at(&["directory", "http"]).is_some());
        if inline.is_empty() && fetched {
            self.documents.clone()
        } else {
            inline
        }
    }

    /// The good configuration of a filter of a chain.
    pub(crate) fn good(&self, link: &Link) -> Option<&ValidPlugin> {
        let mut good = self.good.iter();
        good.find(|good| self.is(link, &good.plugin))
    }

    /// Which part of ours a filter of a chain is, also where its configuration is bad.
    pub(crate) fn kind(&self, link: &Link) -> Option<Kind> {
        let mut plugins = self.survey.plugins.iter();
        let found = plugins.find(|plugin| self.is(link, plugin));
        found
            .and_then(|plugin| plugin.kind)
            .or_else(|| link.name.name.strip_prefix("tollgate.").and_then(Kind::named))
    }

    fn is(&self, link: &Link, plugin: &super::survey::Plugin) -> bool {
        if let Some(path) = &link.path {
            return plugin.resource.is_some() && self.is_file(plugin.node.place.file, &path.name);
        }
        let mut found = false;
        if let Some(typed) = &link.typed {
            typed.walk(&mut |node| found |= Rc::ptr_eq(node, &plugin.node));
        }
        found
    }

    /// Whether a path of Envoy's is that of a file; it begins where Envoy is started, which nobody knows here.
    pub(crate) fn is_file(&self, number: u32, path: &str) -> bool {
        let path = Path::new(path);
        let is = |file: &File<'_>| file.full.ends_with(path) || path.ends_with(file.path);
        let mut files = self.files.iter();
        files.any(|file| file.number == number && is(file))
    }

    /// The chains that requests pass.
    pub(crate) fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.survey.chains.iter()
    }
}
