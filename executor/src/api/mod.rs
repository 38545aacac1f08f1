//! The API as the executor's counterpart: one method a request of the protocol, each a single try with one typed answer.
//!
//! The session token lives here and nowhere else.

pub mod retry;

use crate::http::{Answer, Body, Client, Failure, Progress};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use roadstead_domain::attempt::protocol::{
    CompleteRequest, Finish, Heartbeat, HeartbeatReply, PartsGrant, PartsRequest, StartGrant, StartRequest,
    UploadGrant, UploadRequest,
};
use roadstead_domain::ids::AttemptId;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A grant holds a definition of at most 1 MiB and an inline input; escaped, both may grow.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// The API may sit behind a pooler that queues; past this the next try has better chances.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// `410`: this attempt is no longer current.
    #[error("this attempt is no longer current")]
    Gone,
    /// The API understood and said no; asking again changes nothing.
    #[error("the API refused {request}: {status} {detail}")]
    Refused { request: &'static str, status: StatusCode, detail: String },
    /// No answer, or one that says to try again.
    #[error("the API did not answer {request}: {why}")]
    Unavailable { request: &'static str, why: String },
}

impl ApiError {
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

#[derive(Debug)]
pub struct Api {
    client: Arc<Client>,
    /// `{api_url}/v1/attempts/{execution_id}/{attempt}`
    base: String,
    credential: HeaderValue,
    session: HeaderValue,
    session_token: String,
}

impl Api {
    pub fn new(
        client: Arc<Client>,
        api_url: &str,
        attempt: AttemptId,
        credential: &str,
        session_token: String,
    ) -> Result<Self, Failure> {
        let AttemptId { execution_id, attempt } = attempt;
        let base = format!("{}/v1/attempts/{execution_id}/{attempt}", api_url.trim_end_matches('/'));
        Ok(Self { client, base, credential: bearer(credential)?, session: bearer(&session_token)?, session_token })
    }

    pub async fn start(&self) -> Result<StartGrant, ApiError> {
        let request = StartRequest { session_token: self.session_token.clone() };
        self.post("start", &self.credential, &request, REQUEST_TIMEOUT).await
    }

    pub async fn heartbeat(&self, heartbeat: Heartbeat, timeout: Duration) -> Result<HeartbeatReply, ApiError> {
        self.post("heartbeat", &self.session, &heartbeat, timeout).await
    }

    pub async fn uploads(&self, request: &UploadRequest) -> Result<UploadGrant, ApiError> {
        let grant: UploadGrant = self.post("uploads", &self.session, request, REQUEST_TIMEOUT).await?;
        as_many("uploads", request.objects.len(), grant.targets.len())?;
        Ok(grant)
    }

    pub async fn parts(&self, request: &PartsRequest) -> Result<PartsGrant, ApiError> {
        let grant: PartsGrant = self.post("uploads/parts", &self.session, request, REQUEST_TIMEOUT).await?;
        as_many("uploads/parts", request.parts.len(), grant.urls.len())?;
        Ok(grant)
    }

    pub async fn complete(&self, request: &CompleteRequest) -> Result<(), ApiError> {
        // S3 may take minutes to put many parts together.
        let timeout = REQUEST_TIMEOUT * 30;
        self.post("uploads/complete", &self.session, request, timeout).await.map(|IgnoredAny| ())
    }

    pub async fn finish(&self, finish: &Finish, timeout: Duration) -> Result<(), ApiError> {
        self.post("finish", &self.session, finish, timeout).await.map(|IgnoredAny| ())
    }

    async fn post<T: DeserializeOwned>(
        &self,
        name: &'static str,
        authorization: &HeaderValue,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, ApiError> {
        let unavailable = |why: &dyn fmt::Display| ApiError::Unavailable { request: name, why: why.to_string() };
        let body = serde_json::to_vec(body).map_err(|e| unavailable(&e))?;
        let request = Request::post(format!("{}/{name}", self.base))
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::whole(body))
            .map_err(|e| unavailable(&e))?;
        let answer = self
            .client
            .send(request, &Progress::start(), timeout, MAX_ANSWER_BYTES)
            .await
            .map_err(|e| unavailable(&e))?;
        judge(name, &answer)?;
        serde_json::from_slice(&answer.body).map_err(|e| {
            unavailable(&format_args!("its answer is not as agreed (line {}, column {})", e.line(), e.column()))
        })
    }
}

fn as_many(request: &'static str, asked: usize, granted: usize) -> Result<(), ApiError> {
    if asked == granted {
        return Ok(());
    }
    Err(ApiError::Unavailable { request, why: format!("{asked} URLs were asked for and {granted} came") })
}

fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Failure::BadUrl("the credential holds characters that a header can't carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a status means for whoever asked.
fn judge(request: &'static str, answer: &Answer) -> Result<(), ApiError> {
    match answer.status {
        status if status.is_success() => Ok(()),
        StatusCode::GONE => Err(ApiError::Gone),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Err(ApiError::Unavailable { request, why: answer.status.to_string() })
        }
        status if status.is_client_error() => Err(ApiError::Refused { request, status, detail: detail(&answer.body) }),
        status => Err(ApiError::Unavailable { request, why: status.to_string() }),
    }
}

/// The `detail` of an RFC 9457 problem.
fn detail(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Problem {
        detail: String,
    }
    serde_json::from_slice(body).map_or_else(|_| String::new(), |p: Problem| p.detail.chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::HeaderMap;

    fn answer(status: u16) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::default(),
            body: r#"{"detail":"no such key"}"#.into(),
        }
    }

    #[test]
    fn only_410_says_gone_and_only_passing_trouble_is_worth_another_try() {
        assert!(judge("x", &answer(200)).is_ok());
        assert!(matches!(judge("x", &answer(410)), Err(ApiError::Gone)));
        for passing in [408, 429, 500, 502, 503, 504, 302] {
            assert!(judge("x", &answer(passing)).unwrap_err().is_passing(), "{passing}");
        }
        for refused in [400, 401, 403, 404, 409, 413, 422] {
            let error = judge("x", &answer(refused)).unwrap_err();
            assert!(!error.is_passing() && error.to_string().ends_with("no such key"), "{error}");
        }
    }
}
