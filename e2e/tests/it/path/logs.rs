//! Logs of programs that print what they like.

use roadstead_e2e::scene::{Executions, Scene, id};
use serde_json::Value;

#[tokio::test]
async fn a_long_log_is_whole_in_order_and_can_be_read_from_its_end() {
    let scene = Scene::new().await;
    let execution = scene.succeed("seq 300000; printf 'the last line has no end'").await;
    let path = format!("/v1/executions/{}/logs", id(&execution));
    let text = scene.get_as(&path, "text/plain").await.expect(200).text();
    let expected = (1..=300_000).map(|n: u32| n.to_string() + "\n").collect::<String>();
    assert!(text.starts_with(&expected), "it begins {:?}", &text[..100.min(text.len())]);
    assert_eq!(&text[expected.len()..], "the last line has no end\n");
    let segments = scene.stack.sql_value("SELECT count(*) FROM log_segments").await;
    assert!(segments.parse::<u32>().unwrap() > 3, "it is in several objects: {segments}");

    for tail in [0_usize, 1, 2, 50_000, 100_000] {
        let tailed = scene.get_as(&format!("{path}?tail={tail}"), "text/plain").await.expect(200).text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(tailed.lines().eq(lines[lines.len() - tail..].iter().copied()), "the last {tail} lines");
    }
    let lines = scene.get_as(&format!("{path}?tail=3"), "application/x-ndjson").await.text();
    let numbers: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["n"].clone()).collect();
    assert_eq!(numbers, [299_998, 299_999, 300_000]);
}

#[tokio::test]
async fn what_is_no_text_is_told_as_well_as_it_can_be() {
    let scene = Scene::new().await;
    let script = "printf 'a\\000b\\n'; printf '\\377\\376x\\n'; printf 'cr\\r\\n'; printf '\\033[31mred\\033[0m\\n'; printf '\\n'; \
                  printf '{\"json\": \"\\342\\202\\254\"}\\n'; head -c 200000 /dev/zero | tr '\\0' x; echo; echo end";
    let execution = scene.succeed(script).await;
    let path = format!("/v1/executions/{}/logs", id(&execution));
    let text = scene.get_as(&path, "text/plain").await.expect(200).text();
    let lines: Vec<&str> = text.split_terminator('\n').collect();
    assert_eq!(lines[..6], ["a\0b", "\u{fffd}\u{fffd}x", "cr", "\u{1b}[31mred\u{1b}[0m", "", "{\"json\": \"€\"}"]);
    let long = &lines[6..lines.len() - 1];
    assert!(long.len() > 1, "a line too long is cut");
    assert_eq!(long.concat(), "x".repeat(200_000));
    assert_eq!(lines[lines.len() - 1], "end");
    let raw = scene.get_as(&path, "application/x-ndjson").await.expect(200).text();
    let told: Vec<Value> = raw.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told[0]["line"], "a\0b");
    assert_eq!(told.len(), lines.len());
}
