//! How attempts are ended from outside: cancelled, told to stop, superseded, cut off; and that nothing survives them.

use crate::harness::{Scenario, runs, sh, wait_until};
use crate::peer::Fault;
use roadstead_domain::attempt::protocol::{Status, StepState, Stream};
use std::time::Duration;

/// A process that ignores SIGTERM, one in a session of its own whose parent is gone, and one in the foreground.
const FAMILY: &str = "sh -c 'trap \"\" TERM; echo $$ > {dir}/stubborn; while :; do sleep 0.02; done' & \
    (setsid sh -c 'echo $$ > {dir}/daemon; exec sleep 1000' > /dev/null 2>&1 &) ; \
    echo $$ > {dir}/main; sleep 1000";

fn family(scenario: &Scenario) -> [i32; 3] {
    let pids = ["stubborn", "daemon", "main"].map(|name| scenario.pid_in(name));
    assert!(pids.iter().all(|pid| runs(*pid)));
    pids
}

#[test]
fn a_cancel_ends_the_whole_tree_and_the_log_is_kept() {
    let script = format!("echo before; {FAMILY}");
    let scenario = Scenario::new(&sh("a", &script, ""), |grant| grant.grace_seconds = 1);
    let executor = scenario.start();
    let pids = family(&scenario);
    scenario.peer.reply(true, false);
    executor.ends_with(0);
    assert!(pids.iter().all(|pid| !runs(*pid)));
    let finish = scenario.finish();
    assert_eq!(finish.outcome.status, Status::Cancelled);
    assert_eq!(finish.outcome.reason.as_ref().unwrap().code, "cancelled");
    assert_eq!(finish.steps[0].state, StepState::Cancelled);
    assert_eq!(scenario.peer.state().printed(), ["before"]);
}

#[test]
fn a_step_gets_its_grace_to_end_by_itself() {
    let script =
        "trap 'echo tidying; sleep 0.3; echo tidy; exit 0' TERM; echo $$ > {dir}/main; while :; do sleep 0.01; done";
    let scenario = Scenario::new(&sh("a", script, ""), |grant| grant.grace_seconds = 30);
    let executor = scenario.start();
    scenario.pid_in("main");
    scenario.peer.reply(true, false);
    executor.ends_with(0);
    let printed = scenario.peer.state().printed();
    // The shell itself tells of its child, which was asked to end as well.
    assert!(printed.contains(&"tidying".to_owned()) && printed.last().unwrap() == "tidy", "{printed:?}");
}

#[test]
fn an_executor_told_to_stop_reports_a_retryable_end() {
    let scenario = Scenario::new(&sh("a", FAMILY, ""), |grant| grant.grace_seconds = 1);
    let executor = scenario.start();
    let pids = family(&scenario);
    executor.signal(rustix::process::Signal::TERM);
    executor.ends_with(9);
    assert!(pids.iter().all(|pid| !runs(*pid)));
    let outcome = scenario.finish().outcome;
    assert_eq!((outcome.status, outcome.retryable), (Status::Cancelled, true));
    assert_eq!(outcome.reason.unwrap().code, "executor_terminated");
}

#[test]
fn an_executor_told_to_stop_before_its_start_is_granted_runs_nothing() {
    let scenario = Scenario::new(&sh("a", "touch {dir}/ran", ""), |_| {});
    scenario.peer.fault("start", 10_000, Fault::Lose);
    let executor = scenario.start();
    scenario.peer.wait_for("a start", |state| (state.count("start") > 1).then_some(()));
    executor.signal(rustix::process::Signal::INT);
    executor.ends_with(5);
    assert!(!scenario.path("ran").exists());
}

