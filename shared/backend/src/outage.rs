//! Why no connection can be had: a pool that gives none in time says only that.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The last failure to connect; none, once somebody has connected since.
#[derive(Debug, Default)]
pub struct Outage {
    last: Mutex<Option<(Instant, String)>>,
    noted: Notify,
}

impl Outage {
    /// Notes how a try to connect went.
    pub fn note(&self, error: Option<&dyn Display>) {
        *self.last() = error.map(|error| (Instant::now(), error.to_string()));
        if error.is_some() {
            self.noted.notify_waiters();
        }
    }

    /// What a pool that gave no connection has to say for itself.
    pub fn why(&self) -> String {
        match &*self.last() {
            Some((_, cause)) => cause.clone(),
            None => "all connections were in use for too long".to_owned(),
        }
    }

    /// Waits for a failure to connect that is no older than this, and of which that holds.
    pub async fn since(&self, age: Duration, holds: impl Fn() -> bool) -> String {
        loop {
            let noted = self.noted.notified();
            if let Some((at, cause)) = &*self.last()
                && at.elapsed() < age
                && holds()
            {
                return cause.clone();
            }
            noted.await;
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
