//! Dispatching: take ids from the streams, claim them under the cap, launch what was claimed. One loop, which waits only when there is nothing
//! to do or no berth to do it with.
//!
//! Invariants: nothing is launched that was not claimed in PostgreSQL; an entry is acknowledged only after its outcome is recorded there.
//! A worker may die between any two lines of this:
//! - after the take: the entries are pending under its name, and the supervisor reclaims them when they have been idle for long enough;
//! - after the claim: the launch lease runs out, and the same attempt is launched by another worker under a new credential;
//! - after the launch: the executor starts and reports by itself (see `record` for what is still open then);
//! - after an attempt's end: its berth is given back by the supervisor once this worker's presence has run out.

mod bell;
mod hand;
mod launching;
mod record;
mod repair;
mod room;

pub use launching::{LEASE_MARGIN, Launched, credential, demands, launch};
pub use repair::repair;

use crate::backoff::Backoff;
use crate::clock;
use crate::launch::{Credential, Ended, Reach};
use crate::trouble::{Complaint, Trouble};
use crate::worker::Worker;
use bell::Listener;
use hand::Hand;
use launching::Launches;
use metrics::gauge;
use record::Handled;
use roadstead_backend::dispatch::{DispatchError, NOTHING, Taken};
use roadstead_backend::store::claim::{self, Berths, Wanted};
use roadstead_backend::store::{Connection, StoreError, relay};
use roadstead_backend::telemetry::metrics::LIVE_ATTEMPTS;
use roadstead_domain::ids::{AttemptId, ExecutionId};
use room::Look;
use slog::info;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// While something is in the hand, berths are looked for this often: those that other workers give back ring no bell here.
const HAND_INTERVAL: Duration = Duration::from_secs(1);
/// For what is still to be recorded when this worker leaves.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// An end that its launcher has told is heard of a moment later: whoever leaves looks once more after this.
const LAST_LOOK: Duration = Duration::from_millis(50);
/// Without room a ring is answered this much later: there is nothing to be done about it but to look.
const FULL_PAUSE: Duration = Duration::from_millis(500);

pub struct Dispatcher {
    worker: Arc<Worker>,
    hand: Hand,
    launches: Launches,
    /// Seen to end; berths not given back yet.
    gone: Vec<Ended>,
    recorder: mpsc::Sender<Handled>,
    recording: JoinHandle<()>,
    listener: Arc<Listener>,
    /// What the supervisor reclaimed from dead workers.
    reclaimed: mpsc::Receiver<Vec<Taken>>,
}

/// How a turn ended.
enum Turn {
    /// Something moved, so there may be more.
    Worked,
    Idle {
        full: bool,
    },
    /// Launches failed: this worker may be the reason, so it must not run through the whole queue.
    Unwell,
}

impl Dispatcher {
    pub fn new(worker: Arc<Worker>, reclaimed: mpsc::Receiver<Vec<Taken>>) -> Self {
        let (recorder, recording) = record::start(Arc::clone(&worker));
        let listener = Arc::new(Listener::default());
        let launches = Launches::new(recorder.clone());
        Self { worker, hand: Hand::default(), launches, gone: Vec::new(), recorder, recording, listener, reclaimed }
    }

