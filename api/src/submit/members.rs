//! A submission's members, split from its text in one pass: the input and the definition as the bytes that were sent, everything else as values.
//!
//! Invariant: a member that stands there twice is refused, never quietly the last one.

use roadstead_domain::decode::Errors;
use roadstead_domain::document::{Ledger, Place, TWICE};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;

/// The member whose bytes are kept.
pub const INPUT: &str = "input";
/// The member that is decoded apart: many executions of a batch may have the same.
pub const SPEC: &str = "spec";

#[derive(Debug, Default)]
pub struct Members<'a> {
    pub input: Option<&'a str>,
    pub spec: Option<&'a str>,
    /// Without these two.
    pub others: Map<String, Value>,
}

impl<'a> Members<'a> {
    /// The members of an object that stands at `at`. The text must have passed [`roadstead_domain::json::scan`].
    pub fn of(text: &'a str, at: &str, errors: &mut Errors) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let members = Reader { place: Place::of(at), ledger: Ledger::new(errors) }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(members)
    }
}

struct Reader<'r> {
    place: Place<'r>,
    ledger: Ledger<'r>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Members<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Members<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<String>()? {
            let place = self.place.member(&name);
            let known_already = match name.as_str() {
                INPUT => members.input.replace(raw(&mut map)?).is_some(),
                SPEC => members.spec.replace(raw(&mut map)?).is_some(),
                _ => {
                    let value = map.next_value_seed(self.ledger.reader(&place))?;
                    members.others.insert(name.clone(), value).is_some()
                }
            };
            if known_already {
                self.ledger.mistake(&place, TWICE);
            }
        }
        Ok(members)
    }
}

fn raw<'de, A: MapAccess<'de>>(map: &mut A) -> Result<&'de str, A::Error> {
    Ok(map.next_value::<&'de RawValue>()?.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(text: &'a str, errors: &mut Errors) -> Members<'a> {
        Members::of(text, "/executions/3", errors).unwrap()
    }

    #[test]
    fn the_input_keeps_its_bytes() {
        let members = of(r#"{"workflow":"a","input": {"b":1.50,  "a":1e3} }"#, &mut Errors::default());
        assert_eq!(members.input, Some(r#"{"b":1.50,  "a":1e3}"#));
        assert_eq!(members.others["workflow"], "a");
    }

    #[test]
    fn a_member_that_stands_there_twice_is_named() {
        let mut errors = Errors::default();
        of(r#"{"input":1,"labels":{},"input":2,"spec":1,"labels":{"a":"1","a":"2"},"spec":2}"#, &mut errors);
        let pointers: Vec<String> = errors.into_result(()).unwrap_err().into_iter().map(|e| e.pointer).collect();
        let expected = ["input", "labels/a", "labels", "spec"].map(|name| format!("/executions/3/{name}"));
        assert_eq!(pointers, expected);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[]", "1", "\"x\"", "null"] {
            assert!(Members::of(text, "", &mut Errors::default()).unwrap_err().is_data(), "{text}");
        }
    }
}
