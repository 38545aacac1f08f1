//! Whether the attempt was told to stop, and why. The first reason stands among equals; a lost claim outranks all others, and they
//! outrank the lease's end, which concerns running children only.

use crate::clock;
use crate::lease::Lease;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Somebody asked for it.
    Cancelled,
    /// SIGTERM or SIGINT came to the executor.
    Terminated,
    /// The run deadline passed.
    RunTimeout,
    /// No heartbeat was answered for too long.
    LeaseEnding,
    /// The attempt is no longer current: not another word, and no mercy for the children.
    Superseded,
}

impl Halt {
    const fn rank(self) -> u8 {
        match self {
            Self::LeaseEnding => 0,
            Self::Cancelled | Self::Terminated | Self::RunTimeout => 1,
            Self::Superseded => 2,
        }
    }
}

/// The stop signal. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<Option<Halt>>);

impl Stop {
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    pub fn ask(&self, halt: Halt) {
        self.0.send_if_modified(|current| {
            let stands = current.is_none_or(|current| halt.rank() > current.rank());
            if stands {
                *current = Some(halt);
            }
            stands
        });
    }

    pub fn reason(&self) -> Option<Halt> {
        *self.0.borrow()
    }

    /// Waits for a reason that `matters`.
    pub async fn asked_for(&self, matters: impl Fn(Halt) -> bool) -> Halt {
        let mut changes = self.0.subscribe();
        loop {
            if let Some(halt) = *changes.borrow_and_update()
                && matters(halt)
            {
                return halt;
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    pub async fn asked(&self) -> Halt {
        self.asked_for(|_| true).await
    }
}

/// SIGTERM and SIGINT; and those that a shell makes what it starts ignore, by `nohup` or `&`. A step would inherit that, while what is listened for is
/// the default again in it (execve(2)).
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    _hang_up: Signal,
    _quit: Signal,
}

impl Signals {
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hang_up: signal(SignalKind::hangup())?,
            _quit: signal(SignalKind::quit())?,
        })
    }

    pub async fn came(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Watches the signals, the run deadline and the lease for as long as the attempt lasts.
pub async fn guard(stop: Stop, mut signals: Signals, run: Duration, lease: std::sync::Arc<Lease>) {
    let deadline = clock::now() + run;
    let told = async {
        signals.came().await;
        stop.ask(Halt::Terminated);
    };
    let late = async {
        tokio::time::sleep_until(deadline).await;
        stop.ask(Halt::RunTimeout);
    };
    let cut_off = async {
        lease.ends().await;
        stop.ask(Halt::LeaseEnding);
    };
    tokio::join!(told, late, cut_off);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stands_and_a_lost_claim_outranks_it() {
        let stop = Stop::new();
        assert_eq!(stop.reason(), None);
        stop.ask(Halt::LeaseEnding);
        stop.ask(Halt::Cancelled);
        stop.ask(Halt::LeaseEnding);
        stop.ask(Halt::RunTimeout);
        assert_eq!(stop.asked().await, Halt::Cancelled);
        stop.ask(Halt::Superseded);
        stop.ask(Halt::Terminated);
        assert_eq!(stop.asked_for(|halt| halt == Halt::Superseded).await, Halt::Superseded);
    }
}
