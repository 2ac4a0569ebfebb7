//! A YAML document with the place of each of its values.

use std::rc::Rc;

use super::finding::Place;

/// A value; one that an alias stands for is shared, and keeps the place where it is written.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
    /// How many values it is with all aliases written out.
    pub(super) size: u64,
    /// How many levels are below it.
    pub(super) depth: u32,
}

#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A member of a map.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) value: Rc<Node>,
    /// Tagged `!ignore`: Envoy leaves such a member out.
    pub(super) ignored: bool,
}

/// Text as it is in the document, before anybody says what type it is.
#[derive(Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Neither quoted nor a block.
    pub(super) plain: bool,
    /// Its lines as they are written, where those of the text are not: in a folded block.
    pub(super) written: Option<String>,
    /// From places in its lines to places in the file.
    pub(super) inside: Shift,
}

impl Scalar {
    /// What places in it are counted in.
    pub(super) fn lines(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.text)
    }
}

/// How far places in a text are from those in the file that it stands in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shift {
    /// Added to lines.
    pub(super) lines: u32,
    /// Added to columns of the first line.
    pub(super) first: u32,
    /// Added to columns of all others.
    pub(super) others: u32,
}

impl Shift {
    /// Where in `file` a place of the text is.
    pub(super) fn place(self, file: u32, line: u32, column: u32) -> Place {
        let columns = if line <= 1 { self.first } else { self.others };
        Place {
            file,
            line: line.saturating_add(self.lines),
            column: column.saturating_add(columns),
        }
    }
}

impl Entry {
    /// What to point at: the value where it is on the name's line, else the name.
    pub(super) fn shown(&self) -> Place {
        match &self.value.value {
            Value::Scalar(scalar) if !(scalar.plain && scalar.text.is_empty()) => self.value.place,
            _ => self.place,
        }
    }
}

impl Node {
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn items(&self) -> &[Rc<Node>] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        let mut entries = self.entries().iter();
        entries.find(|entry| entry.name == name && !entry.ignored)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Rc<Node>> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// The value below these names.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |node, name| node.get(name).map(Rc::as_ref))
    }

    pub(super) fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        self.scalar().map(|scalar| scalar.text.as_str())
    }

    /// The text below these names.
    pub(super) fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path).and_then(Self::text)
    }

    /// A text, or a list of them: each with its place.
    pub(super) fn names(&self) -> Vec<(&str, Place)> {
        let named = |node: &'_ Self| -> Option<Place> { node.text().map(|_| node.place) };
        let one = self.text().zip(named(self));
        let many = self.items().iter();
        let many = many.filter_map(|item| item.text().map(|text| (text, item.place)));
        one.into_iter().chain(many).collect()
    }

    /// This value and all below it.
    pub(super) fn walk<'n>(self: &'n Rc<Self>, seen: &mut impl FnMut(&'n Rc<Self>)) {
        seen(self);
        for entry in self.entries().iter().filter(|entry| !entry.ignored) {
            entry.value.walk(seen);
        }
        for item in self.items() {
            item.walk(seen);
        }
    }
}
