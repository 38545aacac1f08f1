//! The attempt's log: what its steps print, kept in order and shipped in segments while they run.

mod feed;
mod lines;
mod shipper;
mod spool;

pub use feed::Feed;
pub use shipper::Shipper;

use crate::clock;
use lines::Encoder;
use roadstead_domain::attempt::protocol::{Limits, Stream};
use spool::Spool;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// One read from a pipe; as much as a pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// Shared by the feeds, which write, and the shipper, which empties it.
#[derive(Debug)]
pub struct Log {
    inner: Mutex<Inner>,
    /// Something is there to be shipped, now or after a while.
    news: Notify,
    max_line_bytes: usize,
}

#[derive(Debug)]
struct Inner {
    spool: Spool,
    /// One for all pipes: a read is followed by its lines at once.
    read_buffer: Vec<u8>,
    finished: bool,
}

impl Log {
    pub fn new(folder: PathBuf, limits: &Limits) -> Self {
        let inner = Inner { spool: Spool::new(folder, limits), read_buffer: Vec::new(), finished: false };
        Self { inner: Mutex::new(inner), news: Notify::new(), max_line_bytes: limits.max_line_bytes as usize }
    }

    /// A word of the executor's own.
    pub fn say(&self, step: &str, line: &str) {
        self.write(|spool| spool.add(&mut Encoder::new(step, Stream::System), clock::wall_ms(), line.as_bytes()));
    }

    /// No further line comes.
    pub fn finish(&self) {
        let mut inner = self.lock();
        inner.spool.finish();
        inner.finished = true;
        self.news.notify_one();
    }

    fn write(&self, write: impl FnOnce(&mut Spool)) {
        let mut inner = self.lock();
        let waiting = |spool: &Spool| (spool.open_since().is_some(), spool.first_closed().is_some());
        let before = waiting(&inner.spool);
        write(&mut inner.spool);
        if waiting(&inner.spool) != before {
            self.news.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
