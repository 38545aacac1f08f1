//! How far the worker's life has come: from the start to the schema's being there, and to being told to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

pub struct Standing {
    migrated: AtomicBool,
    stop: CancellationToken,
}

impl Standing {
    pub fn new(stop: CancellationToken) -> Self {
        Self { migrated: AtomicBool::new(false), stop }
    }

    /// The schema is this program's.
    pub fn note_migrated(&self) {
        self.migrated.store(true, Ordering::Release);
    }

    pub fn is_migrated(&self) -> bool {
        self.migrated.load(Ordering::Acquire)
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }
}
