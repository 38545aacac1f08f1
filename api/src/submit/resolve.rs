//! From what is wanted to the row: the workflow's version, the defaults (submission, then workflow, then configuration), the deadlines.

use super::decode::{Definition, Wanted};
use super::placeable;
use crate::problem::{Kind, Problem};
use crate::state::App;
use chrono::{DateTime, TimeDelta, Utc};
use roadstead_backend::config::ExecutionConfig;
use roadstead_backend::store::submit::NewExecution;
use roadstead_domain::decode::FieldError;
use roadstead_domain::ids::ExecutionId;
use std::sync::Arc;

/// An input as it will be in the row.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct InputRow {
    /// The bytes; `None` with a size: an object.
    pub inline: Option<String>,
    pub size_bytes: i64,
}

/// A definition that can run here, of a stored workflow or of the execution's own, and what it says.
#[derive(Debug)]
pub struct Runnable {
    pub workflow: Option<(String, i32)>,
    pub spec: Option<Arc<str>>,
    timeout_seconds: Option<u32>,
    max_retries: Option<u32>,
}

/// There is no such workflow, or the definition can't run here.
#[derive(Debug)]
pub struct Objection {
    pub kind: Kind,
    /// Their pointers begin at the submission.
    pub errors: Vec<FieldError>,
}

impl From<Objection> for Problem {
    fn from(Objection { kind, errors }: Objection) -> Self {
        let detail = Self::fields(errors.clone()).detail().to_owned();
        Self::new(kind, detail).with_errors(errors)
    }
}

/// `Ok(Err(_))`: it can't be.
pub async fn resolve(
    app: &App,
    tenant: &str,
    id: ExecutionId,
    wanted: Wanted,
    input: InputRow,
    now: DateTime<Utc>,
) -> Result<Result<NewExecution, Objection>, Problem> {
    let runnable = runnable(app, tenant, &wanted.definition).await?;
    Ok(runnable.map(|runnable| row(id, wanted, runnable, input, &app.config.executions, now)))
}

/// The same of the definition alone.
pub async fn runnable(
    app: &App,
    tenant: &str,
    definition: &Definition,
) -> Result<Result<Runnable, Objection>, Problem> {
    let kubernetes = app.config.kubernetes.as_ref();
    let (runnable, errors) = match definition {
        Definition::Own(own) => {
            let workflow = &own.workflow;
            let runnable = Runnable {
                workflow: None,
                spec: Some(Arc::clone(&own.text)),
                timeout_seconds: workflow.timeout_seconds,
                max_retries: workflow.max_retries,
            };
            (runnable, placeable::against_sent(workflow, "/spec", kubernetes))
        }
        Definition::Named { name, version } => {
            let found = match version {
                Some(version) => app.workflows.version(&app.database, tenant, name, *version).await?,
                None => app.workflows.latest(&app.database, tenant, name).await?,
            };
            let Some(found) = found else {
                let detail = match version {
                    Some(version) => format!("there is no version {version} of a workflow `{name}`"),
                    None => format!("there is no workflow `{name}`"),
                };
                let errors = vec![FieldError { pointer: "/workflow".to_owned(), detail }];
                return Ok(Err(Objection { kind: Kind::UnknownWorkflow, errors }));
            };
            let runnable = Runnable {
                workflow: Some((found.name.clone(), found.version)),
                spec: None,
                timeout_seconds: found.timeout_seconds,
                max_retries: found.max_retries,
            };
            (runnable, placeable::against_stored(&found, kubernetes))
        }
    };
    Ok(if errors.is_empty() { Ok(runnable) } else { Err(Objection { kind: Kind::InvalidRequest, errors }) })
}

fn row(
    id: ExecutionId,
    wanted: Wanted,
    runnable: Runnable,
    input: InputRow,
    defaults: &ExecutionConfig,
    now: DateTime<Utc>,
) -> NewExecution {
    let timeout_seconds = wanted.timeout_seconds.or(runnable.timeout_seconds);
    let max_retries = wanted.max_retries.or(runnable.max_retries).unwrap_or(defaults.max_retries);
    let run_at = wanted.run_at.filter(|at| *at > now);
    NewExecution {
        id,
        priority: wanted.priority,
        workflow: runnable.workflow,
        spec: runnable.spec,
        input: input.inline,
        input_bytes: input.size_bytes,
        timeout_seconds: timeout_seconds.map_or_else(|| defaults.timeout.as_secs() as i32, |seconds| seconds as i32),
        max_attempts: max_retries as i32 + 1,
        labels: wanted.labels,
        traceparent: None,
        retry_of: None,
        created_at: now,
        run_at,
        queue_deadline: wanted
            .queue_timeout_seconds
            .and_then(|seconds| run_at.unwrap_or(now).checked_add_signed(TimeDelta::seconds(seconds.into()))),
        // The one who commits knows better.
        enqueued: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_domain::execution::Priority;
    use std::time::Duration;

    const DEFAULTS: ExecutionConfig = ExecutionConfig {
        timeout: Duration::from_secs(3600),
        max_retries: 3,
        max_concurrent_jobs: 10,
        max_queued_per_tenant: 10,
        max_input_bytes: 0,
        max_result_bytes: 0,
        max_log_bytes: 0,
        max_artifact_bytes: 0,
        max_artifacts: 0,
        attempt_lease: Duration::from_secs(90),
        kill_grace: Duration::from_secs(10),
    };

    fn made(change: impl FnOnce(&mut Wanted), workflow: (Option<u32>, Option<u32>)) -> NewExecution {
        let mut wanted = Wanted {
            definition: Definition::Named { name: "a".into(), version: None },
            priority: Priority::Normal,
            run_at: None,
            labels: None,
            timeout_seconds: None,
            queue_timeout_seconds: None,
            max_retries: None,
        };
        change(&mut wanted);
        let runnable = Runnable { workflow: None, spec: None, timeout_seconds: workflow.0, max_retries: workflow.1 };
        row(ExecutionId::new(), wanted, runnable, InputRow::default(), &DEFAULTS, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn the_submission_wins_over_the_workflow_and_the_workflow_over_the_configuration() {
        let of = |row: &NewExecution| (row.timeout_seconds, row.max_attempts);
        assert_eq!(of(&made(|_| {}, (None, None))), (3600, 4));
        assert_eq!(of(&made(|_| {}, (Some(60), Some(0)))), (60, 1));
        let wish = |wanted: &mut Wanted| (wanted.timeout_seconds, wanted.max_retries) = (Some(5), Some(9));
        assert_eq!(of(&made(wish, (Some(60), Some(0)))), (5, 10));
    }

    #[test]
    fn a_time_in_the_past_is_now_and_the_queue_deadline_runs_from_when_it_is_due() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0);
        assert_eq!(made(|wanted| wanted.run_at = at(-5), (None, None)).run_at, None);
        let later = made(|wanted| (wanted.run_at, wanted.queue_timeout_seconds) = (at(100), Some(7)), (None, None));
        assert_eq!((later.run_at, later.queue_deadline), (at(100), at(107)));
        assert_eq!(made(|wanted| wanted.queue_timeout_seconds = Some(7), (None, None)).queue_deadline, at(7));
    }
}
