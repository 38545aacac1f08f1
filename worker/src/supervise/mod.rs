//! Supervising: what must happen without anybody's asking for it. One worker at a time, in turns; each turn is bounded, each job has its file.
//!
//! Invariants: every job is a conditional write or makes duplicates that a claim drops, so a turn may end anywhere and two supervisors at once do no
//! harm; an unknown is left alone; without work there is no turn but one look an interval.

pub mod lease;
pub mod presence;
mod promote;
mod reclaim;
mod reconcile;
mod relay;
mod retain;
pub mod settle;
mod tick;

use crate::clock;
use crate::trouble::{Complaint, Trouble};
use crate::worker::Worker;
use lease::Lease;
use metrics::{gauge, histogram};
use relay::Relay;
use roadstead_backend::dispatch::{Bell, Rung, Taken};
use roadstead_backend::store::overdue::{Outlook, outlook};
use roadstead_backend::store::{Connection, StoreResult};
use roadstead_backend::telemetry::metrics::{MAX_CONCURRENT_JOBS, RECONCILE_SECONDS};
use std::sync::Arc;
use std::time::Duration;
use tick::{Bustle, Every, Rest, Role, rest};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// With Redis away, whether it is back is asked this often.
const AWAY: Duration = Duration::from_secs(1);

pub struct Supervisor {
    worker: Arc<Worker>,
    bell: Bell,
    /// Takes what is reclaimed.
    dispatcher: mpsc::Sender<Vec<Taken>>,
    lease: Lease,
    bustle: Bustle,
    relay: Relay,
    due: Due,
    complaints: Complaints,
    retention: Option<JoinHandle<()>>,
}

/// The jobs that are not done in every turn.
struct Due {
    deadlines: Every,
    epoch: Every,
    eviction: Every,
    entries: Every,
    reconciliation: Every,
    retention: Every,
}

struct Complaints {
    store: Complaint,
    relay: Complaint,
    streams: Complaint,
    bell: Complaint,
}

impl Supervisor {
    pub fn new(worker: Arc<Worker>, dispatcher: mpsc::Sender<Vec<Taken>>) -> Self {
        let bell = worker.dispatch.supervisor_bell();
        let due = Due {
            deadlines: Every::new(Duration::from_secs(1)),
            epoch: Every::new(Duration::from_secs(3)),
            eviction: Every::new(Duration::from_secs(24 * 3600)),
            entries: Every::new(Duration::from_secs(15)),
            reconciliation: Every::new(worker.settings.reconcile_interval),
            retention: Every::new(Duration::from_secs(600)),
        };
        let complaints = Complaints {
            store: Complaint::about("supervising"),
            relay: Complaint::about("relaying"),
            streams: Complaint::about("watching the streams"),
            bell: Complaint::about("waiting at the supervisors' bell"),
        };
        Self {
            worker,
            bell,
            dispatcher,
            lease: Lease::default(),
            bustle: Bustle::default(),
            relay: Relay::default(),
            due,
            complaints,
            retention: None,
        }
    }

