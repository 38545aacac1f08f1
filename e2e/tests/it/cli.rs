//! The command line against the real API.

use roadstead_e2e::scene::{Executions, Scene, TENANT};
use roadstead_testkit::{Cli, Ran};
use serde_json::{Value, json};

const GOOD: &str = "steps:\n- id: main\n  command: [sh, -c, 'echo one; echo two >&2; echo 7 > $ROADSTEAD_RESULT; echo x > $ROADSTEAD_ARTIFACTS/x.txt']\n";
const BAD: &str = "max_retries: 0\nsteps:\n- id: main\n  command: [sh, -c, 'echo before; exit 3']\n";

struct Desk {
    scene: Scene,
    cli: Cli,
}

impl Desk {
    async fn new() -> Self {
        let scene = Scene::new().await;
        std::fs::write(scene.file("good.yaml"), GOOD).unwrap();
        std::fs::write(scene.file("bad.yaml"), BAD).unwrap();
        let key = scene.stack.key(TENANT, "submit").await;
        let cli = scene.stack.cli(&scene.api, &key);
        Self { scene, cli }
    }

    /// Runs a line of words; answers what it wrote if it ends with this status.
    async fn run(&self, status: i32, line: &str) -> Ran {
        let words: Vec<&str> = line.split(' ').collect();
        let ran = self.cli.run(&words).await;
        assert_eq!(ran.status, status, "{line}: {ran:?}");
        ran
    }

    async fn json(&self, line: &str) -> Value {
        let ran = self.run(0, &format!("--format json {line}")).await;
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{line}: {error}: {ran:?}"))
    }
}

#[tokio::test]
async fn submit_and_watch_tell_how_it_ended() {
    let desk = Desk::new().await;
    let good = desk.run(0, "submit good.yaml --input {\"a\":1.50} --watch --label team=a").await;
    assert!(good.stderr.contains("step main: succeeded") && good.stdout.contains("team=a"), "{good:?}");
    let bad = desk.run(1, "submit bad.yaml --watch").await;
    assert!(bad.stdout.contains("step_failed"), "{bad:?}");

    let submitted = desk.json("submit bad.yaml").await;
    let id = submitted["id"].as_str().unwrap();
    desk.run(0, &format!("watch {id}")).await;
    desk.run(1, &format!("watch {id} --exit-status")).await;
    let listed = desk.json("list --label team=a").await;
    let first = listed["items"][0]["id"].as_str().unwrap();
    desk.run(0, &format!("watch {first} --exit-status")).await;
}

#[tokio::test]
async fn what_an_execution_left_can_be_had() {
    let desk = Desk::new().await;
    let id = desk.json("submit good.yaml").await["id"].as_str().unwrap().to_owned();
    let followed = desk.run(0, &format!("logs -f {id}")).await;
    let mut lines: Vec<&str> = followed.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["main │ one", "main │ two"]);
    assert_eq!(desk.run(0, &format!("logs {id} --stream stderr")).await.stdout, "main │ two\n");
    assert_eq!(desk.run(0, &format!("result {id}")).await.stdout, "7\n");
    let artifacts = desk.json(&format!("artifacts {id}")).await;
    assert_eq!(artifacts["items"][0]["path"], "x.txt");
    desk.run(0, &format!("artifacts {id} --download kept")).await;
    assert_eq!(std::fs::read_to_string(desk.scene.file("kept/x.txt")).unwrap(), "x\n");

    let execution = desk.json(&format!("get {id}")).await;
    assert_eq!((&execution["state"], &execution["result"]), (&json!("succeeded"), &json!(7)));
    assert!(desk.run(0, &format!("get {id}")).await.stdout.contains("succeeded"));
    assert!(desk.run(0, &format!("get {id} --format yaml")).await.stdout.contains("state: succeeded"));
    assert!(desk.run(0, "list --state succeeded").await.stdout.contains(&id));
    assert_eq!(desk.json("capacity").await["cap"], 10);

    let again = desk.json(&format!("retry {id}")).await;
    assert_eq!(again["retry_of"], id.as_str());
    let waiting = desk.json("submit good.yaml --run-at +10m").await["id"].as_str().unwrap().to_owned();
    assert_eq!(desk.json(&format!("cancel {waiting}")).await["state"], "cancelled");
}

#[tokio::test]
async fn workflows_are_kept_under_their_names() {
    let desk = Desk::new().await;
    assert_eq!(desk.json("workflow apply good.yaml").await["version"], 1);
    assert_eq!(desk.json("workflow apply bad.yaml --name good").await["version"], 2);
    assert_eq!(desk.json("workflow list").await["items"][0]["name"], "good");
    assert!(desk.run(0, "workflow get good@1").await.stdout.contains("ROADSTEAD_RESULT"));
    desk.run(0, "submit good@1 --watch").await;
    desk.run(1, "submit good --watch").await;
    let ran = desk.cli.run_with_input(&["submit", "good@1", "--input", "-", "--format", "json"], b"[1.50]").await;
    assert_eq!(ran.status, 0, "{ran:?}");
}

#[tokio::test]
async fn every_failure_has_its_exit_status_and_a_hint() {
    let desk = Desk::new().await;
    desk.run(2, "submit").await;
    desk.run(2, "get x --format xml").await;
    let local = desk.run(2, "submit good.yaml --input {").await;
    assert!(local.stdout.is_empty(), "{local:?}");
    std::fs::write(desk.scene.file("wrong.yaml"), "steps:\n- id: a\n  comand: [x]\n").unwrap();
    let wrong = desk.run(2, "submit wrong.yaml").await;
    assert!(wrong.stderr.contains("did you mean `command`?"), "{wrong:?}");
    let unknown = uuid::Uuid::now_v7();
    for line in [
        format!("get {unknown}"),
        format!("logs {unknown}"),
        format!("cancel {unknown}"),
        "workflow get none".to_owned(),
        "submit good@99".to_owned(),
    ] {
        desk.run(3, &line).await;
    }
    let unknown = desk.run(3, "submit nobody-knows").await;
    assert!(
        unknown.stderr.contains("no workflow `nobody-knows`") && unknown.stderr.contains("workflow list"),
        "{unknown:?}"
    );
    desk.run(2, "list --workflow No_Name").await;
    let reader = desk.scene.stack.cli(&desk.scene.api, &desk.scene.stack.key(TENANT, "read").await);
    assert_eq!(reader.run(&["submit", "good.yaml"]).await.status, 4);
    assert_eq!(reader.run(&["list"]).await.status, 0);
    let stranger = desk.scene.stack.cli(&desk.scene.api, "rsk_0");
    let refused = stranger.run(&["list"]).await;
    assert!(refused.status == 4 && refused.stderr.contains("ROADSTEAD_API_KEY"), "{refused:?}");
    let away = desk.cli.run(&["--url", "http://127.0.0.1:1", "list"]).await;
    assert!(away.status == 5 && away.stderr.contains("http://127.0.0.1:1"), "{away:?}");
    assert_eq!(desk.scene.items("/v1/executions").await.len(), 0);
}

#[tokio::test]
async fn completion_is_a_script() {
    let desk = Desk::new().await;
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef roadstead"), ("fish", "complete -c roadstead")] {
        assert!(desk.run(0, &format!("completion {shell}")).await.stdout.contains(word), "{shell}");
    }
}
