//! An event that is too long to be held, such as one that carries a picture, or a whole answer with its instructions: it
//! is scanned as it passes, and nothing of it is kept but what it says.

use memchr::memchr2;

use crate::usage::content::{Content, is_error, is_last};
use crate::usage::json::Body;

/// The longest name of an event that is read, in bytes.
const MAX_NAME: usize = 64;

/// The scan of one event.
#[derive(Debug)]
pub(super) struct Long {
    place: Place,
    /// What came of the field's name, and of the event's.
    name: Vec<u8>,
    data: Body,
    ends: bool,
    errored: bool,
}

/// Where in a line the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the name of a field, or before it.
    Field,
    /// Behind the colon of `data` or `event`, where a space may stand that does not count.
    Colon(Field),
    Value(Field),
    /// In a line of no interest.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Data,
    Event,
}

impl Default for Long {
    fn default() -> Self {
        Self {
            place: Place::Field,
            name: Vec::new(),
            data: Body::of_event(),
            ends: false,
            errored: false,
        }
    }
}

impl Long {
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let end = memchr2(b'\n', b'\r', bytes);
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.part(line);
            bytes = rest.get(1..).unwrap_or_default();
            if end.is_some() {
                self.line_ends();
            }
        }
    }

    /// What the event said, once it is over.
    pub(super) fn content(mut self) -> Content {
        self.line_ends();
        let content = self.data.content();
        Content {
            ends: content.ends || self.ends,
            errored: content.errored || self.errored,
            ..content
        }
    }

    pub(super) fn held(&self) -> usize {
        self.name.len() + self.data.held()
    }

    /// A part of a line.
    fn part(&mut self, mut part: &[u8]) {
        while let Some((&byte, rest)) = part.split_first() {
            match self.place {
                Place::Field if byte == b':' => {
                    self.place = match self.name.as_slice() {
                        b"data" => Place::Colon(Field::Data),
                        b"event" => Place::Colon(Field::Event),
                        _ => Place::Other,
                    };
                    self.name.clear();
                }
                Place::Field if self.name.len() < MAX_NAME => self.name.push(byte),
                Place::Field => {
                    self.name.clear();
                    self.place = Place::Other;
                }
                Place::Colon(field) => {
                    self.place = Place::Value(field);
                    if byte != b' ' {
                        continue;
                    }
                }
                Place::Value(Field::Data) => return self.data.push(part),
                Place::Value(Field::Event) if self.name.len() < MAX_NAME => self.name.push(byte),
                Place::Value(Field::Event) | Place::Other => return,
            }
            part = rest;
        }
    }

    fn line_ends(&mut self) {
        match self.place {
            // The lines of the data are joined by line feeds.
            Place::Value(Field::Data) | Place::Colon(Field::Data) => self.data.push(b"\n"),
            Place::Value(Field::Event) => {
                self.ends |= is_last(&self.name);
                self.errored |= is_error(&self.name);
            }
            _ => {}
        }
        self.name.clear();
        self.place = Place::Field;
    }
}
