//! The run: steps start when the plan says so, side by side, until none is left or the attempt is told to stop.
//!
//! When it answers, no process of the attempt exists any more.

mod descendants;
mod kill;
mod plan;
mod program;
mod spawn;
mod step;

pub use spawn::Surroundings;
pub use step::Stage;

use crate::clock;
use crate::halt::Halt;
use crate::report::Report;
use crate::workspace::place;
use kill::Exit;
use plan::{End, Failure, Next, Plan};
use roadstead_domain::attempt::protocol::{Outcome, Status, StepReport, StepState};
use roadstead_domain::execution::Reason;
use roadstead_domain::workflow::Step;
use roadstead_domain::workflow::dag::Dag;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Orphans that ended are reaped this often while steps run.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// What SIGKILL does not end within this time hangs in the kernel.
const SWEEP: Duration = Duration::from_secs(30);

/// How the steps ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    Succeeded,
    Failed {
        reason: Reason,
        retryable: bool,
    },
    Halted(Halt),
    /// Processes are left that can't be killed: nobody may be told that the attempt is over.
    Undead,
}

pub struct Run {
    pub steps: Arc<Vec<Step>>,
    pub stage: Arc<Stage>,
    pub report: Arc<Report>,
}

impl Run {
    pub async fn to_end(&self) -> RunEnd {
        let Ok(dag) = Dag::of(&self.steps) else {
            return failed("workflow_invalid", "a step needs one that does not exist".into(), false);
        };
        let mut plan = Plan::of(dag, self.steps.iter().map(|step| step.retries));
        self.drive(&mut plan).await;
        if !kill::sweep(SWEEP).await {
            return RunEnd::Undead;
        }
        self.judge(&plan)
    }

    async fn drive(&self, plan: &mut Plan) {
        let mut tries = JoinSet::new();
        loop {
            while self.stage.stop.reason().is_none()
                && let Some(step) = plan.start_one()
            {
                let (steps, stage) = (Arc::clone(&self.steps), Arc::clone(&self.stage));
                let first = self.started(step);
                tries.spawn(async move {
                    let end = match prepare(&steps[step], &stage, first) {
                        Ok(()) => stage.run(&steps[step]).await,
                        Err(end) => end,
                    };
                    (step, end)
                });
            }
            let ended = tokio::select! {
                ended = tries.join_next() => ended,
                () = tokio::time::sleep(REAP_INTERVAL) => {
                    kill::reap_orphans(|pid| self.stage.is_main(pid));
                    continue;
                }
            };
            match ended {
                None => return,
                Some(Ok((step, end))) => self.ended(plan, step, &end),
                // Only a panic gets here, and it must not look like a success.
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            }
        }
    }

    /// Answers whether this is the step's first try.
    fn started(&self, step: usize) -> bool {
        let mut first = false;
        self.report.change(step, |report| {
            first = report.tries == 0;
            report.state = StepState::Running;
            report.tries += 1;
            report.started_at_ms.get_or_insert_with(clock::wall_ms);
            report.exit_code = None;
            report.signal = None;
            report.message = None;
        });
        first
    }

    fn ended(&self, plan: &mut Plan, step: usize, end: &End) {
        let next = plan.ended(step, end);
        let id = &self.steps[step].id;
        let message = describe(end, &self.steps[step]);
        if let Some(message) = &message {
            let again = if next == Next::Again { "; trying again" } else { "" };
            self.stage.log.say(id, &format!("{message}{again}"));
        }
        self.report.change(step, |report| {
            report.state = if next == Next::Again { StepState::Pending } else { end.state() };
            report.finished_at_ms = Some(clock::wall_ms()).filter(|_| next != Next::Again);
            report.message = message;
            match end {
                End::Exited(code) | End::OutOfMemory { exit: Exit::Code(code), .. } => report.exit_code = Some(*code),
                End::Signalled(signal) | End::OutOfMemory { exit: Exit::Signal(signal), .. } => {
                    report.signal = Some(*signal);
                }
                End::TimedOut | End::Halted | End::NotStarted { .. } => {}
            }
        });
        if let Next::Skip(skipped) = next {
            for other in skipped {
                self.report.change(other, |report| skip(report, id));
            }
        }
    }

