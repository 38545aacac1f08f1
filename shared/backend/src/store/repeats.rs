//! Whether idempotency keys that were used before are to be expected: where one came others follow, of clients that ask again after an outage.
//!
//! Pure. Looking for each key before it is inserted costs more than inserting it; not having looked costs sending the batch again, and a line in
//! PostgreSQL's log. So nobody looks, but for a while after a repeat.

use std::sync::atomic::{AtomicU32, Ordering};

/// What one who submits has met. Starts with having met none.
#[derive(Debug, Default)]
pub struct Repeats {
    wary_left: AtomicU32,
}

impl Repeats {
    /// Statements that look, after one that met a repeat.
    pub const WARY: u32 = 1_000;

    /// How many of the next statements look.
    pub fn wary_left(&self) -> u32 {
        self.wary_left.load(Ordering::Relaxed)
    }

    /// Whether this statement looks.
    pub(super) fn take_wary(&self) -> bool {
        self.wary_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    pub(super) fn met(&self) {
        self.wary_left.store(Self::WARY, Ordering::Relaxed);
    }
}
