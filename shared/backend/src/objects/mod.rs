//! The object store: logs, artifacts, results and large inputs, in any S3-compatible server, by rust-s3.
//!
//! Invariants: memory stays flat whatever the size of what passes; no operation waits without a bound (a deadline for what is small, an idle
//! limit for what streams); only what may be done twice is tried again; no message holds a query string, which in a presigned URL is a
//! credential. Correctness never depends on S3: keys carry the attempt, and PostgreSQL decides which attempt counts.
//!
//! Called by the API (inputs, results, presigned URLs) and the worker (outcomes, retention). Never extracts archives, never lists to find
//! out what exists.

mod bucket;
mod fault;
mod identity;
pub mod layout;
mod multipart;
mod presign;
mod stream;

pub use presign::PresignedPut;
pub use stream::ObjectStream;

use crate::config::{self, ObjectsConfig};
use fault::Fault;
use identity::{Identity, WebIdentity};
use s3::creds::Credentials;
use s3::{Bucket, Region};
use std::sync::Arc;
use std::time::Duration;

/// For an operation without a body worth mentioning. Also how long the first byte of a stream may take.
const SMALL_DEADLINE: Duration = Duration::from_secs(10);
/// For an operation with a body of up to a part's size, or one that is read whole.
const BODY_DEADLINE: Duration = Duration::from_secs(60);

/// Which bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Definitions of workflows.
    Meta,
    /// What executions take and leave.
    Content,
}

#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The store can't be reached, or can't answer now: later it may.
    #[error("the object store is unavailable: {0}")]
    Unavailable(String),
    #[error("the object is larger than {max_bytes} bytes")]
    TooLarge { max_bytes: u64 },
    /// The store answered no, and would again.
    #[error("the object store refused: {0}")]
    Refused(String),
    /// What was to be stored broke off. Nothing was stored.
    #[error("the content to be stored could not be read: {0}")]
    Source(#[source] std::io::Error),
}

/// The two buckets. Cloning shares connections and credentials.
#[derive(Clone)]
pub struct Objects {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    meta_bucket: String,
    content_bucket: String,
    /// What presigned URLs name.
    public_region: Region,
    presign_expiry: Duration,
}

impl Objects {
    /// Without keys in the configuration, those of the pod's web identity are used. No request is made here.
    pub fn new(config: &ObjectsConfig) -> Result<Self, ObjectsError> {
        Self::with_web_identity(
            config,
            config::web_identity().map(|(role, token_file)| WebIdentity::regional(role, token_file, &config.region)),
        )
    }

    fn with_web_identity(config: &ObjectsConfig, web_identity: Option<WebIdentity>) -> Result<Self, ObjectsError> {
        // rust-s3's own retries would be of this process as a whole, and without jitter.
        s3::set_retries(0);
        let anonymous = Credentials::anonymous().map_err(|error| ObjectsError::Refused(error.to_string()))?;
        // One bucket, cloned for every use: each `Bucket::new` brings an HTTP client of its own.
        let mut bucket =
            Bucket::new(&config.content_bucket, region(config, &config.endpoint), anonymous).map_err(Fault::from)?;
        if config.path_style {
            bucket.set_path_style();
        }
        let identity = match (&config.credentials, web_identity) {
            (Some((id, secret)), _) => Identity::fixed(*bucket, id.expose(), secret.expose()),
            // A presigned URL dies with the keys that signed it, so keys are renewed while a URL still lives its whole life.
            (None, Some(web_identity)) => Identity::of_web(*bucket, web_identity, config.presign_expiry),
            (None, None) => {
                return Err(ObjectsError::Refused(
                    "there are neither S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY nor a web identity to get keys by"
                        .to_owned(),
                ));
            }
        };
        let inner = Inner {
            identity,
            meta_bucket: config.meta_bucket.clone(),
            content_bucket: config.content_bucket.clone(),
            public_region: region(config, &config.public_endpoint),
            presign_expiry: config.presign_expiry,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A bucket with the keys of now. `None`: the request itself has no deadline.
    async fn bucket(&self, store: Store, deadline: Option<Duration>) -> Result<Bucket, Fault> {
        let mut bucket = self.inner.identity.bucket().await?;
        bucket.name.clone_from(match store {
            Store::Meta => &self.inner.meta_bucket,
            Store::Content => &self.inner.content_bucket,
        });
        bucket.request_timeout = deadline;
        Ok(bucket)
    }

    /// The content bucket under the name by which others reach it; only for signing.
    async fn public_bucket(&self) -> Result<Bucket, Fault> {
        let mut bucket = self.inner.identity.bucket().await?;
        bucket.region.clone_from(&self.inner.public_region);
        Ok(bucket)
    }
}

fn region(config: &ObjectsConfig, endpoint: &str) -> Region {
    Region::Custom { region: config.region.clone(), endpoint: endpoint.to_owned() }
}

/// A key is a relative path. The rest would be another object once a URL was made of it: `a/../b` is `b` there.
fn check_key(key: &str) -> Result<(), ObjectsError> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if key.len() <= 1024 && !key.contains(char::is_control) && key.split('/').all(plain) {
        Ok(())
    } else {
        Err(ObjectsError::Refused(
            "a key must be a relative path of at most 1,024 bytes, without `.`, `..` and empty parts".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    pub(super) fn config(endpoint: &str) -> ObjectsConfig {
        ObjectsConfig {
            endpoint: endpoint.to_owned(),
            public_endpoint: "https://s3.example.org".to_owned(),
            region: "eu-central-2".to_owned(),
            credentials: Some((Secret::new("AKID"), Secret::new("hush"))),
            path_style: true,
            meta_bucket: "meta".to_owned(),
            content_bucket: "content".to_owned(),
            create_buckets: false,
            presign_expiry: Duration::from_secs(900),
        }
    }

    #[test]
    fn a_key_that_a_url_would_change_is_refused() {
        for good in ["a", "acme/x/1/artifacts/déjà vu (1).csv", "a/..b/c."] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/../b", "./a", "..", "a\nb", "a\0b", &"k".repeat(1025)] {
            assert!(check_key(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn without_any_keys_there_is_no_store() {
        let nobody = ObjectsConfig { credentials: None, ..config("http://127.0.0.1:9") };
        let error = Objects::with_web_identity(&nobody, None).err().unwrap().to_string();
        assert!(error.contains("S3_ACCESS_KEY_ID"), "{error}");
    }
}
