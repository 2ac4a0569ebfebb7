//! One gateway: the configurations of its three filters, each with the places of its values.

use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Result, bail};
use serde_json::Value;
use tollgate_core::{limiter, route};

use crate::files::document::{Document, groups};
use crate::files::envoy_files::{EnvoyFiles, Scope};
use crate::files::finding::Report;
use crate::files::locate::find;
use crate::files::scalar::Reader;
use crate::files::source;
use crate::files::tree::Node;

/// The gateway that some files configure.
pub(super) struct Gateway {
    pub(super) key_auth: Rc<Node>,
    pub(super) router: Rc<Node>,
    pub(super) limits: Rc<Node>,
    pub(super) route: Arc<route::Config>,
    pub(super) limiter: Arc<limiter::Config>,
    /// Directory documents among the files, for one that fetches its directory.
    pub(super) documents: Vec<Rc<Node>>,
}

impl Gateway {
    /// The first gateway of these files that is whole: one of a chain before others.
    pub(super) fn read(paths: &[PathBuf], report: &mut Report) -> Result<Option<Self>> {
        let sources = source::read(paths, report);
        let documents: Vec<Document<'_>> = sources
            .iter()
            .filter_map(|source| Document::read(source, report))
            .collect();
        let groups = groups(&documents);
        let mut found = Vec::new();
        for group in &groups {
            let files = EnvoyFiles::of(group, report);
            let scopes = files.scopes();
            if let Some(gateway) = scopes.iter().find_map(|scope| Self::of(scope, &files)) {
                found.push(gateway);
            }
        }
        if found.len() > 1 {
            bail!("these are the files of several Envoys: name the folder of one");
        }
        Ok(found.pop())
    }

    fn of(scope: &Scope, files: &EnvoyFiles<'_>) -> Option<Self> {
        let (key_auth, router, limits) = (
            scope.key_auth.first()?,
            scope.router.first()?,
            scope.limits.first()?,
        );
        // What is here was read without a mistake before.
        let route = route::Config::parse(&bytes(router)).ok()?;
        let limiter = limiter::Config::parse(&bytes(limits)).ok()?;
        Some(Self {
            key_auth: Rc::clone(key_auth),
            router: Rc::clone(router),
            limits: Rc::clone(limits),
            route: Arc::new(route),
            limiter: Arc::new(limiter),
            documents: files.documents.clone(),
        })
    }
}

/// As a filter gets it.
fn bytes(node: &Node) -> Vec<u8> {
    Reader::Envoy.json(node, &HashSet::new())
}

/// The JSON of a tree.
pub(super) fn json(node: &Node, reader: Reader) -> Result<Value> {
    Ok(serde_json::from_slice(&reader.json(node, &HashSet::new()))?)
}

/// Where the value of a path stands, as `file:line:column`; of what is not there the nearest that is.
pub(super) fn place(node: &Node, path: &str, report: &Report) -> String {
    let place = find(node, path).place();
    format!("{}:{}:{}", report.name(place.file), place.line, place.column)
}
