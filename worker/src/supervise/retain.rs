//! Retention: what finished long ago goes, a bounded amount at a time. Objects before rows: a row is how the objects are found.

use crate::worker::Worker;
use futures_util::future::join_all;
use roadstead_backend::objects::{Store, layout};
use roadstead_backend::store::{StoreResult, retain};
use roadstead_domain::ids::ExecutionId;
use slog::{info, warn};
use std::collections::HashSet;

const EXECUTIONS: i64 = 200;
const KEYS: i64 = 5_000;
const MAX_BATCHES: usize = 50;
/// Batches in a row of which nothing could be deleted.
const MAX_IN_VAIN: usize = 3;
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
    let (mut deleted, mut kept, mut in_vain) = (0, HashSet::new(), 0);
    for _ in 0..MAX_BATCHES {
        let mut connection = worker.database.get().await?;
        let forgotten = retain::forget_keys(&mut connection, settings.idempotency_retention, KEYS).await?;
        // Those whose objects can't be deleted stay the oldest, and wait for the next pass: they must not hold up all others.
        let limit = EXECUTIONS + kept.len() as i64;
        let mut outdated = retain::outdated(&mut connection, settings.retention, limit).await?;
        drop(connection);
        let more = forgotten == KEYS as usize || outdated.len() == limit as usize;
        outdated.retain(|(_, id)| !kept.contains(id));
        let without_objects = delete_objects(worker, &outdated).await;
        if !without_objects.is_empty() {
            retain::delete(&mut *worker.database.get().await?, &without_objects).await?;
        }
        deleted += without_objects.len();
        kept.extend(outdated.iter().filter(|execution| !without_objects.contains(execution)).map(|(_, id)| *id));
        let is_in_vain = without_objects.is_empty() && !outdated.is_empty();
        in_vain = if is_in_vain { in_vain + 1 } else { 0 };
        // The store is away, or lets nobody delete.
        let is_hopeless = in_vain >= MAX_IN_VAIN || is_in_vain && worker.objects.ping().await.is_err();
        if !more || is_hopeless {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use roadstead_backend::store::database;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// An object store that holds nothing.
    async fn empty_store() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte).await, Ok(1)) {
                    head.push(byte[0]);
                }
                let list = "<ListBucketResult><Name>content</Name><Prefix/><IsTruncated>false</IsTruncated></ListBucketResult>";
                let body = if head.starts_with(b"HEAD") { "" } else { list };
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        endpoint
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn executions_whose_objects_can_not_be_deleted_hold_up_no_other() {
        let (worker, database) = testing::worker(&empty_store().await).await;
        database::migrate(&database).await.unwrap();
        // Of a tenant whose objects have no keys, and the oldest: a batch of nothing else.
        let executions = |tenant: &str, number: i64, days: u32| {
            format!(
                "INSERT INTO executions (tenant, id, state, priority, max_attempts, enqueued, input_bytes, timeout_seconds, finished_at)
                 SELECT '{tenant}', gen_random_uuid(), 'failed', 0, 1, false, 0, 1, now() - interval '{days} days'
                 FROM generate_series(1, {number});"
            )
        };
        let rows = executions("..", EXECUTIONS + 1, 3) + &executions("good", EXECUTIONS + 1, 2);
        let mut connection = worker.database.get().await.unwrap();
        diesel_async::SimpleAsyncConnection::batch_execute(&mut *connection, &rows).await.unwrap();
        assert_eq!(pass(&worker).await.unwrap() as i64, EXECUTIONS + 1);
        let age = worker.settings.retention;
        let left = retain::outdated(&mut connection, age, 1_000).await.unwrap();
        assert_eq!(left.len() as i64, EXECUTIONS + 1);
        assert!(left.iter().all(|(tenant, _)| tenant == ".."));
    }
}
