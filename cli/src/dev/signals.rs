//! The signals that concern `roadstead dev`: the wish to end, and the end of a process that was left to us.

use super::processes::{Ledger, ignores_hang_up};
use crate::failure::Failure;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Not listened to when it was ignored before.
    hang_up: Option<Signal>,
}

impl Signals {
    /// From now on these signals end nothing by themselves.
    pub fn listen() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    /// Ctrl-C, SIGTERM, or the end of the terminal.
    pub async fn end_requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = received(self.hang_up.as_mut()) => {}
        }
    }
}

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
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
