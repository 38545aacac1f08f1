//! A large artifact by one PUT: read once, and hashed while it is sent.
//!
//! It is tried once. A store that keeps files puts parts together by copying them, so that parts cost twice; but what breaks off
//! here is all to be sent again, so that then it goes in parts.

use super::Found;
use crate::http::{Body, Progress};
use crate::ship::ShipError;
use crate::ship::chunks::{self, Stretch};
use crate::ship::put::{Store, open};
use std::io;
use std::path::Path;

/// Answers the content's SHA-256.
pub async fn send(
    store: &Store,
    root: &Path,
    found: &Found,
    url: &str,
    headers: &[(String, String)],
) -> Result<String, ShipError> {
    let path = root.join(&found.path);
    let stretch = Stretch { file: open(&path)?, offset: 0, parts: vec![found.size_bytes] };
    let (chunks, hash) = chunks::read_and_hash(stretch);
    let progress = Progress::start_long();
    let body = Body::Streamed { chunks, remaining: found.size_bytes, progress: progress.clone() };
    let put = store.put_body(url, headers, body, &progress).await;
    match (put, hash.await.map_err(io::Error::other).flatten()) {
        (Ok(_), Ok(sha256)) => Ok(sha256),
        (Err(error), Ok(_)) => Err(error),
        // Nobody took what was read: the PUT knows why.
        (Err(error), Err(reading)) if reading.kind() == io::ErrorKind::BrokenPipe => Err(error),
        (_, Err(error)) => Err(ShipError::Unreadable { path, error }),
    }
}
