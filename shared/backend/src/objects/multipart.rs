//! Multipart uploads: begun, completed and aborted here; the parts come from an executor by presigned URLs, or from [`super::stream`].
//!
//! An upload that is neither completed nor aborted keeps its parts in the bucket: whoever begins one here ends it. Those of executors that died are
//! the bucket's to end, by a lifecycle rule (docs/operations.md): not every store lists uploads by a folder, and not every key may.

use super::fault::{Fault, Repeat, tried};
use super::{Objects, ObjectsError, SMALL_DEADLINE, Store, check_key};
use s3::serde_types::Part;
use std::time::Duration;

/// Servers put the parts together before they answer.
const COMPLETE_DEADLINE: Duration = Duration::from_secs(300);

impl Objects {
    /// Begins an upload in the content bucket; answers its id.
    pub async fn create_multipart(&self, key: &str) -> Result<String, ObjectsError> {
        Ok(self.begin_upload(Store::Content, key, "application/octet-stream").await?)
    }

    /// Makes the object of its parts' `ETag`s, in order of the parts. Asking again after a lost answer gives the same answer.
    pub async fn complete_multipart(&self, key: &str, upload_id: &str, etags: &[String]) -> Result<(), ObjectsError> {
        let parts = (1..).zip(etags).map(|(number, etag)| part(number, etag)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.complete_upload(Store::Content, key, upload_id, parts).await?)
    }

    /// Deletes the parts. That there is no such upload is no error.
    pub async fn abort_multipart(&self, key: &str, upload_id: &str) -> Result<(), ObjectsError> {
        Ok(self.abort_upload(Store::Content, key, upload_id).await?)
    }

    pub(super) async fn begin_upload(&self, store: Store, key: &str, content_type: &str) -> Result<String, Fault> {
        check_key(key)?;
        let bucket = self.bucket(store, Some(SMALL_DEADLINE)).await?;
        // Each try that came through would leave an upload behind.
        let begin = || async { Ok(bucket.initiate_multipart_upload(key, content_type).await?.upload_id) };
        tried(Repeat::Harmful, begin).await
    }

    pub(super) async fn complete_upload(
        &self,
        store: Store,
        key: &str,
        upload_id: &str,
        parts: Vec<Part>,
    ) -> Result<(), Fault> {
        check_key(key)?;
        check_upload_id(upload_id)?;
        let bucket = self.bucket(store, Some(COMPLETE_DEADLINE)).await?;
        let complete = || async {
            bucket.complete_multipart_upload(key, upload_id, parts.clone()).await?;
            Ok(())
        };
        match tried(Repeat::Harmless, complete).await {
            // There is no such upload any more (s3s-fs says that access is denied): a try whose answer was lost may have completed it.
            Err(fault) if matches!(fault.code.as_str(), "NoSuchUpload" | "AccessDenied") => {
                bucket.head_object(key).await.map_or(Err(fault), |_| Ok(()))
            }
            done => done,
        }
    }

    pub(super) async fn abort_upload(&self, store: Store, key: &str, upload_id: &str) -> Result<(), Fault> {
        check_key(key)?;
        check_upload_id(upload_id)?;
        let bucket = self.bucket(store, Some(SMALL_DEADLINE)).await?;
        let abort = || async { Ok(bucket.abort_upload(key, upload_id).await?) };
        match tried(Repeat::Harmless, abort).await {
            Err(fault) if fault.code == "NoSuchUpload" => Ok(()),
            done => done,
        }
    }
}

/// rust-s3 writes an `ETag` into XML as it is, and it came from an executor.
fn part(part_number: u32, etag: &str) -> Result<Part, ObjectsError> {
    let bare = etag.trim_matches('"');
    if (1..=256).contains(&bare.len()) && bare.bytes().all(plain) {
        Ok(Part { part_number, etag: format!("\"{bare}\"") })
    } else {
        Err(ObjectsError::Refused(format!("the ETag of part {part_number} is none")))
    }
}

/// rust-s3 writes an upload's id into a URL as it is.
fn check_upload_id(upload_id: &str) -> Result<(), ObjectsError> {
    if (1..=1024).contains(&upload_id.len()) && upload_id.bytes().all(|byte| plain(byte) && byte != b'+') {
        Ok(())
    } else {
        Err(ObjectsError::Refused("that is no id of an upload".to_owned()))
    }
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~=+/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_stays_within_its_element() {
        for etag in ["\"abc-2\"", "abc-2"] {
            assert_eq!(part(1, etag).unwrap().etag, "\"abc-2\"");
        }
        for bad in ["", "\"\"", "</ETag><ETag>", "a b", "é"] {
            assert!(part(1, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_upload_id_stays_within_its_query() {
        assert!(check_upload_id("2~Ab3._-x").is_ok());
        for bad in ["", "a&partNumber=9", "a#", "a b", "a+b", "a%20"] {
            assert!(check_upload_id(bad).is_err(), "{bad}");
        }
    }
}
