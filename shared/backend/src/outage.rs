//! Why no connection can be had: a pool that gives none in time says only that.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a failure explains that there is no connection: pools try all the time while they lack one.
const BELIEF: Duration = Duration::from_secs(30);

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

    /// Why a pool of so many connections gave none.
    pub fn why(&self, connections: u32) -> String {
        match &*self.last() {
            Some((at, cause)) if at.elapsed() < BELIEF => cause.clone(),
            _ if connections == 0 => "no connection could be made in time".to_owned(),
            _ => "all connections were in use for too long".to_owned(),
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
