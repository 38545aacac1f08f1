//! What leaves the attempt: log, artifacts, result; whole, checked and within their limits.

use crate::harness::{Scenario, sh};
use crate::peer::Fault;
use roadstead_domain::attempt::protocol::{Status, Stream};
use sha2::{Digest, Sha256};
use std::fs;

#[test]
fn artifacts_of_all_sizes_arrive_whole_with_their_hashes() {
    let script = "cd $ROADSTEAD_ARTIFACTS; mkdir -p d/e empty; : > nothing; echo tiny > 'd/a b.txt'; \
        head -c 200000 /dev/urandom > d/e/single; head -c 1300000 /dev/urandom > large; head -c 700000 /dev/urandom > whole; \
        head -c 2100000 /dev/urandom > vast; \
        cp -r . {dir}/copy";
    let scenario = Scenario::new(&sh("a", script, ""), |grant| grant.limits.part_bytes = 300_000);
    // One of the large ones breaks off, and goes in parts. Parts and a small one fail once; each is tried again with a fresh URL.
    scenario.peer.fault("artifacts/large", 1, Fault::Lose);
    scenario.peer.fault("large%232", 1, Fault::Answer(500));
    scenario.peer.fault("large%235", 1, Fault::LoseReply);
    scenario.peer.fault("d/e/single", 1, Fault::Lose);
    let finish = scenario.run();
    assert_eq!(finish.outcome.status, Status::Succeeded);
    let state = scenario.peer.state();
    let paths: Vec<&str> = finish.artifacts.iter().map(|artifact| artifact.path.as_str()).collect();
    assert_eq!(paths, ["d/a b.txt", "d/e/single", "large", "nothing", "vast", "whole"]);
    for artifact in &finish.artifacts {
        let expected = fs::read(scenario.path("copy").join(&artifact.path)).unwrap();
        assert!(state.objects[&format!("artifacts/{}", artifact.path)] == expected, "{}", artifact.path);
        assert_eq!(artifact.size_bytes, expected.len() as u64);
        assert_eq!(artifact.sha256, hex::encode(Sha256::digest(&expected)));
    }
    assert!(state.most_parts_at_once <= 2, "{}", state.most_parts_at_once);
    assert_eq!((state.count("large%23"), state.count("whole%23")), (5 + 2, 0), "{:?}", state.paths());
    assert_eq!((state.count("artifacts/whole"), state.count("vast%23"), state.count("artifacts/vast")), (1, 7, 7));
}

#[test]
fn artifacts_of_a_failed_run_are_kept_too() {
    let scenario = Scenario::new(&sh("a", "echo why > $ROADSTEAD_ARTIFACTS/crash.txt; exit 1", ""), |_| {});
    let finish = scenario.run();
    assert_eq!(finish.outcome.reason.unwrap().code, "step_failed");
    assert_eq!(finish.artifacts.len(), 1);
    assert_eq!(scenario.peer.state().objects["artifacts/crash.txt"], b"why\n");
}

#[test]
fn what_can_not_be_an_artifact_fails_the_attempt_and_nothing_is_uploaded() {
    for (script, code, words) in [
        ("ln -s /etc/passwd link", "artifact_invalid", "the artifact \"link\" is a symbolic link"),
        ("mkfifo d", "artifact_invalid", "the artifact \"d\" is not a regular file"),
        ("touch \"$(printf '\\377')\"", "artifact_invalid", "not UTF-8"),
        ("touch a b c", "artifact_limit", "more than 2 artifacts"),
        ("head -c 2000 /dev/zero > big", "artifact_limit", "\"big\" is 2000 bytes; at most 1000 are accepted"),
    ] {
        let scenario = Scenario::new(&sh("a", &format!("cd $ROADSTEAD_ARTIFACTS; {script}"), ""), |grant| {
            grant.limits.max_artifacts = 2;
            grant.limits.max_artifact_bytes = 1000;
        });
        let finish = scenario.run();
        let reason = finish.outcome.reason.unwrap();
        assert_eq!((finish.outcome.status, reason.code.as_str()), (Status::Failed, code));
        assert!(reason.message.contains(words), "{}", reason.message);
        assert!(!finish.outcome.retryable && finish.artifacts.is_empty());
        assert!(!scenario.peer.state().objects.keys().any(|key| key.starts_with("artifacts/")));
    }
}

