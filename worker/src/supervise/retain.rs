//! Retention: what finished long ago goes, a bounded amount at a time. Objects before rows: a row is how the objects are found.

use crate::worker::Worker;
use futures_util::future::join_all;
use roadstead_backend::objects::{Store, layout};
use roadstead_backend::store::{StoreResult, retain};
use roadstead_domain::ids::ExecutionId;
use slog::{info, warn};

const EXECUTIONS: i64 = 200;
const KEYS: i64 = 5_000;
const MAX_BATCHES: usize = 50;
const CONCURRENT_DELETES: usize = 8;

/// One pass; what is left over waits for the next.
pub async fn retain(worker: &Worker) {
    match pass(worker).await {
        Ok(0) => {}
        Ok(executions) => info!(worker.log, "retention"; "executions" => executions),
        Err(error) => warn!(worker.log, "retention stopped"; "error" => %error),
    }
}

async fn pass(worker: &Worker) -> StoreResult<usize> {
    let settings = &worker.settings;
    let mut deleted = 0;
    for _ in 0..MAX_BATCHES {
        let mut connection = worker.database.get().await?;
        let forgotten = retain::forget_keys(&mut connection, settings.idempotency_retention, KEYS).await?;
        let outdated = retain::outdated(&mut connection, settings.retention, EXECUTIONS).await?;
        drop(connection);
        let without_objects = delete_objects(worker, &outdated).await;
        if !without_objects.is_empty() {
            retain::delete(&mut *worker.database.get().await?, &without_objects).await?;
        }
        deleted += without_objects.len();
        let more = forgotten == KEYS as usize || outdated.len() == EXECUTIONS as usize;
        // Without this, executions whose objects can't be deleted would be tried again and again.
        if !more || without_objects.len() < outdated.len() {
            break;
        }
    }
    retain::forget_leases(&mut *worker.database.get().await?).await?;
    Ok(deleted)
}

/// Answers those whose objects are gone.
async fn delete_objects(worker: &Worker, outdated: &[(String, ExecutionId)]) -> Vec<(String, ExecutionId)> {
    let mut deleted = Vec::with_capacity(outdated.len());
    for some in outdated.chunks(CONCURRENT_DELETES) {
        let deletions: Vec<_> = some.iter().map(|(tenant, id)| delete_objects_of(worker, tenant, *id)).collect();
        let gone = join_all(deletions).await;
        deleted.extend(some.iter().zip(gone).filter(|(_, gone)| *gone).map(|(execution, _)| execution.clone()));
    }
    deleted
}

async fn delete_objects_of(worker: &Worker, tenant: &str, id: ExecutionId) -> bool {
    match worker.objects.delete_prefix(Store::Content, &layout::execution_prefix(tenant, id)).await {
        Ok(_) => true,
        Err(error) => {
            warn!(worker.log, "objects of an old execution can't be deleted"; "tenant" => tenant,
                  "execution_id" => %id, "error" => %error);
            false
        }
    }
}
