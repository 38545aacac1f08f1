//! The definitions that come with submissions: decoded once a request, however many of its executions have the same, and not at all if
//! it came lately: who sends a definition with each submission sends the same one again.
//!
//! Invariant: what is remembered follows from the text alone, so it is the same whoever sent it. A mistake is never remembered.

use roadstead_domain::decode::{Errors, FieldError};
use roadstead_domain::document;
use roadstead_domain::workflow::{self, Workflow};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A definition that came with a submission.
#[derive(Debug, PartialEq, Eq)]
pub struct Own {
    pub workflow: Workflow,
    /// Canonical JSON.
    pub text: Arc<str>,
}

/// A longer text is decoded each time: what is remembered is held until the cache looks after itself, and nobody counts it meanwhile.
const MAX_REMEMBERED_TEXT_BYTES: usize = 16 << 10;
const MAX_REMEMBERED_BYTES: u64 = 16 << 20;
/// What a byte of text takes when it is decoded, at the most: a step of sixty bytes may have two maps of an entry each.
const DECODED_BYTES: usize = 24;
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// The definitions that came lately, by their text as it was sent. Cloning shares them.
#[derive(Clone)]
pub struct Remembered(moka::sync::Cache<Arc<str>, Arc<Own>>);

impl Default for Remembered {
    fn default() -> Self {
        let weigh = |text: &Arc<str>, _: &_| (text.len() * DECODED_BYTES) as u32;
        let cache = moka::sync::Cache::builder().weigher(weigh).max_capacity(MAX_REMEMBERED_BYTES);
        Self(cache.time_to_idle(REMEMBERED_FOR).build())
    }
}

impl Remembered {
    fn get(&self, text: &str) -> Option<Arc<Own>> {
        if text.len() > MAX_REMEMBERED_TEXT_BYTES { None } else { self.0.get(text) }
    }

    fn insert(&self, text: &str, own: &Arc<Own>) {
        if text.len() <= MAX_REMEMBERED_TEXT_BYTES {
            self.0.insert(text.into(), Arc::clone(own));
        }
    }
}

/// They are people's, and may say what is not for a log.
impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remembered").finish_non_exhaustive()
    }
}

/// Those of one request.
#[derive(Debug)]
pub struct Definitions<'a> {
    remembered: &'a Remembered,
    decoded: HashMap<&'a str, Decoded>,
}

/// Mistakes have the definition itself as their root.
type Decoded = Result<Arc<Own>, Vec<FieldError>>;

impl<'a> Definitions<'a> {
    pub fn new(remembered: &'a Remembered) -> Self {
        Self { remembered, decoded: HashMap::new() }
    }

    pub fn decode(&mut self, text: &'a str) -> &Decoded {
        let remembered = self.remembered;
        self.decoded.entry(text).or_insert_with(|| {
            if let Some(own) = remembered.get(text) {
                return Ok(own);
            }
            let own = Arc::new(decode(text)?);
            remembered.insert(text, &own);
            Ok(own)
        })
    }
}

fn decode(text: &str) -> Result<Own, Vec<FieldError>> {
    let mut errors = Errors::default();
    let value = document::from_json(text, "", &mut errors).map_err(|error| unreadable(&error))?;
    let workflow = workflow::decode(value, errors)?;
    let canonical = serde_json::to_string(&workflow).map_err(|error| unreadable(&error))?;
    Ok(Own { workflow, text: canonical.into() })
}

fn unreadable(error: &serde_json::Error) -> Vec<FieldError> {
    vec![FieldError { pointer: String::new(), detail: format!("is not valid JSON: {error}") }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_decoded_once_and_a_mistake_each_time() {
        let remembered = Remembered::default();
        let spec = r#"{"steps":[{"id":"a","command":["true"]}]}"#;
        let of = |text: &str| Definitions::new(&remembered).decode(text).clone();
        let first = of(spec).unwrap();
        assert!(Arc::ptr_eq(&first, &of(spec).unwrap()));
        let indented = format!(" {spec}");
        assert_eq!(*of(&indented).unwrap(), *first, "written differently, it is the same again");
        let wrong = r#"{"steps":[]}"#;
        assert_eq!(of(wrong).unwrap_err(), of(wrong).unwrap_err());
        assert!(remembered.get(wrong).is_none());
        let long = format!("{}{spec}", " ".repeat(MAX_REMEMBERED_TEXT_BYTES));
        assert_eq!(*of(&long).unwrap(), *first);
        assert!(remembered.0.get(long.as_str()).is_none(), "what is long is not held");
        assert!(!format!("{remembered:?}").contains("true"));
    }
}
