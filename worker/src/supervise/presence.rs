//! Presence: while a worker has attempts it says that it lives, so that nobody gives their berths back before it has seen their processes end.
//! Along with that it ends those of its attempts that are past a deadline: nobody else can.

use super::settle;
use crate::trouble::Complaint;
use crate::worker::Worker;
use roadstead_backend::store::{StoreResult, lease, overdue};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const SPAN: Duration = Duration::from_secs(6);
const RENEWAL: Duration = Duration::from_secs(2);

/// Says so until `stop`. Without attempts it does nothing.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let mut complaint = Complaint::about("renewing this worker's presence");
    let mut live = worker.launcher.live();
    let name = overdue::presence(&worker.id);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            // Its sender is the launcher's.
            _ = live.wait_for(|live| *live > 0) => {}
        }
        match renew(&worker, &name).await {
            Ok(()) => complaint.over(&worker.log),
            Err(error) => complaint.raise(&worker.log, &error),
        }
        tokio::select! { () = stop.cancelled() => break, () = tokio::time::sleep(RENEWAL) => {} }
    }
    if let Ok(mut connection) = worker.database.get().await {
        // What it still has reports by itself; from now on the supervisor sees to the berths.
        let _ = lease::release(&mut connection, &name, &worker.id).await;
    }
}

async fn renew(worker: &Worker, name: &str) -> StoreResult<()> {
    let mut connection = worker.database.get().await?;
    lease::acquire(&mut connection, name, &worker.id, SPAN).await?;
    settle::stop_overdue(worker, &mut connection).await
}
