//! The result document: checked to be JSON without being held, and shipped byte for byte.

use super::ShipError;
use super::hash::{Hash, sha256};
use super::put::{Content, Store, open};
use bytes::Bytes;
use roadstead_domain::attempt::protocol::{Limits, Object, ResultReport, Upload};
use roadstead_domain::json;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Up to this size the document is read once and sent from memory.
const SMALL_BYTES: u64 = 256 * 1024;

/// Why the document is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    #[error("the result is {size_bytes} bytes; at most {max_bytes} are accepted")]
    TooLarge { size_bytes: u64, max_bytes: u64 },
    #[error("the result {0}")]
    Invalid(String),
    #[error(transparent)]
    Ship(#[from] ShipError),
}

/// A document that was found good.
#[derive(Debug)]
pub struct Document {
    content: Content,
    sha256: String,
    size_bytes: u64,
}

/// Looks at what the steps left at `path`; nothing there is no result.
pub async fn examine(path: &Path, limits: &Limits) -> Result<Option<Document>, ResultError> {
    let mut file = match open(path) {
        Ok(file) => file,
        Err(ShipError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(ShipError::Unreadable { error, .. }) => return Err(invalid(&error)),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata().map_err(|error| invalid(&error))?;
    if !metadata.is_file() {
        return Err(ResultError::Invalid("is not a regular file".into()));
    }
    let size_bytes = metadata.len();
    if size_bytes > limits.max_result_bytes {
        return Err(ResultError::TooLarge { size_bytes, max_bytes: limits.max_result_bytes });
    }
    let (content, sha256) = if size_bytes <= SMALL_BYTES.max(u64::from(limits.inline_result_bytes)) {
        let mut bytes = Vec::with_capacity(size_bytes as usize);
        file.by_ref().take(size_bytes).read_to_end(&mut bytes).map_err(|error| invalid(&error))?;
        check_small(&bytes)?;
        let sha256 = sha256(&bytes);
        (Content::Memory(Bytes::from(bytes)), sha256)
    } else {
        let checked = tokio::task::spawn_blocking(move || check_file(&file)).await;
        let sha256 = checked.map_err(|error| ResultError::Invalid(error.to_string())).flatten()?;
        (Content::File { path: path.to_owned(), offset: 0, size_bytes }, sha256)
    };
    Ok(Some(Document { content, sha256, size_bytes }))
}

/// Ships a good document.
pub async fn ship(store: &Store, document: &Document, limits: &Limits) -> Result<ResultReport, ResultError> {
    let Document { content, sha256, size_bytes } = document;
    let upload = Upload { object: Object::Result, size_bytes: *size_bytes, sha256: Some(sha256.clone()), whole: false };
    store.put_object(&upload, content).await?;
    let inline = match content {
        // A client that gives up on deep JSON could not even read the state of an execution that shows such a result.
        Content::Memory(bytes) if *size_bytes <= u64::from(limits.inline_result_bytes) && !json::is_too_deep(bytes) => {
            Some(serde_json::from_slice::<Box<RawValue>>(bytes).map_err(|error| not_json(&error))?)
        }
        Content::Memory(_) | Content::File { .. } => None,
    };
    Ok(ResultReport { size_bytes: *size_bytes, inline })
}

fn invalid(error: &io::Error) -> ResultError {
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return ResultError::Invalid("is a symbolic link".to_owned());
    }
    ResultError::Invalid(format!("can't be read: {error}"))
}

fn not_json(error: &serde_json::Error) -> ResultError {
    ResultError::Invalid(format!("is not JSON: {error}"))
}

fn check_small(document: &[u8]) -> Result<(), ResultError> {
    let text = std::str::from_utf8(document).map_err(|error| ResultError::Invalid(format!("is not JSON: {error}")))?;
    serde_json::from_str(text).map(|IgnoredAny| ()).map_err(|error| not_json(&error))
}

/// Checks and hashes in one reading.
fn check_file(file: &File) -> Result<String, ResultError> {
    let mut checked = Checked { inner: file, hash: Hash::new(), pending: Vec::new() };
    serde_json::from_reader(BufReader::with_capacity(64 * 1024, &mut checked))
        .map(|IgnoredAny| ())
        .map_err(|error| not_json(&error))?;
    Ok(checked.hash.finish())
}

/// Hashes what is read and refuses what is not UTF-8, at which the parser does not look in strings that nobody wants.
struct Checked<R> {
    inner: R,
    hash: Hash,
    /// A character that began at the end of the last read.
    pending: Vec<u8>,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.pending.extend_from_slice(&buffer[..count]);
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
        match std::str::from_utf8(&self.pending) {
            Ok(_) => self.pending.clear(),
            Err(error) if error.error_len().is_none() && count > 0 => {
                self.pending.drain(..error.valid_up_to());
            }
            Err(_) => return Err(broken()),
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LIMITS: Limits = Limits {
        max_line_bytes: 0,
        segment_bytes: 0,
        max_log_bytes: 0,
        max_result_bytes: 1_000_000,
        inline_result_bytes: 100,
        max_artifacts: 0,
        max_artifact_bytes: 0,
        part_bytes: 0,
    };

    async fn examined(document: &[u8]) -> Result<Option<Document>, ResultError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(document).unwrap();
        examine(file.path(), &LIMITS).await
    }

    fn long(inside: &[u8]) -> Vec<u8> {
        [b"[\"", "ä".repeat(200_000).as_bytes(), inside, b"\"]"].concat()
    }

    #[tokio::test]
    async fn a_json_document_of_any_size_is_taken_with_its_hash() {
        for document in [b" {\"a\": \"\\u0000\"}\n".to_vec(), long(b"")] {
            let good = examined(&document).await.unwrap().unwrap();
            assert_eq!(good.sha256, sha256(&document));
            assert_eq!(good.size_bytes, document.len() as u64);
        }
        assert!(examine(Path::new("/nowhere/result.json"), &LIMITS).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_not_one_json_document_in_utf_8_is_refused() {
        for document in [&b""[..], b"{", b"{} {}", b"\"\xff\"", b"nan", &long(b"\xff"), &long(b"\xc3"), &long(b"\"")] {
            let refused = examined(document).await;
            assert!(matches!(refused, Err(ResultError::Invalid(_))), "{:?}", &document[..document.len().min(9)]);
        }
        let refused = examined(&vec![b' '; 1_000_001]).await;
        assert!(matches!(refused, Err(ResultError::TooLarge { size_bytes: 1_000_001, .. })));
    }

    #[tokio::test]
    async fn a_link_or_a_pipe_is_no_result() {
        let folder = tempfile::tempdir().unwrap();
        let (link, pipe) = (folder.path().join("link"), folder.path().join("pipe"));
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        for path in [link, pipe] {
            assert!(matches!(examine(&path, &LIMITS).await, Err(ResultError::Invalid(_))));
        }
    }
}
