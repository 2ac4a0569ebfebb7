//! `tollgate check`: the files that operators edit, read as the filters and Envoy will read them.
//!
//! Files are read ([`source`]) into trees that know the place of each value ([`mod@build`], [`tree`]). What stands in them is
//! found ([`survey`]), each configuration is read by its filter's own reader ([`settings`], [`parse`]), and then the files
//! are held against each other ([`world`], [`across`]).

mod across;
mod build;
mod complaint;
mod envoy;
mod finding;
mod kind;
mod locate;
mod near;
mod parse;
mod scalar;
mod secrets;
mod settings;
mod source;
mod stand_in;
mod survey;
mod tree;
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use clap::Args;

use build::{Merge, Origin, build};
use complaint::Complaint;
use envoy::Envoy;
use finding::{Place, Report, Severity};
use kind::Kind;
use scalar::Reader;
use source::Source;
use stand_in::StandIn;
use survey::Survey;
use tree::{Node, Shift};
use world::{File, World};

/// Read the files that operators edit, and say each mistake with its file, line and column.
#[derive(Args)]
pub(crate) struct Check {
    /// Files, or folders of them: bootstraps, listeners, clusters, filters, a directory document, or what stands in a
    /// filter's configuration.
    #[arg(default_value = "envoy", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Fail on warnings as well.
    #[arg(long)]
    strict: bool,
    /// The Envoy that is asked about bootstraps; else ENVOY_BIN, target/tools/envoy, or that of PATH.
    #[arg(long, value_name = "BINARY", conflicts_with = "no_envoy")]
    envoy: Option<PathBuf>,
    /// Ask no Envoy.
    #[arg(long)]
    no_envoy: bool,
}

impl Check {
    pub(crate) fn run(self) -> ExitCode {
        let mut report = Report::default();
        let sources = source::read(&self.paths, &mut report);
        let documents: Vec<Document<'_>> = sources
            .iter()
            .filter_map(|source| Document::read(source, &mut report))
            .collect();
        let envoy = if self.no_envoy {
            None
        } else {
            Envoy::find(self.envoy.as_deref())
        };
        let mut asked = 0;
        for group in groups(&documents) {
            together(&group, envoy.as_ref(), &mut report);
            asked += group.iter().filter(|document| document.is_bootstrap()).count();
        }
        print!("{report}");
        if envoy.is_none() && !self.no_envoy && asked > 0 {
            eprintln!(
                "No Envoy was found to ask about bootstraps: name one with --envoy, or leave it out with --no-envoy."
            );
        }
        self.outcome(&report)
    }

