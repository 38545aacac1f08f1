//! Bodies of submissions.

use serde_json::{Value, json};

/// One step that a shell runs.
pub fn shell(script: &str) -> Value {
    command(&["sh", "-c", script])
}

/// One step of that argv.
pub fn command(argv: &[&str]) -> Value {
    steps(&json!([{ "id": "main", "command": argv }]))
}

/// A submission whose definition comes with it.
pub fn steps(steps: &Value) -> Value {
    json!({ "spec": { "steps": steps } })
}

/// Adds the members of `more` to those of a submission.
pub trait With {
    #[must_use]
    fn with(self, more: Value) -> Value;
}

impl With for Value {
    fn with(mut self, more: Value) -> Value {
        let (Self::Object(whole), Self::Object(more)) = (&mut self, more) else { panic!("both are objects") };
        whole.extend(more);
        self
    }
}

/// A step's script that waits until the file is there, looking often: how a scenario decides when a step goes on.
pub fn wait_for_file(path: &std::path::Path) -> String {
    format!("while [ ! -e '{}' ]; do sleep 0.05; done", path.display())
}
