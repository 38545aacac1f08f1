//! Supervising: what must happen without anybody's asking for it. One worker at a time, in turns; each turn is bounded, each job has its file.
//!
//! Invariants: every job is a conditional write or makes duplicates that a claim drops, so a turn may end anywhere and two supervisors at once do no
//! harm; an unknown is left alone; without work there is no turn but one look an interval.

pub mod lease;
pub mod news;
pub mod presence;
mod promote;
mod reclaim;
mod reconcile;
mod relay;
mod retain;
pub mod settle;
mod tick;
mod unseen;

use crate::clock;
use crate::launch::Reach;
use crate::trouble::{Complaint, Trouble};
use crate::worker::Worker;
use lease::Lease;
use metrics::{gauge, histogram};
use reconcile::Reconciliation;
use relay::Relay;
use roadstead_backend::dispatch::{Bell, Rung, Taken};
use roadstead_backend::store::overdue::{Outlook, outlook};
use roadstead_backend::store::{Connection, StoreResult};
use roadstead_backend::telemetry::metrics::{MAX_CONCURRENT_JOBS, RECONCILE_SECONDS};
use std::sync::Arc;
use std::time::Duration;
use tick::{Bustle, Every, Rest, Role, rest};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use unseen::Unseen;

/// With Redis or PostgreSQL away, whether it is back is asked this often.
const AWAY: Duration = Duration::from_secs(1);
/// After an outage of PostgreSQL, until launches are taken over: their workers and executors, who waited for it too, come first.
const RECOVERY: Duration = Duration::from_secs(5);
/// A worker that can't see its cluster can't judge what is in it: every so often it leaves the supervision to another for long enough that one who stands
/// by takes it. If none does, supervising goes on without the cluster.
const BETWEEN_YIELDS: Duration = Duration::from_secs(30);
const YIELD: Duration = Duration::from_secs(5);
/// What is gone is known after two looks and a list of the cluster between them.
const LOOK: Duration = Duration::from_secs(5);
/// Rings may come much faster than there is work in them.
const BETWEEN_RINGS: Duration = Duration::from_millis(20);

pub struct Supervisor {
    worker: Arc<Worker>,
    bell: Bell,
    /// Takes what is reclaimed.
    dispatcher: mpsc::Sender<Vec<Taken>>,
    lease: Lease,
    bustle: Bustle,
    relay: Relay,
    reconciliation: Reconciliation,
    unseen: Unseen,
    due: Due,
    store_complaint: Complaint,
    /// When PostgreSQL was last away.
    last_outage: Option<Instant>,
    complaint: Complaint,
    bell_complaint: Complaint,
    retention: Option<JoinHandle<()>>,
    /// Attempts that are alive in this worker's launcher.
    live: watch::Receiver<usize>,
    /// The last rest was ended by a ring.
    rung: bool,
}

