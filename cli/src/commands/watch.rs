//! `roadstead watch`: an execution's progress until it ends, then the execution.

use super::{Session, execution_id, get};
use crate::args::WatchArgs;
use crate::client::{Call, Client};
use crate::failure::Failure;
use crate::model::{self, Attempt, Execution};
use crate::progress::Progress;
use crate::terminal;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;

/// How long one request waits for the end.
const WAIT: &str = "30s";
/// What ends sooner needs no progress shown.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const REFRESH: Duration = Duration::from_millis(500);
/// The API may be away for this long while an execution is watched.
const MAX_OUTAGE: Duration = Duration::from_mins(1);

pub async fn run(args: &WatchArgs, session: &Session) -> Result<(), Failure> {
    let id = execution_id(&args.id)?;
    let outcome = until_end(&session.client()?, &id, session).await?;
    outcome.tell(session, args.exit_status)
}

/// An execution that has ended.
pub struct Outcome {
    answer: Vec<u8>,
    execution: Execution,
}

impl Outcome {
    /// Shows the execution and, if the exit status is to say so, fails as it did: also when nobody reads what is shown.
    pub fn tell(&self, session: &Session, with_verdict: bool) -> Result<(), Failure> {
        let shown = get::show(session.output, &self.answer);
        if with_verdict { self.verdict().and(shown) } else { shown }
    }

    pub fn verdict(&self) -> Result<(), Failure> {
        if self.execution.succeeded() {
            return Ok(());
        }
        let Execution { id, state, .. } = &self.execution;
        let reason = self.execution.reason_shown();
        let reason = if reason.is_empty() { reason } else { format!(" ({reason})") };
        Err(Failure::Unsuccessful { what: format!("execution {id} ended as {state}{reason}") })
    }
}

/// Shows progress until the execution ends. One request waits for the end, so that it is known at once; others ask in between.
pub async fn until_end(client: &Client, id: &str, session: &Session) -> Result<Outcome, Failure> {
    let mut progress = Progress::new(terminal::stderr_is_terminal(), session.message_palette);
    let mut end = std::pin::pin!(wait_for_end(client, id));
    let mut pause = FIRST_LOOK;
    let outcome = loop {
        tokio::select! {
            outcome = &mut end => break outcome,
            () = tokio::time::sleep(pause) => refresh(client, id, &mut progress).await,
        }
        pause = REFRESH;
    };
    if let Ok(outcome) = &outcome {
        show_steps(client, id, &mut progress).await;
        progress.execution(&outcome.execution);
    }
    progress.finish();
    outcome
}

/// Waits until the execution ends, through short outages of the API too.
pub async fn wait_for_end(client: &Client, id: &str) -> Result<Outcome, Failure> {
    let mut answered: Option<Instant> = None;
    loop {
        match client.document(Call::get(&["executions", id]).query("wait", Some(WAIT))).await {
            Ok(answer) => {
                let execution: Execution = model::read(&answer)?;
                if execution.is_over() {
                    return Ok(Outcome { answer, execution });
                }
                answered = Some(Instant::now());
            }
            Err(failure) => {
                let is_outage = failure.exit_status() == 5 && answered.is_some_and(|then| then.elapsed() < MAX_OUTAGE);
                if !is_outage {
                    return Err(failure);
                }
            }
        }
        // An API that does not wait must not be asked in a tight loop.
        tokio::time::sleep(REFRESH / 5).await;
    }
}

/// Progress is a courtesy: a request for it that fails is made again at the next turn, and the wait for the end tells of outages.
async fn refresh(client: &Client, id: &str, progress: &mut Progress) {
    if let Ok(answer) = client.document(Call::get(&["executions", id]).once()).await
        && let Ok(execution) = model::read::<Execution>(&answer)
    {
        progress.execution(&execution);
        if execution.attempt > 0 {
            show_steps(client, id, progress).await;
        }
    }
}

async fn show_steps(client: &Client, id: &str, progress: &mut Progress) {
    #[derive(Deserialize)]
    struct Attempts {
        items: Vec<Attempt>,
    }
    if let Ok(answer) = client.document(Call::get(&["executions", id, "attempts"]).once()).await
        && let Ok(attempts) = model::read::<Attempts>(&answer)
        && let Some(current) = attempts.items.iter().max_by_key(|attempt| attempt.attempt)
    {
        progress.steps(&current.steps);
    }
}
