//! How steps run: order, environment, files, tries, timeouts.

use crate::harness::{Scenario, sh};
use crate::peer::Fault;
use roadstead_domain::attempt::protocol::{Input, Status, StepState};
use std::collections::BTreeMap;
use std::fs;

fn code(finish: &roadstead_domain::attempt::protocol::Finish) -> &str {
    finish.outcome.reason.as_ref().map_or("", |reason| &reason.code)
}

fn message(finish: &roadstead_domain::attempt::protocol::Finish) -> &str {
    finish.outcome.reason.as_ref().map_or("", |reason| &reason.message)
}

#[test]
fn steps_run_in_order_share_a_workspace_and_their_output_arrives() {
    let steps = [
        sh("split", "echo splitting; cat $ROADSTEAD_INPUT > all", ""),
        sh("left", "test -f all && echo L > l", "needs: [split]"),
        sh("right", "test -f all && echo R > r; echo careful >&2", "needs: [split]"),
        sh("merge", "cat l r; printf '{\"ok\": true}\\n' > $ROADSTEAD_RESULT", "needs: [left, right]"),
    ];
    let scenario = Scenario::new(&steps.concat(), |_| {});
    let finish = scenario.run();

    assert_eq!(finish.outcome.status, Status::Succeeded);
    assert_eq!(finish.outcome.reason, None);
    assert!(finish.steps.iter().all(|step| step.state == StepState::Succeeded && step.tries == 1));
    assert!(finish.steps.iter().all(|step| step.finished_at_ms >= step.started_at_ms && step.exit_code == Some(0)));
    assert_eq!(finish.result.as_ref().unwrap().inline.as_ref().unwrap().get(), "{\"ok\": true}");
    let state = scenario.peer.state();
    assert_eq!(state.objects["result.json"], b"{\"ok\": true}\n", "byte for byte");
    assert_eq!(state.count("uploads"), 2, "one segment, one result");
    assert_eq!(state.printed(), ["splitting", "careful", "L", "R"]);
    let log = state.log();
    assert!(log.iter().enumerate().all(|(n, line)| line.n == n as u64));
    assert_eq!(log[1].step, "right");
    assert_eq!(finish.segments[0].lines, 4);
}

#[test]
fn a_silent_workflow_costs_a_start_and_a_finish() {
    let scenario = Scenario::new("- {id: a, command: ['true']}", |_| {});
    assert_eq!(scenario.run().outcome.status, Status::Succeeded);
    let state = scenario.peer.state();
    let operations: Vec<&str> = state.paths().iter().filter_map(|path| path.rsplit('/').next()).collect();
    assert_eq!(operations, ["start", "finish"]);
}

#[test]
fn a_step_finds_its_own_environment_and_nothing_else() {
    let steps = "- {id: env, command: [cat, /proc/self/environ], env: {MODE: fast, LANG: de_DE.UTF-8}}\n\
        - {id: descriptors, command: [ls, /proc/self/fd], needs: [env]}\n\
        - {id: stdin, command: [readlink, /proc/self/fd/0], needs: [descriptors]}\n\
        - {id: folder, command: [pwd], needs: [stdin]}\n\
        - {id: signals, command: [grep, SigIgn, /proc/self/status], needs: [folder]}\n";
    let scenario = Scenario::new(steps, |_| {});
    // Started with a descriptor that its launcher forgot to close, and as `nohup` and `&` start it.
    let mut command = std::process::Command::new("sh");
    command.args([
        "-c",
        "exec 9</dev/null; trap '' HUP INT QUIT; exec \"$0\"",
        env!("CARGO_BIN_EXE_roadstead-executor"),
    ]);
    command.env("ROADSTEAD_SECRET", "hush").env("PATH", "/usr/bin:/bin");
    scenario.start_as(&mut command).ends_with(0);

    let workspace = scenario.root().join(format!("{}-1", scenario.id));
    let inside = |name: &str| workspace.join(name).to_str().unwrap().to_owned();
    let id = scenario.id.to_string();
    let expected: BTreeMap<&str, String> = BTreeMap::from([
        ("ROADSTEAD_INPUT", inside("input.json")),
        ("ROADSTEAD_RESULT", inside("result.json")),
        ("ROADSTEAD_ARTIFACTS", inside("artifacts")),
        ("ROADSTEAD_EXECUTION_ID", id),
        ("ROADSTEAD_ATTEMPT", "1".into()),
        ("ROADSTEAD_STEP_ID", "env".into()),
        ("PATH", "/usr/bin:/bin".into()),
        ("HOME", inside("work")),
        ("LANG", "de_DE.UTF-8".into()),
        ("MODE", "fast".into()),
    ]);
    let printed = scenario.peer.state().printed();
    let found = printed[0].split_terminator('\0').map(|variable| variable.split_once('=').unwrap());
    assert_eq!(found.map(|(name, value)| (name, value.to_owned())).collect::<BTreeMap<_, _>>(), expected);
    // `ls` itself opens the folder as 3.
    assert_eq!(printed[1..7], ["0", "1", "2", "3", "/dev/null", &inside("work")]);
    // SIGHUP, SIGINT and SIGQUIT are the first three; what this test was started with may ignore others.
    let ignored = u64::from_str_radix(printed[7].trim_start_matches("SigIgn:\t"), 16).unwrap();
    assert_eq!(ignored & 0b111, 0, "{ignored:x}");
}