    fn outcome(&self, report: &Report) -> ExitCode {
        let (errors, warnings) = (report.count(Severity::Error), report.count(Severity::Warning));
        let files = counted(report.files(), "file");
        if errors + warnings == 0 {
            println!("{files}: nothing is wrong");
            return ExitCode::SUCCESS;
        }
        eprintln!(
            "{files}: {}, {}",
            counted(errors, "error"),
            counted(warnings, "warning")
        );
        if errors > 0 || self.strict {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// A file, and what it is.
struct Document<'s> {
    source: &'s Source,
    root: Rc<Node>,
    contents: Contents,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contents {
    /// A whole Envoy.
    Bootstrap,
    /// A part of one.
    Envoy,
    /// What stands in the configuration of a filter, or a directory document.
    Bare(Kind),
    /// Another program's.
    Foreign,
}

impl<'s> Document<'s> {
    fn read(source: &'s Source, report: &mut Report) -> Option<Self> {
        secrets::check(source, report);
        let origin = Origin {
            file: source.file,
            shift: Shift::default(),
        };
        let root = build(&source.text, origin, Merge::No, report)?;
        let contents = contents(&root);
        if contents == Contents::Bare(Kind::Document) {
            json(source, report);
        }
        let root = match contents {
            // Envoy's reader knows no merge keys, and this is not read by it.
            Contents::Bare(Kind::Document) => {
                build(&source.text, origin, Merge::Yes, &mut Report::default())?
            }
            _ => root,
        };
        match contents {
            Contents::Foreign if source.named => {
                let text = "is no file that Envoy or Tollgate reads: expected a bootstrap, `resources`, a directory document (`version`, `orgs`, `keys`) or the configuration of a filter";
                report.error(Place::start(source.file), text);
            }
            Contents::Bootstrap | Contents::Envoy => merge_keys(&root, report),
            _ => {}
        }
        Some(Self {
            source,
            root,
            contents,
        })
    }

    fn is_bootstrap(&self) -> bool {
        self.contents == Contents::Bootstrap
    }

    fn folder(&self) -> &Path {
        self.source.full.parent().unwrap_or(Path::new(""))
    }
}

fn contents(root: &Rc<Node>) -> Contents {
    let has = |names: &[&str]| names.iter().any(|name| root.get(name).is_some());
    if has(&["static_resources", "dynamic_resources"]) {
        return Contents::Bootstrap;
    }
    if has(&[
        "resources",
        "bootstrap_extensions",
        "admin",
        "layered_runtime",
        "filter_chains",
        "load_assignment",
    ]) {
        return Contents::Envoy;
    }
    if has(&["services"]) {
        return Contents::Foreign;
    }
    if let Some(kind) = Kind::of(root) {
        return Contents::Bare(kind);
    }
    let mut survey = Survey::default();
    survey.add(root);
    if survey.plugins.is_empty() && survey.chains.is_empty() && survey.clusters.is_empty() {
        Contents::Foreign
    } else {
        Contents::Envoy
    }
}

/// A document that is served as it is has to be JSON, and that is less than YAML.
fn json(source: &Source, report: &mut Report) {
    if source.path.extension().is_none_or(|ending| ending != "json") {
        return;
    }
    if source.marked {
        let text = "begins with a byte order mark, which is no JSON: save it without";
        report.error(Place::start(source.file), text);
    }
    if let Err(error) = serde_json::from_str::<&serde_json::value::RawValue>(&source.text) {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).max(1);
        let place = Place {
            file: source.file,
            line: number(error.line()),
            column: number(error.column()),
        };
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        report.error(place, format!("is not JSON: {said}"));
    }
}

/// Envoy takes `<<` for a member's name.
fn merge_keys(root: &Rc<Node>, report: &mut Report) {
    root.walk(&mut |node| {
        if let Some(entry) = node.entry("<<") {
            let text = "Envoy reads no merge keys: write the members out, or use an alias for the whole map";
            report.error(entry.place, text);
        }
    });
}

/// Files by the Envoy that they belong to: that of the nearest folder above with a bootstrap in it. Where there is one
/// such folder, all belong to it.
fn groups<'d, 's>(documents: &'d [Document<'s>]) -> Vec<Vec<&'d Document<'s>>> {
    let mut folders: Vec<&Path> = documents
        .iter()
        .filter(|document| document.is_bootstrap())
        .map(Document::folder)
        .collect();
    folders.sort();
    folders.dedup();
    let mut groups: BTreeMap<&Path, Vec<&Document<'s>>> = BTreeMap::new();
    for document in documents {
        let mut above = document.folder().ancestors();
        let nearest = above.find(|folder| folders.contains(folder));
        let only = folders.first().copied().filter(|_| folders.len() == 1);
        groups
            .entry(nearest.or(only).unwrap_or(Path::new("")))
            .or_default()
            .push(document);
    }
    groups.into_values().collect()
}

/// Checks the files of one Envoy.
fn together(group: &[&Document<'_>], envoy: Option<&Envoy>, report: &mut Report) {
    let mut world = World {
        survey: Survey::default(),
        good: Vec::new(),
        documents: Vec::new(),
        files: Vec::new(),
    };
    for document in group {
        world.files.push(File {
            number: document.source.file,
            path: &document.source.path,
            full: &document.source.full,
        });
        match document.contents {
            Contents::Bootstrap | Contents::Envoy => world.survey.add(&document.root),
            Contents::Bare(Kind::Document) => {
                if parse::check(Kind::Document, &document.root, Reader::Tool, report) {
                    world.documents.push(Rc::clone(&document.root));
                }
            }
            Contents::Bare(kind) => {
                if parse::check(kind, &document.root, Reader::Envoy, report) {
                    world.good.push(settings::Good::bare(kind, &document.root));
                }
            }
            Contents::Foreign => {}
        }
    }
    let plugins = &world.survey.plugins;
    let good: Vec<_> = plugins
        .iter()
        .filter_map(|plugin| settings::check(plugin, report))
        .collect();
    world.good.extend(good);
    across::check(&world, report);
    if let Some(envoy) = envoy {
        ask(envoy, group, &world, report);
    }
}

fn ask(envoy: &Envoy, group: &[&Document<'_>], world: &World<'_>, report: &mut Report) {
    let roots: Vec<Rc<Node>> = group.iter().map(|document| Rc::clone(&document.root)).collect();
    envoy.check_age(&world.survey, &roots, report);
    for document in group {
        if let Some((complaint, place)) = complaint(envoy, document) {
            let text = complaint.text.as_str();
            // A file for another machine, or a container, names modules and certificates that are there and not here.
            if complaint.is_of_elsewhere() {
                report.warning(place, format!("Envoy could not look at all of it: {text}"));
            } else {
                report.error(place, format!("Envoy refuses it: {text}"));
            }
        }
    }
}

/// What Envoy says of a file that it reads by itself, and the place in it.
fn complaint(envoy: &Envoy, document: &Document<'_>) -> Option<(Complaint, Place)> {
    let start = Place::start(document.source.file);
    if document.is_bootstrap() {
        let complaint = envoy.validate(&document.source.path)?;
        let place = complaint
            .path
            .as_ref()
            .map(|path| told(&locate::find(&document.root, path), &complaint));
        return Some((complaint, place.unwrap_or(start)));
    }
    let stand_in = StandIn::of(&document.root).filter(|_| document.contents == Contents::Envoy)?;
    let file = tempfile::Builder::new()
        .prefix("tollgate-check-")
        .suffix(".json")
        .tempfile();
    let complaint = match file.and_then(|file| std::fs::write(file.path(), &stand_in.json).map(|()| file)) {
        Ok(file) => envoy.validate(file.path())?,
        Err(error) => Complaint::plain(format!("a file for it can't be written: {error}")),
    };
    let place = complaint
        .path
        .as_ref()
        .and_then(|path| Some(told(&stand_in.find(path)?, &complaint)));
    Some((complaint, place.unwrap_or(start)))
}

fn told(found: &locate::Found<'_>, complaint: &Complaint) -> Place {
    match found.entry {
        Some(entry) if complaint.of_name => entry.place,
        _ => found.place(),
    }
}
