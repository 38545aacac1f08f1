//! The answer to a batch: its executions mostly differ by their ids alone, so what they have in common is written once and copied.
//!
//! Pure. Invariant: byte for byte what `serde_json` makes of a [`Batch`].

use crate::query::view::{ExecutionView, Links};
use roadstead_backend::store::query::Execution;
use roadstead_domain::ids::ExecutionId;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::fmt::Hyphenated;

/// Executions recorded together.
#[derive(Serialize, ToSchema)]
pub struct Batch<'a> {
    /// In the order of the submissions.
    pub executions: Vec<ExecutionView<'a>>,
}

/// The [`Batch`] of them, as JSON.
pub fn batch(executions: &[Execution]) -> serde_json::Result<Vec<u8>> {
    let [first, ..] = executions else { return Ok(b"{\"executions\":[]}".to_vec()) };
    let mut frame = Frame::of(first)?;
    let mut answer = Vec::with_capacity((frame.text.len() + 1) * executions.len() + 32);
    answer.extend_from_slice(b"{\"executions\":[");
    for execution in executions {
        if !frame.fits(execution) {
            frame = Frame::of(execution)?;
        }
        answer.extend_from_slice(frame.with(execution.id));
        answer.push(b',');
    }
    answer.pop();
    answer.extend_from_slice(b"]}");
    Ok(answer)
}

/// A view as text, and where in it the execution's own id stands.
struct Frame {
    model: Execution,
    text: Vec<u8>,
    places: Vec<usize>,
}

impl Frame {
    fn of(execution: &Execution) -> serde_json::Result<Self> {
        let text = serde_json::to_string(&ExecutionView::of_submitted(execution))?;
        // The first member is the id and the last one the links; what stands between them is not ours to change.
        let links = text.len() - serde_json::to_string(&Links::of(execution.id))?.len() - 1;
        let id = execution.id.to_string();
        let own = text.match_indices(&id).map(|(place, _)| place);
        let places = own.enumerate().filter(|(n, place)| *n == 0 || *place >= links).map(|(_, place)| place).collect();
        Ok(Self { model: execution.clone(), text: text.into_bytes(), places })
    }

    /// Whether the view of this one differs by its id alone.
    fn fits(&mut self, execution: &Execution) -> bool {
        let model = &mut self.model;
        model.id = execution.id;
        // Of these a view does not tell.
        model.input_bytes = execution.input_bytes;
        model.timeout_seconds = execution.timeout_seconds;
        model == execution
    }

    fn with(&mut self, id: ExecutionId) -> &[u8] {
        let mut buffer = [0; Hyphenated::LENGTH];
        let id = id.0.hyphenated().encode_lower(&mut buffer).as_bytes();
        for place in &self.places {
            self.text[*place..*place + id.len()].copy_from_slice(id);
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::view::tests::execution;
    use roadstead_domain::execution::{Priority, State};
    use serde_json::json;

    #[test]
    fn it_is_what_serde_makes_of_it() {
        let plain = |n: u128| Execution { id: ExecutionId(uuid::Uuid::from_u128(n)), ..execution(State::Queued) };
        let quoting = |n: u128, of: u128| {
            let text = ExecutionId(uuid::Uuid::from_u128(of)).to_string();
            Execution { labels: Some(json!({ "about": text })), retry_of: Some(plain(of).id), ..plain(n) }
        };
        let executions = [
            plain(1),
            Execution { input_bytes: 7, timeout_seconds: 8, ..plain(2) },
            Execution { priority: Priority::High, ..plain(3) },
            plain(4),
            quoting(5, 5),
            quoting(6, 5),
            Execution { run_at: Some(plain(7).created_at), state: State::Scheduled, ..plain(7) },
        ];
        for count in 0..=executions.len() {
            let some = &executions[..count];
            let views = some.iter().map(ExecutionView::of_submitted).collect();
            assert_eq!(
                String::from_utf8(batch(some).unwrap()).unwrap(),
                serde_json::to_string(&Batch { executions: views }).unwrap()
            );
        }
    }
}
