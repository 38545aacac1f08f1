//! Accepting executions: quota, group commit, idempotency; what every route that makes executions goes through.

use super::record::{Item, Recorded, Recorder};
use crate::enqueue::Enqueuer;
use crate::problem::{Kind, Problem};
use crate::state::App;
use roadstead_backend::batch::{Batcher, Terms};
use roadstead_backend::dispatch::Share;
use roadstead_backend::store::Database;
use roadstead_backend::store::query::Execution;
use roadstead_backend::store::repeats::Repeats;
use roadstead_backend::store::submit::{IdempotencyKey, NewExecution, Submission, Submitted, look_up};
use roadstead_backend::store::tenants::Tenant;
use roadstead_domain::execution::State;
use std::time::Duration;

/// Single submissions go in one commit at a time: while it waits for the disk all that arrives gathers; two at once would each be half as large, and cost
/// more. Whoever submits waits, so nothing is held back for more.
const SINGLE: Terms = Terms { concurrent: 1, max_items: 256, max_waiting: 8_192, spacing: Duration::ZERO };
/// Batches, each of which may hold a thousand executions, are large enough by themselves: while one waits for the disk, the next one is on its way.
const BATCHES: Terms = Terms { concurrent: 2, max_items: 4, max_waiting: 64, spacing: Duration::ZERO };

/// The queues in front of the commit. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Submitter {
    single: Batcher<Item, Recorded>,
    batches: Batcher<Item, Recorded>,
}

impl Submitter {
    pub fn start(database: &Database, enqueuer: &Enqueuer) -> Self {
        let recorder =
            || Recorder { database: database.clone(), enqueuer: enqueuer.clone(), repeats: Repeats::default() };
        Self { single: Batcher::start(recorder(), SINGLE), batches: Batcher::start(recorder(), BATCHES) }
    }
}

/// Records the executions, all or none, and answers them as of their submission: the same again for the same key and body.
pub async fn accept(
    app: &App,
    tenant: &Tenant,
    idempotency: Option<IdempotencyKey>,
    executions: Vec<NewExecution>,
) -> Result<Vec<Execution>, Problem> {
    let bound = tenant
        .max_queued
        .unwrap_or_else(|| i64::try_from(app.config.executions.max_queued_per_tenant).unwrap_or(i64::MAX));
    let reservation = match app.quotas.reserve(&tenant.name, executions.len(), bound).await {
        Ok(reservation) => reservation,
        Err(problem) => return repeated_or(app, tenant, idempotency.as_ref(), problem).await,
    };
    let queue = if executions.len() == 1 { &app.submitter.single } else { &app.submitter.batches };
    let submission = Submission { tenant: tenant.name.clone(), idempotency, executions };
    let share = Share { weight: tenant.weight, max_concurrent: tenant.max_concurrent };
    match queue.submit(Item { submission, share, reservation }).await? {
        Recorded::Now(submission) => {
            let Submission { tenant, executions, .. } = submission;
            Ok(executions.into_iter().map(|row| as_submitted(&tenant, row)).collect())
        }
        Recorded::Before(executions) => Ok(executions.into_iter().map(as_of_submission).collect()),
        Recorded::KeyReused => Err(key_reused()),
        Recorded::Forgotten => Err(forgotten()),
        Recorded::Failed(problem) => Err(problem),
    }
}

/// What was accepted before is answered again even when nothing new would be.
async fn repeated_or(
    app: &App,
    tenant: &Tenant,
    idempotency: Option<&IdempotencyKey>,
    problem: Problem,
) -> Result<Vec<Execution>, Problem> {
    let Some(key) = idempotency else { return Err(problem) };
    match app.database.run(async |connection| look_up(connection, &tenant.name, key).await).await? {
        Some(Submitted::Repeated(executions)) => Ok(executions.into_iter().map(as_of_submission).collect()),
        Some(Submitted::KeyReused) => Err(key_reused()),
        Some(Submitted::Forgotten) => Err(forgotten()),
        Some(Submitted::Unread(error)) => Err(error.into()),
        Some(Submitted::Recorded) | None => Err(problem),
    }
}

fn key_reused() -> Problem {
    Problem::new(Kind::IdempotencyKeyReused, "this Idempotency-Key was sent before with another body; use a new key")
}

fn forgotten() -> Problem {
    Problem::new(Kind::Conflict, "what this Idempotency-Key was accepted for is over and was removed; use a new key")
}

/// The row that was just written, as a query would answer it.
fn as_submitted(tenant: &str, row: NewExecution) -> Execution {
    let scheduled = row.run_at.is_some();
    Execution {
        id: row.id,
        tenant: tenant.to_owned(),
        state: if scheduled { State::Scheduled } else { State::Queued },
        reason: None,
        attempt: 0,
        max_attempts: row.max_attempts,
        priority: row.priority,
        workflow: row.workflow,
        labels: row.labels,
        cancel_requested: false,
        input_bytes: row.input_bytes,
        timeout_seconds: row.timeout_seconds,
        created_at: row.created_at,
        run_at: row.run_at,
        queued_at: (!scheduled).then_some(row.created_at),
        started_at: None,
        finished_at: None,
        retry_of: row.retry_of,
        result: None,
        result_bytes: None,
    }
}

/// An execution as it was answered at first. `run_at` is the submission's until a retry's backoff takes its place, which is then left out.
fn as_of_submission(execution: Execution) -> Execution {
    let replaced = execution.attempt > 1 || (execution.attempt == 1 && execution.state == State::Scheduled);
    let run_at = execution.run_at.filter(|_| !replaced);
    Execution {
        state: if run_at.is_some() { State::Scheduled } else { State::Queued },
        reason: None,
        attempt: 0,
        cancel_requested: false,
        queued_at: run_at.is_none().then_some(execution.created_at),
        run_at,
        started_at: None,
        finished_at: None,
        result: None,
        result_bytes: None,
        ..execution
    }
}
