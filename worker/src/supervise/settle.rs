//! Settling what did not settle itself: attempts whose process ended without a report, and attempts past a deadline.
//!
//! A report in `outcome.json` is a witness as good as one over the API, so it is looked for first; an object store that can't be reached is not
//! one that holds nothing. Whose attempt it is, and whether its end still means something, the store decides.

use crate::backoff::Backoff;
use crate::launch::{End, Ended, Reach, Stage, StopCause};
use crate::trouble::Complaint;
use crate::worker::Worker;
use metrics::counter;
use roadstead_backend::objects::{ObjectsError, Store, layout};
use roadstead_backend::store::claim;
use roadstead_backend::store::explain::explain;
use roadstead_backend::store::overdue::{self, Late, Overdue};
use roadstead_backend::store::settle::{Observer, Witness, live, settle_one};
use roadstead_backend::store::{Connection, StoreResult};
use roadstead_backend::telemetry::metrics::{EXECUTIONS_FINISHED_TOTAL, LAUNCH_FAILURES_TOTAL};
use roadstead_domain::attempt::check::{self, Bounds};
use roadstead_domain::attempt::protocol::Finish;
use roadstead_domain::execution::{Reason, State};
use roadstead_domain::ids::AttemptId;
use slog::{error, info, warn};
use std::sync::Arc;
use std::time::Duration;

/// A finish without its result, for 256 steps and 10,000 artifacts, is far below this.
const MAX_OUTCOME_BYTES: u64 = 16 << 20;
/// How long an object store that can't be reached is asked for an outcome; then the attempt counts as lost.
const OUTCOME_PATIENCE: Duration = Duration::from_secs(120);
const MAX_OVERDUE: i64 = 256;

