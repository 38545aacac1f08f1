//! Objects that are passed on piece by piece. Memory is one part going up, one chunk coming down.
//!
//! No stream has a deadline, since nobody knows its length; each has an idle limit instead. An upload that breaks off, or whose caller goes away in
//! the middle, leaves nothing behind.

use super::fault::{Fault, Repeat, tried};
use super::{BODY_DEADLINE, Objects, ObjectsError, SMALL_DEADLINE, Store, check_key};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use s3::command::{Command, Multipart};
use s3::request::tokio_backend::ReqwestRequest;
use s3::request::{DataStream, Request};
use s3::serde_types::Part;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Above the 5 MiB that S3 asks of every part but the last.
const PART_BYTES: usize = 8 << 20;
/// S3 takes no more parts.
const MAX_PARTS: u32 = 10_000;
/// Between two chunks that come down.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// An object's content, as it comes.
pub struct ObjectStream(BoxStream<'static, io::Result<Bytes>>);

impl Stream for ObjectStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl Objects {
    /// An object's content, or `None` where there is no such object.
    pub async fn get_stream(&self, store: Store, key: &str) -> Result<Option<ObjectStream>, ObjectsError> {
        check_key(key)?;
        let bucket = self.bucket(store, None).await?;
        let open = || async {
            Ok(tokio::time::timeout(SMALL_DEADLINE, bucket.get_object_stream(key))
                .await
                .map_err(|_| Fault::silent())??)
        };
        match tried(Repeat::Harmless, open).await {
            Ok(response) => {
                let chunks = futures_util::stream::unfold(Some(response.bytes), next_chunk);
                Ok(Some(ObjectStream(chunks.boxed())))
            }
            Err(fault) if fault.is_missing_object() => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Stores what the stream gives; answers its size. One PUT for what fits into a part, else an upload in parts.
    pub async fn put_stream<S>(
        &self,
        store: Store,
        key: &str,
        content_type: &str,
        stream: S,
    ) -> Result<u64, ObjectsError>
    where
        S: Stream<Item = Result<Bytes, io::Error>> + Unpin + Send,
    {
        let mut parts = Parts { stream, spare: Bytes::new(), ended: false };
        let first = parts.next().await?;
        if parts.ended {
            let size_bytes = first.len() as u64;
            self.put(store, key, first.into(), content_type).await?;
            return Ok(size_bytes);
        }
        let mut upload = OpenUpload::begin(self.clone(), store, key.to_owned(), content_type.to_owned()).await?;
        let sent = upload.send(first, &mut parts).await;
        if sent.is_err() {
            upload.abort().await;
        }
        sent
    }

    async fn put_part(&self, upload: &UploadId, number: u32, content: &[u8]) -> Result<Part, Fault> {
        let bucket = self.bucket(upload.store, Some(BODY_DEADLINE)).await?;
        let send = || async {
            let command = Command::PutObject {
                content,
                content_type: "application/octet-stream",
                custom_headers: None,
                multipart: Some(Multipart::new(number, &upload.id)),
            };
            let answer = ReqwestRequest::new(&bucket, &upload.key, command).await?.response_data(true).await?;
            let etag = answer.as_str().unwrap_or_default().to_owned();
            Ok(Part { part_number: number, etag })
        };
        tried(Repeat::Harmless, send).await
    }
}

/// One step of a stream that ends with its first error.
async fn next_chunk(chunks: Option<DataStream>) -> Option<(io::Result<Bytes>, Option<DataStream>)> {
    let mut chunks = chunks?;
    let error = match tokio::time::timeout(IDLE_LIMIT, chunks.next()).await {
        Ok(Some(Ok(chunk))) => return Some((Ok(chunk), Some(chunks))),
        Ok(Some(Err(error))) => io::Error::other(ObjectsError::from(Fault::from(error))),
        Ok(None) => return None,
        Err(_) => io::Error::new(io::ErrorKind::TimedOut, ObjectsError::from(Fault::silent())),
    };
    Some((Err(error), None))
}

/// A stream, cut into parts.
struct Parts<S> {
    stream: S,
    spare: Bytes,
    ended: bool,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Parts<S> {
    /// Full, unless it is the last: then `ended` is set.
    async fn next(&mut self) -> Result<Vec<u8>, ObjectsError> {
        let mut part = Vec::new();
        loop {
            let room = PART_BYTES - part.len();
            part.extend_from_slice(&self.spare.split_to(room.min(self.spare.len())));
            if self.ended || !self.spare.is_empty() {
                return Ok(part);
            }
            match self.stream.next().await {
                Some(chunk) => self.spare = chunk.map_err(ObjectsError::Source)?,
                None => self.ended = true,
            }
        }
    }
}

#[derive(Clone)]
struct UploadId {
    store: Store,
    key: String,
    id: String,
}

/// An upload that is aborted, unless it was completed.
struct OpenUpload {
    objects: Objects,
    upload: UploadId,
    /// The part that is being sent, by a task of its own: one that arrives after the abort would stay (S3's `AbortMultipartUpload`), so it is waited for.
    under_way: Option<JoinHandle<Result<Part, Fault>>>,
    open: bool,
}

impl OpenUpload {
    /// By a task of its own: a caller that went away while the server began the upload would leave one whose id nobody knows.
    async fn begin(objects: Objects, store: Store, key: String, content_type: String) -> Result<Self, ObjectsError> {
        let begun = tokio::spawn(async move {
            let id = objects.begin_upload(store, &key, &content_type).await?;
            Ok(Self { objects, upload: UploadId { store, key, id }, under_way: None, open: true })
        });
        begun.await.unwrap_or_else(|_| Err(ObjectsError::Unavailable("the upload was not begun".to_owned())))
    }

    async fn send<S>(&mut self, first: Vec<u8>, parts: &mut Parts<S>) -> Result<u64, ObjectsError>
    where
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let (mut sent, mut part, mut size_bytes) = (Vec::new(), first, 0);
        for number in 1..=MAX_PARTS {
            size_bytes += part.len() as u64;
            sent.push(self.put(number, part).await?);
            if parts.ended {
                let UploadId { store, key, id } = &self.upload;
                self.objects.complete_upload(*store, key, id, sent).await?;
                self.open = false;
                return Ok(size_bytes);
            }
            part = parts.next().await?;
        }
        Err(ObjectsError::TooLarge { max_bytes: PART_BYTES as u64 * u64::from(MAX_PARTS) })
    }

    /// Its content is freed before the next one grows.
    async fn put(&mut self, number: u32, content: Vec<u8>) -> Result<Part, ObjectsError> {
        let (objects, upload) = (self.objects.clone(), self.upload.clone());
        let task = tokio::spawn(async move { objects.put_part(&upload, number, &content).await });
        let sent = self.under_way.insert(task).await;
        self.under_way = None;
        Ok(sent.map_err(|_| ObjectsError::Unavailable("a part was not sent".to_owned()))??)
    }

    async fn abort(&mut self) {
        // What went wrong before is what the caller is told.
        let _ = self.objects.abort_upload(self.upload.store, &self.upload.key, &self.upload.id).await;
        self.open = false;
    }
}

impl Drop for OpenUpload {
    /// The caller went away in the middle.
    fn drop(&mut self) {
        if let Some(runtime) = tokio::runtime::Handle::try_current().ok().filter(|_| self.open) {
            let (objects, upload, under_way) = (self.objects.clone(), self.upload.clone(), self.under_way.take());
            runtime.spawn(async move {
                if let Some(part) = under_way {
                    let _ = part.await;
                }
                objects.abort_upload(upload.store, &upload.key, &upload.id).await
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sizes(chunks: &[usize]) -> Vec<usize> {
        let stream =
            futures_util::stream::iter(chunks.iter().map(|size| Ok(Bytes::from(vec![7; *size]))).collect::<Vec<_>>());
        let mut parts = Parts { stream, spare: Bytes::new(), ended: false };
        let mut sizes = Vec::new();
        while !parts.ended {
            sizes.push(parts.next().await.unwrap().len());
        }
        sizes
    }

    #[tokio::test]
    async fn every_part_but_the_last_is_full() {
        assert_eq!(sizes(&[]).await, [0]);
        assert_eq!(sizes(&[0, 3, 0, 4]).await, [7]);
        assert_eq!(sizes(&[PART_BYTES]).await, [PART_BYTES]);
        assert_eq!(sizes(&[PART_BYTES, 1]).await, [PART_BYTES, 1]);
        assert_eq!(sizes(&[2 * PART_BYTES + 5]).await, [PART_BYTES, PART_BYTES, 5]);
    }
}
