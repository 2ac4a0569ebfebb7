//! From text to a tree. What makes a YAML document too large to look at is refused here, before anybody looks.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, options};

use super::finding::{Place, Report};
use super::tree::{Entry, Node, Scalar, Shift, Value};

/// Levels; Envoy's readers go to about a hundred.
const MAX_DEPTH: u32 = 100;
/// Values that aliases may stand for beyond those that are written.
const MAX_EXPANDED: u64 = 1_000_000;

/// Where a text stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) file: u32,
    pub(crate) shift: Shift,
}

/// How merge keys (`<<`) are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// As members of that name.
    No,
    /// As what they stand for.
    Yes,
}

/// The first document of a text; `None` where it can't be read, or is empty, which is reported.
pub(crate) fn build(text: &str, origin: Origin, merge: Merge, report: &mut Report) -> Option<Rc<Node>> {
    let mut builder = Builder {
        text,
        origin,
        merge,
        report,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        written: 0,
    };
    let parser = Parser::new_from_str_with_options(text, options! { emit_comments: false });
    for next in parser {
        match next {
            Ok((event, span)) => builder.take(event, span)?,
            Err(error) => return builder.refuse(&error),
        }
    }
    let root = builder.root.take();
    if root.is_none() {
        report.error(origin.shift.place(origin.file, 1, 1), "is empty");
    }
    root
}

struct Builder<'t, 'r> {
    text: &'t str,
    origin: Origin,
    merge: Merge,
    report: &'r mut Report,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
    written: u64,
}

/// A list or a map that is not whole yet.
struct Open {
    place: Place,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Rc<Node>>),
    Map {
        entries: Vec<Entry>,
        known: HashMap<String, Place>,
        key: Option<Key>,
    },
}

struct Key {
    name: String,
    place: Place,
    ignored: bool,
}

