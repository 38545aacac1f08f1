//! Whose keys sign: fixed ones, or those that the pod's web identity is given for an hour at a time.
//!
//! Invariant: key, secret and session token of one signature are of one issue, because a bucket is handed out with its keys and never changed
//! afterwards. Renewal happens when somebody asks, before the keys expire; while it can't be had, keys that are still good are used. rust-s3's own
//! renewal is not used: it waits until the keys are dead.

use super::fault::Fault;
use super::{ObjectsError, SMALL_DEADLINE};
use chrono::{DateTime, Utc};
use s3::Bucket;
use s3::creds::Credentials;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

/// Between an issue that failed and the next try at it.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(5);

pub enum Identity {
    Fixed(Box<Bucket>),
    Web(Box<Rotating>),
}

impl Identity {
    pub fn fixed(mut bucket: Bucket, access_key: &str, secret_key: &str) -> Self {
        bucket.set_credentials(credentials(access_key, secret_key, None));
        Self::Fixed(Box::new(bucket))
    }

    /// What is signed stays good for `lifetime`, as far as the keys' own life allows.
    pub fn of_web(bucket: Bucket, web_identity: WebIdentity, lifetime: Duration) -> Self {
        let margin = lifetime + Duration::from_secs(60);
        Self::Web(Box::new(Rotating {
            bare: bucket,
            web_identity,
            margin,
            current: watch::Sender::new(None),
            turn: Mutex::new(None),
        }))
    }

    /// A bucket with keys that are good now.
    pub async fn bucket(&self) -> Result<Bucket, Fault> {
        match self {
            Self::Fixed(bucket) => Ok(Bucket::clone(bucket)),
            Self::Web(rotating) => rotating.bucket().await,
        }
    }
}

fn credentials(access_key: &str, secret_key: &str, session_token: Option<String>) -> Credentials {
    let mut credentials = Credentials::anonymous().unwrap_or_else(|_| unreachable!("it has no way to fail"));
    credentials.access_key = Some(access_key.to_owned());
    credentials.secret_key = Some(secret_key.to_owned());
    credentials.session_token = session_token;
    credentials
}

/// Keys that are renewed.
pub struct Rotating {
    bare: Bucket,
    web_identity: WebIdentity,
    margin: Duration,
    current: watch::Sender<Option<Keyed>>,
    /// Held by whoever renews; inside, when and why the last try failed.
    turn: Mutex<Option<(Instant, String)>>,
}

/// A bucket with keys of one issue.
#[derive(Clone)]
struct Keyed {
    bucket: Bucket,
    renew_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

impl Rotating {
    async fn bucket(&self) -> Result<Bucket, Fault> {
        let held = self.held();
        let mut last_failure = match held {
            Some(keyed) if keyed.renew_at > Utc::now() => return Ok(keyed.bucket),
            Some(keyed) => match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(keyed.bucket),
            },
            None => self.turn.lock().await,
        };
        // Another may have renewed while this one waited for its turn.
        let held = self.held();
        if let Some(keyed) = held.as_ref().filter(|keyed| keyed.renew_at > Utc::now()) {
            return Ok(keyed.bucket.clone());
        }
        let renewed = match &*last_failure {
            Some((at, reason)) if at.elapsed() < PAUSE_AFTER_FAILURE => Err(reason.clone()),
            _ => self.renew().await.inspect_err(|reason| *last_failure = Some((Instant::now(), reason.clone()))),
        };
        match (renewed, held) {
            (Ok(bucket), _) => Ok(bucket),
            (Err(_), Some(keyed)) => Ok(keyed.bucket),
            (Err(reason), None) => {
                Err(ObjectsError::Unavailable(format!("no keys for the web identity: {reason}")).into())
            }
        }
    }

    fn held(&self) -> Option<Keyed> {
        self.current.borrow().clone().filter(|keyed| keyed.expires_at > Utc::now())
    }

    async fn renew(&self) -> Result<Bucket, String> {
        let issue = self.web_identity.assume(&self.bare.http_client()).await?;
        let now = Utc::now();
        let lifetime = (issue.expiration - now).to_std().unwrap_or_default();
        let mut bucket = self.bare.clone();
        bucket.set_credentials(credentials(&issue.access_key_id, &issue.secret_access_key, Some(issue.session_token)));
        self.current.send_replace(Some(Keyed {
            bucket: bucket.clone(),
            renew_at: issue.expiration - self.margin.min(lifetime / 2),
            expires_at: issue.expiration,
        }));
        Ok(bucket)
    }
}

/// A token that the kubelet keeps fresh, and the role that it may take on.
pub struct WebIdentity {
    role: String,
    token_file: PathBuf,
    sts_endpoint: String,
}

impl WebIdentity {
    /// By the region's own STS: the global one is a single point far away.
    pub fn regional(role: String, token_file: PathBuf, region: &str) -> Self {
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        Self { role, token_file, sts_endpoint: format!("https://sts.{region}.{domain}/") }
    }