    fn judge(&self, plan: &Plan) -> RunEnd {
        if let Some(halt) = self.stage.stop.reason() {
            self.cancel_pending();
            return RunEnd::Halted(halt);
        }
        let Some(Failure { step, end }) = plan.first_failure() else { return RunEnd::Succeeded };
        let step = &self.steps[*step];
        let message = format!("step `{}` {}", step.id, describe(end, step).unwrap_or_default());
        let hopeless = matches!(end, End::NotStarted { hopeless: true, .. });
        let code = match end {
            End::TimedOut => "step_timeout",
            End::OutOfMemory { .. } => "oom_killed",
            End::Exited(_) | End::Signalled(_) | End::Halted | End::NotStarted { .. } => "step_failed",
        };
        failed(code, message, !hopeless)
    }

    fn cancel_pending(&self) {
        for step in 0..self.steps.len() {
            self.report.change(step, |report| {
                if report.state == StepState::Pending {
                    report.state = StepState::Cancelled;
                }
            });
        }
    }
}

fn failed(code: &str, message: String, retryable: bool) -> RunEnd {
    RunEnd::Failed { reason: Reason::new(code, message), retryable }
}

/// A step's files are laid before its first try; a further try finds what the earlier one left.
fn prepare(step: &Step, stage: &Stage, first: bool) -> Result<(), End> {
    if !first {
        return Ok(());
    }
    for (path, content) in &step.files {
        place(&stage.around.workspace.work, path, content).map_err(|error| End::NotStarted {
            message: format!("its file {path:?} can't be written: {error}"),
            hopeless: false,
        })?;
    }
    Ok(())
}

fn skip(report: &mut StepReport, because_of: &str) {
    // It may be skipped already, because of another one.
    if report.state == StepState::Pending {
        report.state = StepState::Skipped;
        report.message = Some(format!("needs `{because_of}`, which did not succeed"));
    }
}

/// What to tell people of a try that did not succeed.
fn describe(end: &End, step: &Step) -> Option<String> {
    match end {
        End::Exited(0) => None,
        End::Exited(code) => Some(format!("ended with exit code {code}")),
        End::Signalled(signal) => Some(format!("was ended by signal {signal}")),
        End::OutOfMemory { limit_bytes: None, .. } => Some("was killed because memory ran out".to_owned()),
        End::OutOfMemory { limit_bytes: Some(bytes), .. } => {
            Some(format!("was killed because memory ran out; the limit is {} MiB", bytes >> 20))
        }
        End::TimedOut => Some(format!("passed its timeout of {} s", step.timeout_seconds.unwrap_or_default())),
        End::Halted => Some("was stopped".to_owned()),
        End::NotStarted { message, .. } => Some(format!("could not be started: {message}")),
    }
}

/// The outcome that a stop stands for; none for a lost claim, of which nobody is told.
pub fn outcome_of(halt: Halt, timeout_seconds: u32) -> Option<Outcome> {
    let outcome = |status, code: &str, message: String, retryable| {
        Some(Outcome { status, reason: Some(Reason::new(code, message)), retryable })
    };
    match halt {
        Halt::Cancelled => outcome(Status::Cancelled, "cancelled", "stopped on request".into(), false),
        Halt::Terminated => outcome(
            Status::Cancelled,
            Reason::EXECUTOR_TERMINATED,
            "the executor was told to stop by its machine".into(),
            true,
        ),
        Halt::RunTimeout => {
            outcome(Status::TimedOut, "run_timeout", format!("passed its run deadline of {timeout_seconds} s"), false)
        }
        Halt::LeaseEnding => outcome(
            Status::Failed,
            "lease_ended",
            "no heartbeat was answered for as long as the lease lasts".into(),
            true,
        ),
        Halt::Superseded => None,
    }
}
