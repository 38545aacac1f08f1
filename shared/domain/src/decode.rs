//! Decoding of documents that people write: every mistake is reported together, each with the JSON pointer
//! (RFC 6901) of its place, and an unknown field names the nearest known one.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One mistake in a document.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FieldError {
    /// JSON pointer to the offending place; empty for the whole document.
    pub pointer: String,
    pub detail: String,
}

/// The mistakes found so far; a bounded number is kept, so that a hostile document can't make a huge answer.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

pub const MAX_ERRORS: usize = 32;

impl Errors {
    /// Of a place the first mistake stands: what is said of it afterwards mostly follows from that.
    pub fn push(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        let pointer = pointer.into();
        let is_new = pointer.is_empty() || self.0.iter().all(|known| known.pointer != pointer);
        if is_new && !self.is_full() {
            self.0.push(FieldError { pointer, detail: detail.into() });
        }
    }

    /// Those of a document of its own that stands at `at` in this one.
    pub fn extend(&mut self, at: &str, found: &[FieldError]) {
        for FieldError { pointer, detail } in found {
            self.push([at, pointer].concat(), detail.as_str());
        }
    }

    /// Whether one more would not be kept: what takes work to say need not be said.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX_ERRORS
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_result<T>(self, value: T) -> Result<T, Vec<FieldError>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

/// Appends a token to a pointer, escaped after RFC 6901 (`~` as `~0`, `/` as `~1`) and cut to a readable length.
pub fn pointer(parent: &str, token: &str) -> String {
    // Made for every field that is looked at, mistake or none.
    if token.len() <= 80 && !token.contains(['~', '/']) {
        return [parent, "/", token].concat();
    }
    let short: String = token.chars().take(80).collect();
    format!("{parent}/{}", short.replace('~', "~0").replace('/', "~1"))
}

/// The known name nearest to `unknown`, if one is near enough to have been meant.
pub fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    if unknown.len() > 64 {
        return None;
    }
    let wanted = unknown.to_lowercase();
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&wanted, name), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .min()
        .map(|(_, name)| name)
}

/// "unknown field", with the nearest known name when there is one.
pub fn unknown_field(name: &str, known: &[&str]) -> String {
    let short: String = name.chars().take(80).collect();
    match nearest(name, known) {
        Some(meant) => format!("unknown field `{short}`; did you mean `{meant}`?"),
        None => format!("unknown field `{short}`; known fields: {}", known.join(", ")),
    }
}

/// An object under decoding. Each accessor takes its field out; [`Fields::finish`] reports what is left.
#[derive(Debug)]
pub struct Fields<'e> {
    map: Map<String, Value>,
    known: Vec<&'static str>,
    at: String,
    errors: &'e mut Errors,
}

impl<'e> Fields<'e> {
    /// `value` as an object; anything else is an error at `at`.
    pub fn of(value: Value, at: &str, errors: &'e mut Errors) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { map, known: Vec::new(), at: at.to_owned(), errors }),
            other => {
                errors.push(at, format!("must be an object, not {}", kind(&other)));
                None
            }
        }
    }

    /// Takes the field out; `null` counts as absent.
    pub fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.remove(name).filter(|value| !value.is_null())
    }

    pub fn error(&mut self, name: &str, detail: impl Into<String>) {
        let at = pointer(&self.at, name);
        self.errors.push(at, detail);
    }

    /// The errors and the pointer of `name`, for decoding what is nested there.
    pub fn nested(&mut self, name: &str) -> (String, &mut Errors) {
        (pointer(&self.at, name), self.errors)
    }

    pub fn string(&mut self, name: &'static str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            other => {
                self.error(name, format!("must be a string, not {}", kind(&other)));
                None
            }
        }
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, name: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let value = self.take(name)?;
        let Some(number) = value.as_i64().filter(|number| range.contains(number)) else {
            let shown = if value.is_number() { value.to_string() } else { kind(&value).to_owned() };
            self.error(name, format!("must be a whole number from {} to {}, not {shown}", range.start(), range.end()));
            return None;
        };
        Some(number)
    }

    pub fn strings(&mut self, name: &'static str, max_len: usize) -> Option<Vec<String>> {
        let value = self.take(name)?;
        let at = pointer(&self.at, name);
        let Value::Array(items) = value else {
            self.errors.push(at, format!("must be an array of strings, not {}", kind(&value)));
            return None;
        };
        if items.len() > max_len {
            self.errors.push(at, format!("has {} items; at most {max_len} are accepted", items.len()));
            return None;
        }
        let mut strings = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::String(text) => strings.push(text),
                other => self.errors.push(pointer(&at, &index.to_string()), no_string(&other)),
            }
        }
        Some(strings)
    }

    /// An object whose values are strings.
    pub fn string_map(&mut self, name: &'static str, max_len: usize) -> Option<BTreeMap<String, String>> {
        let value = self.take(name)?;
        let at = pointer(&self.at, name);
        let Value::Object(map) = value else {
            self.errors.push(at, format!("must be an object of strings, not {}", kind(&value)));
            return None;
        };
        if map.len() > max_len {
            self.errors.push(at, format!("has {} members; at most {max_len} are accepted", map.len()));
            return None;
        }
        let mut strings = BTreeMap::new();
        for (key, item) in map {
            match item {
                Value::String(text) => {
                    strings.insert(key, text);
                }
                other => {
                    self.errors.push(pointer(&at, &key), no_string(&other));
                }
            }
        }
        Some(strings)
    }

    /// Reports every field that nobody took.
    pub fn finish(self) {
        for name in self.map.keys() {
            if self.errors.is_full() {
                return;
            }
            if !self.known.contains(&name.as_str()) {
                self.errors.push(pointer(&self.at, name), unknown_field(name, &self.known));
            }
        }
    }
}

/// In YAML what looks like a number or a truth is one.
fn no_string(value: &Value) -> String {
    let advice = if value.is_number() || value.is_boolean() { "; put it in quotes" } else { "" };
    format!("must be a string, not {}{advice}", kind(value))
}

/// What a JSON value is called in an error message.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_mistake_is_reported_with_its_pointer() {
        let mut errors = Errors::default();
        let mut fields =
            Fields::of(json!({"name": 3, "retrys": 1, "tags": ["a", 1], "a/b": true}), "/spec", &mut errors).unwrap();
        assert_eq!(fields.string("name"), None);
        assert_eq!(fields.integer("retries", 0..=9), None);
        fields.strings("tags", 5);
        fields.finish();
        let found = errors.into_result(()).unwrap_err();
        let of = |at: &str| found.iter().find(|e| e.pointer == at).map(|e| e.detail.as_str());
        assert_eq!(of("/spec/name"), Some("must be a string, not a number"));
        assert_eq!(of("/spec/retrys"), Some("unknown field `retrys`; did you mean `retries`?"));
        assert_eq!(of("/spec/tags/1"), Some("must be a string, not a number; put it in quotes"));
        assert!(of("/spec/a~1b").unwrap().starts_with("unknown field `a/b`"));
    }
}