/// Settles one attempt that this worker saw end. Tries until it is done: nothing of the attempt is alive, and only the lease's end would
/// tell anybody else.
pub async fn settle(worker: Arc<Worker>, ended: Ended) {
    let (mut backoff, mut complaint) = (Backoff::default(), Complaint::about("settling an attempt"));
    let log = worker.log_of(&ended.tenant, ended.attempt);
    loop {
        match try_settle(&worker, &ended).await {
            Ok(Some((state, reason))) => {
                info!(log, "settled"; "state" => state.as_str(), "reason" => reason);
                break;
            }
            Ok(None) => break,
            // Whatever the reason: nobody else knows that the berth is free.
            Err(error) => complaint.raise(&log, &error),
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
    worker.freed.call();
}

/// `None`: its end means nothing any more.
async fn try_settle(worker: &Worker, ended: &Ended) -> StoreResult<Option<(State, String)>> {
    let observer = worker.observer();
    let mut connection = worker.database.get().await?;
    let Some(live_before) = live(&mut connection, &[ended.attempt], &observer).await?.pop() else {
        over(worker, &mut connection, &observer, ended).await?;
        return Ok(None);
    };
    drop(connection);
    let mut witness = witness(worker, &ended.tenant, ended.attempt, &ended.end).await;
    if live_before.state == State::Running
        && let Witness::StartFailed { reason, .. } = &witness
    {
        match (&ended.end, ended.stage) {
            // It has started all the same, and nobody saw its process end: its lease is waited for.
            (End::Unseen(_), _) | (_, Stage::Refused | Stage::Doomed) => return Ok(None),
            // It started at the last moment, and its process was seen to end.
            _ if worker.launcher.reach() == Reach::Cluster => {
                let lost = End::Lost(reason.clone());
                witness = self::witness(worker, &ended.tenant, ended.attempt, &lost).await;
            }
            _ => {}
        }
    }
    let (told, failed_start) = (tell(&witness), failed_start(&witness));
    let mut connection = worker.database.get().await?;
    let state = settle_one(&mut connection, ended.attempt, &observer, witness, is_gone(ended)).await?;
    match state {
        Some(state) => note(worker, state, failed_start.as_deref()).await,
        // It lives on: it has started in between, for instance.
        None if !live(&mut connection, &[ended.attempt], &observer).await?.is_empty() => return Ok(None),
        // Its own report came in between, which leaves the berth to whoever saw the end.
        None => {}
    }
    over(worker, &mut connection, &observer, ended).await?;
    Ok(state.map(|state| (state, told)))
}

/// Nothing of it holds its berth.
fn is_gone(ended: &Ended) -> bool {
    matches!(ended.stage, Stage::Refused | Stage::Gone)
}

/// The attempt's end is recorded. What is gone needs no berth any more; what is not may go.
async fn over(worker: &Worker, connection: &mut Connection, observer: &Observer, ended: &Ended) -> StoreResult<()> {
    if let Some(reason) = &ended.because {
        explain(connection, &ended.tenant, ended.attempt, reason).await?;
    }
    if is_gone(ended) {
        claim::release(connection, observer, &[ended.attempt]).await?;
        worker.launcher.forget(ended.attempt);
    } else {
        worker.launcher.let_go(ended.attempt);
    }
    Ok(())
}

/// Ends this worker's attempts that are past a deadline, or should not be alive any more; their ends are observed as any other.
pub async fn stop_overdue(worker: &Worker, connection: &mut Connection) -> StoreResult<()> {
    let held = worker.launcher.held();
    let late = overdue::overdue(connection, &[], MAX_OVERDUE).await?;
    let late = late
        .into_iter()
        .filter(|late| held.contains(&late.attempt) && has_time_left(worker, late).is_none())
        .map(|late| (late.attempt, cause(late.why)));
    let over = surplus(worker, connection, &held).await?;
    for (attempt, cause) in late.chain(over.into_iter().map(|attempt| (attempt, StopCause::Over))) {
        end(worker, attempt, cause);
    }
    Ok(())
}

/// Ends what is alive and belongs to no live attempt: of a cluster, what dead workers left.
pub async fn stop_orphans(worker: &Worker, connection: &mut Connection) -> StoreResult<()> {
    for attempt in surplus(worker, connection, &worker.launcher.held()).await? {
        end(worker, attempt, StopCause::Over);
    }
    Ok(())
}

async fn surplus(worker: &Worker, connection: &mut Connection, held: &[AttemptId]) -> StoreResult<Vec<AttemptId>> {
    if held.is_empty() { Ok(Vec::new()) } else { overdue::surplus(connection, &worker.observer(), held).await }
}

fn end(worker: &Worker, attempt: AttemptId, cause: StopCause) {
    if worker.launcher.stop(attempt, cause) {
        warn!(worker.log, "ending an attempt"; "execution_id" => %attempt.execution_id, "attempt" => attempt.attempt,
              "why" => ?cause);
    }
}

/// The supervisor's part: settles, in the background, what is past a deadline and whose worker is gone, or had its time to end it. The supervisor does
/// not wait: an object store that does not answer would hold up everything else.
pub async fn settle_overdue(worker: &Arc<Worker>, connection: &mut Connection) -> StoreResult<()> {
    for late in overdue::overdue(connection, &worker.launcher.out_of_sight(), MAX_OVERDUE).await? {
        // In a cluster nobody but the supervisor ends it.
        let is_ended_here = worker.launcher.reach() == Reach::Worker && worker.launcher.holds(late.attempt);
        if late.worker_may_end_it || is_ended_here || !worker.judged.begin(late.attempt) {
            continue;
        }
        let worker = Arc::clone(worker);
        worker.clone().settling.spawn(async move {
            if let Err(error) = settle_late(&worker, &late).await {
                // It is found again.
                warn!(worker.log_of(&late.tenant, late.attempt), "an overdue attempt can't be settled"; "error" => %error);
            }
            worker.judged.end(late.attempt);
        });
    }
    Ok(())
}

async fn settle_late(worker: &Worker, late: &Late) -> StoreResult<()> {
    let (attempt, why, log) = (late.attempt, late.why, worker.log_of(&late.tenant, late.attempt));
    let is_cluster = worker.launcher.reach() == Reach::Cluster;
    let (is_known, is_seen) = (worker.launcher.looked_at(&late.tenant).is_some(), worker.launcher.sees(&late.tenant));
    if is_cluster && (!is_known || why != Overdue::Start && !is_seen) {
        // Whoever does not see the cluster knows neither what keeps it nor what is left of it. It is found again.
        return Ok(());
    }
    if let Some(begun) = has_time_left(worker, late) {
        let start_timeout = worker.settings.launch.start_timeout;
        let mut connection = worker.database.get().await?;
        if overdue::put_off_start(&mut connection, &late.tenant, attempt, begun, start_timeout).await? {
            return Ok(());
        }
    }
    let explained = worker.launcher.explain(attempt);
    // Its worker can't see to it. What still runs of it must not meet the next attempt.
    let has_ended =
        why != Overdue::Lease && !is_cluster || is_seen && worker.launcher.end_strays(attempt, cause(why)).await;
    // One that has not started can't start any more once this is settled: only its berth is waited for.
    if !has_ended && why != Overdue::Start {
        error!(log, "what is left of an attempt can't be ended"; "why" => ?cause(why));
        return Ok(());
    }
    let end = match (why, explained.clone()) {
        (Overdue::Start, Some(reason)) => End::NotStarted { reason, retryable: true },
        (Overdue::Lease, Some(reason)) => End::Lost(reason),
        _ => End::Stopped(cause(why)),
    };
    let witness = witness(worker, &late.tenant, attempt, &end).await;
    let (told, failed_start) = (tell(&witness), failed_start(&witness));
    // An executor that still beats has its processes until its next heartbeat is refused.
    let is_gone = if is_cluster {
        // What is left is told when it goes; from a node that is lost nobody will tell.
        let is_out_of_reach = explained.is_some_and(|reason| reason.code == Reason::NODE_LOST);
        has_ended && (is_out_of_reach || !worker.launcher.holds(attempt))
    } else {
        why != Overdue::Run
    };
    let mut connection = worker.database.get().await?;
    if let Some(state) = settle_one(&mut connection, attempt, &Observer::Anyone, witness, is_gone).await? {
        info!(log, "settled an overdue attempt"; "state" => state.as_str(), "reason" => told);
        note(worker, state, failed_start.as_deref()).await;
        if is_gone {
            // Its berth is free, and no worker saw it go.
            let _ = worker.dispatch.ring_workers().await;
        }
        worker.launcher.let_go(attempt);
    }
    Ok(())
}

/// How long ago somebody else's queue let it begin, if it has not had its time to start since. Its deadline is the supervisor's to put off.
fn has_time_left(worker: &Worker, late: &Late) -> Option<Duration> {
    let begun = worker.launcher.begun(late.attempt).filter(|_| late.why == Overdue::Start)?;
    Some(begun).filter(|begun| *begun < worker.settings.launch.start_timeout)
}

const fn cause(why: Overdue) -> StopCause {
    match why {
        Overdue::Start => StopCause::StartTimeout,
        Overdue::Lease => StopCause::LeaseExpired,
        Overdue::Run => StopCause::RunTimeout,
    }
}

/// What is told of an end: by `outcome.json` where a start was granted and there is one, else by how it looked.
async fn witness(worker: &Worker, tenant: &str, attempt: AttemptId, end: &End) -> Witness {
    let seen = seen(end);
    if matches!(seen, Witness::StartFailed { .. }) {
        return seen;
    }
    match outcome(worker, tenant, attempt).await {
        Some(finish) => Witness::Report(Box::new(finish)),
        None => seen,
    }
}

fn seen(end: &End) -> Witness {
    let late =
        |message: String| Witness::StartFailed { reason: Reason::new(Reason::START_TIMEOUT, message), retryable: true };
    match end {
        // What it waited for is not what is wrong with it: that it took so long is.
        End::NotStarted { reason, .. } if reason.code == Reason::IMAGE_PULLING => {
            late(format!("no start was granted in time: {}", reason.message))
        }
        End::NotStarted { reason, retryable } => Witness::StartFailed { reason: reason.clone(), retryable: *retryable },
        End::Stopped(StopCause::StartTimeout) => late("no start was granted in time".to_owned()),
        End::Stopped(StopCause::LeaseExpired) => {
            Witness::Lost(Reason::new(Reason::LEASE_EXPIRED, "its executor was not heard of until its lease ran out"))
        }
        End::Stopped(StopCause::RunTimeout) => {
            Witness::TimedOut(Reason::new(Reason::RUN_TIMEOUT, "it was still running after its deadline"))
        }
        End::Stopped(StopCause::Over) => Witness::Lost(Reason::new(Reason::EXECUTOR_LOST, "it was no longer wanted")),
        End::Lost(reason) => Witness::Lost(reason.clone()),
        End::Unseen(reason) => Witness::StartFailed { reason: reason.clone(), retryable: true },
        End::Reported => {
            Witness::Lost(Reason::new(Reason::EXECUTOR_LOST, "its executor ended, but its report is nowhere"))
        }
    }
}

async fn outcome(worker: &Worker, tenant: &str, attempt: AttemptId) -> Option<Finish> {
    let key = layout::outcome(tenant, attempt);
    let log = worker.log_of(tenant, attempt);
    let (mut backoff, mut waited) = (Backoff::default(), Duration::ZERO);
    loop {
        match worker.objects.get(Store::Content, &key, MAX_OUTCOME_BYTES).await {
            Ok(None) => return None,
            Ok(Some(document)) => {
                return read(&document)
                    .inspect_err(|error| warn!(log, "outcome.json is not as agreed"; "error" => error))
                    .ok();
            }
            Err(error @ ObjectsError::Unavailable(_)) if waited < OUTCOME_PATIENCE => {
                if waited.is_zero() {
                    warn!(log, "outcome.json can't be read yet"; "error" => %error);
                }
                let wait = backoff.next_wait();
                tokio::time::sleep(wait).await;
                waited += wait;
            }
            Err(error) => {
                warn!(log, "outcome.json can't be read"; "error" => %error);
                return None;
            }
        }
    }
}

/// Believes no more than the API would: what is settled by would otherwise be refused by the database, again and again, or be somebody's to abuse.
fn read(document: &[u8]) -> Result<Finish, String> {
    let mut finish = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    check::finish(&mut finish, &Bounds::LOOSEST).map_err(|errors| {
        errors.iter().map(|error| format!("{}: {}", error.pointer, error.detail)).collect::<Vec<_>>().join("; ")
    })?;
    Ok(finish)
}

/// Counts an end, and calls the supervisor for what is to be tried again. `failed_start`: the code of the reason why it did not start.
async fn note(worker: &Worker, state: State, failed_start: Option<&str>) {
    if let Some(code) = failed_start {
        counter!(LAUNCH_FAILURES_TOTAL, "reason" => code.to_owned()).increment(1);
    }
    if state.is_terminal() {
        counter!(EXECUTIONS_FINISHED_TOTAL, "outcome" => state.as_str()).increment(1);
    } else {
        // It looks every second while something is live; this is for the case that nothing is.
        let _ = worker.dispatch.ring_supervisor().await;
    }
}

fn failed_start(witness: &Witness) -> Option<String> {
    match witness {
        Witness::StartFailed { reason, .. } => Some(reason.code.clone()),
        Witness::Report(_) | Witness::Lost(_) | Witness::TimedOut(_) => None,
    }
}

fn tell(witness: &Witness) -> String {
    match witness {
        Witness::Report(_) => "its own report, from outcome.json".to_owned(),
        Witness::Lost(reason) | Witness::StartFailed { reason, .. } | Witness::TimedOut(reason) => {
            format!("{}: {}", reason.code, reason.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_believed_as_far_as_the_api_would() {
        let outcome = |seq: u32, path: &str| {
            let sha256 = "0".repeat(64);
            format!(
                r#"{{"outcome": {{"status": "succeeded", "retryable": false}}, "steps": [],
                     "artifacts": [{{"path": "{path}", "size_bytes": 1, "sha256": "{sha256}"}}],
                     "segments": [{{"seq": {seq}, "size_bytes": 1, "lines": 1}}]}}"#
            )
        };
        assert!(read(outcome(0, "a/b").as_bytes()).is_ok());
        assert!(read(outcome(u32::MAX, "a/b").as_bytes()).unwrap_err().starts_with("/segments/0: "));
        assert!(read(outcome(0, "../b").as_bytes()).unwrap_err().starts_with("/artifacts/0: "));
        assert!(read(b"{").is_err());
    }

    #[test]
    fn every_end_has_its_witness() {
        let reason = Reason::new("executor_lost", "x");
        let code = |end| match seen(&end) {
            Witness::Report(_) => "report".to_owned(),
            Witness::Lost(reason) => format!("lost, {}", reason.code),
            Witness::StartFailed { reason, retryable } => format!("start failed, {}, {retryable}", reason.code),
            Witness::TimedOut(reason) => format!("timed out, {}", reason.code),
        };
        assert_eq!(code(End::Reported), "lost, executor_lost");
        assert_eq!(code(End::Lost(reason.clone())), "lost, executor_lost");
        assert_eq!(code(End::Unseen(reason.clone())), "start failed, executor_lost, true");
        assert_eq!(code(End::NotStarted { reason, retryable: false }), "start failed, executor_lost, false");
        assert_eq!(code(End::Stopped(StopCause::StartTimeout)), "start failed, start_timeout, true");
        let pulling = Reason::new(Reason::IMAGE_PULLING, "x");
        assert_eq!(
            code(End::NotStarted { reason: pulling, retryable: true }),
            "start failed, start_timeout, true",
            "nobody fails for what may take its time"
        );
        assert_eq!(code(End::Stopped(StopCause::LeaseExpired)), "lost, lease_expired");
        assert_eq!(code(End::Stopped(StopCause::RunTimeout)), "timed out, run_timeout");
        assert_eq!(code(End::Stopped(StopCause::Over)), "lost, executor_lost");
    }
}
