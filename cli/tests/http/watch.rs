//! Watching to the end, and listing page after page.

use crate::server::{Asked, ID, Server, answer, execution, problem};
use serde_json::Value;

fn is_wait(asked: &Asked) -> bool {
    asked.path.ends_with("?wait=30s")
}

#[tokio::test]
async fn the_exit_status_tells_how_it_ended_only_when_asked() {
    for (state, expected) in [("succeeded", 0), ("failed", 1), ("timed_out", 1), ("cancelled", 1)] {
        let server = Server::start(move |_, asked| {
            if asked.path.ends_with("/attempts") {
                answer(200, r#"{"items":[{"attempt":1,"steps":[{"id":"split","state":"succeeded","tries":1}]}]}"#)
            } else {
                answer(200, execution(state))
            }
        })
        .await;
        assert_eq!(server.run(&["watch", ID]).await.status, 0);
        let ran = server.run(&["watch", ID, "--exit-status", "--format", "json"]).await;
        assert_eq!(ran.status, expected, "{state}");
        assert_eq!(ran.stdout, format!("{}\n", execution(state)), "data only");
        assert!(ran.stderr.contains("step split: succeeded"), "{}", ran.stderr);
        let ran = server.run(&["submit", "count", "--watch"]).await;
        assert_eq!(ran.status, expected, "{state}");
    }
}

#[tokio::test]
async fn the_api_may_go_away_while_an_execution_is_watched() {
    let server = Server::start(|number, asked| match number {
        _ if !is_wait(asked) => answer(200, execution("running")),
        0 => answer(200, execution("running")),
        1..=8 => problem(503, "away"),
        _ => answer(200, execution("succeeded")),
    })
    .await;
    let ran = server.run(&["watch", ID, "--exit-status"]).await;
    assert_eq!(ran.status, 0, "{}", ran.stderr);
}

#[tokio::test]
async fn watching_what_is_not_there_is_not_found() {
    let server = Server::start(|_, _| problem(404, "no such execution")).await;
    assert_eq!(server.run(&["watch", ID]).await.status, 3);
    assert_eq!(server.run(&["watch", "nonsense"]).await.status, 3);
}

#[tokio::test]
async fn a_list_is_read_page_after_page() {
    let server = Server::start(|_, asked| {
        let page = if asked.path.contains("cursor=c1") { (2, "null") } else { (100, r#""c1""#) };
        let items = vec![execution("queued"); page.0].join(",");
        answer(200, format!(r#"{{"items":[{items}],"next_cursor":{}}}"#, page.1))
    })
    .await;
    let arguments = ["list", "--all", "--state", "queued", "--label", "a=b", "--label", "c=d", "--format", "json"];
    let all: Value = serde_json::from_str(&server.run(&arguments).await.stdout).unwrap();
    assert_eq!((all["items"].as_array().unwrap().len(), &all["next_cursor"]), (102, &Value::Null));
    assert_eq!(server.asked()[0].path, "/v1/executions?state=queued&limit=100&label=a%3Ab&label=c%3Ad");
    let ran = server.run(&["list", "--limit", "7"]).await;
    assert_eq!(ran.stdout.lines().count(), 8, "a heading and seven rows");
}
