//! From the path of a configuration error to its place in the file.

use std::borrow::Cow;

use super::finding::{Place, masked};
use super::tree::{Entry, Node};

/// The value, or the member, that a path such as `catalogue.models.llama-3.3.targets[0].weight` is about; of what is not
/// there the nearest that is.
pub(crate) struct Found<'n> {
    pub(crate) node: &'n Node,
    pub(crate) entry: Option<&'n Entry>,
    /// How much of the path was found, in bytes.
    reached: usize,
}

impl Found<'_> {
    /// What to point at.
    pub(crate) fn place(&self) -> Place {
        self.entry.map_or(self.node.place, Entry::shown)
    }
}

/// Finds a path below `root`.
pub(crate) fn find<'n>(root: &'n Node, path: &str) -> Found<'n> {
    let here = Found {
        node: root,
        entry: None,
        reached: 0,
    };
    below(here, path)
}

fn below<'n>(here: Found<'n>, rest: &str) -> Found<'n> {
    let (node, reached) = (here.node, here.reached);
    let steps = item(node, rest).into_iter().chain(members(node, rest));
    // Names may hold dots, so of several ways the one that leads farthest is meant.
    steps
        .map(|(node, entry, used)| {
            let found = Found {
                node,
                entry,
                reached: reached + used,
            };
            below(found, rest.get(used..).unwrap_or_default())
        })
        .fold(
            here,
            |best, found| {
                if found.reached > best.reached { found } else { best }
            },
        )
}

type Step<'n> = (&'n Node, Option<&'n Entry>, usize);

fn item<'n>(node: &'n Node, rest: &str) -> Option<Step<'n>> {
    let (number, _) = rest.strip_prefix('[')?.split_once(']')?;
    let item = node.items().get(number.parse::<usize>().ok()?)?;
    Some((item, None, number.len() + 2))
}

fn members<'n>(node: &'n Node, rest: &str) -> impl Iterator<Item = Step<'n>> {
    let dot = usize::from(rest.starts_with('.'));
    let name = rest.get(dot..).unwrap_or_default().to_owned();
    node.entries().iter().filter_map(move |entry| {
        // An error masks a key that stands for a name.
        let wanted: Cow<'_, str> = match entry.name.contains("sk-") {
            true => masked(&entry.name).into(),
            false => entry.name.as_str().into(),
        };
        let after = name.strip_prefix(&*wanted)?;
        let whole = after.is_empty() || after.starts_with(['.', '[']);
        (whole && !name.is_empty()).then_some((&*entry.value, Some(entry), dot + wanted.len()))
    })
}
