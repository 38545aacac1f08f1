//! Being told to stop: the first SIGTERM or SIGINT ends the work, the second one the process.

use slog::{Logger, info, warn};
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Listens from now on; the token is cancelled by the first signal.
pub fn listen(log: Logger) -> io::Result<CancellationToken> {
    let mut signals =
        Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        signals.next().await;
        info!(log, "stopping: no new work; a second signal ends this process at once");
        told.cancel();
        signals.next().await;
        warn!(log, "ended by a second signal");
        std::process::exit(1);
    });
    Ok(stop)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
