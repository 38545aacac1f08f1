//! `roadstead dev` with the real programs.

use roadstead_e2e::processes;
use roadstead_e2e::programs;
use roadstead_e2e::scene::{Executions, id};
use roadstead_e2e::submission::{command, shell};
use roadstead_testkit::{Client, PATIENCE, Stack, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

struct Dev {
    child: Child,
    ready: Value,
}

impl Dev {
    /// Under an environment that is about other programs.
    async fn start(data: &Path, format: &str) -> Self {
        let mut command = programs::command("roadstead", &[]);
        command
            .args(["dev", "--no-sample", "--port", "0", "--max-concurrent-jobs", "3", "--format", format, "--data-dir"])
            .arg(data)
            .env("ALL_PROXY", "http://127.0.0.1:1")
            .env("http_proxy", "http://127.0.0.1:1")
            .env("APP_PORT", "3000");
        let log = std::fs::File::create(data.with_extension("log")).unwrap();
        let mut child = command.stderr(log).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let ready = tokio::task::spawn_blocking(move || ready(BufReader::new(stdout))).await.unwrap();
        let ready = ready
            .unwrap_or_else(|text| panic!("{text}: {}", std::fs::read_to_string(data.with_extension("log")).unwrap()));
        Self { child, ready }
    }

    fn text(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.ready))
    }

    fn pid(&self, part: &str) -> u32 {
        self.ready["pids"][part].as_u64().unwrap_or_else(|| panic!("no {part} in {}", self.ready)) as u32
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // A scenario that failed half-way.
        processes::kill(&processes::with_descendants(&[self.child.id()]));
        let _ = self.child.wait();
    }
}

/// One line of JSON, or as much YAML, whose pids come last.
fn ready(stdout: impl BufRead) -> Result<Value, String> {
    let mut text = String::new();
    for line in stdout.lines() {
        let line = line.unwrap();
        if line.starts_with('{') {
            return serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"));
        }
        text += &format!("{line}\n");
        if line.starts_with("  s3: ") {
            return Ok(text.lines().filter_map(|line| line.split_once(": ")).collect());
        }
    }
    Err(text)
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn a_part_that_dies_is_started_again_and_sigterm_leaves_nothing_behind() {
    // A folder that the test's end removes.
    let stack = Stack::new().await;
    let mut dev = Dev::start(&stack.folder().join("dev"), "json").await;
    for name in ["database_url", "redis_url", "s3_endpoint"] {
        assert!(dev.text(name).contains("127.0.0.1"), "{}", dev.ready);
    }
    let client = Client::new(dev.text("api_url"), Some(dev.text("api_key")));
    assert_eq!(Client::new(dev.text("api_url"), None).get("/v1/executions").await.status, 401, "authentication is on");
    assert_eq!(client.run(&command(&["true"])).await["state"], "succeeded");
    assert_eq!(client.get("/v1/capacity").await.json()["cap"], 3);

    let (api, worker) = (dev.pid("api"), dev.pid("worker"));
    signal(api, Signal::KILL);
    wait_for("another API", PATIENCE, async || {
        let request = client.request(reqwest::Method::POST, "/v1/executions").json(&command(&["true"]));
        match client.try_send(request).await {
            Ok(answer) if answer.status == 202 => Ok(()),
            Ok(answer) => Err(answer.text()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
    signal(worker, Signal::KILL);
    assert_eq!(client.run(&command(&["true"])).await["state"], "succeeded", "the worker is back too");

    let running = id(&client.post("/v1/executions", &shell("setsid sleep 1000 & sleep 1000")).await.json());
    client.reaches(&running, "running").await;
    let family = processes::with_descendants(&[dev.child.id()]);
    assert!(family.len() > 8, "everything is below it: {family:?}");
    signal(dev.child.id(), Signal::TERM);
    let status = wait_for("its end", PATIENCE, async || match dev.child.try_wait().unwrap() {
        Some(status) => Ok(status),
        None => Err("it runs".to_owned()),
    })
    .await;
    assert!(status.success(), "{status}");
    let left: Vec<u32> = family.into_iter().filter(|&pid| processes::runs(pid)).collect();
    assert_eq!(left, Vec::<u32>::new(), "{}", std::fs::read_to_string(stack.folder().join("dev.log")).unwrap());
    let log = std::fs::read_to_string(stack.folder().join("dev.log")).unwrap();
    for (part, event) in [("api", "died"), ("api", "restarted"), ("worker", "restarted")] {
        let told = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        assert!(told.into_iter().any(|line| line["part"] == part && line["event"] == event), "{part} {event} in {log}");
    }

    let again = Dev::start(&stack.folder().join("dev"), "yaml").await;
    let client = Client::new(again.text("api_url"), Some(dev.text("api_key")));
    let listed = client.items("/v1/executions").await;
    assert!(
        listed.iter().any(|execution| execution["id"] == json!(running)),
        "what was kept is there under the same key"
    );
    let events = client.get(&format!("/v1/executions/{running}/events")).await.text();
    assert!(events.contains("executor_terminated"), "its end was told, not found out when its lease ran out: {events}");
}
