//! One object into the store: ask the API for a URL, PUT, and on trouble again with a fresh URL.
//!
//! A URL is asked for late and used once, so that its short life is enough and a refused one is not tried twice.

use super::ShipError;
use super::chunks::{self, Stretch};
use crate::api::Api;
use crate::api::retry::retry;
use crate::http::{Body, Client, Progress};
use bytes::Bytes;
use hyper::header::{ETAG, HeaderMap};
use hyper::{Request, StatusCode};
use roadstead_domain::attempt::protocol::{Upload, UploadRequest, UploadTarget};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A store that moves nothing for this long has lost the upload.
const IDLE: Duration = Duration::from_mins(1);
/// S3's error documents are short.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What everything that ships something needs.
#[derive(Clone, Debug)]
pub struct Store {
    pub api: Arc<Api>,
    pub client: Arc<Client>,
    /// How long one object is tried.
    pub patience: Duration,
}

/// An object's bytes.
#[derive(Clone, Debug)]
pub enum Content {
    Memory(Bytes),
    File { path: PathBuf, offset: u64, size_bytes: u64 },
}

impl Content {
    fn body(&self, progress: &Progress) -> Result<Body, ShipError> {
        match self {
            Self::Memory(bytes) => Ok(Body::whole(bytes.clone())),
            Self::File { size_bytes: 0, .. } => Ok(Body::empty()),
            Self::File { path, offset, size_bytes } => {
                let stretch = Stretch { file: open(path)?, offset: *offset, parts: vec![*size_bytes] };
                let chunks = chunks::read(stretch);
                Ok(Body::Streamed { chunks, remaining: *size_bytes, progress: progress.clone() })
            }
        }
    }
}

/// Opens a file that steps may have put there: never through a link, and never a pipe that would wait for a writer.
pub fn open(path: &Path) -> Result<File, ShipError> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|error| ShipError::Unreadable { path: path.to_owned(), error })
}

impl Store {
    /// Tries until the object is there or patience is used up.
    pub async fn put_object(&self, upload: &Upload, content: &Content) -> Result<(), ShipError> {
        self.persevere(|| async {
            let request = UploadRequest { objects: vec![upload.clone()] };
            let grant = self.api.uploads(&request).await?;
            match grant.targets.into_iter().next() {
                Some(target) => self.put_to(target, content).await,
                None => Err(ShipError::Store("no URL was granted".into())),
            }
        })
        .await
    }

    /// One try with a URL that was granted for this object.
    pub async fn put_to(&self, target: UploadTarget, content: &Content) -> Result<(), ShipError> {
        match target {
            UploadTarget::Put { url, headers } => self.put(&url, &headers, content).await.map(|_| ()),
            UploadTarget::Multipart { .. } => Err(ShipError::Store("parts were granted for a single object".into())),
        }
    }

    /// Tries something again while that may help.
    pub async fn persevere<T, Fut>(&self, operation: impl FnMut() -> Fut) -> Result<T, ShipError>
    where
        Fut: Future<Output = Result<T, ShipError>>,
    {
        retry(self.patience, ShipError::is_passing, operation).await
    }

    /// One PUT; answers the headers.
    pub async fn put(
        &self,
        url: &str,
        headers: &[(String, String)],
        content: &Content,
    ) -> Result<HeaderMap, ShipError> {
        let progress = Progress::start();
        self.put_body(url, headers, content.body(&progress)?, &progress).await
    }

    pub async fn put_body(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: Body,
        progress: &Progress,
    ) -> Result<HeaderMap, ShipError> {
        let mut request = Request::put(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        // The builder's own error would quote the URL.
        let request = request.body(body).map_err(|_| ShipError::Store("a granted URL or header is not one".into()))?;
        let answer = self.client.send(request, progress, IDLE, MAX_ANSWER_BYTES).await?;
        if answer.status.is_success() {
            return Ok(answer.headers);
        }
        Err(ShipError::Store(refusal(answer.status, &answer.body)))
    }
}

/// The part's `ETag`, without which parts can't be put together.
pub fn etag(headers: &HeaderMap) -> Result<String, ShipError> {
    let etag = headers.get(ETAG).and_then(|value| value.to_str().ok());
    etag.map(str::to_owned).ok_or_else(|| ShipError::Store("a part was answered without an ETag".into()))
}

/// Status and S3's error code. The rest of S3's error document may quote what was signed.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map_or("", |(code, _)| code);
    let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(60).collect();
    format!("{status} {code}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_code_alone() {
        let body = b"<Error><Code>SignatureDoesNotMatch</Code><StringToSign>X-Amz-Signature=s</StringToSign></Error>";
        assert_eq!(refusal(StatusCode::FORBIDDEN, body), "403 Forbidden SignatureDoesNotMatch");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"oops"), "502 Bad Gateway");
    }
}