#[test]
fn a_result_that_is_not_json_or_too_large_fails_the_attempt() {
    for (script, code) in [
        ("echo '{\"a\":' > $ROADSTEAD_RESULT", "result_invalid"),
        ("ln -s /etc/passwd $ROADSTEAD_RESULT", "result_invalid"),
        ("mkfifo $ROADSTEAD_RESULT", "result_invalid"),
        ("head -c 2000000 /dev/zero | tr '\\0' 1 > $ROADSTEAD_RESULT", "result_too_large"),
    ] {
        let scenario = Scenario::new(&sh("a", script, ""), |_| {});
        let finish = scenario.run();
        assert_eq!((finish.outcome.status, finish.outcome.reason.unwrap().code.as_str()), (Status::Failed, code));
        assert!(!finish.outcome.retryable && finish.result.is_none());
        assert!(!scenario.peer.state().objects.contains_key("result.json"));
    }
}

#[test]
fn a_large_result_is_uploaded_and_does_not_travel_in_the_report() {
    let script = "{ printf '['; head -c 600000 /dev/zero | tr '\\0' 1; printf ']'; } > $ROADSTEAD_RESULT";
    let scenario = Scenario::new(&sh("a", script, ""), |_| {});
    let result = scenario.run().result.unwrap();
    assert_eq!((result.size_bytes, result.inline.is_none()), (600_002, true));
    assert_eq!(scenario.peer.state().objects["result.json"].len(), 600_002);

    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let scenario = Scenario::new(&sh("a", &format!("echo '{deep}' > $ROADSTEAD_RESULT"), ""), |_| {});
    let result = scenario.run().result.unwrap();
    assert_eq!((result.size_bytes, result.inline.is_none()), (131, true));
}

#[test]
fn a_reader_sees_a_line_while_the_step_runs() {
    let script = "echo first; while [ ! -f {dir}/go ]; do sleep 0.01; done; echo second";
    let scenario = Scenario::new(&sh("a", script, ""), |grant| grant.heartbeat_seconds = 2);
    scenario.peer.reply(false, true);
    let executor = scenario.start();
    scenario.peer.wait_for_line("first");
    scenario.peer.wait_for("the segment's report", |state| {
        state.heartbeats.iter().any(|(beat, _)| beat.segments.iter().any(|segment| segment.seq == 0)).then_some(())
    });
    fs::write(scenario.path("go"), "").unwrap();
    executor.ends_with(0);
    assert_eq!(scenario.peer.state().printed(), ["first", "second"]);
}

#[test]
fn what_a_step_printed_last_is_kept_with_or_without_a_line_end() {
    let script = "printf 'no end'; printf 'bad \\377 byte' >&2; head -c 40000 /dev/zero | tr '\\0' x";
    let scenario = Scenario::new(&sh("a", script, ""), |grant| grant.limits.max_line_bytes = 16_000);
    scenario.run();
    let log = scenario.peer.state().log();
    let of = |stream| log.iter().filter(move |line| line.stream == stream).map(|line| line.line.as_str());
    assert_eq!(of(Stream::Stdout).map(str::len).collect::<Vec<_>>(), [16_000, 16_000, 8_006]);
    assert_eq!(of(Stream::Stderr).collect::<Vec<_>>(), ["bad \u{fffd} byte"]);
}

#[test]
fn a_log_past_its_limit_is_cut_counted_and_costs_no_memory() {
    let script = "yes 'some words to fill a line with, again and again' | head -n 1000000; \
        grep RssAnon /proc/$PPID/status > {dir}/memory; echo unseen";
    let scenario = Scenario::new(&sh("a", script, ""), |grant| {
        grant.limits.max_log_bytes = 3_000_000;
        grant.limits.segment_bytes = 500_000;
    });
    assert_eq!(scenario.run().outcome.status, Status::Succeeded);
    let state = scenario.peer.state();
    let shipped: usize =
        state.objects.iter().filter(|(key, _)| key.starts_with("log/")).map(|(_, log)| log.len()).sum();
    assert!((2_900_000..=3_000_000).contains(&shipped), "{shipped}");
    assert!(state.objects.iter().all(|(_, object)| object.len() <= 500_000));
    let log = state.log();
    let last = log.last().unwrap();
    assert_eq!(last.stream, Stream::System);
    let dropped = 1_000_001 - (log.len() - 1);
    assert!(last.line.contains(&format!("limit of 3000000 bytes; {dropped} lines (")), "{}", last.line);

    let memory = fs::read_to_string(scenario.path("memory")).unwrap();
    let kib: u64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 8 * 1024, "{memory}");
}

#[test]
fn a_cancel_while_artifacts_are_uploaded_ends_the_upload() {
    let scenario = Scenario::new(&sh("a", "echo x > $ROADSTEAD_ARTIFACTS/x", ""), |_| {});
    scenario.peer.fault("/store/artifacts", 1_000_000, Fault::Answer(503));
    let executor = scenario.start();
    scenario.peer.wait_for("an upload", |state| (state.count("/store/artifacts") > 1).then_some(()));
    scenario.peer.reply(true, false);
    executor.ends_with(0);
    assert_eq!(scenario.finish().outcome.status, Status::Cancelled);
}