    /// Dispatches until `stop`; then gives back what it has, sees its attempts end for a while, and leaves.
    pub async fn run(mut self, stop: CancellationToken) {
        let bell = self.worker.dispatch.worker_bell();
        let log = self.worker.log.clone();
        let listening = tokio::spawn(bell::listen(Arc::clone(&self.listener), bell, log, stop.clone()));
        let (mut backoff, mut complaint) = (Backoff::default(), Complaint::about("dispatching"));
        while !stop.is_cancelled() {
            self.worker.pulse.beat();
            let pause = match self.turn().await {
                Ok(Turn::Unwell) => Some(backoff.next_wait()),
                Ok(turn) => {
                    backoff.reset();
                    complaint.over(&self.worker.log);
                    if let Turn::Idle { full } = turn {
                        self.rest(full, &stop).await;
                    }
                    None
                }
                Err(trouble) => {
                    complaint.raise(&self.worker.log, &trouble);
                    Some(backoff.next_wait())
                }
            };
            if let Some(pause) = pause {
                tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(pause) => {} }
            }
        }
        let _ = listening.await;
        self.leave().await;
    }

    async fn turn(&mut self) -> Result<Turn, Trouble> {
        self.gone.extend(self.worker.freed.take());
        while let Ok(entries) = self.reclaimed.try_recv() {
            self.hand.add(entries);
        }
        let worker = Arc::clone(&self.worker);
        let mut connection = worker.database.get().await?;
        let berths = claim::berths(&mut connection).await?;
        gauge!(LIVE_ATTEMPTS).set((berths.live - self.gone.len() as i64).max(0) as f64);
        let here = *worker.launcher.live().borrow();
        let look = Look { cap: worker.settings.cap, held: berths.live, gone: self.gone.len(), here };
        let room = if worker.launcher.is_ready() { look.room() } else { 0 };

        let taken = self.take(room, berths).await;
        let took = matches!(&taken, Ok(count) if *count > 0);
        let (has_room, mut launched) = (room > 0, false);
        if has_room && !self.hand.is_empty() {
            launched = self.claim(&mut connection, room).await?;
        } else if self.release(&mut connection).await? && !worker.launcher.is_ready() {
            // For one who can launch.
            let _ = worker.dispatch.ring_workers().await;
        }
        drop(connection);
        let put_back = self.put_back().await;
        self.launches.settle_down(worker.launcher.overlap()).await;
        taken?;
        put_back?;
        Ok(match (self.launches.take_failed(), has_room && took || launched) {
            (true, _) => Turn::Unwell,
            (false, true) => Turn::Worked,
            (false, false) => Turn::Idle { full: !has_room },
        })
    }

    /// Takes into the hand what there is room for; answers how much that was.
    async fn take(&mut self, room: usize, berths: Berths) -> Result<usize, Trouble> {
        let space = self.hand.space(room, self.launches.under_way());
        if space == 0 {
            return Ok(0);
        }
        let mut live = berths.live_by_tenant;
        for ended in &self.gone {
            live.entry(ended.tenant.clone()).and_modify(|live| *live = (*live - 1).max(0));
        }
        self.hand.count_into(&mut live);
        live.extend(self.worker.launcher.out_of_sight().into_iter().map(|tenant| (tenant, NOTHING)));
        match self.worker.dispatch.take(&self.worker.id, space, &live).await {
            Ok(taken) => {
                let count = taken.len();
                self.hand.add(taken);
                Ok(count)
            }
            Err(DispatchError::Wiped) => {
                repair(&self.worker).await?;
                // Not a take, but a reason to look again at once.
                self.worker.freed.call();
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Puts back what found no berth.
    async fn put_back(&mut self) -> Result<(), Trouble> {
        let entries = self.hand.overdue(clock::now());
        if !entries.is_empty() {
            self.worker.dispatch.put_back(&entries).await?;
            self.hand.part_with(&entries);
        }
        Ok(())
    }

    /// Claims what is in the hand and begins to launch it. Answers whether something was claimed.
    async fn claim(&mut self, connection: &mut Connection, room: usize) -> Result<bool, StoreError> {
        let worker = Arc::clone(&self.worker);
        let Worker { id, settings, .. } = &*worker;
        let mut credentials: HashMap<ExecutionId, Option<Credential>> =
            self.hand.entries().map(|entry| (entry.id, credential(&self.worker))).collect();
        let wanted: Vec<Wanted> = self
            .hand
            .entries()
            .map(|entry| Wanted {
                tenant: entry.stream.tenant.clone(),
                id: entry.id,
                launch_hash: credentials[&entry.id].as_ref().map(|credential| credential.hash.clone()),
            })
            .collect();
        let (asked_at, bounds) = (clock::now(), (room as i64, settings.cap as i64));
        let gone = self.gone_ids();
        let gone = (&self.worker.observer(), &gone[..]);
        let (released, answers) =
            claim::release_and_claim(connection, gone, &wanted, id, bounds, settings.launch).await?;
        self.part_with(|attempt| released.contains(&attempt));
        let sorted = self.hand.sort(answers);
        self.give_back(&sorted.surplus).await;
        let claimed: Vec<_> = sorted
            .claimed
            .into_iter()
            .map(|claimed| {
                let credential = credentials.remove(&claimed.attempt.execution_id).flatten();
                (claimed, credential)
            })
            .collect();
        let any = !claimed.is_empty();
        let until = asked_at + settings.launch.launch_lease.saturating_sub(launching::LEASE_MARGIN);
        let claimed = launching::ordered(connection, &self.worker, claimed).await;
        self.launches.begin(&self.worker, claimed, until);
        for entry in sorted.dropped {
            // Its receiver lives as long as this.
            let _ = self.recorder.send(Handled { entry, launched: None }).await;
        }
        Ok(any)
    }

    /// Gives berths back without claiming. Answers whether there were any.
    async fn release(&mut self, connection: &mut Connection) -> Result<bool, StoreError> {
        if self.gone.is_empty() {
            return Ok(false);
        }
        let released = claim::release(connection, &self.worker.observer(), &self.gone_ids()).await?;
        self.part_with(|attempt| released.contains(&attempt));
        Ok(!released.is_empty())
    }

    fn gone_ids(&self) -> Vec<AttemptId> {
        self.gone.iter().map(|ended| ended.attempt).collect()
    }

    /// Whose berth is free is not needed any more. An executor that said its end is known may have meant `outcome.json`: such an attempt is still to
    /// be settled.
    fn part_with(&mut self, is_released: impl Fn(AttemptId) -> bool) {
        for ended in self.gone.drain(..) {
            if is_released(ended.attempt) {
                self.worker.launcher.forget(ended.attempt);
            } else {
                self.worker.settle(ended);
            }
        }
    }

    async fn rest(&mut self, full: bool, stop: &CancellationToken) {
        let at_most = if self.hand.is_empty() { self.worker.settings.reconcile_interval } else { HAND_INTERVAL };
        if full {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.worker.freed.called() => return,
                () = tokio::time::sleep(FULL_PAUSE) => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.worker.freed.called() => {}
            () = self.listener.rung() => {
                if !self.worker.launcher.is_ready() {
                    // For one who can launch.
                    let _ = self.worker.dispatch.ring_workers().await;
                }
            }
            Some(entries) = self.reclaimed.recv() => self.hand.add(entries),
            () = tokio::time::sleep(at_most) => {}
        }
    }

    /// Gives the hand back, stays until the attempts have ended or the time is over, and is forgotten by Redis.
    async fn leave(mut self) {
        // What is being launched is claimed, so for others it is a duplicate.
        leave_streams(&self.worker).await;
        self.launches.settle_down(0).await;
        let mut live = self.worker.launcher.live();
        let worker = Arc::clone(&self.worker);
        let all_ended = async {
            let mut was_over = false;
            // What others see end too is theirs from now on.
            while worker.launcher.reach() == Reach::Worker {
                worker.pulse.beat();
                // Before the ends that are heard of: an attempt that ends in between is in one of both.
                let none_held = worker.launcher.held().is_empty();
                self.gone.extend(worker.freed.take());
                let released = match worker.database.get().await {
                    Ok(mut connection) => self.release(&mut connection).await,
                    Err(error) => Err(error),
                };
                if matches!(released, Ok(true)) {
                    // This worker claims nothing any more: the berth is another's.
                    let _ = worker.dispatch.ring_workers().await;
                }
                live.mark_unchanged();
                let is_over = released.is_ok() && none_held && self.gone.is_empty();
                if is_over && was_over {
                    break;
                }
                was_over = is_over;
                tokio::select! {
                    () = worker.freed.called() => {}
                    _ = live.changed() => {}
                    () = tokio::time::sleep(if is_over { LAST_LOOK } else { HAND_INTERVAL }) => {}
                }
            }
        };
        if tokio::time::timeout(worker.settings.shutdown_timeout, all_ended).await.is_err() {
            info!(worker.log, "leaving attempts to report by themselves"; "live" => *worker.launcher.live().borrow());
        }
        drop((self.recorder, self.launches));
        worker.settling.close();
        let unfinished = async { tokio::join!(self.recording, worker.settling.wait()) };
        let _ = tokio::time::timeout(LAST_WRITES, unfinished).await;
        leave_streams(&worker).await;
    }

    /// Gives entries to the relay. The rows first: an entry that is gone while its row says that it is there waits for the next reconciliation.
    async fn give_back(&self, entries: &[Taken]) {
        if entries.is_empty() {
            return;
        }
        let mut by_tenant: HashMap<&str, Vec<ExecutionId>> = HashMap::new();
        for entry in entries {
            by_tenant.entry(&entry.stream.tenant).or_default().push(entry.id);
        }
        let marked: Result<(), StoreError> = async {
            for (tenant, ids) in by_tenant {
                relay::mark(&mut *self.worker.database.get().await?, tenant, &ids, false).await?;
            }
            Ok(())
        }
        .await;
        let given_back = match marked {
            Ok(()) => self.worker.dispatch.done(entries).await.map_err(Trouble::from),
            Err(error) => Err(error.into()),
        };
        if let Err(trouble) = given_back {
            info!(self.worker.log, "what was taken is left to be reclaimed"; "error" => %trouble);
        } else {
            let _ = self.worker.dispatch.ring_supervisor().await;
        }
    }
}

/// Puts back what this worker took, also what it did not hear of or the supervisor reclaimed for it.
async fn leave_streams(worker: &Worker) {
    if let Err(error) = worker.dispatch.leave(&worker.id).await {
        info!(worker.log, "what was taken is left to be reclaimed"; "error" => %error);
    }
}