/// The jobs that are not done in every turn.
struct Due {
    deadlines: Every,
    epoch: Every,
    eviction: Every,
    entries: Every,
    reconciliation: Every,
    look: Every,
    retention: Every,
    /// While the launcher is not ready.
    yielding: Every,
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
            look: Every::new(LOOK.min(worker.settings.reconcile_interval)),
            retention: Every::new(Duration::from_secs(600)),
            yielding: Every::new(BETWEEN_YIELDS),
        };
        Self {
            live: worker.launcher.live(),
            rung: false,
            worker,
            bell,
            dispatcher,
            lease: Lease::default(),
            bustle: Bustle::default(),
            relay: Relay::default(),
            reconciliation: Reconciliation::default(),
            unseen: Unseen::default(),
            due,
            store_complaint: Complaint::about("supervising"),
            last_outage: None,
            complaint: Complaint::about("tending the streams"),
            bell_complaint: Complaint::about("waiting at the supervisors' bell"),
            retention: None,
        }
    }

    /// Supervises, or stands by, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        gauge!(MAX_CONCURRENT_JOBS).set(self.worker.settings.cap as f64);
        while !stop.is_cancelled() {
            let next = match self.turn().await {
                Ok(next) => {
                    self.store_complaint.over(&self.worker.log);
                    next
                }
                Err(error) => {
                    self.store_complaint.raise(&self.worker.log, &error);
                    self.last_outage = Some(clock::now());
                    Rest { at_most: AWAY, listen: false, launches_are_news: false }
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
        let interval = worker.settings.reconcile_interval;
        let rung = std::mem::take(&mut self.rung);
        // A launch from here on is news again.
        self.live.mark_unchanged();
        let mut connection = worker.database.get().await?;
        let began = clock::now();
        let before = outlook(&mut connection).await?;
        let bustling = self.bustle.observe(before.busy, clock::now());
        let something_due = next_in(&before).is_some_and(|next| next.is_zero());
        if !bustling && !something_due && !self.due.retention.is_due(clock::now()) {
            self.lease.give_back(&worker, &mut connection).await?;
            histogram!(RECONCILE_SECONDS).record(began.elapsed());
            return Ok(rest(Role::Idle, next_in(&before), interval));
        }
        if !worker.launcher.is_ready() && self.lease.is_held() && self.due.yielding.take(clock::now()) {
            self.lease.give_back(&worker, &mut connection).await?;
            if rung {
                let _ = worker.dispatch.ring_supervisor().await;
            }
            return Ok(Rest { at_most: YIELD, listen: false, launches_are_news: false });
        }
        if !self.lease.hold(&worker, &mut connection).await? {
            if rung {
                // The ring was meant for whoever holds the lease.
                let _ = worker.dispatch.ring_supervisor().await;
            }
            return Ok(rest(Role::Bystander, None, interval));
        }
        self.work(&mut connection).await?;
        histogram!(RECONCILE_SECONDS).record(began.elapsed());
        let after = outlook(&mut connection).await?;
        if self.bustle.observe(after.busy, clock::now()) {
            return Ok(rest(Role::Busy, next_in(&after), interval));
        }
        self.lease.give_back(&worker, &mut connection).await?;
        Ok(rest(Role::Idle, next_in(&after), interval))
    }

    /// All jobs that are due. Without Redis, PostgreSQL's go on.
    async fn work(&mut self, connection: &mut Connection) -> StoreResult<()> {
        let worker = Arc::clone(&self.worker);
        promote::promote(connection).await?;
        if self.due.deadlines.take(clock::now()) {
            settle::settle_overdue(&worker, connection).await?;
            if worker.launcher.reach() == Reach::Cluster {
                settle::stop_orphans(&worker, connection).await?;
            }
            if self.last_outage.is_none_or(|at| at.elapsed() >= RECOVERY) {
                reclaim::launch_abandoned(&worker, connection).await?;
            }
        }
        if worker.launcher.reach() == Reach::Cluster && self.due.look.take(clock::now()) {
            self.unseen.turn(&worker, connection).await?;
        }
        if self.due.retention.is_due(clock::now()) && self.retention.as_ref().is_none_or(JoinHandle::is_finished) {
            self.due.retention.take(clock::now());
            let worker = Arc::clone(&worker);
            self.retention = Some(tokio::spawn(async move { retain::retain(&worker).await }));
        }
        match self.tend_streams(connection).await {
            Ok(()) => self.complaint.over(&worker.log),
            Err(Trouble::Dispatch(error)) => self.complaint.raise(&worker.log, &error),
            Err(Trouble::Store(error)) => return Err(error),
        }
        Ok(())
    }

    async fn tend_streams(&mut self, connection: &mut Connection) -> Result<(), Trouble> {
        let (worker, now) = (&self.worker, clock::now());
        reclaim::release_forgotten(worker, connection).await?;
        if self.due.epoch.take(now) {
            reconcile::check_epoch(worker).await.inspect_err(|_| self.due.epoch.again())?;
        }
        if self.due.eviction.take(now) && !reconcile::check_eviction(worker).await {
            self.due.eviction.again();
        }
        if self.due.entries.take(now) {
            reclaim::reclaim_entries(worker, &self.dispatcher).await?;
        }
        if self.due.reconciliation.take(now) {
            self.reconciliation.turn(worker, connection).await?;
        }
        self.relay.turn(worker, connection).await?;
        Ok(())
    }

    async fn rest(&mut self, Rest { at_most, listen, launches_are_news }: Rest) {
        if !listen {
            return tokio::time::sleep(at_most).await;
        }
        let waited = tokio::select! {
            waited = self.bell.wait(at_most) => waited,
            () = launched(&mut self.live), if launches_are_news => return,
        };
        match waited {
            Ok(rung) => {
                self.bell_complaint.over(&self.worker.log);
                self.rung = rung == Rung::Rung;
                if self.rung {
                    tokio::time::sleep(BETWEEN_RINGS).await;
                }
            }
            Err(error) => {
                self.bell_complaint.raise(&self.worker.log, &error);
                tokio::time::sleep(at_most.min(AWAY)).await;
            }
        }
    }
}

/// Waits until the number of live attempts changes to some.
async fn launched(live: &mut watch::Receiver<usize>) {
    while live.changed().await.is_ok() {
        if *live.borrow_and_update() > 0 {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Time until the next row asks for something.
fn next_in(outlook: &Outlook) -> Option<Duration> {
    outlook.next_at.map(|at| (at - outlook.now).to_std().unwrap_or_default())
}