    /// Supervises, or stands by, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        gauge!(MAX_CONCURRENT_JOBS).set(self.worker.settings.cap as f64);
        while !stop.is_cancelled() {
            let next = match self.turn().await {
                Ok(next) => {
                    self.complaints.store.over(&self.worker.log);
                    next
                }
                Err(error) => {
                    self.complaints.store.raise(&self.worker.log, &error);
                    Rest { at_most: AWAY, listen: false }
                }
            };
            tokio::select! { () = stop.cancelled() => {}, () = self.rest(next) => {} }
        }
        if let Some(retention) = self.retention.take() {
            retention.abort();
        }
        if let Ok(mut connection) = self.worker.database.get().await {
            let _ = self.lease.give_back(&self.worker, &mut connection).await;
        }
    }

    async fn turn(&mut self) -> StoreResult<Rest> {
        let worker = Arc::clone(&self.worker);
        let mut connection = worker.database.get().await?;
        let interval = worker.settings.reconcile_interval;
        let before = outlook(&mut connection).await?;
        let bustling = self.bustle.observe(before.busy, clock::now());
        if !bustling && next_in(&before).is_none_or(|next| !next.is_zero()) && !self.retention_is_due() {
            self.lease.give_back(&worker, &mut connection).await?;
            return Ok(rest(Role::Idle, next_in(&before), interval));
        }
        if !self.lease.hold(&worker, &mut connection).await? {
            return Ok(rest(Role::Bystander, None, interval));
        }
        let began = clock::now();
        let result = self.work(&mut connection).await;
        histogram!(RECONCILE_SECONDS).record(began.elapsed());
        result?;
        let after = outlook(&mut connection).await?;
        let role = if self.bustle.observe(after.busy, clock::now()) { Role::Busy } else { Role::Idle };
        Ok(rest(role, next_in(&after), interval))
    }

    /// All jobs that are due. Those that need Redis fail by themselves: PostgreSQL's go on.
    async fn work(&mut self, connection: &mut Connection) -> StoreResult<()> {
        let worker = Arc::clone(&self.worker);
        promote::promote(connection).await?;
        if self.due.deadlines.is_due(clock::now()) {
            settle::settle_overdue(&worker, connection).await?;
            reclaim::launch_abandoned(&worker, connection).await?;
        }
        let streams = self.watch_streams(connection).await;
        let log = &worker.log;
        note(streams, &mut self.complaints.streams, log)?;
        let relayed = self.relay.turn(&worker, connection).await;
        note(relayed.map(|_| ()), &mut self.complaints.relay, log)?;
        if self.retention.as_ref().is_none_or(JoinHandle::is_finished) && self.due.retention.is_due(clock::now()) {
            self.retention = Some(tokio::spawn(async move { retain::retain(&worker).await }));
        }
        Ok(())
    }

    async fn watch_streams(&mut self, connection: &mut Connection) -> Result<(), Trouble> {
        let (worker, now) = (&self.worker, clock::now());
        reclaim::release_forgotten(worker, connection).await?;
        if self.due.epoch.is_due(now) {
            reconcile::check_epoch(worker).await.inspect_err(|_| self.due.epoch.again())?;
        }
        if self.due.eviction.is_due(now) && !reconcile::check_eviction(worker).await {
            self.due.eviction.again();
        }
        if self.due.entries.is_due(now) {
            reclaim::reclaim_entries(worker, &self.dispatcher).await?;
        }
        if self.due.reconciliation.is_due(now) {
            reconcile::reconcile(worker, connection).await?;
        }
        Ok(())
    }

    fn retention_is_due(&mut self) -> bool {
        self.due.retention.would_be_due(clock::now())
    }

    async fn rest(&mut self, Rest { at_most, listen }: Rest) {
        if !listen {
            return tokio::time::sleep(at_most).await;
        }
        let mut live = self.worker.launcher.live();
        let idle = at_most > AWAY;
        let waited = tokio::select! {
            waited = self.bell.wait(at_most) => waited,
            // A launch of one's own is the first sign of work that rings no bell here.
            _ = live.wait_for(|live| *live > 0), if idle => return,
        };
        match waited {
            Ok(Rung::Rung | Rung::Silent) => self.complaints.bell.over(&self.worker.log),
            Err(error) => {
                self.complaints.bell.raise(&self.worker.log, &error);
                tokio::time::sleep(at_most.min(AWAY)).await;
            }
        }
    }
}

/// Time until the next row asks for something.
fn next_in(outlook: &Outlook) -> Option<Duration> {
    outlook.next_at.map(|at| (at - outlook.now).to_std().unwrap_or_default())
}

/// Trouble with Redis is told once and waited out; PostgreSQL's ends the turn.
fn note(result: Result<(), Trouble>, complaint: &mut Complaint, log: &slog::Logger) -> StoreResult<()> {
    match result {
        Ok(()) => complaint.over(log),
        Err(Trouble::Dispatch(error)) => complaint.raise(log, &error),
        Err(Trouble::Store(error)) => return Err(error),
    }
    Ok(())
}
