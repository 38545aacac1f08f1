//! A large artifact in parts. The file is read once, in order, and hashed while it is sent; while one part waits for the store's
//! word, the next one is already under way.
//!
//! A part that failed is sent again from the file alone, so that the hash of the whole goes on undisturbed.

use super::Found;
use crate::http::{Body, Progress};
use crate::ship::ShipError;
use crate::ship::chunks::{self, Chunks, Stretch};
use crate::ship::put::{Content, Store, etag, open};
use bytes::Bytes;
use roadstead_domain::attempt::protocol::{CompleteRequest, PartsRequest};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// URLs asked for at once: few, so that they are used while they are young.
const URLS: u32 = 4;

/// A part's PUT under way, and in the end its ETag.
type Sent = JoinHandle<Result<String, ShipError>>;

/// One upload in parts.
struct Multipart<'a> {
    store: &'a Store,
    file: PathBuf,
    path: &'a str,
    upload_id: String,
    size_bytes: u64,
    part_bytes: u64,
    /// URLs for the next parts.
    urls: VecDeque<String>,
}

/// Answers the content's SHA-256.
pub async fn send(
    store: &Store,
    root: &Path,
    found: &Found,
    upload_id: String,
    part_bytes: u64,
) -> Result<String, ShipError> {
    let Found { path, size_bytes } = found;
    let file = root.join(path);
    let mut multipart =
        Multipart { store, file, path, upload_id, size_bytes: *size_bytes, part_bytes, urls: VecDeque::new() };
    let (etags, sha256) = multipart.send().await?;
    let request = CompleteRequest { path: path.clone(), upload_id: multipart.upload_id, etags };
    store.persevere(|| async { Ok(store.api.complete(&request).await?) }).await?;
    Ok(sha256)
}

impl Multipart<'_> {
    fn part_count(&self) -> u32 {
        self.size_bytes.div_ceil(self.part_bytes) as u32
    }

    fn part_len(&self, number: u32) -> u64 {
        self.part_bytes.min(self.size_bytes - self.offset(number))
    }

    fn offset(&self, number: u32) -> u64 {
        u64::from(number - 1) * self.part_bytes
    }

    /// The parts' ETags in order, and the whole content's SHA-256.
    async fn send(&mut self) -> Result<(Vec<String>, String), ShipError> {
        let parts = (1..=self.part_count()).map(|number| self.part_len(number)).collect();
        let (mut chunks, hash) = chunks::read_and_hash(Stretch { file: open(&self.file)?, offset: 0, parts });
        let mut etags = Vec::with_capacity(self.part_count() as usize);
        let mut awaited: Option<(u32, Sent)> = None;
        for number in 1..=self.part_count() {
            let url = self.url(number).await?;
            let (sender, sent) = self.put(url, self.part_len(number));
            self.forward(&mut chunks, sender, self.part_len(number)).await?;
            if let Some((earlier, sent)) = awaited.replace((number, sent)) {
                etags.push(self.settle(earlier, sent).await?);
            }
        }
        if let Some((last, sent)) = awaited {
            etags.push(self.settle(last, sent).await?);
        }
        let hashed = hash.await.map_err(io::Error::other).flatten();
        Ok((etags, hashed.map_err(|error| self.unreadable(error))?))
    }

    /// Starts a part's PUT; what it sends comes through the channel.
    fn put(&self, url: String, size_bytes: u64) -> (mpsc::Sender<io::Result<Bytes>>, Sent) {
        let (sender, chunks) = chunks::relay();
        let progress = Progress::start();
        let body = Body::Streamed { chunks, remaining: size_bytes, progress: progress.clone() };
        let store = self.store.clone();
        (sender, tokio::spawn(async move { etag(&store.put_body(&url, &[], body, &progress).await?) }))
    }

    /// Hands a part's chunks to its PUT. When that failed they are passed over: it is tried again later, and the hash needs them.
    async fn forward(
        &self,
        chunks: &mut Chunks,
        sender: mpsc::Sender<io::Result<Bytes>>,
        size_bytes: u64,
    ) -> Result<(), ShipError> {
        let mut left = size_bytes;
        while left > 0 {
            let chunk = chunks.next().await.map_err(|error| self.unreadable(error))?;
            left = left.saturating_sub(chunk.len() as u64);
            let _ = sender.send(Ok(chunk)).await;
        }
        Ok(())
    }

    /// Waits for a part's ETag; sends the part again, from the file and with fresh URLs, when it failed.
    async fn settle(&self, number: u32, sent: Sent) -> Result<String, ShipError> {
        match sent.await {
            Ok(Err(error)) if !error.is_passing() => return Err(error),
            Ok(Ok(etag)) => return Ok(etag),
            Ok(Err(_)) | Err(_) => {}
        }
        let content =
            Content::File { path: self.file.clone(), offset: self.offset(number), size_bytes: self.part_len(number) };
        self.store
            .persevere(|| async {
                let urls = self.store.api.parts(&self.request(vec![number])).await?.urls;
                let url = urls.first().ok_or_else(|| ShipError::Store("no URL was granted".into()))?;
                etag(&self.store.put(url, &[], &content).await?)
            })
            .await
    }

    async fn url(&mut self, number: u32) -> Result<String, ShipError> {
        if self.urls.is_empty() {
            let last = self.part_count().min(number + URLS - 1);
            let request = self.request((number..=last).collect());
            let grant = self.store.persevere(|| async { Ok(self.store.api.parts(&request).await?) }).await?;
            self.urls = grant.urls.into();
        }
        self.urls.pop_front().ok_or_else(|| ShipError::Store("no URL was granted".into()))
    }

    fn request(&self, parts: Vec<u32>) -> PartsRequest {
        PartsRequest { path: self.path.to_owned(), upload_id: self.upload_id.clone(), parts }
    }

    fn unreadable(&self, error: io::Error) -> ShipError {
        ShipError::Unreadable { path: self.file.clone(), error }
    }
}