impl Builder<'_, '_> {
    /// `None` where nothing more is to be read.
    fn take(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let place = self.place(span);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                let text = "a second document begins here, and only the first one would be read: put it into a file of its own";
                self.report.error(place, text);
                return None;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let ignored = tag.is_some_and(|tag| tag.original() == "!ignore");
                let scalar = self.scalar(text.into_owned(), style, span);
                self.node(place, Value::Scalar(scalar), anchor, ignored)?;
            }
            Event::SequenceStart(_, anchor, _) => self.open(place, anchor, Content::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => self.open(
                place,
                anchor,
                Content::Map {
                    entries: Vec::new(),
                    known: HashMap::new(),
                    key: None,
                },
            ),
            Event::SequenceEnd | Event::MappingEnd => {
                let Open {
                    place,
                    anchor,
                    content,
                } = self.open.pop()?;
                let value = match content {
                    Content::List(items) => Value::List(items),
                    Content::Map { entries, .. } => Value::Map(self.merged(entries)),
                };
                self.node(place, value, anchor, false)?;
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let node = Rc::clone(node);
                    self.put(node, place, false)?;
                }
                None => {
                    self.report
                        .error(place, "an alias to what it stands in itself would never end");
                    return None;
                }
            },
            _ => {}
        }
        Some(())
    }

    fn place(&self, span: Span) -> Place {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let start = span.start;
        self.origin.shift.place(
            self.origin.file,
            number(start.line()),
            number(start.col()).saturating_add(1),
        )
    }

    fn scalar(&self, text: String, style: ScalarStyle, span: Span) -> Scalar {
        let folded = style == ScalarStyle::Folded;
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let place = self.place(span);
        let inside = if block {
            Self::block(if folded { "" } else { &text }, place)
        } else {
            Shift {
                lines: place.line.saturating_sub(1),
                first: place
                    .column
                    .saturating_sub(u32::from(style == ScalarStyle::Plain)),
                others: 0,
            }
        };
        let written = folded.then(|| span.slice(self.text).unwrap_or_default().to_owned());
        Scalar {
            inside: Shift {
                others: if folded { 0 } else { inside.others },
                ..inside
            },
            written,
            text,
            plain: style == ScalarStyle::Plain,
        }
    }

    /// The lines of a block scalar. Its span begins at the first of them that is not blank.
    fn block(text: &str, place: Place) -> Shift {
        let blank = text.bytes().take_while(|byte| *byte == b'\n').count();
        let blank = u32::try_from(blank).unwrap_or_default();
        let indent = place.column.saturating_sub(1);
        Shift {
            lines: place.line.saturating_sub(1).saturating_sub(blank),
            first: indent,
            others: indent,
        }
    }

    fn open(&mut self, place: Place, anchor: usize, content: Content) {
        self.open.push(Open {
            place,
            anchor,
            content,
        });
    }

    fn node(&mut self, place: Place, value: Value, anchor: usize, ignored: bool) -> Option<()> {
        let below = || -> Box<dyn Iterator<Item = &Rc<Node>>> {
            match &value {
                Value::Scalar(_) => Box::new(std::iter::empty()),
                Value::List(items) => Box::new(items.iter()),
                Value::Map(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
            }
        };
        let size = below().fold(1_u64, |sum, node| sum.saturating_add(node.size));
        let depth = below().map(|node| node.depth + 1).max().unwrap_or(0);
        self.written += 1;
        if depth > MAX_DEPTH {
            let text = format!("what begins here is nested deeper than {MAX_DEPTH} levels");
            self.report.error(place, text);
            return None;
        }
        if size > self.written.saturating_add(MAX_EXPANDED) {
            let text = format!("the aliases below stand for more than {MAX_EXPANDED} values");
            self.report.error(place, text);
            return None;
        }
        let node = Rc::new(Node {
            place,
            value,
            size,
            depth,
        });
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.put(node, place, ignored)
    }

    /// Puts a value where it belongs; it may be the name of a member.
    fn put(&mut self, node: Rc<Node>, place: Place, ignored: bool) -> Option<()> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, known, key } => match key.take() {
                None => {
                    let Some(name) = node.text() else {
                        self.report
                            .error(place, "a list or a map can be no name of a member");
                        return None;
                    };
                    *key = Some(Key {
                        name: name.to_owned(),
                        place,
                        ignored,
                    });
                }
                Some(key) => match known.get(&key.name) {
                    Some(first) => {
                        let name = tollgate_core::key::shown(&key.name, 64);
                        let text = format!(
                            "`{name}` is given twice, first on line {}, and one of them would not count: remove one",
                            first.line
                        );
                        self.report.error(key.place, text);
                    }
                    None => {
                        known.insert(key.name.clone(), key.place);
                        entries.push(Entry {
                            name: key.name,
                            place: key.place,
                            value: node,
                            ignored: key.ignored,
                        });
                    }
                },
            },
        }
        Some(())
    }

    /// The same with what merge keys stand for, where they are read.
    fn merged(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        let Some(at) = entries
            .iter()
            .position(|entry| entry.name == "<<")
            .filter(|_| self.merge == Merge::Yes)
        else {
            return entries;
        };
        let merge = entries.remove(at);
        let sources = std::iter::once(&merge.value).chain(merge.value.items());
        for entry in sources.flat_map(|source| source.entries()) {
            if !entries.iter().any(|known| known.name == entry.name) {
                entries.push(entry.clone());
            }
        }
        entries
    }

    fn refuse(&mut self, error: &ScanError) -> Option<Rc<Node>> {
        let said = error.info();
        let (marker, hint) = match self
            .tab(error)
            .filter(|_| said.contains("tab") || said.contains("indent"))
        {
            Some(marker) => (marker, ": YAML is indented by spaces"),
            None => (*error.marker(), ""),
        };
        let place = self.place(Span::empty(marker));
        self.report.error(place, format!("is not YAML: {said}{hint}"));
        None
    }

    /// The first tab that a line behind an error begins with, or that stands there itself.
    fn tab(&self, error: &ScanError) -> Option<Marker> {
        let from = *error.marker();
        let rest = self.text_at(error);
        if rest.starts_with('\t') {
            return Some(from);
        }
        let mut lines = rest.lines().zip(from.line()..).skip(1);
        let indent = |line: &str| line.chars().take_while(|c| *c == ' ').count();
        let (line, number) = lines.find(|(line, _)| line.trim_start_matches(' ').starts_with('\t'))?;
        Some(Marker::new(0, number, indent(line)))
    }

    /// The text from where an error is.
    fn text_at(&self, error: &ScanError) -> &str {
        let at = error.marker().byte_offset().unwrap_or_default();
        self.text.get(at..).unwrap_or_default()
    }
}
