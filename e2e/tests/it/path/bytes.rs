//! Inputs and results keep the bytes that were sent.

use bytes::Bytes;
use futures_util::stream;
use rand::{Rng, SeedableRng};
use reqwest::{Body, Method};
use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, TENANT, id};
use roadstead_e2e::submission::{With, shell};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A document that no parser gives back as it was.
const ODD: &str = "{ \"b\" : 1.50,\t\"a\":[1E2, -0.0,1000000000000000000000000000001], \"\\u00e9\\/\\uD83D\\uDE00\": \"\\u00e9é\\u007f\",\n  \"a \": { } }";

#[tokio::test]
async fn an_input_keeps_its_bytes_on_the_way_to_the_step_and_back() {
    let scene = Scene::new().await;
    let definition = shell("cp \"$ROADSTEAD_INPUT\" \"$ROADSTEAD_RESULT\"")["spec"].to_string();
    let answer = scene.submit_text(&[], &format!("{{\"spec\": {definition} , \"input\":\n {ODD}\t}}")).await;
    let id = id(&answer.ok(202));
    assert_eq!(scene.ended(&id).await["state"], "succeeded");
    assert_eq!(scene.get(&format!("/v1/executions/{id}/result")).await.expect(200).text(), ODD);
    assert!(scene.get(&format!("/v1/executions/{id}")).await.text().contains(&format!("\"result\":{ODD}")));
}

#[tokio::test]
async fn a_result_keeps_its_bytes_whatever_it_holds() {
    let scene = Scene::new().await;
    let result = "[\"\\u0000\", {\"z\": 1.50, \"a\": 1.50}, \"\\ud83d\\ude00\"]\n";
    // By printf, because no string of a definition may hold U+0000.
    let script =
        "printf '[\"\\\\u0000\", {\"z\": 1.50, \"a\": 1.50}, \"\\\\ud83d\\\\ude00\"]\\n' > \"$ROADSTEAD_RESULT\"";
    let execution = scene.succeed(script).await;
    let path = format!("/v1/executions/{}", id(&execution));
    assert_eq!(scene.get(&format!("{path}/result")).await.expect(200).text(), result);
    let whole = scene.get(&path).await.text();
    assert!(whole.contains(&format!("\"result\":{}", result.trim_end())), "{whole}");
}

#[tokio::test]
async fn a_result_too_large_for_a_row_is_behind_its_link() {
    let scene = Scene::new().await;
    let execution = scene
        .succeed("{ printf '\"'; head -c 300000 /dev/zero | tr '\\0' x; printf '\"'; } > \"$ROADSTEAD_RESULT\"")
        .await;
    assert!(execution["result"].is_null());
    let result = scene.get(execution["links"]["result"].as_str().unwrap()).await.expect(200);
    assert_eq!(result.text(), format!("\"{}\"", "x".repeat(300_000)));
}

#[tokio::test]
async fn no_input_is_null_and_no_result_is_a_problem_of_its_own() {
    let scene = Scene::new().await;
    let execution = scene.run(&shell("cat \"$ROADSTEAD_INPUT\"")).await;
    let id = id(&execution);
    assert_eq!(scene.log(&id).await, "null\n");
    scene.get(&format!("/v1/executions/{id}/result")).await.problem(404, "no-result");
}

/// A JSON string of so many bytes that nothing can compress.
fn noise(bytes: usize) -> Vec<u8> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
    let mut random = rand::rngs::SmallRng::seed_from_u64(7);
    let mut text: Vec<u8> = (0..bytes - 2).map(|_| LETTERS[random.random_range(0..LETTERS.len())]).collect();
    text.insert(0, b'"');
    text.push(b'"');
    text
}

const MEASURE: &str = "printf '{\"sha256\":\"%s\",\"bytes\":%d}' \"$(sha256sum < \"$ROADSTEAD_INPUT\" | cut -c 1-64)\" \
                       \"$(wc -c < \"$ROADSTEAD_INPUT\")\" > \"$ROADSTEAD_RESULT\"";

fn measured(input: &[u8]) -> Value {
    json!({ "sha256": hex::encode(Sha256::digest(input)), "bytes": input.len() })
}

#[tokio::test]
async fn inputs_on_both_sides_of_what_fits_a_row_arrive_whole() {
    let scene = Scene::new().await;
    for bytes in [64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 200_000] {
        let input = noise(bytes);
        let definition = shell(MEASURE)["spec"].to_string();
        let body = format!("{{\"input\":{},\"spec\":{definition}}}", String::from_utf8(input.clone()).unwrap());
        let id = id(&scene.submit_text(&[], &body).await.ok(202));
        assert_eq!(scene.ended(&id).await["result"], measured(&input), "{bytes} bytes");
        let payload = scene.stack.s3.object(&scene.stack.content_bucket, &format!("{TENANT}/{id}/payload.json"));
        assert_eq!(payload.is_some(), bytes > 64 * 1024, "{bytes} bytes");
    }
}

#[tokio::test]
async fn a_trace_is_passed_on_to_the_steps_of_who_asked() {
    const PARENTS: [&str; 2] = [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00",
    ];
    let scene = Scene::new().await;
    let told = |parent: Option<&str>| parent.map_or_else(|| json!("none"), |parent| json!(parent));
    let body = shell("printf '\"%s\"' \"${TRACEPARENT:-none}\" > $ROADSTEAD_RESULT").to_string();
    let ask = async |path: &str, body: &str, parent: Option<&'static str>| {
        let mut request =
            scene.request(Method::POST, path).header("content-type", "application/json").body(body.to_owned());
        if let Some(parent) = parent {
            request = request.header("traceparent", parent);
        }
        let id = id(&scene.send(request).await.ok(202));
        assert_eq!(scene.ended(&id).await["result"], told(parent));
        id
    };
    ask("/v1/executions", &body, None).await;
    let first = ask("/v1/executions", &body, Some(PARENTS[0])).await;
    ask(&format!("/v1/executions/{first}/retry"), "", Some(PARENTS[1])).await;
    ask(&format!("/v1/executions/{first}/retry"), "", None).await;
}

#[tokio::test]
async fn a_large_input_is_streamed_and_kept_by_a_retry() {
    let scene = Scene::new().await;
    let input = noise(20 << 20);
    let definition = shell(MEASURE).with(json!({ "labels": { "size": "large" } })).to_string();
    let mut pieces = vec![Bytes::from(format!("{},\"input\":", definition.strip_suffix('}').unwrap()))];
    pieces.extend(input.chunks(61_441).map(Bytes::copy_from_slice));
    pieces.push(Bytes::from_static(b"}"));
    let body = Body::wrap_stream(stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)));
    let request = scene.request(Method::POST, "/v1/executions").header("content-type", "application/json").body(body);
    let first = id(&scene.send(request).await.ok(202));
    assert_eq!(scene.ended(&first).await["result"], measured(&input));

    let second = scene.ask(&format!("/v1/executions/{first}/retry")).await.ok(202);
    assert_eq!(second["retry_of"], first);
    assert_eq!(scene.ended(&id(&second)).await["result"], measured(&input));
}