#[test]
fn an_input_that_is_too_large_for_a_row_is_streamed_into_its_file() {
    let input = format!("[{}1]", "12345,".repeat(200_000)).into_bytes();
    let size_bytes = input.len() as u64;
    let scenario = Scenario::new(&sh("size", "wc -c < $ROADSTEAD_INPUT", ""), |_| {});
    {
        let url = format!("{}/store/payload.json?signature=hush", scenario.peer.url());
        let mut state = scenario.peer.state();
        state.objects.insert("payload.json".into(), input);
        state.grant.as_mut().unwrap().input = Input::Url { url, size_bytes };
    }
    scenario.peer.fault("payload.json", 1, Fault::Answer(503));
    assert_eq!(scenario.run().outcome.status, Status::Succeeded);
    assert_eq!(scenario.peer.state().printed(), [size_bytes.to_string()]);
}

#[test]
fn files_are_laid_with_their_modes_and_not_through_a_link_of_another_step() {
    let steps = "- {id: good, command: [bin/hello, you], files: {bin/hello: \"#!/bin/sh\\necho hello $1 $(cat ../x 2>&1 | wc -l)\\n\", data/x: \"1\"}}\n"
        .to_owned()
        + &sh("lay", "ln -s {dir} way", "needs: [good]")
        + "- {id: bad, command: ['true'], needs: [lay], files: {way/planted: x}}\n";
    let scenario = Scenario::new(&steps, |_| {});
    let finish = scenario.run();
    assert_eq!(scenario.peer.state().printed(), ["hello you 1"]);
    assert!(message(&finish).starts_with("step `bad` could not be started: its file \"way/planted\""), "{finish:?}");
    assert!(!scenario.path("planted").exists());
}

#[test]
fn a_failed_step_is_tried_again_and_then_skips_what_needs_it() {
    let script = "echo try >> tries; exit 3";
    let steps = sh("bad", script, "retries: 2")
        + &sh("after", "echo never", "needs: [bad]")
        + &sh("beside", "while [ $(cat tries | wc -l) -lt 3 ]; do sleep 0.01; done; echo done", "");
    let finish = Scenario::new(&steps, |_| {}).run();
    assert_eq!((finish.outcome.status, code(&finish)), (Status::Failed, "step_failed"));
    assert_eq!(message(&finish), "step `bad` ended with exit code 3");
    assert!(finish.outcome.retryable);
    let states: Vec<_> = finish.steps.iter().map(|step| (step.state, step.tries, step.exit_code)).collect();
    assert_eq!(
        states,
        [(StepState::Failed, 3, Some(3)), (StepState::Skipped, 0, None), (StepState::Succeeded, 1, Some(0))]
    );
}

