//! The HTTP API as a test speaks to it: plain requests, and the answers' parts to look at.

use crate::wait::wait_for;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

const TERMINAL: [&str; 4] = ["succeeded", "failed", "timed_out", "cancelled"];
const REQUEST: Duration = Duration::from_mins(1);

/// Speaks to one API with one key, or without.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The same answer, if this is its status; panics with the whole of it otherwise.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "to have looked at the status may be all")]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{:?}\n{}", self.headers, self.text());
        self
    }
}

impl Client {
    pub fn new(base: &str, key: Option<&str>) -> Self {
        // Whoever comes second finds one installed, which is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST)
            .build()
            .unwrap_or_else(|e| panic!("no HTTP client: {e}"));
        Self { http, base: base.to_owned(), key: key.map(ToOwned::to_owned) }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request with the key, to be completed and given to [`Self::send`] or sent as it is.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// The answer, or the error of a server that is not there.
    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await?.to_vec() })
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_send(request).await.unwrap_or_else(|e| panic!("no answer from {}: {e:?}", self.base))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// Submits and answers with the id.
    pub async fn submit(&self, submission: &Value) -> String {
        let answer = self.post("/v1/executions", submission).await.expect(202).json();
        answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
    }

    /// Submits a workflow of one step: a shell script.
    pub async fn submit_script(&self, script: &str) -> String {
        self.submit(&json!({"spec": {"steps": [{"id": "main", "command": ["sh", "-c", script]}]}})).await
    }

    pub async fn execution(&self, id: &str) -> Value {
        self.get(&format!("/v1/executions/{id}")).await.expect(200).json()
    }

    /// Waits until the execution is in one of these states. One that ends in another is not waited for.
    pub async fn wait_for_state(&self, id: &str, states: &[&str], within: Duration) -> Value {
        let outcome = wait_for(&format!("execution {id} to be {}", states.join(" or ")), within, async || {
            let path = format!("/v1/executions/{id}");
            let answer = self.try_send(self.request(Method::GET, &path)).await.map_err(|e| e.to_string())?;
            let execution = answer.json();
            let state = execution["state"].as_str().unwrap_or_default();
            let is_over = TERMINAL.contains(&state);
            if states.contains(&state) || is_over { Ok(execution) } else { Err(answer.text()) }
        })
        .await;
        let state = outcome["state"].as_str().unwrap_or_default();
        assert!(states.contains(&state), "execution {id} should be {} and is: {outcome:#}", states.join(" or "));
        outcome
    }

    /// Waits until the execution has ended, however.
    pub async fn wait_for_end(&self, id: &str, within: Duration) -> Value {
        self.wait_for_state(id, &TERMINAL, within).await
    }
}
