//! A submission's members, split from its text in one pass: the input as the bytes that were sent, everything else as values.
//!
//! Invariant: a member that stands there twice is refused, never quietly the last one.

use roadstead_domain::decode::{Errors, pointer};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;

/// The member whose bytes are kept.
pub const INPUT: &str = "input";

#[derive(Debug, Default)]
pub struct Members<'a> {
    pub input: Option<&'a str>,
    /// Without the input.
    pub others: Map<String, Value>,
    twice: Vec<String>,
}

impl<'a> Members<'a> {
    /// The members of an object that stands at `at`. The text must have passed [`roadstead_domain::json::scan`].
    pub fn of(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    pub fn report_repeated(&self, at: &str, errors: &mut Errors) {
        for name in &self.twice {
            errors.push(pointer(at, name), "stands there more than once");
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<String>()? {
            let known_already = if name == INPUT {
                let raw: &'de RawValue = map.next_value()?;
                members.input.replace(raw.get()).is_some()
            } else {
                let value: Value = map.next_value()?;
                members.others.insert(name.clone(), value).is_some()
            };
            if known_already {
                members.twice.push(name);
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_keeps_its_bytes() {
        let members = Members::of(r#"{"workflow":"a","input": {"b":1.50,  "a":1e3} }"#).unwrap();
        assert_eq!(members.input, Some(r#"{"b":1.50,  "a":1e3}"#));
        assert_eq!(members.others["workflow"], "a");
    }

    #[test]
    fn a_member_that_stands_there_twice_is_named() {
        let members = Members::of(r#"{"input":1,"labels":{},"input":2,"labels":{}}"#).unwrap();
        let mut errors = Errors::default();
        members.report_repeated("/executions/3", &mut errors);
        let pointers: Vec<String> = errors.into_result(()).unwrap_err().into_iter().map(|e| e.pointer).collect();
        assert_eq!(pointers, ["/executions/3/input", "/executions/3/labels"]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[]", "1", "\"x\"", "null"] {
            assert!(Members::of(text).unwrap_err().is_data(), "{text}");
        }
    }
}
