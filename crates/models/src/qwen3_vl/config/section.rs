//! One JSON object of the configuration, read key by key, so that every error
//! can name the key.

use crate::Error;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// Characters of a value that a message quotes.
const LONGEST_VALUE: usize = 200;
/// Characters of a message.
const LONGEST_MESSAGE: usize = 400;

pub(super) struct Section<'a> {
    file: &'a str,
    /// What to put before a key: empty, or `text_config.` and the like.
    prefix: String,
    map: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    pub(super) fn root(file: &'a str, value: &'a Value) -> Result<Section<'a>, Error> {
        let Value::Object(map) = value else {
            return Err(Error::Json {
                file: file.into(),
                message: "expected an object".into(),
            });
        };
        Ok(Section {
            file,
            prefix: String::new(),
            map,
        })
    }

    /// An error about `key`. A message that quotes an endless value is cut.
    pub(super) fn wrong(&self, key: &str, mut message: String) -> Error {
        if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
            message.truncate(end);
            message.push('…');
        }
        Error::Config {
            file: self.file.into(),
            key: format!("{}{key}", self.prefix),
            message,
        }
    }

    fn expected(&self, key: &str, what: &str) -> Error {
        let message = match self.map.get(key) {
            None => format!("absent, expected {what}"),
            Some(found) => {
                let found = found.to_string();
                match found.char_indices().nth(LONGEST_VALUE) {
                    Some((end, _)) => format!("{}…, expected {what}", &found[..end]),
                    None => format!("{found}, expected {what}"),
                }
            }
        };
        self.wrong(key, message)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key)
    }

    /// Refuses a key that is there and not null.
    pub(super) fn absent(&self, key: &str, message: &str) -> Result<(), Error> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(_) => Err(self.wrong(key, message.into())),
        }
    }

    pub(super) fn section(&self, key: &str) -> Result<Section<'a>, Error> {
        let Some(Value::Object(map)) = self.get(key) else {
            return Err(self.expected(key, "an object"));
        };
        Ok(Section {
            file: self.file,
            prefix: format!("{}{key}.", self.prefix),
            map,
        })
    }

    pub(super) fn size(
        &self,
        key: &str,
        default: Option<usize>,
        range: RangeInclusive<usize>,
    ) -> Result<usize, Error> {
        let found = match (self.get(key), default) {
            (None, Some(default)) => Some(default),
            (value, _) => value.and_then(as_size),
        };
        found.filter(|size| range.contains(size)).ok_or_else(|| {
            if range.start() == range.end() {
                self.expected(key, &format!("{}", range.start()))
            } else {
                self.expected(
                    key,
                    &format!("a whole number from {} to {}", range.start(), range.end()),
                )
            }
        })
    }

    pub(super) fn sizes(
        &self,
        key: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Vec<usize>, Error> {
        let list = self.get(key).and_then(Value::as_array).and_then(|list| {
            let size = |value| as_size(value).filter(|size| range.contains(size));
            list.iter().map(size).collect::<Option<Vec<usize>>>()
        });
        list.ok_or_else(|| {
            let what = format!(
                "a list of whole numbers from {} to {}",
                range.start(),
                range.end()
            );
            self.expected(key, &what)
        })
    }

    pub(super) fn number(
        &self,
        key: &str,
        default: f64,
        range: RangeInclusive<f64>,
    ) -> Result<f64, Error> {
        let found = match self.get(key) {
            None => Some(default),
            Some(value) => value.as_f64(),
        };
        found
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let what = format!("a number from {:?} to {:?}", range.start(), range.end());
                self.expected(key, &what)
            })
    }

    pub(super) fn flag_opt(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.expected(key, "true or false")),
        }
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, Error> {
        Ok(self.flag_opt(key)?.unwrap_or(default))
    }

    /// Checks that the value, `default` if absent, is the only supported one.
    pub(super) fn word(&self, key: &str, default: &str, only: &str) -> Result<(), Error> {
        let found = match self.get(key) {
            None => Some(default),
            Some(value) => value.as_str(),
        };
        if found == Some(only) {
            Ok(())
        } else {
            Err(self.expected(key, &format!("{only:?}")))
        }
    }
}

fn as_size(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}