#[test]
fn a_superseded_attempt_is_killed_at_once_and_says_nothing_more() {
    let script = format!("trap 'echo asked >> {{dir}}/asked' TERM; {FAMILY}");
    let scenario = Scenario::new(&sh("a", &script, ""), |grant| grant.grace_seconds = 1000);
    let executor = scenario.start();
    let pids = family(&scenario);
    scenario.peer.fault("heartbeat", 1, Fault::Answer(410));
    executor.ends_with(6);
    assert!(pids.iter().all(|pid| !runs(*pid)));
    assert!(!scenario.path("asked").exists(), "SIGKILL, not SIGTERM");
    let state = scenario.peer.state();
    assert_eq!(state.count("finish") + state.count("outcome"), 0);
}

#[test]
fn children_are_gone_before_a_lease_that_nobody_renews_ends() {
    let scenario = Scenario::new(&sh("a", FAMILY, ""), |grant| {
        grant.lease_seconds = 4;
        grant.grace_seconds = 1;
    });
    let executor = scenario.start();
    let pids = family(&scenario);
    let renewed = scenario.peer.wait_for("a heartbeat", |state| state.heartbeats.last().map(|(_, at)| *at));
    scenario.peer.fault("/v1/", 10_000, Fault::Lose);
    wait_until("the children's end", || pids.iter().all(|pid| !runs(*pid)).then_some(()));
    let last = scenario.peer.state().heartbeats.last().map_or(renewed, |(_, at)| *at);
    assert!(last.elapsed() < Duration::from_secs(4), "{:?}", last.elapsed());
    assert!(last.elapsed() > Duration::from_millis(2_500), "no earlier than the terms say: {:?}", last.elapsed());
    executor.ends_with(0);
    let outcome = scenario.outcome_file().unwrap().outcome;
    assert_eq!((outcome.status, outcome.retryable), (Status::Failed, true));
    assert_eq!(outcome.reason.unwrap().code, "lease_ended");
}

#[test]
fn a_process_left_in_the_background_holds_nothing_up_and_does_not_survive() {
    let script = "sleep 1000 & echo $! > {dir}/sleeper; (setsid sh -c 'echo $$ > {dir}/daemon; exec sleep 1000' &); \
        while [ ! -s {dir}/daemon ]; do sleep 0.01; done; echo hi";
    let scenario = Scenario::new(
        &(sh("a", script, "")
            + &sh(
                "b",
                "while kill -0 $(cat {dir}/sleeper) 2> /dev/null; do sleep 0.02; done; echo alone",
                "needs: [a]",
            )),
        |_| {},
    );
    let finish = scenario.run();
    assert_eq!(finish.outcome.status, Status::Succeeded);
    assert_eq!(scenario.peer.state().printed(), ["hi", "alone"], "the group ends with its step");
    assert!(!runs(scenario.pid_in("daemon")));
}

#[test]
fn orphans_that_end_while_a_step_runs_do_not_pile_up() {
    let script = "for i in 1 2 3 4 5; do (setsid true &); done; echo $PPID > {dir}/executor; \
        while [ ! -f {dir}/go ]; do sleep 0.01; done";
    let scenario = Scenario::new(&sh("a", script, ""), |_| {});
    let executor = scenario.start();
    let pid = scenario.pid_in("executor");
    assert_eq!(pid, executor.pid());
    let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    wait_until("one child alone", || (children().split_whitespace().count() == 1).then_some(()));
    std::fs::write(scenario.path("go"), "").unwrap();
    executor.ends_with(0);
}

#[test]
fn a_killed_step_is_told_of_in_its_log() {
    let script = "trap '' TERM; echo $$ > {dir}/main; while :; do sleep 0.01; done";
    let scenario = Scenario::new(&sh("a", script, "timeout_seconds: 1"), |grant| grant.grace_seconds = 1);
    let finish = scenario.run();
    assert_eq!(finish.steps[0].state, StepState::TimedOut);
    assert!(!runs(scenario.pid_in("main")));
    let log = scenario.peer.state().log();
    let words: Vec<_> =
        log.iter().filter(|line| line.stream == Stream::System).map(|line| line.line.as_str()).collect();
    assert_eq!(words, ["did not stop when it was asked to (SIGTERM); killed (SIGKILL)", "passed its timeout of 1 s"]);
}
