//! After the launch: `launched` is recorded, then the entries are acknowledged. In this order: an entry that is gone belongs to a row that
//! says so.
//!
//! Nobody waits for this, so it is done for many at once and a moment later: most executors have started by then, which says in the row that they were
//! launched, and a record at the same time as their start would only make the start wait for it.
//!
//! If this worker dies before the record, the launch lease runs out and the supervisor launches the same attempt again under a new credential,
//! unless it has started. If it dies before the acknowledgement, the entry comes again and the claim finds nothing queued.

use crate::backoff::Backoff;
use crate::clock;
use crate::trouble::Complaint;
use crate::worker::Worker;
use roadstead_backend::dispatch::Taken;
use roadstead_backend::store::launch;
use roadstead_domain::ids::AttemptId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Entries that wait to be recorded; past it the dispatcher waits.
const MAX_WAITING: usize = 4096;
const MAX_BATCH: usize = 512;
/// Far below a launch lease.
const GATHERING: Duration = Duration::from_millis(100);

/// An entry that the dispatcher is done with.
#[derive(Debug)]
pub struct Handled {
    pub entry: Taken,
    /// What was launched for it, if something was.
    pub launched: Option<AttemptId>,
}

/// Starts recording; ends when all senders are gone and everything is recorded.
pub fn start(worker: Arc<Worker>) -> (mpsc::Sender<Handled>, tokio::task::JoinHandle<()>) {
    let (sender, mut receiver) = mpsc::channel::<Handled>(MAX_WAITING);
    let task = tokio::spawn(async move {
        let mut store = Complaint::about("recording launches");
        let mut streams = Complaint::about("acknowledging entries");
        let mut batch = Vec::new();
        while gather(&mut receiver, &mut batch).await {
            let (launched, entries): (Vec<_>, Vec<_>) =
                batch.drain(..).map(|handled: Handled| (handled.launched, handled.entry)).unzip();
            let launched: Vec<AttemptId> = launched.into_iter().flatten().collect();
            if !launched.is_empty() {
                record(&worker, &launched, &mut store).await;
            }
            match worker.dispatch.done(&entries).await {
                Ok(()) => streams.over(&worker.log),
                // They come again when they have been idle for long enough, and are dropped then.
                Err(error) => streams.raise(&worker.log, &error),
            }
        }
    });
    (sender, task)
}

/// Answers whether there is anything, or ever will be.
async fn gather(receiver: &mut mpsc::Receiver<Handled>, batch: &mut Vec<Handled>) -> bool {
    if receiver.recv_many(batch, MAX_BATCH).await == 0 {
        return false;
    }
    let until = clock::now() + GATHERING;
    while batch.len() < MAX_BATCH {
        match tokio::time::timeout_at(until, receiver.recv_many(batch, MAX_BATCH - batch.len())).await {
            // Full, closed, or late enough.
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    true
}

/// Tries until PostgreSQL takes it, or refuses it.
async fn record(worker: &Worker, launched: &[AttemptId], complaint: &mut Complaint) {
    let mut backoff = Backoff::default();
    loop {
        let recorded = match worker.database.get().await {
            Ok(mut connection) => launch::launched(&mut connection, &worker.id, launched).await,
            Err(error) => Err(error),
        };
        match recorded {
            Ok(()) => return complaint.over(&worker.log),
            Err(error) => {
                complaint.raise(&worker.log, &error);
                if !error.is_unavailable() {
                    return;
                }
            }
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}
