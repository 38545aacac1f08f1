//! The usual cast: one API and one worker on a stack of their own, a client with a key, and the verbs of a scenario.

use crate::answers::Checked;
use crate::programs::{self, Ended};
use crate::submission::shell;
use reqwest::Method;
use roadstead_testkit::{Answer, Client, PATIENCE, Server, Stack, wait_for};
use serde_json::Value;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The tenant of [`Scene::client`].
pub const TENANT: &str = "acme";
/// Long enough for any execution of a scenario.
pub const RUN: Duration = Duration::from_mins(2);

/// Where a scenario plays. Its client's verbs are its own.
pub struct Scene {
    // Before the stack, whose end kills what is left.
    pub workers: Vec<Server>,
    pub api: Server,
    pub client: Client,
    pub stack: Stack,
}

impl Deref for Scene {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Scene {
    /// An API and a worker, as they come.
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// The same with settings for both.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let mut scene = Self::idle(settings).await;
        scene.add_worker(settings).await;
        scene
    }

    /// An API alone: what is submitted stays queued.
    pub async fn idle(settings: &[(&str, &str)]) -> Self {
        Self::on(Stack::new().await, settings).await
    }

    /// An API on a stack that was made for the scenario.
    pub async fn on(stack: Stack, settings: &[(&str, &str)]) -> Self {
        let api = with_settings(stack.api(), settings).start().await;
        let client = api.client(&stack.key(TENANT, "submit").await);
        Self { workers: Vec::new(), api, client, stack }
    }

    /// A further worker. Its executors are known by [`Self::executor_path`].
    pub async fn add_worker(&mut self, settings: &[(&str, &str)]) {
        let worker = self.stack.worker().env("EXECUTOR_PATH", self.executor_path().display().to_string());
        self.workers.push(with_settings(worker, settings).start().await);
    }

    /// The executor by a path that no other scenario uses, by which its processes are counted.
    pub fn executor_path(&self) -> PathBuf {
        let path = self.stack.folder().join("executor");
        if !path.exists() {
            let built = roadstead_testkit::programs_folder().expect("the programs' folder").join("roadstead-executor");
            std::os::unix::fs::symlink(built, &path).expect("a link in our own folder");
        }
        path
    }

    /// A path in the scenario's folder, for files by which steps and scenario signal to each other.
    pub fn file(&self, name: &str) -> PathBuf {
        self.stack.folder().join(name)
    }

    /// A client of another tenant or role.
    pub async fn client_of(&self, tenant: &str, role: &str) -> Client {
        self.api.client(&self.stack.key(tenant, role).await)
    }

    /// Runs `roadstead-api` with these arguments to its end, whatever that is.
    pub async fn run_api(&self, arguments: &[&str]) -> Ended {
        programs::run("roadstead-api", arguments, &self.stack.environment()).await
    }

    /// How many rows there are of everything that a submission makes.
    pub async fn rows(&self) -> String {
        let counts = ["executions", "attempts", "execution_events", "idempotency_keys", "workflows"]
            .map(|table| format!("(SELECT count(*) FROM {table})"));
        self.stack.sql_value(&format!("SELECT concat_ws(' ', {})", counts.join(", "))).await
    }
}

fn with_settings<'a>(
    program: roadstead_testkit::ProgramBuilder<'a>,
    settings: &[(&str, &str)],
) -> roadstead_testkit::ProgramBuilder<'a> {
    settings.iter().fold(program, |program, (name, value)| program.env(name, *value))
}

/// What scenarios do with executions.
pub trait Executions {
    /// Submits a body in exactly these bytes.
    fn submit_text(&self, headers: &[(&str, &str)], body: &str) -> impl Future<Output = Answer>;
    fn send_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> impl Future<Output = Answer>;
    fn get_as(&self, path: &str, accept: &str) -> impl Future<Output = Answer>;
    /// A POST without a body.
    fn ask(&self, path: &str) -> impl Future<Output = Answer>;
    /// Waits for the end.
    fn ended(&self, id: &str) -> impl Future<Output = Value>;
    /// Submits and waits for the end.
    fn run(&self, submission: &Value) -> impl Future<Output = Value>;
    /// Runs a script and insists on its success.
    fn succeed(&self, script: &str) -> impl Future<Output = Value>;
    fn reaches(&self, id: &str, state: &str) -> impl Future<Output = Value>;
    /// The log of the current attempt as plain text.
    fn log(&self, id: &str) -> impl Future<Output = String>;
    /// The items of a list.
    fn items(&self, path: &str) -> impl Future<Output = Vec<Value>>;
    /// What happened, in order; without `launched`, which is told only when the executor was not quicker.
    fn kinds(&self, id: &str) -> impl Future<Output = Vec<String>>;
}

impl Executions for Client {
    async fn submit_text(&self, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        self.send_with(Method::POST, "/v1/executions", &all, body).await
    }

    async fn send_with(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = self.request(method, path).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    async fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.send(self.request(Method::GET, path).header("accept", accept)).await
    }

    async fn ask(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }

    async fn ended(&self, id: &str) -> Value {
        self.wait_for_end(id, RUN).await
    }

    async fn run(&self, submission: &Value) -> Value {
        let id = self.submit(submission).await;
        self.ended(&id).await
    }

    async fn succeed(&self, script: &str) -> Value {
        let execution = self.run(&shell(script)).await;
        assert_eq!(execution["state"], "succeeded", "{execution}");
        execution
    }

    async fn reaches(&self, id: &str, state: &str) -> Value {
        self.wait_for_state(id, &[state], PATIENCE).await
    }

    async fn log(&self, id: &str) -> String {
        self.get_as(&format!("/v1/executions/{id}/logs"), "text/plain").await.expect(200).text()
    }

    async fn items(&self, path: &str) -> Vec<Value> {
        let page = self.get(path).await.ok(200);
        page["items"].as_array().unwrap_or_else(|| panic!("no items: {page}")).clone()
    }

    async fn kinds(&self, id: &str) -> Vec<String> {
        let events = self.items(&format!("/v1/executions/{id}/events")).await;
        let kinds = events.iter().map(|event| event["kind"].as_str().unwrap_or_default().to_owned());
        kinds.filter(|kind| kind != "launched").collect()
    }
}

/// The id of an execution.
pub fn id(execution: &Value) -> String {
    execution["id"].as_str().unwrap_or_else(|| panic!("no id: {execution}")).to_owned()
}

/// Waits until a file is there; answers with what is in it, to its last whole line.
pub async fn appears(path: &Path) -> String {
    wait_for(&path.display().to_string(), PATIENCE, async || {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        if text.ends_with('\n') { Ok(text) } else { Err("it has no whole line".to_owned()) }
    })
    .await
}
