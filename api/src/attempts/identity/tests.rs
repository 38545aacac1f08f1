//! Tokens of a cluster of these tests' own: each way in which one can fail to prove an attempt, and the start that the right one is granted.

use super::keyring::{Documents, PAUSE, Publisher};
use super::token::Unproven;
use super::{Identity, Refusal};
use crate::attempts;
use crate::envelope::envelop;
use crate::state::App;
use actix_web::dev::ServiceResponse;
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use actix_web::web;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
};
use roadstead_backend::config::{ApiConfig, KubernetesConfig, LaunchTimes, Reader};
use roadstead_backend::secrets;
use roadstead_backend::store::claim::{self, Claim, Wanted};
use roadstead_backend::store::repeats::Repeats;
use roadstead_backend::store::submit::{NewExecution, Submission, Submitted, submit};
use roadstead_backend::store::{Database, database, tenants};
use roadstead_domain::attempt::placement::job_name;
use roadstead_domain::execution::Priority;
use roadstead_domain::ids::{AttemptId, ExecutionId};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::advance;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A key by which the cluster signs.
struct Signer {
    id: &'static str,
    pair: EcdsaKeyPair,
    algorithm: &'static str,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        Self::with(id, &ECDSA_P256_SHA256_FIXED_SIGNING, "ES256")
    }

    fn with(id: &'static str, kind: &'static EcdsaSigningAlgorithm, algorithm: &'static str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self { id, pair: EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).unwrap(), algorithm }
    }

    fn jwk(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(self.pair.public_key().as_ref().len() / 2);
        let curve = if self.algorithm == "ES256" { "P-256" } else { "P-384" };
        json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": curve, "alg": self.algorithm, "x": encoded(x), "y": encoded(y)})
    }

    fn header(&self) -> Value {
        json!({"alg": self.algorithm, "kid": self.id})
    }

    fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }

    fn token_with(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encoded(signature.as_ref()))
    }
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// What the cluster publishes at the moment; `None`: it does not answer.
struct Published {
    documents: Mutex<Option<Documents>>,
    asked: AtomicUsize,
}

impl Published {
    fn keys(signers: &[&Signer]) -> Arc<Self> {
        let published = Arc::new(Self { documents: Mutex::default(), asked: AtomicUsize::default() });
        published.publish(signers);
        published
    }

    fn publish(&self, signers: &[&Signer]) {
        self.publish_as(ISSUER, signers);
    }

    fn publish_as(&self, issuer: &str, signers: &[&Signer]) {
        let others = json!({"kty": "OKP", "crv": "Ed25519", "kid": "of another kind", "x": "AA"});
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).chain([others, json!(7)]).collect();
        *self.documents.lock().unwrap() = Some(Documents {
            configuration: json!({"issuer": issuer, "jwks_uri": "https://10.0.0.1:6443/openid/v1/jwks"}).to_string(),
            keys: json!({ "keys": keys }).to_string(),
        });
    }

    fn fall_silent(&self) {
        *self.documents.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Publisher for Published {
    fn published(&self) -> BoxFuture<'static, anyhow::Result<Documents>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let documents = self.documents.lock().unwrap().clone();
        async move { documents.ok_or_else(|| anyhow::anyhow!("connection refused")) }.boxed()
    }
}

