//! A document that a person wrote, as a value: JSON, or YAML that says what JSON can.
//!
//! Invariant: what is ambiguous or can't be kept is a mistake with its place, never a quiet choice: a member that stands there twice, the character
//! U+0000, a number that JSON does not have. And no name means anything but itself: `serde_json::Value` takes an object whose first member has a name of
//! serde_json's own for JSON within a string, and decodes that, too, past every check of the text and as deep as one likes.

use crate::decode::{Errors, pointer};
use crate::json::MAX_DEPTH;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// What a document may come to in memory, about: a small object in JSON takes a hundred times its text, an alias in YAML any number of times.
const MAX_BYTES: usize = 16 << 20;
const OBJECT_BYTES: usize = 640;
const VALUE_BYTES: usize = 32;

/// Reads JSON that stands at `at` in its document. An error: it is not JSON, or more than a document may be.
pub fn from_json(text: &str, at: &str, errors: &mut Errors) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Ledger::new(errors).reader(&Place::of(at)).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The same of YAML: 1.2's words for true and false, and aliases and flow collections within bounds. An error is a sentence.
pub fn from_yaml(text: &str, at: &str, errors: &mut Errors) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        // A thousand steps may well share one anchor: what aliases come to is in the ledger.
        budget: serde_saphyr::budget! { flow_nesting_limit: MAX_DEPTH, max_depth: MAX_DEPTH, enforce_alias_anchor_ratio: false },
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        Ledger::new(errors).reader(&Place::of(at)).deserialize(deserializer)
    })
    .map_err(|error| error.to_string())
}

/// Where a value stands: its pointer is only made when something is wrong there.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    token: Token<'p>,
    depth: usize,
}

#[derive(Clone, Copy, Debug)]
enum Token<'p> {
    Pointer(&'p str),
    Name(&'p str),
    Index(usize),
}

impl<'p> Place<'p> {
    /// By its pointer.
    pub fn of(at: &'p str) -> Self {
        Self { parent: None, token: Token::Pointer(at), depth: 0 }
    }

    /// The member of that name.
    #[must_use]
    pub fn member(&'p self, name: &'p str) -> Self {
        Self { parent: Some(self), token: Token::Name(name), depth: self.depth + 1 }
    }

    fn item(&'p self, index: usize) -> Self {
        Self { parent: Some(self), token: Token::Index(index), depth: self.depth + 1 }
    }

    pub fn pointer(&self) -> String {
        let parent = self.parent.map(Place::pointer).unwrap_or_default();
        match self.token {
            Token::Pointer(at) => at.to_owned(),
            Token::Name(name) => pointer(&parent, name),
            Token::Index(index) => format!("{parent}/{index}"),
        }
    }
}

/// What was found in a document so far: mistakes, and how much it comes to.
#[derive(Debug)]
pub struct Ledger<'e> {
    errors: &'e mut Errors,
    left_bytes: usize,
}

/// What is said of a member that stands there again.
pub const TWICE: &str = "stands there more than once";

impl<'e> Ledger<'e> {
    pub fn new(errors: &'e mut Errors) -> Self {
        Self { errors, left_bytes: MAX_BYTES }
    }

    /// Reads the value at `place`, from any deserializer.
    pub fn reader<'r>(&'r mut self, place: &'r Place<'r>) -> Reader<'r, 'e> {
        Reader { place, ledger: self }
    }

    pub fn mistake(&mut self, place: &Place<'_>, detail: &str) {
        if !self.errors.is_full() {
            self.errors.push(place.pointer(), detail);
        }
    }

    fn spend<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        let left = self.left_bytes.checked_sub(bytes);
        self.left_bytes = left.ok_or_else(|| E::custom("more than a document may hold"))?;
        Ok(())
    }
}

#[derive(Debug)]
pub struct Reader<'r, 'e> {
    place: &'r Place<'r>,
    ledger: &'r mut Ledger<'e>,
}

impl Reader<'_, '_> {
    fn text<E: Error>(self, text: String) -> Result<Value, E> {
        self.ledger.spend(VALUE_BYTES + text.len())?;
        if text.contains('\0') {
            self.ledger.mistake(self.place, "holds the character U+0000, which is not accepted in any string");
        }
        Ok(Value::String(text))
    }

