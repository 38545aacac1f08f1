//! `roadstead get`: one execution.

use super::{Session, execution_id};
use crate::client::Call;
use crate::failure::Failure;
use crate::model::{self, Execution};
use crate::output::Output;
use crate::table::facts;
use crate::terminal::{Palette, harmless, harmless_lines};

/// A longer result is left to `roadstead result`.
const MAX_RESULT_BYTES: usize = 2_000;

pub async fn run(id: &str, session: &Session) -> Result<(), Failure> {
    let id = execution_id(id)?;
    let answer = session.client()?.document(Call::get(&["executions", &id])).await?;
    show(session.output, &answer)
}

/// Shows an execution as the API answered it.
pub fn show(output: Output, answer: &[u8]) -> Result<(), Failure> {
    let execution: Execution = model::read(answer)?;
    output.document(answer, |palette| details(&execution, palette))
}

fn details(execution: &Execution, palette: Palette) -> String {
    let optional = |value: &Option<String>| value.clone().unwrap_or_default();
    let labels: Vec<String> = execution.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let text = facts(
        &[
            ("id", execution.id.clone()),
            ("workflow", execution.workflow_shown()),
            ("state", execution.state.clone()),
            (
                "cancel",
                if execution.cancel_requested && !execution.is_over() { "requested".to_owned() } else { String::new() },
            ),
            ("reason", execution.reason_shown()),
            ("waiting", execution.waiting_shown()),
            ("attempt", format!("{} of {}", execution.attempt, execution.max_attempts)),
            ("priority", optional(&execution.priority)),
            ("labels", labels.join(" ")),
            ("created", optional(&execution.created_at)),
            // Once due it is history, and after a retry the last backoff's.
            ("run at", optional(&execution.run_at.clone().filter(|_| execution.state == "scheduled"))),
            ("started", optional(&execution.started_at)),
            ("finished", optional(&execution.finished_at)),
            ("retry of", optional(&execution.retry_of)),
        ],
        palette,
    );
    let heading = palette.dim("result");
    match execution.result.as_ref().map(|result| result.get()) {
        None => text,
        Some(result) if result.len() <= MAX_RESULT_BYTES => format!("{text}\n{heading}\n{}", harmless_lines(result)),
        Some(_) => format!("{text}\n{heading}  roadstead result {}", harmless(&execution.id)),
    }
}