#[test]
fn a_step_that_succeeds_at_its_second_try_has_succeeded() {
    let finish = Scenario::new(&sh("a", "test -f seen || { touch seen; kill -9 $$; }", "retries: 1"), |_| {}).run();
    assert_eq!(finish.outcome.status, Status::Succeeded);
    assert_eq!((finish.steps[0].tries, finish.steps[0].signal, finish.steps[0].exit_code), (2, None, Some(0)));
}

#[test]
fn a_signal_is_named() {
    let finish = Scenario::new(&sh("a", "kill -9 $$", ""), |_| {}).run();
    assert_eq!(message(&finish), "step `a` was ended by signal 9");
    assert_eq!(finish.steps[0].signal, Some(9));
}

#[test]
fn a_command_that_is_not_there_fails_its_step_with_words_that_help() {
    let scenario = Scenario::new("- {id: a, command: [no-such-program], retries: 5, env: {PATH: /usr/bin}}", |_| {});
    let finish = scenario.run();
    assert_eq!(code(&finish), "step_failed");
    let words = "step `a` could not be started: there is no program `no-such-program` in PATH (/usr/bin)";
    assert_eq!(message(&finish), words);
    assert!(!finish.outcome.retryable && finish.steps[0].tries == 1, "another try would find the same");
    assert!(scenario.peer.state().log()[0].line.contains("no-such-program"));
}

#[test]
fn a_script_without_its_interpreter_is_a_failed_step() {
    let finish = Scenario::new(
        "- {id: a, command: [./x], files: {x: \"#!/no/such/interpreter\\n\"}}\n\
         - {id: b, command: [sh, -c, \"chmod 755 y; exec ./y\"], files: {y: \"echo text\\n\"}}\n",
        |_| {},
    )
    .run();
    assert!(message(&finish).contains("its interpreter does not exist"), "{finish:?}");
}

#[test]
fn a_step_past_its_timeout_is_stopped() {
    let steps =
        sh("slow", "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.01; done", "timeout_seconds: 1");
    let scenario = Scenario::new(&steps, |_| {});
    let finish = scenario.run();
    assert_eq!((finish.outcome.status, code(&finish)), (Status::Failed, "step_timeout"));
    assert_eq!(message(&finish), "step `slow` passed its timeout of 1 s");
    assert_eq!(finish.steps[0].state, StepState::TimedOut);
    let printed = scenario.peer.state().printed();
    assert_eq!((printed.first().unwrap().as_str(), printed.last().unwrap().as_str()), ("up", "asked"));
}

#[test]
fn a_run_past_its_deadline_has_timed_out() {
    let steps = sh("slow", "sleep 1000", "") + &sh("later", "true", "needs: [slow]");
    let finish = Scenario::new(&steps, |grant| grant.timeout_seconds = 1).run();
    assert_eq!((finish.outcome.status, code(&finish)), (Status::TimedOut, "run_timeout"));
    let states: Vec<_> = finish.steps.iter().map(|step| step.state).collect();
    assert_eq!(states, [StepState::Cancelled, StepState::Cancelled]);
}

#[test]
fn a_reply_of_start_that_was_lost_comes_again_and_the_step_runs_once() {
    let scenario = Scenario::new(&sh("a", "echo ran >> {dir}/ran", ""), |_| {});
    scenario.peer.fault("start", 2, Fault::LoseReply);
    assert_eq!(scenario.run().outcome.status, Status::Succeeded);
    assert_eq!(fs::read_to_string(scenario.path("ran")).unwrap(), "ran\n");
    let state = scenario.peer.state();
    assert_eq!(state.session_tokens.len(), 3);
    assert_eq!(state.heartbeats.len(), 1, "the lease is certain before anything runs");
    assert!(state.session_tokens.iter().all(|token| token.len() == 64 && *token == state.session_tokens[0]));
}

#[test]
fn a_refused_start_runs_nothing() {
    for status in [410, 409, 403, 401] {
        let scenario = Scenario::new(&sh("a", "touch {dir}/ran", ""), |_| {});
        scenario.peer.fault("start", 1, Fault::Answer(status));
        scenario.start().ends_with(3);
        assert!(!scenario.path("ran").exists());
        assert_eq!(scenario.peer.state().paths().len(), 1, "not another word");
    }
}
