//! What a room can't do anything about but wait, and saying so once.

use roadstead_backend::dispatch::DispatchError;
use roadstead_backend::store::StoreError;
use slog::{Logger, info, warn};
use tokio::time::Instant;

/// PostgreSQL or Redis did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
}

/// One kind of trouble of one room: logged when it begins and when it is over, however often it happens in between.
#[derive(Debug)]
pub struct Complaint {
    what: &'static str,
    since: Option<Instant>,
}

impl Complaint {
    pub const fn about(what: &'static str) -> Self {
        Self { what, since: None }
    }

    pub fn raise(&mut self, log: &Logger, error: &dyn std::fmt::Display) {
        if self.since.is_none() {
            self.since = Some(crate::clock::now());
            warn!(log, "{} does not work; trying on", self.what; "error" => error.to_string());
        }
    }

    pub fn over(&mut self, log: &Logger) {
        if let Some(since) = self.since.take() {
            info!(log, "{} works again", self.what; "after_ms" => since.elapsed().as_millis() as u64);
        }
    }
}
