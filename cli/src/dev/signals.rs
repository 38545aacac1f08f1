//! The signals that concern `roadstead dev`: the wish to end, and the end of a process that was left to us.

use super::processes::Ledger;
use crate::failure::Failure;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From now on these signals end nothing by themselves.
    pub fn listen() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Ctrl-C, SIGTERM, or the end of the terminal.
    pub async fn end_requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Reaps what nobody else will, whenever a process ends. Comes back only when it can't.
pub async fn reap_strangers(ledger: Arc<Ledger>) -> Result<(), Failure> {
    let mut ends = signal(SignalKind::child())?;
    while ends.recv().await.is_some() {
        ledger.reap_strangers();
    }
    std::future::pending().await
}
