//! The HTTP API's client: addresses, the key, retries, and the one place where an answer becomes a [`Failure`].
//!
//! Invariants: the key goes to the API's own address and nowhere else (redirects are followed by hand, without it), and only
//! a request that may be repeated is repeated, a bounded number of times.

use crate::failure::{Failure, Refusal};
use crate::problem::Problem;
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Body, Method, Response, StatusCode, Url};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the API holds a `wait` and than it is silent in a stream of events.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// A larger body may take longer to send than an answer may let wait for itself.
const LARGE_BYTES: u64 = 1024 * 1024;
const UPLOAD_TIMEOUT: Duration = Duration::from_mins(30);
const MAX_TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(150);
/// A `Retry-After` longer than this is told instead of waited for.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Documents are held whole; what may be larger is streamed.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024 * 1024;

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

#[derive(Clone)]
pub struct Client {
    reads: reqwest::Client,
    uploads: reqwest::Client,
    base: Url,
    api_key: Option<HeaderValue>,
}

/// A request's body. Each can be sent again.
pub trait Payload: Send + Sync {
    fn body(&self) -> Result<Body, Failure>;
    fn size_bytes(&self) -> u64;
}

impl Payload for Bytes {
    fn body(&self) -> Result<Body, Failure> {
        Ok(Body::from(self.clone()))
    }

    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }
}

/// One request to the API.
pub struct Call<'a> {
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(&'a str, String)>,
    headers: Vec<(HeaderName, String)>,
    payload: Option<&'a dyn Payload>,
    repeatable: bool,
}