    async fn assume(&self, http: &reqwest::Client) -> Result<Issue, String> {
        let token = tokio::fs::read_to_string(&self.token_file)
            .await
            .map_err(|error| format!("the token's file {} can't be read: {error}", self.token_file.display()))?;
        let form = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", &self.role),
            ("RoleSessionName", "roadstead"),
            ("WebIdentityToken", token.trim()),
        ];
        let answer = http.post(&self.sts_endpoint).form(&form).timeout(SMALL_DEADLINE).send().await.map_err(why)?;
        let status = answer.status();
        let body = answer.text().await.map_err(why)?;
        if !status.is_success() {
            return Err(format!("STS answered {}", status.as_u16()));
        }
        let answer: Answer = quick_xml::de::from_str(&body).map_err(|_| "STS answered something else".to_owned())?;
        Ok(answer.result.credentials)
    }
}

fn why(error: reqwest::Error) -> String {
    ObjectsError::from(Fault::from(error)).to_string()
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "AssumeRoleWithWebIdentityResult")]
    result: AnswerResult,
}

#[derive(Deserialize)]
struct AnswerResult {
    #[serde(rename = "Credentials")]
    credentials: Issue,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Issue {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::super::Objects;
    use super::super::tests::config;
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// An STS that gives the keys `AKID<n>` for the given time at its nth answer, and stops giving after `good` of them.
    async fn sts(good: usize, seconds: i64) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 8192];
                let mut length = 0;
                while !String::from_utf8_lossy(&request[..length]).contains("WebIdentityToken=the+token") {
                    length += stream.read(&mut request[length..]).await.unwrap();
                }
                let n = count.fetch_add(1, Ordering::SeqCst) + 1;
                let expiration = (Utc::now() + chrono::Duration::seconds(seconds)).to_rfc3339();
                let body = format!(
                    "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>\
                     <Audience>a</Audience><Credentials><AccessKeyId>AKID{n}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                     <SessionToken>t+/=</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
                     </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
                );
                let status = if n <= good { "200 OK" } else { "503 Away" };
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (format!("http://{address}/"), asked)
    }

    /// The folder holds the token; it goes when it is dropped.
    fn objects(sts_endpoint: String) -> (Objects, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, "the token\n").unwrap();
        let config = crate::config::ObjectsConfig { credentials: None, ..config("http://127.0.0.1:9") };
        let web_identity = WebIdentity {
            sts_endpoint,
            ..WebIdentity::regional("arn:aws:iam::1:role/r".to_owned(), token_file, "eu-central-2")
        };
        (Objects::with_web_identity(&config, Some(web_identity)).unwrap(), folder)
    }

    #[tokio::test]
    async fn keys_are_asked_for_once_and_sign_with_their_token() {
        let (endpoint, asked) = sts(9, 3600).await;
        let (objects, _folder) = objects(endpoint);
        let signed = futures_util::future::join_all((0..8).map(|_| objects.presign_get("a/b", None))).await;
        for url in signed {
            let url = url.unwrap();
            assert!(
                url.contains("X-Amz-Credential=AKID1%2F") && url.contains("X-Amz-Security-Token=t%2B%2F%3D"),
                "{url}"
            );
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn keys_are_renewed_before_a_url_could_outlive_them() {
        // Renewed at half of their life, as URLs would live longer than the keys.
        let (endpoint, asked) = sts(9, 2).await;
        let (objects, _folder) = objects(endpoint);
        let first = objects.presign_get("a", None).await.unwrap();
        assert!(first.contains("AKID1"), "{first}");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !objects.presign_get("a", None).await.unwrap().contains("AKID2") {
            assert!(Instant::now() < deadline, "the keys were never renewed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(asked.load(Ordering::SeqCst) >= 2);
    }

    #[tokio::test]
    async fn good_keys_are_used_while_sts_is_away() {
        let (endpoint, asked) = sts(1, 4).await;
        let (objects, _folder) = objects(endpoint);
        let deadline = Instant::now() + Duration::from_secs(10);
        while asked.load(Ordering::SeqCst) < 2 {
            let url = objects.presign_get("a", None).await.unwrap();
            assert!(url.contains("AKID1"), "{url}");
            assert!(Instant::now() < deadline, "nobody tried to renew the keys");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(objects.presign_get("a", None).await.unwrap().contains("AKID1"));
        assert_eq!(asked.load(Ordering::SeqCst), 2, "a failed renewal is not repeated at once");
    }

    #[tokio::test]
    async fn without_sts_the_store_is_unavailable() {
        let (endpoint, _asked) = sts(0, 3600).await;
        let (objects, _folder) = objects(endpoint);
        let error = objects.presign_get("a", None).await.unwrap_err();
        assert!(matches!(error, ObjectsError::Unavailable(ref text) if text.contains("503")), "{error}");
    }

    #[test]
    fn sts_is_the_regions_own() {
        let endpoint = |region| WebIdentity::regional(String::new(), PathBuf::new(), region).sts_endpoint;
        assert_eq!(endpoint("eu-central-2"), "https://sts.eu-central-2.amazonaws.com/");
        assert_eq!(endpoint("cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn/");
    }
}
