//! Artifacts, whatever they are called and however large they are.

use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, TENANT, id};
use roadstead_e2e::submission::steps;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Names that a URL, a shell or an object key might stumble over.
const NAMES: &[&str] = &[
    "plain.txt",
    "a b.txt",
    "nested/deep/er.txt",
    "ü/日本 😀.txt",
    "x#y?z%20%2F.txt",
    "a+b&c=d;e,f@g:h!$.txt",
    "'quotes' \"too\".txt",
    "(brackets) [and] {braces}.txt",
    "-dash",
    "~tilde",
    ".hidden",
];

async fn download(scene: &Scene, path: &str) -> Vec<u8> {
    let redirect = scene.get(path).await.expect(307);
    let disposition = reqwest::Client::builder().no_proxy().build().unwrap().get(redirect.value("location"));
    let answer = disposition.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    let header = answer.headers().get("content-disposition").unwrap().to_str().unwrap_or("attachment").to_owned();
    assert!(header.starts_with("attachment"), "a browser keeps it and does not show it: {header}");
    answer.bytes().await.unwrap().to_vec()
}

fn encoded(path: &str) -> String {
    let parts = path.split('/').map(|part| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        part.bytes()
            .map(|byte| if plain(&byte) { (byte as char).to_string() } else { format!("%{byte:02X}") })
            .collect::<String>()
    });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn any_name_survives_the_way_to_s3_and_back() {
    let scene = Scene::new().await;
    let script = "for name; do mkdir -p \"$(dirname \"$ROADSTEAD_ARTIFACTS/$name\")\"; printf '%s' \"in $name\" > \"$ROADSTEAD_ARTIFACTS/$name\"; done";
    let argv: Vec<&str> = ["sh", "-c", script, "sh"].iter().chain(NAMES).copied().collect();
    let execution = scene.run(&steps(&json!([{ "id": "main", "command": argv }]))).await;
    assert_eq!(execution["state"], "succeeded", "{execution}");
    let path = format!("/v1/executions/{}/artifacts", id(&execution));
    let mut found: Vec<String> =
        scene.items(&path).await.iter().map(|artifact| artifact["path"].as_str().unwrap().to_owned()).collect();
    found.sort();
    let mut expected = NAMES.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for name in NAMES {
        assert_eq!(
            download(&scene, &format!("{path}/{}", encoded(name))).await,
            format!("in {name}").as_bytes(),
            "{name}"
        );
    }
    for outside in ["..%2fresult.json", "../result.json", "%2e%2e/log/000000", "nested", "nested/", "", "/etc/passwd"] {
        let answer = scene.get(&format!("{path}/{outside}")).await;
        let listing = outside.is_empty() || outside.starts_with("../");
        assert!(
            [404, 400].contains(&answer.status.as_u16()) || listing && answer.status == 200,
            "{outside}: {}",
            answer.text()
        );
    }

    let cli = scene.stack.cli(&scene.api, &scene.stack.key(TENANT, "read").await);
    let ran = cli.run(&["artifacts", &id(&execution), "--download", "kept"]).await;
    assert_eq!(ran.status, 0, "{ran:?}");
    for name in NAMES {
        assert_eq!(std::fs::read_to_string(scene.file("kept").join(name)).unwrap(), format!("in {name}"));
    }
}

#[tokio::test]
async fn an_empty_artifact_and_a_large_one_arrive_whole() {
    let scene = Scene::new().await;
    let script = "cd $ROADSTEAD_ARTIFACTS; : > empty; seq 6000000 > large";
    let execution = scene.succeed(script).await;
    let path = format!("/v1/executions/{}/artifacts", id(&execution));
    let artifacts = scene.items(&path).await;
    assert_eq!((&artifacts[0]["path"], &artifacts[0]["size_bytes"]), (&json!("empty"), &json!(0)));
    assert!(artifacts[1]["size_bytes"].as_u64().unwrap() > 40 << 20, "{artifacts:?}");
    for artifact in &artifacts {
        let content = download(&scene, &format!("{path}/{}", artifact["path"].as_str().unwrap())).await;
        assert_eq!(artifact["size_bytes"], content.len());
        assert_eq!(artifact["sha256"], hex::encode(Sha256::digest(&content)));
    }
}