fn config(database_url: &str, namespace: &str) -> ApiConfig {
    let variables = [
        ("LAUNCHER", "kubernetes"),
        ("KUBERNETES_NAMESPACE", namespace),
        ("DATABASE_URL", database_url),
        ("REDIS_URL", "redis://127.0.0.1:1"),
        ("S3_ENDPOINT", "http://127.0.0.1:1"),
        ("S3_REGION", "us-east-1"),
        ("S3_ACCESS_KEY_ID", "nobody"),
        ("S3_SECRET_ACCESS_KEY", "nothing"),
        ("META_BUCKET_NAME", "meta"),
        ("CONTENT_BUCKET_NAME", "content"),
    ];
    let mut reader = Reader::new(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let config = ApiConfig::read(&mut reader);
    reader.finish(config).unwrap()
}

fn kubernetes(namespace: &str) -> KubernetesConfig {
    config("postgres://nobody@127.0.0.1:1/none", namespace).kubernetes.unwrap()
}

/// Not to be asked where one namespace is everybody's.
fn no_database() -> Database {
    Database::new(&config("postgres://nobody@127.0.0.1:1/none", "roadstead").database)
}

fn attempt(number: i32) -> AttemptId {
    AttemptId { execution_id: "01939d3c-7c1e-7000-8000-0000000000aa".parse().unwrap(), attempt: number }
}

/// What the kubelet asks for, of the pod of an attempt.
fn claims(namespace: &str, pod: &str) -> Value {
    let now = crate::clock::now().timestamp();
    json!({
        "iss": ISSUER,
        "sub": format!("system:serviceaccount:{namespace}:roadstead-executor"),
        "aud": ["roadstead"],
        "exp": now + 600, "iat": now, "nbf": now, "jti": "e51f1fbc-4733-4b85-a59f-ba80c0523874",
        "kubernetes.io": {
            "namespace": namespace,
            "node": {"name": "node-1", "uid": "517eb86e-b863-451b-bf70-86cb61439a3a"},
            "pod": {"name": pod, "uid": "0d8b260e-ef0e-45fb-be8e-ff44f97722e8"},
            "serviceaccount": {"name": "roadstead-executor", "uid": "e6a8680e-d103-4cce-80ea-03acbbeacf7d"},
        },
    })
}

fn pod(attempt: AttemptId) -> String {
    format!("{}-x7k2p", job_name(attempt))
}

fn changed(mut claims: Value, pointer: &str, value: Value) -> Value {
    *claims.pointer_mut(pointer).unwrap() = value;
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name).unwrap();
    claims
}

