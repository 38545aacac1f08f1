//! A stretch of a file as chunks, read (and, when asked, hashed) on a thread of its own while earlier chunks are being sent.
//!
//! Invariant: at most [`BUFFERS`] chunks exist, whatever the file's size; a chunk's buffer is used again once it was sent.

use super::hash::Hash;
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc as blocking;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const CHUNK_BYTES: usize = 256 * 1024;
const BUFFERS: usize = 4;

/// The receiving end.
#[derive(Debug)]
pub struct Chunks(mpsc::Receiver<io::Result<Bytes>>);

impl Chunks {
    /// The next chunk; asking past the stretch's end is an error.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.0.poll_recv(cx).map(|chunk| chunk.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into())))
    }

    pub async fn next(&mut self) -> io::Result<Bytes> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

/// For chunks that come by way of somebody.
pub fn relay() -> (mpsc::Sender<io::Result<Bytes>>, Chunks) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Chunks(receiver))
}

/// What is read: `parts` stretches one behind the other, so that no chunk lies in two of them.
#[derive(Debug)]
pub struct Stretch {
    pub file: File,
    pub offset: u64,
    /// Length of each stretch, in order.
    pub parts: Vec<u64>,
}

/// Reads for a request's body.
pub fn read(stretch: Stretch) -> Chunks {
    let (sender, receiver) = mpsc::channel(BUFFERS);
    tokio::task::spawn_blocking(move || pour(&stretch, &sender, |_| {}));
    Chunks(receiver)
}

/// Reads for a request's body; the SHA-256 of all of it is there once every chunk was taken.
pub fn read_and_hash(stretch: Stretch) -> (Chunks, JoinHandle<io::Result<String>>) {
    let (sender, receiver) = mpsc::channel(BUFFERS);
    let hash = tokio::task::spawn_blocking(move || {
        let mut hash = Hash::new();
        pour(&stretch, &sender, |bytes| hash.update(bytes))?;
        Ok(hash.finish())
    });
    (Chunks(receiver), hash)
}

/// The SHA-256 of a whole file of a known size.
pub fn hash_file(file: &File, size_bytes: u64) -> io::Result<String> {
    let mut hash = Hash::new();
    let mut buffer = vec![0; CHUNK_BYTES.min(size_bytes as usize)];
    let mut offset = 0;
    while offset < size_bytes {
        let wanted = (size_bytes - offset).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..wanted], offset)?;
        hash.update(&buffer[..wanted]);
        offset += wanted as u64;
    }
    Ok(hash.finish())
}

fn pour(stretch: &Stretch, sender: &mpsc::Sender<io::Result<Bytes>>, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let (home, returned) = blocking::channel();
    let mut lent = 0;
    let mut offset = stretch.offset;
    for &part in &stretch.parts {
        let mut left = part;
        while left > 0 {
            let mut buffer = if lent < BUFFERS {
                lent += 1;
                vec![0; CHUNK_BYTES.min(part as usize)]
            } else {
                returned.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?
            };
            let wanted = left.min(CHUNK_BYTES as u64) as usize;
            buffer.resize(wanted, 0);
            if let Err(error) = stretch.file.read_exact_at(&mut buffer, offset) {
                let told = io::Error::new(error.kind(), error.to_string());
                let _ = sender.blocking_send(Err(told));
                return Err(error);
            }
            each(&buffer);
            offset += wanted as u64;
            left -= wanted as u64;
            let chunk = Bytes::from_owner(Lent { buffer, home: home.clone() });
            // The request was given up, and with it this stretch.
            sender.blocking_send(Ok(chunk)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
    }
    Ok(())
}

/// A buffer on its way through a socket; it comes home when the last view of it is dropped.
struct Lent {
    buffer: Vec<u8>,
    home: blocking::Sender<Vec<u8>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Nobody waits for it when the reader is done.
        let _ = self.home.send(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::hash::sha256;
    use std::io::Write;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[tokio::test]
    async fn chunks_are_the_stretch_and_the_hash_is_the_content_s() {
        let content: Vec<u8> = (0..3 * CHUNK_BYTES + 7).map(|i| (i % 251) as u8).collect();
        let whole = content.len() as u64;
        let parts = vec![CHUNK_BYTES as u64 + 5, whole - CHUNK_BYTES as u64 - 5];
        let (mut chunks, hash) = read_and_hash(Stretch { file: file_of(&content), offset: 0, parts });
        let mut read = Vec::new();
        while read.len() < content.len() {
            read.extend_from_slice(&chunks.next().await.unwrap());
        }
        assert!(read == content);
        let hash = hash.await.unwrap().unwrap();
        assert_eq!(hash, sha256(&content));
        assert_eq!(hash, hash_file(&file_of(&content), whole).unwrap());
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_an_error_and_not_a_shorter_object() {
        let mut chunks = read(Stretch { file: file_of(b"abc"), offset: 0, parts: vec![4] });
        assert_eq!(chunks.next().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
