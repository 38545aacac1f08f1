//! The definitions that come with submissions: decoded once a request, however many of its executions have the same.

use roadstead_domain::decode::{Errors, FieldError};
use roadstead_domain::document;
use roadstead_domain::workflow::{self, Workflow};
use std::collections::HashMap;
use std::sync::Arc;

/// A definition that came with a submission.
#[derive(Debug, PartialEq, Eq)]
pub struct Own {
    pub workflow: Workflow,
    /// Canonical JSON.
    pub text: Arc<str>,
}

/// Those of one request, by their text as it was sent.
#[derive(Debug, Default)]
pub struct Definitions<'a>(HashMap<&'a str, Decoded>);

/// Mistakes have the definition itself as their root.
type Decoded = Result<Arc<Own>, Vec<FieldError>>;

impl<'a> Definitions<'a> {
    pub fn decode(&mut self, text: &'a str) -> &Decoded {
        self.0.entry(text).or_insert_with(|| {
            let mut errors = Errors::default();
            let value = document::from_json(text, "", &mut errors).map_err(|error| unreadable(&error))?;
            let workflow = workflow::decode(value, errors)?;
            let canonical = serde_json::to_string(&workflow).map_err(|error| unreadable(&error))?;
            Ok(Arc::new(Own { workflow, text: canonical.into() }))
        })
    }
}

fn unreadable(error: &serde_json::Error) -> Vec<FieldError> {
    vec![FieldError { pointer: String::new(), detail: format!("is not valid JSON: {error}") }]
}