async fn verdict(identity: &Identity, attempt: AttemptId, token: &str) -> Result<(), Unproven> {
    match identity.judge(attempt, token, &no_database()).await {
        Ok(()) => Ok(()),
        Err(Refusal::Unproven(why)) => Err(why),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_pods_token_proves_its_own_attempt_and_no_other() {
    let (p256, p384) = (Signer::new("one"), Signer::with("two", &ECDSA_P384_SHA384_FIXED_SIGNING, "ES384"));
    let identity = Identity::new(&kubernetes("roadstead"), Published::keys(&[&p256, &p384]));
    for signer in [&p256, &p384] {
        let token = signer.token(&claims("roadstead", &pod(attempt(1))));
        assert_eq!(verdict(&identity, attempt(1), &token).await, Ok(()));
        let one_audience = changed(claims("roadstead", &pod(attempt(1))), "/aud", json!("roadstead"));
        assert_eq!(verdict(&identity, attempt(1), &signer.token(&one_audience)).await, Ok(()));
        for other in [attempt(2), attempt(11), AttemptId { execution_id: ExecutionId::new(), attempt: 1 }] {
            assert_eq!(verdict(&identity, other, &token).await, Err(Unproven::Pod));
        }
        let eleventh = signer.token(&claims("roadstead", &pod(attempt(11))));
        assert_eq!(verdict(&identity, attempt(1), &eleventh).await, Err(Unproven::Pod));
    }
}

#[tokio::test]
async fn each_claim_that_is_not_the_attempts_pods_is_found_out() {
    let signer = Signer::new("one");
    let identity = Identity::new(&kubernetes("roadstead"), Published::keys(&[&signer]));
    let right = || claims("roadstead", &pod(attempt(1)));
    let with = |pointer, value| changed(right(), pointer, value);
    let now = crate::clock::now().timestamp();
    let job = job_name(attempt(1));
    for (claims, why) in [
        (with("/aud", json!(["https://kubernetes.default.svc"])), Unproven::Audience),
        (with("/aud", json!([])), Unproven::Audience),
        (with("/aud", json!("roadstead2")), Unproven::Audience),
        (with("/aud", json!({"roadstead": 1})), Unproven::Claims),
        (without(right(), "iss"), Unproven::Claims),
        (with("/exp", json!(now - 61)), Unproven::Expired),
        (with("/exp", json!(i64::MIN)), Unproven::Expired),
        (with("/exp", json!("never")), Unproven::Claims),
        (with("/exp", json!(1e300)), Unproven::Claims),
        (with("/nbf", json!(now + 120)), Unproven::Early),
        (with("/nbf", json!(i64::MAX)), Unproven::Early),
        (with("/nbf", json!("99999999999")), Unproven::Claims),
        (with("/sub", json!("system:serviceaccount:roadstead:default")), Unproven::ServiceAccount),
        (with("/sub", json!("system:serviceaccount:roadstead:roadstead-executor2")), Unproven::ServiceAccount),
        (with("/sub", json!("system:serviceaccount:other:roadstead-executor")), Unproven::ServiceAccount),
        (with("/sub", json!("roadstead-executor")), Unproven::ServiceAccount),
        (with("/kubernetes.io/namespace", json!("other")), Unproven::Namespace),
        (claims("other", &pod(attempt(1))), Unproven::Namespace),
        (with("/kubernetes.io/pod/name", json!(job)), Unproven::Pod),
        (with("/kubernetes.io/pod/name", json!(format!("{job}-"))), Unproven::Pod),
        (with("/kubernetes.io/pod/name", json!(format!("{job}1-x7k2p"))), Unproven::Pod),
        (with("/kubernetes.io/pod/name", json!(format!("{job}-x7k2p-x7k2p"))), Unproven::Pod),
        (with("/kubernetes.io/pod/name", json!(format!("x{job}-x7k2p"))), Unproven::Pod),
        (with("/kubernetes.io/pod/name", json!(format!("{}-x7k2p", job.to_uppercase()))), Unproven::Pod),
        (with("/kubernetes.io/pod", json!(null)), Unproven::Claims),
        (with("/kubernetes.io", json!({"namespace": "roadstead"})), Unproven::Claims),
        (without(right(), "kubernetes.io"), Unproven::Claims),
        (without(right(), "exp"), Unproven::Claims),
        (without(right(), "nbf"), Unproven::Claims),
        (without(right(), "aud"), Unproven::Claims),
        (json!([]), Unproven::Claims),
    ] {
        assert_eq!(verdict(&identity, attempt(1), &signer.token(&claims)).await, Err(why), "{claims}");
    }
    // Clocks differ, by a minute at most.
    for near in [with("/exp", json!(now - 40)), with("/nbf", json!(now + 60))] {
        assert_eq!(verdict(&identity, attempt(1), &signer.token(&near)).await, Ok(()), "{near}");
    }
}

#[tokio::test]
async fn what_the_cluster_did_not_sign_is_worth_nothing() {
    let (signer, stranger) = (Signer::new("one"), Signer::new("one"));
    let p384 = Signer::with("two", &ECDSA_P384_SHA384_FIXED_SIGNING, "ES384");
    let identity = Identity::new(&kubernetes("roadstead"), Published::keys(&[&signer, &p384]));
    let right = claims("roadstead", &pod(attempt(1)));
    let token = signer.token(&right);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let other = encoded(claims("roadstead", &pod(attempt(2))).to_string().as_bytes());

    let unsigned = |algorithm: &str| encoded(json!({"alg": algorithm, "kid": "one"}).to_string().as_bytes());
    let shared_secret = |secret: &[u8]| {
        let signed = format!("{}.{payload}", unsigned("HS256"));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", encoded(tag.as_ref()))
    };
    let named = |header: Value| signer.token_with(&header, &right);
    for (token, why) in [
        (stranger.token(&right), Unproven::Signature),
        (format!("{header}.{other}.{signature}"), Unproven::Signature),
        (format!("{header}.{payload}."), Unproven::Signature),
        (format!("{header}.{payload}.{}", encoded(&[0; 64])), Unproven::Signature),
        (format!("{}.{payload}.", unsigned("none")), Unproven::Algorithm),
        (format!("{}.{payload}.", unsigned("None")), Unproven::Algorithm),
        (format!("{}.{payload}.{signature}", unsigned("none")), Unproven::Algorithm),
        (shared_secret(signer.pair.public_key().as_ref()), Unproven::Algorithm),
        (shared_secret(signer.jwk().to_string().as_bytes()), Unproven::Algorithm),
        (named(json!({"alg": "RS256", "kid": "one"})), Unproven::Algorithm),
        (named(json!({"alg": "ES384", "kid": "one"})), Unproven::Algorithm),
        (named(json!({"alg": "ES256", "kid": "two"})), Unproven::Algorithm),
        (named(json!({"alg": "ES256"})), Unproven::Algorithm),
        (named(json!({"alg": "ES256", "kid": "one", "crit": ["b64"], "b64": false})), Unproven::Algorithm),
        (named(json!({"alg": "ES256", "kid": "of another kind"})), Unproven::UnknownKey),
        (format!("{token}."), Unproven::Malformed),
        (format!("{token}="), Unproven::Malformed),
        (format!("{header}.{payload}"), Unproven::Malformed),
        (format!(".{payload}.{signature}"), Unproven::Algorithm),
        (format!("{header}.{payload}.{payload}.{signature}"), Unproven::Malformed),
        ("hush".to_owned(), Unproven::Malformed),
        ("..".to_owned(), Unproven::Algorithm),
        ("x".repeat(20_000), Unproven::Malformed),
    ] {
        // The first unknown key is asked for; the cluster was asked for these keys in this very moment.
        let identity = match why {
            Unproven::UnknownKey => &Identity::new(&kubernetes("roadstead"), Published::keys(&[&signer])),
            _ => &identity,
        };
        assert_eq!(verdict(identity, attempt(1), &token).await, Err(why), "{token}");
    }
    assert_eq!(verdict(&identity, attempt(1), &token).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_has_another_issuer_is_asked_for_it_before_its_pods_are_refused() {
    let (signer, newer) = (Signer::new("one"), Signer::new("two"));
    let published = Published::keys(&[&signer]);
    let identity = Identity::new(&kubernetes("roadstead"), Arc::clone(&published) as Arc<Published>);
    let of = |signer: &Signer, issuer: &str| {
        signer.token(&changed(claims("roadstead", &pod(attempt(1))), "/iss", json!(issuer)))
    };
    let judge = async |token: String| {
        // Else the last question would be no older than this token.
        advance(Duration::from_millis(1)).await;
        identity.judge(attempt(1), &token, &no_database()).await
    };
    assert!(judge(of(&signer, ISSUER)).await.is_ok());

    published.publish_as("https://restored", &[&signer]);
    let unknown = judge(of(&signer, "https://restored")).await;
    assert!(matches!(unknown, Err(Refusal::Keys(_))), "it can't be told yet: {unknown:?}");
    assert!(judge(of(&signer, ISSUER)).await.is_ok(), "nobody said otherwise yet");
    advance(PAUSE).await;
    assert!(judge(of(&signer, "https://restored")).await.is_ok());
    assert_eq!(published.asked(), 2);

    for issuer in [ISSUER, "https://elsewhere", ""] {
        assert!(matches!(judge(of(&signer, issuer)).await, Err(Refusal::Keys(_))), "{issuer}");
        let asked = published.asked();
        advance(PAUSE).await;
        let refused = judge(of(&signer, issuer)).await;
        assert!(matches!(refused, Err(Refusal::Unproven(Unproven::Issuer))), "{issuer}: {refused:?}");
        assert_eq!(published.asked(), asked + 1);
    }
    // Whom the cluster did not sign for is no reason to ask it.
    let (asked, stranger) = (published.asked(), Signer::new("one"));
    advance(PAUSE).await;
    for _ in 0..100 {
        let refused = judge(of(&stranger, "https://elsewhere")).await;
        assert!(matches!(refused, Err(Refusal::Unproven(Unproven::Signature))), "{refused:?}");
    }
    assert_eq!(published.asked(), asked);

    published.fall_silent();
    assert!(matches!(judge(of(&signer, "https://again")).await, Err(Refusal::Keys(_))));
    assert!(judge(of(&signer, "https://restored")).await.is_ok(), "its last word counts");
    // A key that went with the issuer that it signed for is worth nothing, whatever else was signed with it.
    published.publish_as("https://again", &[&newer]);
    advance(PAUSE).await;
    let refused = judge(of(&signer, "https://again")).await;
    assert!(matches!(refused, Err(Refusal::Unproven(Unproven::Issuer))), "{refused:?}");
    assert!(judge(of(&newer, "https://again")).await.is_ok());
}

fn execution() -> NewExecution {
    NewExecution {
        id: ExecutionId::new(),
        priority: Priority::Normal,
        workflow: None,
        spec: Some(r#"{"steps":[{"id":"a","command":["true"]}]}"#.into()),
        input: None,
        input_bytes: 0,
        timeout_seconds: 60,
        max_attempts: 3,
        labels: None,
        traceparent: None,
        retry_of: None,
        created_at: crate::clock::now(),
        run_at: None,
        queue_deadline: None,
        enqueued: true,
    }
}

/// An API under `LAUNCHER=kubernetes` over a database of its own, whose cluster is `published`.
async fn api(namespace: &str, published: Arc<Published>) -> web::Data<App> {
    let mut config = config(&roadstead_testkit::servers().await.new_database().await, namespace);
    let kubernetes = config.kubernetes.take().unwrap();
    database::migrate(&config.database).await.unwrap();
    let mut app = App::new(config, slog::Logger::root(slog::Discard, slog::o!()), None).unwrap();
    app.identity = Some(Identity::new(&kubernetes, published));
    app.note_migrated();
    for tenant in ["acme", "umbrella"] {
        tenants::set(&mut app.database.get().await.unwrap(), tenant, tenants::Change::default()).await.unwrap();
    }
    web::Data::new(app)
}

/// An attempt that waits for its start: without a credential, or with this one.
async fn launched(app: &App, tenant: &str, credential: Option<&str>) -> AttemptId {
    let connection = &mut app.database.get().await.unwrap();
    let (execution, tenant) = (execution(), tenant.to_owned());
    let id = execution.id;
    let submission = Submission { tenant: tenant.clone(), idempotency: None, executions: vec![execution] };
    assert!(matches!(submit(connection, &[submission], &Repeats::default()).await.unwrap()[..], [Submitted::Recorded]));
    let wanted = [Wanted { tenant, id, launch_hash: credential.map(secrets::hash) }];
    let times = LaunchTimes { launch_lease: Duration::from_secs(15), start_timeout: Duration::from_secs(300) };
    let claims = claim::claim(connection, &wanted, "worker-1", 100, times).await.unwrap();
    assert!(matches!(claims[&id], Claim::Claimed { attempt: 1, .. }));
    AttemptId { execution_id: id, attempt: 1 }
}

macro_rules! serve {
    ($app:expr) => {
        init_service(actix_web::App::new().app_data($app.clone()).wrap(from_fn(envelop)).configure(attempts::routes))
            .await
    };
}

fn request(attempt: AttemptId, token: &str, session: char) -> TestRequest {
    TestRequest::post()
        .uri(&format!("/v1/attempts/{}/{}/start", attempt.execution_id, attempt.attempt))
        .insert_header(("authorization", format!("Bearer {token}")))
        .set_json(json!({"session_token": session.to_string().repeat(64)}))
}

/// Status, `Retry-After`, body.
async fn answered(response: ServiceResponse) -> (u16, Option<String>, Value) {
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (status, retry_after, read_body_json(response).await)
}

macro_rules! ask {
    ($service:expr, $attempt:expr, $token:expr, $session:expr) => {
        answered(call_service(&$service, request($attempt, $token, $session).to_request()).await).await
    };
}

#[actix_web::test]
async fn a_start_is_granted_to_the_attempts_pod_once() {
    let signer = Signer::new("one");
    let app = api("roadstead", Published::keys(&[&signer])).await;
    let service = serve!(app);
    let attempt = launched(&app, "acme", None).await;
    let token = signer.token(&claims("roadstead", &pod(attempt)));

    let nobody = |answer: (u16, Option<String>, Value)| {
        assert_eq!((answer.0, answer.2["detail"].as_str()), (401, Some("the token does not prove this attempt")));
        assert_eq!(answer.2["type"], "https://roadstead.dev/problems/unauthenticated");
    };
    nobody(ask!(service, attempt, "credential", 'a'));
    nobody(ask!(service, attempt, &signer.token(&claims("elsewhere", &pod(attempt))), 'a'));
    let other = launched(&app, "acme", None).await;
    nobody(ask!(service, other, &token, 'a'));
    nobody(ask!(service, AttemptId { attempt: 11, ..attempt }, &token, 'a'));

    let (status, _, grant) = ask!(service, attempt, &token, 'a');
    assert_eq!((status, grant["timeout_seconds"].as_u64()), (200, Some(60)));
    assert_eq!(grant["workflow"]["steps"][0]["id"], "a");
    assert_eq!(ask!(service, attempt, &token, 'a').0, 200, "the reply was lost");
    assert_eq!(ask!(service, attempt, &token, 'b').0, 410, "the same token in another process");
    // The cluster has one word for all attempts, and a launcher's credential is not it.
    let with_credential = launched(&app, "acme", Some("credential")).await;
    nobody(ask!(service, with_credential, "credential", 'a'));
    let proven = signer.token(&claims("roadstead", &pod(with_credential)));
    assert_eq!(ask!(service, with_credential, &proven, 'a').0, 410);
}

#[actix_web::test]
async fn a_pod_of_another_tenants_namespace_proves_nothing() {
    let signer = Signer::new("one");
    let app = api("sandbox-%s", Published::keys(&[&signer])).await;
    let service = serve!(app);
    let attempt = launched(&app, "acme", None).await;
    for namespace in ["sandbox-umbrella", "sandbox-", "sandbox-%s", "acme"] {
        let token = signer.token(&claims(namespace, &pod(attempt)));
        assert_eq!(ask!(service, attempt, &token, 'a').0, 401, "{namespace}");
    }
    let nowhere = AttemptId { execution_id: ExecutionId::new(), attempt: 1 };
    assert_eq!(ask!(service, nowhere, &signer.token(&claims("sandbox-acme", &pod(nowhere))), 'a').0, 401);
    assert_eq!(ask!(service, attempt, &signer.token(&claims("sandbox-acme", &pod(attempt))), 'a').0, 200);
}

#[actix_web::test]
async fn while_the_keys_can_not_be_had_a_start_is_to_be_asked_for_again() {
    let signer = Signer::new("one");
    let published = Published::keys(&[]);
    published.fall_silent();
    let app = api("roadstead", Arc::clone(&published) as Arc<Published>).await;
    let service = serve!(app);
    let attempt = launched(&app, "acme", None).await;
    let token = signer.token(&claims("roadstead", &pod(attempt)));
    let (status, retry_after, problem) = ask!(service, attempt, &token, 'a');
    assert_eq!((status, retry_after.as_deref()), (503, Some("2")));
    assert!(!problem.to_string().contains("connection refused"), "{problem}");

    published.publish(&[&signer]);
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while ask!(service, attempt, &token, 'a').0 == 503 {
        assert!(tokio::time::Instant::now() < until, "the keys are published again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(ask!(service, attempt, &token, 'a').0, 200);
    // A key that is newer than the answer: whether the cluster has it is not known before it is asked again.
    let newer = Signer::new("two").token(&claims("roadstead", &pod(attempt)));
    let (status, retry_after, _) = ask!(service, attempt, &newer, 'a');
    assert_eq!(status, 503);
    assert!((1..=10).contains(&retry_after.unwrap().parse::<u32>().unwrap()));
    let restored = changed(claims("roadstead", &pod(attempt)), "/iss", json!("https://restored"));
    let (status, retry_after, _) = ask!(service, attempt, &signer.token(&restored), 'a');
    assert_eq!(status, 503);
    assert!((1..=10).contains(&retry_after.unwrap().parse::<u32>().unwrap()));
}

#[actix_web::test]
async fn where_no_cluster_vouches_an_attempt_without_a_credential_can_not_be_started() {
    let signer = Signer::new("one");
    let data = api("roadstead", Published::keys(&[&signer])).await;
    let app = App::new((*data.config).clone(), slog::Logger::root(slog::Discard, slog::o!()), None).unwrap();
    assert!(app.identity.is_none());
    app.note_migrated();
    let app = web::Data::new(app);
    let service = serve!(app);
    let attempt = launched(&app, "acme", None).await;
    for token in ["credential", "0", &signer.token(&claims("roadstead", &pod(attempt)))] {
        assert_eq!(ask!(service, attempt, token, 'a').0, 410);
    }
}
