//! From a submission's members to what is wanted, checked field by field; every mistake is reported with its pointer.
//!
//! Pure: what needs a look at the database or the configuration is in [`super::resolve`].

use super::definition::{Definitions, Own};
use super::members::{INPUT, Members, SPEC};
use chrono::{DateTime, Datelike, Utc};
use roadstead_domain::decode::{Errors, Fields, pointer};
use roadstead_domain::execution::Priority;
use roadstead_domain::ids::is_name;
use roadstead_domain::workflow::validate::{MAX_RETRIES, MAX_TIMEOUT_SECONDS};
use serde_json::Value;
use std::sync::Arc;

pub const MAX_LABELS: usize = 64;
const NANOSECONDS: u32 = 1_000_000_000;
const MAX_LABEL_KEY_CHARS: usize = 63;
const MAX_LABEL_VALUE_CHARS: usize = 256;

/// A submission whose fields are each well-formed.
#[derive(Debug)]
pub struct Wanted {
    pub definition: Definition,
    pub priority: Priority,
    pub run_at: Option<DateTime<Utc>>,
    /// An object of strings; `None` when empty.
    pub labels: Option<Value>,
    pub timeout_seconds: Option<u32>,
    pub queue_timeout_seconds: Option<u32>,
    pub max_retries: Option<u32>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Definition {
    /// A stored workflow; without a version the newest.
    Named { name: String, version: Option<i32> },
    /// It came with the submission.
    Own(Arc<Own>),
}

/// Decodes the members of the object at `at`.
pub fn decode<'a>(
    members: Members<'a>,
    at: &str,
    definitions: &mut Definitions<'a>,
    errors: &mut Errors,
) -> Option<Wanted> {
    let mut fields = Fields::of(Value::Object(members.others), at, errors)?;
    let definition = definition(&mut fields, members.spec.filter(|text| *text != "null"), definitions);
    // These two were split off; their names are known.
    fields.take(SPEC);
    fields.take(INPUT);
    let priority = fields.string("priority").map_or(Some(Priority::Normal), |word| match word.parse() {
        Ok(priority) => Some(priority),
        Err(unknown) => {
            fields.error("priority", format!("must be one of {}, not `{}`", unknown.expected, unknown.found));
            None
        }
    });
    let run_at = run_at(&mut fields);
    let labels = labels(&mut fields);
    let timeout_seconds = fields.integer("timeout_seconds", 1..=MAX_TIMEOUT_SECONDS).map(|n| n as u32);
    let queue_timeout_seconds = fields.integer("queue_timeout_seconds", 1..=MAX_TIMEOUT_SECONDS).map(|n| n as u32);
    let max_retries = fields.integer("max_retries", 0..=MAX_RETRIES).map(|n| n as u32);
    fields.finish();
    Some(Wanted {
        definition: definition?,
        priority: priority?,
        run_at,
        labels,
        timeout_seconds,
        queue_timeout_seconds,
        max_retries,
    })
}

fn definition<'a>(
    fields: &mut Fields<'_>,
    spec: Option<&'a str>,
    definitions: &mut Definitions<'a>,
) -> Option<Definition> {
    match (fields.take("workflow"), spec) {
        (Some(_), Some(_)) => {
            fields.error(SPEC, "stands beside `workflow`; give one of the two");
            None
        }
        (None, None) => {
            fields.error("workflow", "is missing; give the name of a workflow here, or a definition as `spec`");
            None
        }
        (None, Some(spec)) => match definitions.decode(spec) {
            Ok(own) => Some(Definition::Own(Arc::clone(own))),
            Err(mistakes) => {
                let (at, errors) = fields.nested(SPEC);
                errors.extend(&at, mistakes);
                None
            }
        },
        (Some(reference), None) => {
            let definition = reference.as_str().and_then(named);
            if definition.is_none() {
                fields.error("workflow", "must be a workflow's name, or name@version, as in `word-count@3`");
            }
            definition
        }
    }
}

/// `name` or `name@version`.
fn named(reference: &str) -> Option<Definition> {
    let (name, version) = match reference.split_once('@') {
        Some((name, version)) => (name, Some(version_number(version)?)),
        None => (reference, None),
    };
    is_name(name).then(|| Definition::Named { name: name.to_owned(), version })
}

/// Written as one writes a version: no sign, no leading zero.
pub fn version_number(text: &str) -> Option<i32> {
    text.parse().ok().filter(|_| text.starts_with(|first: char| ('1'..='9').contains(&first)))
}

fn run_at(fields: &mut Fields<'_>) -> Option<DateTime<Utc>> {
    let text = fields.string("run_at")?;
    // What is answered in UTC has to have a year of four digits, too. Second 60 would be answered as the next one.
    let parsed = DateTime::parse_from_rfc3339(&text).ok().map(|at| at.with_timezone(&Utc));
    let parsed = parsed.filter(|at| (0..=9999).contains(&at.year()) && at.timestamp_subsec_nanos() < NANOSECONDS);
    if parsed.is_none() {
        fields.error("run_at", "must be a time after RFC 3339, as in `2030-01-31T08:00:00Z`");
    }
    parsed
}

