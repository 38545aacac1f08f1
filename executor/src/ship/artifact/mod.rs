//! The artifacts: small ones several at a time, large ones by one PUT or, when that fails, in parts; each with its SHA-256.

mod parts;
mod walk;
mod whole;

pub use walk::{WalkError, walk};

use super::ShipError;
use super::chunks::hash_file;
use super::hash::sha256;
use super::put::{Content, Store, open};
use bytes::Bytes;
use roadstead_domain::attempt::protocol::{Artifact, Object, Upload, UploadRequest, UploadTarget};
use std::io;
use std::io::Read;
use std::path::Path;
use tokio::task::JoinSet;
use walk::Found;

/// Artifacts hashed, and their URLs asked for, together.
const BATCH: usize = 32;
/// Content of one batch, so that its URLs are used while they are young.
const BATCH_BYTES: u64 = 64 * 1024 * 1024;
/// PUTs under way at once.
const CONCURRENT: usize = 4;
/// A file up to this size is read once and sent from memory.
const SMALL_BYTES: u64 = 64 * 1024;

/// Ships all of them; the answer is in their order.
pub async fn ship(store: &Store, root: &Path, found: &[Found], part_bytes: u64) -> Result<Vec<Artifact>, ShipError> {
    let part_bytes = part_bytes.max(1);
    let (small, large): (Vec<&Found>, Vec<&Found>) = found.iter().partition(|found| found.size_bytes <= part_bytes);
    let mut shipped = Vec::with_capacity(found.len());
    let mut rest = &small[..];
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(batch_len(rest));
        shipped.extend(ship_batch(store, root, batch).await?);
        rest = later;
    }
    for found in large {
        let kept = ship_large(store, root, found, part_bytes).await;
        shipped.push(kept.map_err(|error| error.of_artifact(&found.path))?);
    }
    shipped.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(shipped)
}

/// How many of the next artifacts go together; at least one.
fn batch_len(rest: &[&Found]) -> usize {
    let mut bytes = 0;
    let fits = rest.iter().take(BATCH).take_while(|found| {
        bytes += found.size_bytes;
        bytes <= BATCH_BYTES
    });
    fits.count().max(1)
}

async fn ship_batch(store: &Store, root: &Path, batch: &[&Found]) -> Result<Vec<Artifact>, ShipError> {
    let mut contents = Vec::with_capacity(batch.len());
    let mut uploads = Vec::with_capacity(batch.len());
    for found in batch {
        let (content, sha256) = read(root, found).await?;
        contents.push(content);
        uploads.push(Upload {
            object: Object::Artifact { path: found.path.clone() },
            size_bytes: found.size_bytes,
            sha256: Some(sha256),
            whole: false,
        });
    }
    let request = UploadRequest { objects: uploads.clone() };
    let grant = store.persevere(|| async { Ok(store.api.uploads(&request).await?) }).await?;

    let mut under_way = JoinSet::new();
    let paths = batch.iter().map(|found| found.path.clone());
    for (((upload, content), target), path) in uploads.iter().cloned().zip(contents).zip(grant.targets).zip(paths) {
        if under_way.len() >= CONCURRENT {
            first_error(under_way.join_next().await)?;
        }
        let store = store.clone();
        under_way.spawn(async move {
            let kept = match store.put_to(target, &content).await {
                Err(error) if error.is_passing() => store.put_object(&upload, &content).await,
                result => result,
            };
            kept.map_err(|error| error.of_artifact(&path))
        });
    }
    while let Some(ended) = under_way.join_next().await {
        first_error(Some(ended))?;
    }
    let shipped = batch.iter().zip(uploads).map(|(found, upload)| Artifact {
        path: found.path.clone(),
        size_bytes: found.size_bytes,
        sha256: upload.sha256.unwrap_or_default(),
    });
    Ok(shipped.collect())
}

async fn ship_large(store: &Store, root: &Path, found: &Found, part_bytes: u64) -> Result<Artifact, ShipError> {
    let artifact = |sha256| Artifact { path: found.path.clone(), size_bytes: found.size_bytes, sha256 };
    let mut target = ask(store, found, true).await?;
    if let UploadTarget::Put { url, headers } = &target {
        match whole::send(store, root, found, url, headers).await {
            Err(error) if error.is_passing() => target = ask(store, found, false).await?,
            sent => return sent.map(artifact),
        }
    }
    match target {
        UploadTarget::Multipart { upload_id } => {
            parts::send(store, root, found, upload_id, part_bytes).await.map(artifact)
        }
        UploadTarget::Put { .. } => Err(ShipError::Store("no parts were granted for a large artifact".into())),
    }
}

/// Where a large artifact may be sent.
async fn ask(store: &Store, found: &Found, whole: bool) -> Result<UploadTarget, ShipError> {
    let object = Object::Artifact { path: found.path.clone() };
    let upload = Upload { object, size_bytes: found.size_bytes, sha256: None, whole };
    let request = UploadRequest { objects: vec![upload] };
    let grant = store.persevere(|| async { Ok(store.api.uploads(&request).await?) }).await?;
    grant.targets.into_iter().next().ok_or_else(|| ShipError::Store("no URL was granted".into()))
}

fn first_error(ended: Option<Result<Result<(), ShipError>, tokio::task::JoinError>>) -> Result<(), ShipError> {
    ended.map_or(Ok(()), |ended| ended.unwrap_or_else(|error| Err(ShipError::Store(error.to_string()))))
}

/// What is to be sent, and its SHA-256, which the store checks.
async fn read(root: &Path, found: &Found) -> Result<(Content, String), ShipError> {
    let path = root.join(&found.path);
    let size_bytes = found.size_bytes;
    let mut file = open(&path)?;
    let unreadable = |error| ShipError::Unreadable { path: path.clone(), error };
    if size_bytes <= SMALL_BYTES {
        let mut bytes = Vec::with_capacity(size_bytes as usize);
        file.by_ref().take(size_bytes).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 != size_bytes {
            return Err(unreadable(io::ErrorKind::UnexpectedEof.into()));
        }
        let sha256 = sha256(&bytes);
        return Ok((Content::Memory(Bytes::from(bytes)), sha256));
    }
    let hashed = tokio::task::spawn_blocking(move || hash_file(&file, size_bytes)).await;
    let sha256 = hashed.map_err(io::Error::other).flatten().map_err(unreadable)?;
    Ok((Content::File { path, offset: 0, size_bytes }, sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_number_and_bytes_and_never_empty() {
        let found = |size_bytes| Found { path: String::new(), size_bytes };
        let (tiny, big) = (found(1), found(BATCH_BYTES / 2 + 1));
        assert_eq!(batch_len(&[&tiny; 100]), BATCH);
        assert_eq!(batch_len(&[&tiny, &big, &big]), 2);
        assert_eq!(batch_len(&[&found(BATCH_BYTES * 2), &tiny]), 1);
    }
}
