//! What the executor makes of an API, or an object store, that is away.

use crate::harness::{Scenario, runs, sh, wait_until};
use crate::peer::Fault;
use roadstead_domain::attempt::protocol::Status;
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

/// Prints until it is told to stop, some lines at a time.
const TALK: &str = "n=0; while [ ! -f {dir}/go ]; do n=$((n+1)); echo line $n; sleep 0.01; done; echo last";

#[test]
fn an_api_that_is_away_in_the_middle_loses_no_line() {
    let scenario = Scenario::new(&sh("a", TALK, ""), |grant| grant.limits.segment_bytes = 2000);
    scenario.peer.reply(false, true);
    let executor = scenario.start();
    scenario.peer.wait_for("a shipped segment", |state| state.objects.contains_key("log/0").then_some(()));

    scenario.peer.fault("/v1/", 1_000_000, Fault::Lose);
    let before = scenario.peer.requests_to("heartbeat");
    scenario.peer.wait_for("heartbeats in vain", |state| (state.count("heartbeat") > before + 3).then_some(()));
    let answered = scenario.peer.state().heartbeats.len();
    scenario.peer.heal();
    scenario.peer.wait_for("an answered heartbeat", |state| (state.heartbeats.len() > answered).then_some(()));
    fs::write(scenario.path("go"), "").unwrap();
    executor.ends_with(0);

    assert_eq!(scenario.finish().outcome.status, Status::Succeeded);
    let state = scenario.peer.state();
    let printed = state.printed();
    assert_eq!(printed.last().unwrap(), "last");
    assert!(printed[..printed.len() - 1].iter().enumerate().all(|(i, line)| *line == format!("line {}", i + 1)));
    // Every segment was reported, and none of them twice by answered requests.
    let mut reported: Vec<u32> = state.heartbeats.iter().flat_map(|(beat, _)| &beat.segments).map(|s| s.seq).collect();
    reported.extend(state.finishes[0].segments.iter().map(|segment| segment.seq));
    let shipped = state.objects.keys().filter(|key| key.starts_with("log/")).count() as u32;
    assert_eq!(reported, (0..shipped).collect::<Vec<_>>());
}

#[test]
fn an_api_that_is_away_at_the_end_is_told_by_outcome_json() {
    let scenario = Scenario::new(&sh("a", "exit 7", ""), |grant| {
        grant.grace_seconds = 1;
        grant.lease_seconds = 2;
    });
    scenario.peer.fault("finish", 1_000_000, Fault::Answer(503));
    scenario.start().ends_with(0);
    let outcome = scenario.outcome_file().unwrap().outcome;
    assert_eq!(outcome.reason.unwrap().message, "step `a` ended with exit code 7");
    assert!(scenario.peer.requests_to("finish") > 3, "the API is tried all along");
}

#[test]
fn an_api_that_comes_back_within_the_grace_is_told_too() {
    let scenario = Scenario::new("- {id: a, command: ['true']}", |grant| grant.grace_seconds = 30);
    scenario.peer.fault("finish", 4, Fault::Lose);
    assert_eq!(scenario.run().outcome.status, Status::Succeeded);
    assert_eq!(scenario.outcome_file().unwrap().outcome.status, Status::Succeeded, "two witnesses, one truth");
}

#[test]
fn a_lost_reply_of_finish_is_asked_for_again() {
    let scenario = Scenario::new("- {id: a, command: ['true']}", |_| {});
    scenario.peer.fault("finish", 1, Fault::LoseReply);
    scenario.start().ends_with(0);
    let state = scenario.peer.state();
    assert_eq!(state.finishes.len(), 2);
    assert_eq!(state.finishes[0].outcome, state.finishes[1].outcome);
}

#[test]
fn when_nobody_can_be_told_the_exit_status_says_so() {
    let scenario = Scenario::new("- {id: a, command: ['true']}", |grant| {
        grant.grace_seconds = 1;
        grant.lease_seconds = 2;
    });
    scenario.peer.fault("finish", 1_000_000, Fault::Lose);
    scenario.peer.fault("outcome", 1_000_000, Fault::Answer(403));
    scenario.start().ends_with(7);
}

#[test]
fn while_nobody_can_be_told_the_api_is_asked_as_long_as_the_lease_lasts() {
    let scenario = Scenario::new("- {id: a, command: ['true']}", |grant| grant.grace_seconds = 0);
    // More tries than a grace of none is for; its signature has run out.
    scenario.peer.fault("finish", 4, Fault::Lose);
    scenario.peer.fault("outcome", 1_000_000, Fault::Answer(403));
    assert_eq!(scenario.run().outcome.status, Status::Succeeded);
    assert!(scenario.outcome_file().is_none());
}

#[test]
fn a_store_that_stays_away_fails_what_had_to_be_uploaded() {
    let scenario = Scenario::new(&sh("a", "echo 1 > $ROADSTEAD_RESULT", ""), |grant| grant.lease_seconds = 1);
    scenario.peer.fault("/store/result.json", 1_000_000, Fault::Answer(500));
    let outcome = scenario.run().outcome;
    assert_eq!((outcome.status, outcome.retryable), (Status::Failed, true));
    let reason = outcome.reason.unwrap();
    assert_eq!(reason.code, "upload_failed");
    assert_eq!(reason.message, "the object store refused: 500 Internal Server Error");

    let scenario = Scenario::new(&sh("a", "echo 1 > $ROADSTEAD_ARTIFACTS/x.txt", ""), |grant| grant.lease_seconds = 1);
    scenario.peer.fault("x.txt", 1_000_000, Fault::Answer(500));
    let message = scenario.run().outcome.reason.unwrap().message;
    assert_eq!(message, "the artifact `x.txt` could not be kept: the object store refused: 500 Internal Server Error");
}

#[test]
fn a_log_that_can_not_be_shipped_does_not_fail_the_work() {
    let scenario = Scenario::new(&sh("a", "echo hi", ""), |grant| grant.lease_seconds = 1);
    scenario.peer.fault("/store/log", 1_000_000, Fault::Lose);
    let outcome = scenario.run().outcome;
    assert_eq!(outcome.status, Status::Succeeded);
    assert_eq!(outcome.reason.unwrap().code, "log_incomplete");
}

#[test]
fn an_executor_that_slept_through_its_lease_starts_no_further_step() {
    let wait = "echo $$ > {dir}/pid; while [ ! -f {dir}/go ]; do sleep 0.01; done";
    let steps = sh("a", wait, "") + &sh("b", "touch {dir}/further", "needs: [a]");
    let scenario = Scenario::new(&steps, |grant| grant.lease_seconds = 2);
    let executor = scenario.start();
    let step = scenario.pid_in("pid");
    executor.signal(Signal::STOP);
    let stopped = Instant::now();
    fs::write(scenario.path("go"), "").unwrap();
    wait_until("the step's end", || (!runs(step)).then_some(()));
    wait_until("the lease's end", || (stopped.elapsed() > Duration::from_secs(2)).then_some(()));
    executor.signal(Signal::CONT);
    executor.ends_with(0);
    assert!(!scenario.path("further").exists());
    assert_eq!(scenario.finish().outcome.reason.unwrap().code, "lease_ended");
}
