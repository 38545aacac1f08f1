//! The executors that this worker has, by the order of their start.
//!
//! Invariant: between a fork and its entry here nobody looks for orphans, so a child is either known here or nobody's.

use crate::launch::StopCause;
use roadstead_domain::ids::AttemptId;
use rustix::process::Pid;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use tokio::process::Child;
use tokio::sync::{oneshot, watch};

pub struct Children {
    cap: usize,
    /// Read by who spawns, written by who looks for orphans.
    spawning: RwLock<()>,
    known: Mutex<Known>,
    live: watch::Sender<usize>,
}

#[derive(Default)]
struct Known {
    last_serial: u64,
    entries: BTreeMap<u64, Entry>,
}

struct Entry {
    attempt: AttemptId,
    /// None once it was reaped: the number may be somebody else's then.
    pid: Option<Pid>,
    stop: Option<oneshot::Sender<StopCause>>,
}

/// How a child's attendant is told to end it.
pub struct Orders {
    pub serial: u64,
    pub attempt: AttemptId,
    pub stop: oneshot::Receiver<StopCause>,
}

impl Children {
    pub fn new(cap: usize) -> Self {
        Self { cap, spawning: RwLock::default(), known: Mutex::default(), live: watch::Sender::new(0) }
    }

    /// Enters what `spawn` makes, if there is a place.
    pub fn adopt(&self, attempt: AttemptId, spawn: impl FnOnce() -> io::Result<Child>) -> io::Result<(Child, Orders)> {
        let place = self.take_place()?;
        let _nobody_looks = self.spawning.read().unwrap_or_else(PoisonError::into_inner);
        let child = spawn()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let (stop, told) = oneshot::channel();
        let mut known = self.known();
        known.last_serial += 1;
        let serial = known.last_serial;
        known.entries.insert(serial, Entry { attempt, pid, stop: Some(stop) });
        place.keep();
        Ok((child, Orders { serial, attempt, stop: told }))
    }

    fn take_place(&self) -> io::Result<Place<'_>> {
        let taken = self.live.send_if_modified(|live| {
            let free = *live < self.cap;
            *live += usize::from(free);
            free
        });
        if taken {
            Ok(Place(Some(&self.live)))
        } else {
            Err(io::Error::other("this worker has as many as the cap allows"))
        }
    }

    /// Its exit status was taken.
    pub fn reaped(&self, serial: u64) {
        if let Some(entry) = self.known().entries.get_mut(&serial) {
            entry.pid = None;
        }
    }

    /// Nothing of it is alive.
    pub fn gone(&self) {
        self.live.send_modify(|live| *live -= 1);
    }

    /// Its end was told.
    pub fn told(&self, serial: u64) {
        self.known().entries.remove(&serial);
    }

    pub fn stop(&self, attempt: AttemptId, cause: StopCause) {
        for entry in self.known().entries.values_mut().filter(|entry| entry.attempt == attempt) {
            if let Some(stop) = entry.stop.take() {
                // Its attendant may be past listening: then it has ended.
                let _ = stop.send(cause);
            }
        }
    }

    pub fn held(&self) -> Vec<AttemptId> {
        self.known().entries.values().map(|entry| entry.attempt).collect()
    }

    pub fn live(&self) -> watch::Receiver<usize> {
        self.live.subscribe()
    }

    /// Calls `look` with the pids of all executors, while none is being started.
    pub fn while_none_starts<T>(&self, look: impl FnOnce(&HashSet<Pid>) -> T) -> T {
        let _nobody_spawns = self.spawning.write().unwrap_or_else(PoisonError::into_inner);
        let pids = self.known().entries.values().filter_map(|entry| entry.pid).collect();
        look(&pids)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place under the cap, given back unless it is kept.
struct Place<'a>(Option<&'a watch::Sender<usize>>);

impl Place<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(live) = self.0 {
            live.send_modify(|live| *live -= 1);
        }
    }
}
