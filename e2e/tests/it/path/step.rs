//! What a step finds, and what it does not.

use roadstead_e2e::scene::{Executions, Scene, id};
use roadstead_e2e::submission::{command, steps};
use serde_json::json;
use std::collections::BTreeMap;

#[tokio::test]
async fn a_steps_environment_is_exactly_the_contracts() {
    let scene = Scene::new().await;
    let execution = scene.run(&steps(&json!([{ "id": "look", "command": ["env"], "env": { "MODE": "fast" } }]))).await;
    let id = id(&execution);
    let log = scene.log(&id).await;
    let found: BTreeMap<&str, &str> = log.lines().map(|line| line.split_once('=').unwrap()).collect();
    let names: Vec<&str> = found.keys().copied().collect();
    assert_eq!(
        names,
        [
            "HOME",
            "LANG",
            "MODE",
            "PATH",
            "ROADSTEAD_ARTIFACTS",
            "ROADSTEAD_ATTEMPT",
            "ROADSTEAD_EXECUTION_ID",
            "ROADSTEAD_INPUT",
            "ROADSTEAD_RESULT",
            "ROADSTEAD_STEP_ID"
        ]
    );
    assert_eq!((found["MODE"], found["ROADSTEAD_ATTEMPT"], found["ROADSTEAD_STEP_ID"]), ("fast", "1", "look"));
    assert_eq!(found["ROADSTEAD_EXECUTION_ID"], id);
    let workspaces = scene.stack.workspaces();
    for name in ["HOME", "ROADSTEAD_ARTIFACTS", "ROADSTEAD_INPUT", "ROADSTEAD_RESULT"] {
        assert!(std::path::Path::new(found[name]).starts_with(&workspaces), "{name}={}", found[name]);
    }
}

#[tokio::test]
async fn a_command_is_never_given_to_a_shell_and_standard_input_is_empty() {
    let scene = Scene::new().await;
    let hostile = "$(touch /tmp/x); `id` && $HOME | ' \" \\ *";
    let execution = scene.run(&command(&["printf", "%s\n", hostile])).await;
    assert_eq!(scene.log(&id(&execution)).await, format!("{hostile}\n"));
    let execution = scene.run(&command(&["cat"])).await;
    assert_eq!((&execution["state"], scene.log(&id(&execution)).await.as_str()), (&json!("succeeded"), ""));
}

#[tokio::test]
async fn no_credential_of_the_platform_is_within_a_steps_reach() {
    let scene = Scene::new().await;
    // What the step inherited, what its executor was started with, and what lies in the workspace.
    let script = "cat /proc/self/environ /proc/self/cmdline /proc/$PPID/cmdline; cat /proc/$PPID/environ 2>/dev/null; \
                  ls -l /proc/self/fd /proc/$PPID/fd 2>/dev/null; cat <&0; find \"$HOME/..\" -type f | xargs cat; env; echo; echo looked";
    let execution = scene.succeed(&format!("{{ {script}; }} | tr '\\0' '\\n'")).await;
    let log = scene.log(&id(&execution)).await;
    assert!(log.contains("looked"), "{log}");
    let stack = &scene.stack;
    let secrets = [
        stack.database_url(),
        stack.redis.url(),
        stack.s3.server().secret_access_key.clone(),
        stack.s3.server().endpoint(),
        stack.meta_bucket.clone(),
        "DATABASE".to_owned(),
        "REDIS".to_owned(),
        "S3_".to_owned(),
        "\"credential\"".to_owned(),
        "Bearer".to_owned(),
        "rsk_".to_owned(),
    ];
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} in\n{log}");
    }
}

#[tokio::test]
async fn nothing_is_left_of_an_attempts_workspace() {
    let scene = Scene::new().await;
    let execution = scene.succeed("mkdir -p deep/er; chmod 000 deep; echo x > y; ln -s /etc z").await;
    let workspace = scene.stack.workspaces().join(format!("{}-1", id(&execution)));
    roadstead_testkit::wait_for("the workspace to be gone", roadstead_testkit::PATIENCE, async || {
        if workspace.exists() { Err("it is there".to_owned()) } else { Ok(()) }
    })
    .await;
}