impl<'a> Call<'a> {
    /// `path` is in segments, each of which is encoded: no id can leave its place.
    pub fn get(path: &[&'a str]) -> Self {
        Self {
            method: Method::GET,
            path: path.to_vec(),
            query: Vec::new(),
            headers: Vec::new(),
            payload: None,
            repeatable: true,
        }
    }

    /// A POST that gives the same answer when it is asked again.
    pub fn post(path: &[&'a str]) -> Self {
        Self { method: Method::POST, ..Self::get(path) }
    }

    pub fn put(path: &[&'a str]) -> Self {
        Self { method: Method::PUT, ..Self::get(path) }
    }

    /// Never sent twice.
    pub fn once(self) -> Self {
        Self { repeatable: false, ..self }
    }

    pub fn query(mut self, name: &'a str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn json(mut self, payload: &'a dyn Payload) -> Self {
        self.payload = Some(payload);
        self
    }
}

impl Client {
    pub fn new(base: &str, api_key: Option<&str>) -> Result<Self, Failure> {
        if !["http://", "https://"].iter().any(|scheme| base.starts_with(scheme)) {
            return Err(Failure::Usage(format!(
                "`{base}` is not the address of an API: it must begin with http:// or https://"
            )));
        }
        let url: Url = base.parse().map_err(|e| Failure::Usage(format!("`{base}` is not a URL: {e}")))?;
        let api_key = api_key.map(bearer).transpose()?;
        let builder = || {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("roadstead/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_keepalive(Duration::from_secs(30));
            // A proxy can't reach this machine's own loopback.
            if is_loopback(&url) { builder.no_proxy() } else { builder }
        };
        let built = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|e| Failure::local("can't make an HTTP client", e))
        };
        let reads = built(builder().read_timeout(READ_TIMEOUT))?;
        let uploads = built(builder().timeout(UPLOAD_TIMEOUT))?;
        Ok(Self { reads, uploads, base: url, api_key })
    }

    /// The answer's whole body.
    pub async fn document(&self, call: Call<'_>) -> Result<Vec<u8>, Failure> {
        let url = self.url(&call);
        let mut response = self.send(call).await?;
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| unreachable(&url, &e))? {
            if body.len() + piece.len() > MAX_DOCUMENT_BYTES {
                return Err(Failure::Local(format!("the answer from {url} is larger than {MAX_DOCUMENT_BYTES} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// The content behind a route that answers with it, or with a redirect to a presigned URL.
    pub async fn download(&self, call: Call<'_>) -> Result<Response, Failure> {
        let url = self.url(&call);
        let response = self.send(call).await?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let target = location.and_then(|location| url.join(location).ok()).ok_or_else(|| {
            Failure::Local(format!("{url} answered {} without a usable Location", response.status().as_u16()))
        })?;
        // The URL carries its own signature, which must not be told: errors name the place without its query.
        let mut shown = target.clone();
        shown.set_query(None);
        let response = self.reads.get(target).send().await.map_err(|e| unreachable(&shown, &e.without_url()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_client_error() {
            // Not the API's refusal: neither the key nor its role has anything to do with it.
            return Err(Failure::Local(format!(
                "the object store answered {status} for {shown}; its URL may have expired, try again"
            )));
        }
        Err(refused(Method::GET, &shown, response).await)
    }

    /// Sends a call, again if need be, and answers with a response of a 2xx or 3xx status.
    pub async fn send(&self, call: Call<'_>) -> Result<Response, Failure> {
        let url = self.url(&call);
        let mut tries = 1;
        loop {
            let failure = match self.try_once(&url, &call).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let pause = pause_before_next(&failure, tries).filter(|_| call.repeatable && tries < MAX_TRIES);
            let Some(pause) = pause else { return Err(failure) };
            tries += 1;
            tokio::time::sleep(pause).await;
        }
    }

    async fn try_once(&self, url: &Url, call: &Call<'_>) -> Result<Response, Failure> {
        let is_upload = call.payload.is_some_and(|payload| payload.size_bytes() > LARGE_BYTES);
        let client = if is_upload { &self.uploads } else { &self.reads };
        let mut request = client.request(call.method.clone(), url.clone()).header(ACCEPT, "application/json");
        if let Some(key) = &self.api_key {
            request = request.header(reqwest::header::AUTHORIZATION, key.clone());
        }
        for (name, value) in &call.headers {
            let value = HeaderValue::from_str(value)
                .map_err(|_| Failure::Usage(format!("`{value}` can't be sent in the header {name}")))?;
            // `headers` replaces, where `header` would send the name twice.
            request = request.headers([(name.clone(), value)].into_iter().collect());
        }
        if let Some(payload) = call.payload {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .header(CONTENT_LENGTH, payload.size_bytes())
                .body(payload.body()?);
        }
        let response = request.send().await.map_err(|e| unreachable(url, &e))?;
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(response);
        }
        Err(refused(call.method.clone(), url, response).await)
    }

    fn url(&self, call: &Call<'_>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(&call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        url
    }
}

fn bearer(key: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.trim()))
        .map_err(|_| Failure::Usage("ROADSTEAD_API_KEY holds characters that no key has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// How long to wait before asking again; nothing when asking again is of no use.
fn pause_before_next(failure: &Failure, tries: u32) -> Option<Duration> {
    let pause = FIRST_PAUSE * 2u32.pow(tries - 1);
    match failure {
        // Who was waited for in vain has been waited for long enough.
        Failure::Unreachable { timed_out, .. } => (!timed_out).then_some(pause),
        Failure::Refused(refusal) => {
            let transient = matches!(
                refusal.status,
                StatusCode::REQUEST_TIMEOUT
                    | StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            );
            let pause = refusal.retry_after_seconds.map_or(pause, Duration::from_secs);
            (transient && pause <= MAX_PAUSE).then_some(pause)
        }
        _ => None,
    }
}

/// The innermost cause says what happened; the outer ones repeat the URL.
fn unreachable(url: &Url, error: &reqwest::Error) -> Failure {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let timed_out = error.is_timeout();
    let cause = if timed_out { "timed out".to_owned() } else { cause.to_string() };
    Failure::Unreachable { url: url.to_string(), cause, timed_out }
}

async fn refused(method: Method, url: &Url, mut response: Response) -> Failure {
    const MAX_PROBLEM_BYTES: usize = 256 * 1024;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > MAX_PROBLEM_BYTES {
            break;
        }
    }
    Failure::Refused(Box::new(Refusal {
        method,
        url: url.to_string(),
        status,
        problem: Problem::read(&body),
        retry_after_seconds: retry_after,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_can_leave_its_place_in_the_path() {
        let client = Client::new("http://h:1/prefix/", None).unwrap();
        let url = client.url(&Call::get(&["executions", "../../x?y#z", "logs"]).query("tail", Some(3)));
        assert_eq!(url.as_str(), "http://h:1/prefix/v1/executions/..%2F..%2Fx%3Fy%23z/logs?tail=3");
    }

    #[test]
    fn addresses_that_are_none_are_usage_errors() {
        for bad in ["", "nonsense", "ftp://h", "localhost:8080"] {
            assert_eq!(Client::new(bad, None).err().unwrap().exit_status(), 2, "{bad}");
        }
        assert_eq!(Client::new("http://h", Some("a\nb")).err().unwrap().exit_status(), 2);
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let of = |url: &str| is_loopback(&url.parse().unwrap());
        assert!(of("http://127.0.0.1:1") && of("http://[::1]:1") && of("http://localhost"));
        assert!(!of("http://10.0.0.1") && !of("http://localhost.example.org"));
    }
}