fn labels(fields: &mut Fields<'_>) -> Option<Value> {
    let labels = fields.string_map("labels", MAX_LABELS)?;
    for (key, value) in &labels {
        let (at, errors) = fields.nested("labels");
        if !is_label_key(key) {
            errors.push(
                pointer(&at, key),
                format!("a label's key must be 1 to {MAX_LABEL_KEY_CHARS} of the characters a-z A-Z 0-9 . _ / -"),
            );
        } else if value.chars().count() > MAX_LABEL_VALUE_CHARS {
            errors.push(
                pointer(&at, key),
                format!("a label's value may have {MAX_LABEL_VALUE_CHARS} characters at most"),
            );
        }
    }
    if labels.is_empty() {
        None
    } else {
        Some(labels.into_iter().map(|(key, value)| (key, Value::String(value))).collect())
    }
}

fn is_label_key(key: &str) -> bool {
    (1..=MAX_LABEL_KEY_CHARS).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::super::definition::Remembered;
    use super::*;
    use roadstead_domain::decode::FieldError;

    fn decoded(text: &str) -> Result<Wanted, Vec<FieldError>> {
        let mut errors = Errors::default();
        let members = Members::of(text, "", &mut errors).unwrap();
        let wanted = decode(members, "", &mut Definitions::new(&Remembered::default()), &mut errors);
        errors.into_result(()).map(|()| wanted.unwrap())
    }

    fn pointers(text: &str) -> Vec<String> {
        decoded(text).unwrap_err().into_iter().map(|e| e.pointer).collect()
    }

    #[test]
    fn what_is_left_out_is_left_open() {
        let wanted = decoded(r#"{"workflow":"word-count"}"#).unwrap();
        assert_eq!(wanted.definition, Definition::Named { name: "word-count".into(), version: None });
        assert_eq!(wanted.priority, Priority::Normal);
        assert!(wanted.labels.is_none() && wanted.run_at.is_none() && wanted.max_retries.is_none());
    }

    #[test]
    fn every_mistake_is_found_at_once() {
        let found = pointers(
            r#"{"workflow":"a@0","priority":"urgent","run_at":"tomorrow","labels":{"a b":"x","c":1},"timeout_seconds":0,
                "queue_timeout_seconds":-1,"max_retries":101,"retries":3,"input":1}"#,
        );
        for expected in [
            "/workflow",
            "/priority",
            "/run_at",
            "/labels/a b",
            "/labels/c",
            "/timeout_seconds",
            "/queue_timeout_seconds",
            "/max_retries",
            "/retries",
        ] {
            assert!(found.iter().any(|p| p == expected), "{expected} in {found:?}");
        }
        assert_eq!(found.len(), 9, "{found:?}");
        assert_eq!(pointers(r#"{"workflow":"a","run_at":"9999-12-31T23:59:59-23:59"}"#), ["/run_at"]);
    }

    #[test]
    fn a_name_may_have_a_version() {
        assert_eq!(named("a@3"), Some(Definition::Named { name: "a".into(), version: Some(3) }));
        for bad in ["", "A", "a@", "a@x", "a@-1", "a@1@2", "a@+3", "a@03", "a/b", "a@99999999999"] {
            assert_eq!(named(bad), None, "{bad}");
        }
    }

    #[test]
    fn exactly_one_of_name_and_definition_is_given() {
        assert_eq!(pointers("{}"), ["/workflow"]);
        assert_eq!(pointers(r#"{"workflow":"a","spec":{"steps":[{"id":"a","command":["x"]}]}}"#), ["/spec"]);
        assert_eq!(
            pointers(r#"{"spec":{"steps":[{"id":"a","command":["x"],"needs":["b"]}]}}"#),
            ["/spec/steps/0/needs/0"]
        );
        assert_eq!(pointers(r#"{"spec":{"steps":[{"id":"a","command":["x"]}],"steps":[]}}"#)[0], "/spec/steps");
        assert_eq!(pointers(r#"{"spec":null}"#), ["/workflow"]);
        assert!(decoded(r#"{"spec":{"steps":[{"id":"a","command":["x"]}]}}"#).is_ok());
        assert!(decoded(r#"{"workflow":"a","spec":null}"#).is_ok());
    }

    /// `serde_json::Value` would decode JSON within a string here, layer by layer, until the stack is full.
    #[test]
    fn json_within_strings_stays_a_string() {
        let mut text = "0".to_owned();
        for _ in 0..300 {
            let inner = text.replace('\\', "\\u005c").replace('"', "\\u0022");
            let [open, close] = ["[", "]"].map(|bracket| bracket.repeat(50));
            text = format!(r#"{open}{{"$serde_json::private::RawValue":"{inner}"}}{close}"#);
        }
        assert_eq!(pointers(&format!(r#"{{"workflow":"a","x":{text}}}"#)), ["/x"]);
        let label = r#"{"workflow":"a","labels":{"$serde_json::private::RawValue":"{\"a\":\"x\\u0000\"}"}}"#;
        assert_eq!(pointers(label), ["/labels/$serde_json::private::RawValue"]);
    }

    #[test]
    fn an_unknown_field_names_the_nearest_known_one() {
        let error = decoded(r#"{"workflow":"a","inputs":1}"#).unwrap_err().remove(0);
        assert_eq!(
            (error.pointer.as_str(), error.detail.as_str()),
            ("/inputs", "unknown field `inputs`; did you mean `input`?")
        );
    }
}
