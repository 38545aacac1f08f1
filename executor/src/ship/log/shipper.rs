//! Ships the log's segments one after the other, as long as the attempt lasts.
//!
//! A segment leaves when it is full or old enough, but never while another one is waiting: when the API or the store is slow or away,
//! output gathers into full segments on disk instead of many small ones.

use super::Log;
use super::spool::{Closed, Content as Kept};
use crate::clock;
use crate::report::Report;
use crate::ship::ShipError;
use crate::ship::put::{Content, Store};
use roadstead_domain::attempt::protocol::{Object, Upload, UploadRequest, UploadTarget};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

const FLUSH_AFTER: Duration = Duration::from_secs(10);
const FLUSH_AFTER_WHILE_FOLLOWED: Duration = Duration::from_millis(500);
/// After the patience for one segment is used up, before it is taken up again.
const PAUSE: Duration = Duration::from_secs(1);
/// URLs asked for at once when several segments wait.
const BATCH: usize = 8;

#[derive(Debug)]
pub struct Shipper {
    pub log: Arc<Log>,
    pub store: Store,
    pub report: Arc<Report>,
    pub following: watch::Receiver<bool>,
    /// Told of each segment that was shipped.
    pub shipped: Arc<Notify>,
}

impl Shipper {
    /// Ships until the log was finished and everything is shipped. A passing trouble is waited out for as long as it takes: whoever
    /// waits for the end of the log decides how long; only a refusal ends it early.
    pub async fn ship(mut self) -> Result<(), ShipError> {
        loop {
            let batch = self.next_batch().await;
            if batch.is_empty() {
                return Ok(());
            }
            match self.ship_batch(&batch).await {
                Ok(()) => {}
                Err(error) if error.is_passing() => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// The segments that wait, closing the open one when it is due; none when the log is over.
    async fn next_batch(&mut self) -> Vec<(Upload, Content)> {
        loop {
            let due = {
                let mut inner = self.log.lock();
                let due = self.due(inner.spool.open_since());
                if inner.spool.first_closed().is_none() && due.is_some_and(|due| due <= clock::now()) {
                    inner.spool.close_open();
                }
                let batch: Vec<_> = inner.spool.closed().take(BATCH).map(as_upload).collect();
                if !batch.is_empty() || inner.finished {
                    return batch;
                }
                due
            };
            let time = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.log.news.notified() => {}
                () = time => {}
                Ok(()) = self.following.changed() => {}
            }
        }
    }

    fn due(&self, since: Option<Instant>) -> Option<Instant> {
        let after = if *self.following.borrow() { FLUSH_AFTER_WHILE_FOLLOWED } else { FLUSH_AFTER };
        since.map(|since| since + after)
    }

    /// URLs for all of them in one request, then one PUT after the other; one whose PUT failed is tried alone, with fresh URLs.
    async fn ship_batch(&self, batch: &[(Upload, Content)]) -> Result<(), ShipError> {
        let request = UploadRequest { objects: batch.iter().map(|(upload, _)| upload.clone()).collect() };
        let targets: Vec<UploadTarget> =
            self.store.persevere(|| async { Ok(self.store.api.uploads(&request).await?) }).await?.targets;
        for ((upload, content), target) in batch.iter().zip(targets) {
            if self.store.put_to(target, content).await.is_err() {
                self.store.put_object(upload, content).await?;
            }
            if let Some(segment) = self.log.lock().spool.shipped() {
                self.report.shipped(segment);
                self.shipped.notify_one();
            }
        }
        Ok(())
    }
}

fn as_upload(closed: &Closed) -> (Upload, Content) {
    let Closed { segment, sha256, content } = closed;
    let upload = Upload {
        object: Object::Log { seq: segment.seq },
        size_bytes: segment.size_bytes,
        sha256: Some(sha256.clone()),
        whole: false,
    };
    let content = match content {
        Kept::Memory(bytes) => Content::Memory(bytes.clone()),
        Kept::File(path) => Content::File { path: path.clone(), offset: 0, size_bytes: segment.size_bytes },
    };
    (upload, content)
}
