//! A YAML document with the place of each of its values.

use std::rc::Rc;

use super::finding::Place;

/// A value; one that an alias stands for is shared, and keeps the place where it is written.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
    /// How many values it is with all aliases written out.
    pub(crate) size: u64,
    /// How many levels are below it.
    pub(crate) depth: u32,
}

#[derive(Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A member of a map.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) value: Rc<Node>,
    /// Tagged `!ignore`: Envoy leaves such a member out.
    pub(crate) ignored: bool,
}

/// Text as it is in the document, before anybody says what type it is.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Neither quoted nor a block.
    pub(crate) plain: bool,
    /// Its lines as they are written, where those of the text are not: in a folded block.
    pub(crate) written: Option<String>,
    /// From places in its lines to places in the file.
    pub(crate) inside: Shift,
}

impl Scalar {
    /// What places in it are counted in.
    pub(crate) fn lines(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.text)
    }
}

/// How far places in a text are from those in the file that it stands in.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shift {
    /// Added to lines.
    pub(crate) lines: u32,
    /// Added to columns of the first line.
    pub(crate) first: u32,
    /// Added to columns of all others.
    pub(crate) others: u32,
}

impl Shift {
    /// Where in `file` a place of the text is.
    pub(crate) fn place(self, file: u32, line: u32, column: u32) -> Place {
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
    pub(crate) fn shown(&self) -> Place {
        match &self.value.value {
            Value::Scalar(scalar) if !(scalar.plain && scalar.text.is_empty()) => self.value.place,
            _ => self.place,
        }
    }
}

impl Node {
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn items(&self) -> &[Rc<Node>] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        let mut entries = self.entries().iter();
        entries.find(|entry| entry.name == name && !entry.ignored)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Rc<Node>> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// The value below these names.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |node, name| node.get(name).map(Rc::as_ref))
    }

    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar().map(|scalar| scalar.text.as_str())
    }

    /// The text below these names.
    pub(crate) fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path).and_then(Self::text)
    }

    /// A text, or a list of them: each with its place.
    pub(crate) fn names(&self) -> Vec<(&str, Place)> {
        let named = |node: &'_ Self| -> Option<Place> { node.text().map(|_| node.place) };
        let one = self.text().zip(named(self));
        let many = self.items().iter();
        let many = many.filter_map(|item| item.text().map(|text| (text, item.place)));
        one.into_iter().chain(many).collect()
    }

    /// This value and all below it.
    pub(crate) fn walk<'n>(self: &'n Rc<Self>, seen: &mut impl FnMut(&'n Rc<Self>)) {
        seen(self);
        for entry in self.entries().iter().filter(|entry| !entry.ignored) {
            entry.value.walk(seen);
        }
        for item in self.items() {
            item.walk(seen);
        }
    }
}