    fn enter<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        if self.place.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("arrays and objects may be nested {MAX_DEPTH} deep")));
        }
        self.ledger.spend(bytes)
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.ledger.spend(VALUE_BYTES)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.ledger.spend(VALUE_BYTES)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.ledger.spend(VALUE_BYTES)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.ledger.spend(VALUE_BYTES)?;
        let number = Number::from_f64(value);
        if number.is_none() {
            self.ledger.mistake(self.place, "is no number that JSON has");
        }
        Ok(number.map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.text(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        self.text(value)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.ledger.spend(VALUE_BYTES)?;
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        self.enter(VALUE_BYTES)?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.ledger.reader(&self.place.item(items.len())))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        self.enter(OBJECT_BYTES)?;
        let mut members = Map::new();
        while let Some(name) = map.next_key_seed(Name)? {
            self.ledger.spend(VALUE_BYTES + name.len())?;
            let place = self.place.member(&name);
            let value = map.next_value_seed(self.ledger.reader(&place))?;
            if name.contains('\0') {
                self.ledger.mistake(self.place, "has a member with the character U+0000 in its name");
            }
            if members.contains_key(&name) {
                self.ledger.mistake(&place, TWICE);
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

/// A member's name; in YAML a scalar of any kind.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn json(text: &str) -> (Value, Vec<(String, String)>) {
        let mut errors = Errors::default();
        let value = from_json(text, "/spec", &mut errors).unwrap();
        (value, told(errors))
    }

    fn yaml(text: &str) -> (Value, Vec<(String, String)>) {
        let mut errors = Errors::default();
        let value = from_yaml(text, "", &mut errors).unwrap();
        (value, told(errors))
    }

    fn told(errors: Errors) -> Vec<(String, String)> {
        errors.into_result(()).err().unwrap_or_default().into_iter().map(|e| (e.pointer, e.detail)).collect()
    }

    #[test]
    fn what_is_well_formed_comes_out_as_it_is() {
        let text = r#"{"a": [1, -2, 1.5, true, null, "é\n"], "b": {"c": {}}}"#;
        assert_eq!(json(text), (json!({"a": [1, -2, 1.5, true, null, "é\n"], "b": {"c": {}}}), vec![]));
        assert_eq!(yaml(text).0, json(text).0);
        assert_eq!(yaml("a: ~\nb: {c: 1}\n1: x"), (json!({"a": null, "b": {"c": 1}, "1": "x"}), vec![]));
        let words = "a: yes\nb: True\nc: 0o17\nd: \"1\"\ne: 12:30\nf: |\n  x\n  y\ng: 500m\nh: 1.5";
        let expected =
            json!({"a": "yes", "b": true, "c": 15, "d": "1", "e": "12:30", "f": "x\ny\n", "g": "500m", "h": 1.5});
        assert_eq!(yaml(words).0, expected);
    }

    #[test]
    fn one_anchor_may_be_used_often() {
        let text = format!("a: &a {{x: 1}}\nb: [{}]", vec!["*a"; 999].join(", "));
        assert_eq!(yaml(&text).0["b"].as_array().map(Vec::len), Some(999));
    }

    #[test]
    fn a_member_that_stands_there_twice_is_named_wherever_it_stands() {
        assert_eq!(
            json(r#"{"a":[{"x/y":1,"x/y":2}],"a":3}"#).1,
            [("/spec/a/0/x~1y".to_owned(), TWICE.to_owned()), ("/spec/a".to_owned(), TWICE.to_owned())]
        );
        let twice = from_yaml("steps: []\nb: 1\nsteps: []\n", "", &mut Errors::default()).unwrap_err();
        assert!(twice.contains("steps") && twice.contains("line 3"), "{twice}");
    }

    #[test]
    fn no_name_is_serde_jsons_own() {
        for name in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
            let text = json!({ "a": { name: "[[1]]" } });
            assert_eq!(json(&text.to_string()), (text.clone(), vec![]));
            assert_eq!(yaml(&text.to_string()), (text, vec![]));
        }
    }

    #[test]
    fn what_json_has_not_is_a_mistake() {
        let pointers = |(_, told): (Value, Vec<(String, String)>)| told.into_iter().map(|t| t.0).collect::<Vec<_>>();
        assert_eq!(pointers(json(r#"{"a":"\u0000"}"#)), ["/spec/a"]);
        assert_eq!(pointers(json(r#"{"a\u0000b":1}"#)), ["/spec"]);
        assert_eq!(pointers(yaml("c: \"\\0\"")), ["/c"]);
        for text in ["a: .inf", "a: [.nan]", "a: 1e999"] {
            assert!(from_yaml(text, "", &mut Errors::default()).is_err(), "{text}");
        }
    }

    /// What one text makes of a hundred, and what takes a parser the square of its length.
    #[test]
    fn what_multiplies_is_refused_soon() {
        let objects = format!("[{}0]", "{\"\":0},".repeat(100_000));
        assert!(from_json(&objects, "", &mut Errors::default()).unwrap_err().is_data());
        let text = format!("a: &a \"{}\"\nb: [{}]", "x".repeat(100_000), vec!["*a"; 1_000].join(","));
        assert!(from_yaml(&text, "", &mut Errors::default()).is_err());
        let many = format!("a: &a [{}]\nb: [{}]", vec!["1"; 3_000].join(","), vec!["*a"; 4_000].join(","));
        assert!(from_yaml(&many, "", &mut Errors::default()).is_err());
        for open in ["a: ".to_owned() + &"[".repeat(1 << 20), "a: ".to_owned() + &"[ \"]\", ".repeat(1 << 18)] {
            assert!(from_yaml(&open, "", &mut Errors::default()).is_err());
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| from_json(&("[".repeat(depth) + &"]".repeat(depth)), "", &mut Errors::default());
        assert!(nested(MAX_DEPTH).is_ok());
        assert!(nested(MAX_DEPTH + 1).unwrap_err().to_string().contains("64 deep"));
        assert!(nested(100_000).is_err());
        assert!(from_yaml(&"- ".repeat(MAX_DEPTH + 1), "", &mut Errors::default()).is_err());
    }
}
