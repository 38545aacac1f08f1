//! The workers' bell, without cutting a wait off: a wait that is dropped costs a connection, and there is one between any two turns.
//!
//! The bell is listened to only after the dispatcher asked for it, so that a worker takes at most one ring that it does not need.

use crate::backoff::Backoff;
use crate::trouble::Complaint;
use roadstead_backend::dispatch::{Bell, Rung};
use slog::Logger;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// One blocking read.
const WAIT: Duration = Duration::from_secs(25);

#[derive(Debug, Default)]
pub struct Listener {
    asked: Notify,
    rung: Notify,
}

impl Listener {
    /// Waits for a ring. One that came since the last wait counts.
    pub async fn rung(&self) {
        self.asked.notify_one();
        self.rung.notified().await;
    }
}

/// Listens until `stop`.
pub async fn listen(listener: Arc<Listener>, mut bell: Bell, log: Logger, stop: CancellationToken) {
    let work = async {
        let (mut backoff, mut complaint) = (Backoff::default(), Complaint::about("waiting at the bell"));
        loop {
            listener.asked.notified().await;
            loop {
                match bell.wait(WAIT).await {
                    Ok(rung) => {
                        backoff.reset();
                        complaint.over(&log);
                        if rung == Rung::Rung {
                            break;
                        }
                    }
                    Err(error) => {
                        complaint.raise(&log, &error);
                        tokio::time::sleep(backoff.next_wait()).await;
                        // A wait that failed may have taken the ring with it.
                        listener.rung.notify_one();
                    }
                }
            }
            listener.rung.notify_one();
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = work => {} }
}
