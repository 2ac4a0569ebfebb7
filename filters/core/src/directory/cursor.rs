//! A place in a JSON text that is read value by value, so that a long one never holds a thread for long.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Deserializer;

use crate::config::{ConfigError, problem};

/// Where reading goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    pub(super) at: usize,
}

impl Cursor {
    /// The name of the next member of the text's top level, up to its value; `None` at the end. `what` names the text.
    pub(super) fn member(&mut self, body: &[u8], what: &str) -> Result<Option<String>, ConfigError> {
        let first = self.at == 0;
        if first {
            if self.peek(body).is_none() {
                return Err(ConfigError::new("", format!("{what} is empty")));
            }
            self.expect(body, b'{', "")?;
        }
        match self.peek(body) {
            Some(b'}') => {
                self.at += 1;
                return self.end(body, what).map(|()| None);
            }
            Some(b',') if !first => self.at += 1,
            _ if first => {}
            _ => {
                return Err(ConfigError::new(
                    "",
                    format!("expected `,` or `}}` here: {what} is cut short or malformed"),
                ));
            }
        }
        let name: String = self.value(body, "")?;
        self.expect(body, b':', &name)?;
        Ok(Some(name))
    }

    /// Whether a list has a row at this number, which begins here then.
    pub(super) fn row(
        &mut self,
        body: &[u8],
        number: usize,
        path: impl Fn() -> String,
        what: &str,
    ) -> Result<bool, ConfigError> {
        match self.peek(body) {
            Some(b']') => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if number > 0 => self.at += 1,
            _ if number == 0 => {}
            _ => {
                return Err(ConfigError::new(
                    path(),
                    format!("expected `,` or `]` here: {what} is cut short or malformed"),
                ));
            }
        }
        Ok(true)
    }

    /// What is not read yet.
    pub(super) fn rest<'b>(&self, body: &'b [u8]) -> &'b [u8] {
        body.get(self.at..).unwrap_or_default()
    }

    pub(super) fn expect(&mut self, body: &[u8], byte: u8, path: &str) -> Result<(), ConfigError> {
        if self.peek(body) == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(ConfigError::new(
            path,
            format!("expected `{}` here", char::from(byte)),
        ))
    }

    /// The next value.
    pub(super) fn value<'de, T: Deserialize<'de>>(
        &mut self,
        body: &'de [u8],
        path: &str,
    ) -> Result<T, ConfigError> {
        let rest = self.rest(body);
        match read(rest) {
            Ok((value, used)) => {
                self.at += used;
                Ok(value)
            }
            Err(_) => Err(located::<T>(rest, path).unwrap_or_else(|| ConfigError::new(path, "is malformed"))),
        }
    }

    fn peek(&mut self, body: &[u8]) -> Option<u8> {
        let rest = body.get(self.at..)?;
        let blank = rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.at += blank;
        rest.get(blank).copied()
    }

    fn end(&mut self, body: &[u8], what: &str) -> Result<(), ConfigError> {
        match self.peek(body) {
            Some(_) => Err(ConfigError::new(
                "",
                format!("something follows the end of {what}"),
            )),
            None => Ok(()),
        }
    }
}

/// One value at the start of `json`, and how many bytes it took.
pub(super) fn read<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<(T, usize), serde_json::Error> {
    let mut values = Deserializer::from_slice(json).into_iter();
    match values.next() {
        Some(value) => value.map(|value| (value, values.byte_offset())),
        None => Err(serde::de::Error::custom("the document is cut short")),
    }
}

/// Why no `T` can be read here, with the path below `path`; `None` where one can.
fn located<'de, T: Deserialize<'de>>(json: &'de [u8], path: &str) -> Option<ConfigError> {
    let mut reader = Deserializer::from_slice(json);
    let error = serde_path_to_error::deserialize::<_, T>(&mut reader).err()?;
    let below = error.path().to_string();
    let below = if below == "." { String::new() } else { below };
    let error = ConfigError::new(below, problem(error.inner()));
    Some(if path.is_empty() { error } else { error.under(path) })
}

/// What is wrong with a row that could not be read, and its length, so that the next one can be; `Err` where it is no JSON.
pub(super) fn malformed_row<'de, T: Deserialize<'de>>(
    row: &'de [u8],
    path: &str,
) -> Result<(Option<ConfigError>, usize), ConfigError> {
    let (_, used) = read::<IgnoredAny>(row).map_err(|error| ConfigError::new(path, problem(&error)))?;
    let row = row.get(..used).unwrap_or_default();
    Ok((located::<T>(row, path), used))
}
