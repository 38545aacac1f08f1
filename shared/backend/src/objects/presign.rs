//! Presigned URLs: minted late, one per object, for as long as the configuration says.
//!
//! A presigned URL is a credential of whoever holds it: it works any number of times until it expires, and a PUT overwrites. So a PUT's length
//! and, where it is known before, its checksum are signed as headers (servers ignore them in the query), and no URL is ever logged. It is always the public endpoint's.
//! Signed by a web identity, a URL ends with the keys that signed it, whatever its own expiry says.

use super::fault::Fault;
use super::{Objects, ObjectsError, check_key};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

const CHECKSUM: &str = "x-amz-checksum-sha256";
/// Signature version 4 knows no longer life.
const MAX_EXPIRY: Duration = Duration::from_secs(7 * 86_400);

/// A PUT that works with exactly these headers.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedPut {
    pub url: String,
    pub headers: Vec<(String, String)>,
}

impl Objects {
    /// A GET; with a name, what it serves is an attachment of that name and of no type that a browser would render.
    pub async fn presign_get(&self, key: &str, download_name: Option<&str>) -> Result<String, ObjectsError> {
        check_key(key)?;
        let queries = download_name.map(|name| {
            HashMap::from([
                ("response-content-disposition".to_owned(), attachment(name)),
                ("response-content-type".to_owned(), "application/octet-stream".to_owned()),
            ])
        });
        let bucket = self.public_bucket().await?;
        Ok(bucket.presign_get(key, seconds(self.inner.presign_expiry), queries).await.map_err(Fault::from)?)
    }

    /// A PUT of so many bytes, and with a checksum of no others.
    pub async fn presign_put(
        &self,
        key: &str,
        size_bytes: u64,
        sha256_hex: Option<&str>,
    ) -> Result<PresignedPut, ObjectsError> {
        check_key(key)?;
        let mut headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(size_bytes))]);
        if let Some(sha256_hex) = sha256_hex {
            headers.insert(HeaderName::from_static(CHECKSUM), checksum(sha256_hex)?);
        }
        let named = headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let bucket = self.public_bucket().await?;
        let expiry = seconds(self.inner.presign_expiry);
        let url = bucket.presign_put(key, expiry, Some(headers), None).await.map_err(Fault::from)?;
        Ok(PresignedPut { url, headers: named })
    }

    /// A PUT of any length, for a document that is written later: the second witness of an attempt's end.
    pub async fn presign_put_unsized(&self, key: &str, valid_for: Duration) -> Result<String, ObjectsError> {
        check_key(key)?;
        let bucket = self.public_bucket().await?;
        Ok(bucket.presign_put(key, seconds(valid_for), None, None).await.map_err(Fault::from)?)
    }

    /// A PUT of one part, from 1, of an upload that [`Objects::create_multipart`] began.
    pub async fn presign_part(&self, key: &str, upload_id: &str, part: u32) -> Result<String, ObjectsError> {
        check_key(key)?;
        let queries =
            HashMap::from([("partNumber".to_owned(), part.to_string()), ("uploadId".to_owned(), upload_id.to_owned())]);
        let bucket = self.public_bucket().await?;
        let expiry = seconds(self.inner.presign_expiry);
        Ok(bucket.presign_put(key, expiry, None, Some(queries)).await.map_err(Fault::from)?)
    }
}

fn seconds(expiry: Duration) -> u32 {
    expiry.clamp(Duration::from_secs(1), MAX_EXPIRY).as_secs() as u32
}

fn checksum(sha256_hex: &str) -> Result<HeaderValue, ObjectsError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(sha256_hex, &mut digest)
        .ok()
        .and_then(|()| HeaderValue::from_str(&BASE64_STANDARD.encode(digest)).ok())
        .ok_or_else(|| ObjectsError::Refused("a SHA-256 is 64 hexadecimal digits".to_owned()))
}

/// RFC 6266, with a plain name for who does not know RFC 8187. Only the last part of a path names a download.
fn attachment(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || " .-_()+,=@".contains(c) { c } else { '_' }).collect();
    let mut text = format!("attachment; filename=\"{plain}\"");
    if plain != name {
        text.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    #[test]
    fn a_download_has_a_name_that_breaks_out_of_nothing() {
        assert_eq!(attachment("words.csv"), "attachment; filename=\"words.csv\"");
        assert_eq!(attachment("charts/top.svg"), "attachment; filename=\"top.svg\"");
        assert_eq!(attachment("a\"\r\nb"), "attachment; filename=\"a___b\"; filename*=UTF-8''a%22%0D%0Ab");
        assert_eq!(attachment("é.txt"), "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%A9.txt");
    }

    #[tokio::test]
    async fn a_url_names_the_public_endpoint_and_holds_no_secret() {
        let objects = Objects::new(&config("http://internal:9000")).unwrap();
        let url = objects.presign_get("acme/x", None).await.unwrap();
        assert!(url.starts_with("https://s3.example.org/content/acme/x?"), "{url}");
        assert!(url.contains("X-Amz-Expires=900&") && !url.contains("hush"), "{url}");
    }

    #[tokio::test]
    async fn length_and_checksum_are_signed_as_headers() {
        let objects = Objects::new(&config("http://internal:9000")).unwrap();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let put = objects.presign_put("a", 0, Some(empty)).await.unwrap();
        assert!(put.url.contains("X-Amz-SignedHeaders=content-length%3Bhost%3Bx-amz-checksum-sha256"), "{}", put.url);
        let headers = [("content-length", "0"), (CHECKSUM, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")];
        assert_eq!(put.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(objects.presign_put("a", 0, Some("e3b0")).await.is_err());
    }

    #[tokio::test]
    async fn no_url_lives_longer_than_a_week() {
        let objects = Objects::new(&config("http://internal:9000")).unwrap();
        let url = objects.presign_put_unsized("a", Duration::from_secs(30 * 86_400)).await.unwrap();
        assert!(url.contains("X-Amz-Expires=604800&"), "{url}");
    }

    #[tokio::test]
    async fn a_key_that_would_leave_its_folder_is_not_signed() {
        let objects = Objects::new(&config("http://internal:9000")).unwrap();
        assert!(matches!(objects.presign_get("acme/../other/x", None).await, Err(ObjectsError::Refused(_))));
    }
}
