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

/// Reads JSON that stands at `at` in its document. An error: it is not JSON, or nested deeper than [`MAX_DEPTH`].
pub fn from_json(text: &str, at: &str, errors: &mut Errors) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = reader(&Place::of(at), errors).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The same of YAML.
pub fn from_yaml(text: &str, at: &str, errors: &mut Errors) -> serde_yaml_ng::Result<Value> {
    reader(&Place::of(at), errors).deserialize(serde_yaml_ng::Deserializer::from_str(text))
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

/// Reads the value at `place`, from any deserializer; mistakes go to `errors`.
pub fn reader<'r>(place: &'r Place<'r>, errors: &'r mut Errors) -> Reader<'r> {
    Reader { place, errors }
}

#[derive(Debug)]
pub struct Reader<'r> {
    place: &'r Place<'r>,
    errors: &'r mut Errors,
}

/// What is said of a member that stands there again.
pub const TWICE: &str = "stands there more than once";

impl Reader<'_> {
    fn text(self, text: String) -> Value {
        if text.contains('\0') {
            self.errors.push(self.place.pointer(), "holds the character U+0000, which is not accepted in any string");
        }
        Value::String(text)
    }

    fn check_depth<E: Error>(&self) -> Result<(), E> {
        if self.place.depth < MAX_DEPTH {
            return Ok(());
        }
        Err(E::custom(format_args!("arrays and objects may be nested {MAX_DEPTH} deep")))
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        if number.is_none() {
            self.errors.push(self.place.pointer(), format!("is {value}, which is no number in JSON"));
        }
        Ok(number.map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(self.text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(self.text(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(reader(&self.place.item(items.len()), self.errors))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key_seed(Name)? {
            let place = self.place.member(&name);
            let value = map.next_value_seed(reader(&place, self.errors))?;
            if name.contains('\0') {
                self.errors.push(self.place.pointer(), "has a member with the character U+0000 in its name");
            }
            if members.contains_key(&name) {
                self.errors.push(place.pointer(), TWICE);
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
    }

    #[test]
    fn a_member_that_stands_there_twice_is_named_wherever_it_stands() {
        assert_eq!(
            json(r#"{"a":[{"x/y":1,"x/y":2}],"a":3}"#).1,
            [("/spec/a/0/x~1y".to_owned(), TWICE.to_owned()), ("/spec/a".to_owned(), TWICE.to_owned())]
        );
        assert_eq!(yaml("steps: []\nb: 1\nsteps: []\n").1, [("/steps".to_owned(), TWICE.to_owned())]);
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
        assert_eq!(pointers(yaml("a: .inf\nb: [.nan]\nc: \"\\0\"")), ["/a", "/b/0", "/c"]);
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
