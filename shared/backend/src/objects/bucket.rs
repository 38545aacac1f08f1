//! Whole objects, and the buckets themselves.

use super::fault::{Fault, Repeat, tried};
use super::{BODY_DEADLINE, Objects, ObjectsError, SMALL_DEADLINE, Store, check_key};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use s3::command::Command;
use s3::request::Request;
use s3::request::tokio_backend::ReqwestRequest;
use s3::serde_types::ObjectIdentifier;
use s3::{Bucket, BucketConfiguration};

/// Objects that are deleted by one request.
const PAGE_KEYS: usize = 1000;
/// Ten million objects under one prefix.
const MAX_PAGES: usize = 10_000;

impl Objects {
    /// Makes the buckets that are missing. Several may do so at once.
    pub async fn ensure_buckets(&self) -> Result<(), ObjectsError> {
        for store in [Store::Meta, Store::Content] {
            let bucket = self.bucket(store, Some(SMALL_DEADLINE)).await?;
            let ensure = || async {
                match exists(&bucket).await {
                    Ok(()) => Ok(()),
                    Err(fault) if fault.is_missing_bucket() => match create(&bucket).await {
                        // Another was faster; or the name is somebody else's, which only a look can tell.
                        Err(_) => exists(&bucket).await,
                        Ok(()) => Ok(()),
                    },
                    Err(fault) => Err(fault),
                }
            };
            tried(Repeat::Harmless, ensure).await?;
        }
        Ok(())
    }

    /// Whether both buckets can be reached with these keys.
    pub async fn ping(&self) -> Result<(), ObjectsError> {
        for store in [Store::Meta, Store::Content] {
            exists(&self.bucket(store, Some(SMALL_DEADLINE)).await?).await?;
        }
        Ok(())
    }

    /// Stores an object, or replaces it.
    pub async fn put(&self, store: Store, key: &str, body: Bytes, content_type: &str) -> Result<(), ObjectsError> {
        check_key(key)?;
        let bucket = self.bucket(store, Some(BODY_DEADLINE)).await?;
        let put = || async {
            bucket.put_object_with_content_type(key, &body, content_type).await?;
            Ok(())
        };
        Ok(tried(Repeat::Harmless, put).await?)
    }

    /// A whole object of at most so many bytes, or `None` where there is no such object.
    pub async fn get(&self, store: Store, key: &str, max_bytes: u64) -> Result<Option<Bytes>, ObjectsError> {
        check_key(key)?;
        let bucket = self.bucket(store, Some(BODY_DEADLINE)).await?;
        match tried(Repeat::Harmless, || read(&bucket, key, max_bytes)).await {
            Ok(body) => Ok(Some(body)),
            Err(fault) if fault.is_missing_object() => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Deletes an object. That there is none is no error.
    pub async fn delete(&self, store: Store, key: &str) -> Result<(), ObjectsError> {
        check_key(key)?;
        let bucket = self.bucket(store, Some(SMALL_DEADLINE)).await?;
        let delete = || async {
            bucket.delete_object(key).await?;
            Ok(())
        };
        match tried(Repeat::Harmless, delete).await {
            Err(fault) if fault.is_missing_object() => Ok(()),
            done => Ok(done?),
        }
    }

    /// Deletes all objects whose keys begin with a folder, given with its `/`; answers how many. One that is refused holds up no other.
    pub async fn delete_prefix(&self, store: Store, prefix: &str) -> Result<u64, ObjectsError> {
        let Some(folder) = prefix.strip_suffix('/') else {
            return Err(ObjectsError::Refused("a prefix to delete must end with `/`".to_owned()));
        };
        check_key(folder)?;
        let bucket = self.bucket(store, Some(BODY_DEADLINE)).await?;
        let (mut deleted, mut last, mut refused) = (0, None, None);
        for _ in 0..MAX_PAGES {
            let (keys, more) = tried(Repeat::Harmless, || list(&bucket, prefix, last.clone())).await?;
            if !keys.is_empty()
                && tried(Repeat::Harmless, || delete_page(&bucket, &keys)).await.is_err()
                && let Err(error) = self.delete_each(store, &keys).await
            {
                if let ObjectsError::Unavailable(_) = error {
                    return Err(error);
                }
                refused.get_or_insert(error);
            }
            deleted += keys.len() as u64;
            if !more || keys.is_empty() {
                return refused.map_or(Ok(deleted), Err);
            }
            last = keys.into_iter().next_back();
        }
        Err(ObjectsError::Refused("there are too many objects under one prefix".to_owned()))
    }

    /// For a page that was refused as a whole: a key may be well in a URL and not in XML, which knows no U+FFFE. Answers the first refusal.
    async fn delete_each(&self, store: Store, keys: &[String]) -> Result<(), ObjectsError> {
        let mut refused = Ok(());
        for key in keys {
            match self.delete(store, key).await {
                Err(error @ ObjectsError::Unavailable(_)) => return Err(error),
                deleted => refused = refused.and(deleted),
            }
        }
        refused
    }
}

async fn read(bucket: &Bucket, key: &str, max_bytes: u64) -> Result<Bytes, Fault> {
    let mut chunks = bucket.get_object_stream(key).await?.bytes;
    let mut body = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if (body.len() + chunk.len()) as u64 > max_bytes {
            return Err(ObjectsError::TooLarge { max_bytes }.into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The next keys after the last one, and whether there are more. Continuation tokens are not used: what they mean after a page was deleted is each server's own idea.
async fn list(bucket: &Bucket, prefix: &str, after: Option<String>) -> Result<(Vec<String>, bool), Fault> {
    let (page, _) = bucket.list_page(prefix.to_owned(), None, None, after, Some(PAGE_KEYS)).await?;
    // A server that ignored the prefix must not cost other objects.
    let keys = page.contents.into_iter().map(|object| object.key).filter(|key| key.starts_with(prefix)).collect();
    Ok((keys, page.is_truncated))
}

async fn delete_page(bucket: &Bucket, keys: &[String]) -> Result<(), Fault> {
    let objects: Vec<_> = keys.iter().map(ObjectIdentifier::new).collect();
    match bucket.delete_objects(objects).await?.errors.first() {
        Some(error) => {
            Err(ObjectsError::Unavailable(format!("{} objects were not deleted: {}", keys.len(), error.code)).into())
        }
        None => Ok(()),
    }
}

/// A `HEAD` of the bucket: no server has to list for it.
async fn exists(bucket: &Bucket) -> Result<(), Fault> {
    match bucket.head_object("").await.map_err(Fault::from) {
        // There is no body to tell the reason.
        Err(fault) if fault.status == Some(404) => Err(Fault::missing_bucket(&bucket.name)),
        Err(fault) => Err(fault),
        Ok(_) => Ok(()),
    }
}

async fn create(bucket: &Bucket) -> Result<(), Fault> {
    let mut config = BucketConfiguration::new(None, false, None, None, None, None, None, None);
    let region = bucket.region();
    // AWS refuses the name of its first region.
    if region.to_string() != "us-east-1" {
        config.set_location_constraint(region);
    }
    ReqwestRequest::new(bucket, "", Command::CreateBucket { config }).await?.response_data(false).await?;
    Ok(())
}
