//! What every room of the worker is given: who it is, the servers, the launcher, and the settings that it goes by.

use crate::clock;
use crate::launch::{Ended, Launcher, Reach};
use crate::supervise::settle;
use roadstead_backend::config::{LaunchTimes, WorkerConfig};
use roadstead_backend::dispatch::Dispatch;
use roadstead_backend::objects::Objects;
use roadstead_backend::store::Database;
use roadstead_backend::store::settle::Observer;
use roadstead_domain::ids::AttemptId;
use slog::{Logger, o};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub struct Worker {
    /// In the rows of its attempts, and as its Redis consumer.
    pub id: String,
    pub database: Database,
    pub dispatch: Dispatch,
    pub objects: Objects,
    pub launcher: Arc<dyn Launcher>,
    pub settings: Settings,
    /// Attempts whose berths wait to be given back.
    pub freed: Freed,
    /// Overdue attempts that are being settled.
    pub judged: Judged,
    /// Settlements that are under way.
    pub settling: TaskTracker,
    pub pulse: Pulse,
    pub log: Logger,
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Live attempts over all workers.
    pub cap: usize,
    pub launch: LaunchTimes,
    pub reconcile_interval: Duration,
    pub retention: Duration,
    pub idempotency_retention: Duration,
    pub shutdown_timeout: Duration,
}

impl From<&WorkerConfig> for Settings {
    fn from(config: &WorkerConfig) -> Self {
        Self {
            cap: config.executions.max_concurrent_jobs as usize,
            launch: config.launch,
            reconcile_interval: config.reconcile_interval,
            retention: config.retention,
            idempotency_retention: config.idempotency_retention,
            shutdown_timeout: config.shutdown_timeout,
        }
    }
}

impl Worker {
    /// As whom this worker tells that attempts have ended.
    pub fn observer(&self) -> Observer {
        match self.launcher.reach() {
            Reach::Worker => Observer::Launcher { worker: self.id.clone() },
            Reach::Cluster => Observer::Anyone,
        }
    }

    /// Settles an attempt in the background.
    pub fn settle(self: &Arc<Self>, ended: Ended) {
        self.settling.spawn(settle::settle(Arc::clone(self), ended));
    }

    /// A logger whose records are an attempt's.
    pub fn log_of(&self, tenant: &str, attempt: AttemptId) -> Logger {
        self.log.new(o!(
            "execution_id" => attempt.execution_id.to_string(),
            "attempt" => attempt.attempt,
            "tenant" => tenant.to_owned(),
        ))
    }
}

/// Attempts that were seen to end well, on their way to whoever gives their berths back; and a call to him that there is something new.
#[derive(Debug, Default)]
pub struct Freed {
    ended: Mutex<Vec<Ended>>,
    called: Notify,
}

impl Freed {
    pub fn push(&self, ended: Ended) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
        self.call();
    }

    pub fn take(&self) -> Vec<Ended> {
        std::mem::take(&mut self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A berth may be free.
    pub fn call(&self) {
        self.called.notify_one();
    }

    pub async fn called(&self) {
        self.called.notified().await;
    }
}

/// Attempts that somebody is busy with, so that nobody else here begins. As many as there are overdue attempts at most.
#[derive(Debug, Default)]
pub struct Judged(Mutex<HashSet<AttemptId>>);

impl Judged {
    /// `false`: somebody is.
    pub fn begin(&self, attempt: AttemptId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt)
    }

    pub fn end(&self, attempt: AttemptId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt);
    }
}

/// When the dispatcher last turned round.
#[derive(Debug)]
pub struct Pulse(Mutex<Instant>);

impl Default for Pulse {
    fn default() -> Self {
        Self(Mutex::new(clock::now()))
    }
}

impl Pulse {
    pub fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = clock::now();
    }

    pub fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
