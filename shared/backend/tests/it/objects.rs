//! The object store's boundary against a real server: s3s-fs in this process, or whichever `ROADSTEAD_TEST_S3_ENDPOINT` names (keys `test` and
//! `secret-of-test`), as the contract holds for any.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::StatusCode;
use roadstead_backend::config::{ObjectsConfig, Secret};
use roadstead_backend::objects::{Objects, ObjectsError, PresignedPut, Store, layout};
use roadstead_domain::ids::{AttemptId, ExecutionId};
use s3s::access::S3Access;
use s3s::dto::{DeleteObjectInput, DeleteObjectsInput};
use s3s::{S3Request, S3Result};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use uuid::Uuid;

const ACCESS_KEY: &str = "test";
const SECRET_KEY: &str = "secret-of-test";
const MIB: usize = 1 << 20;

/// Two buckets of its own for each test.
struct Bench {
    objects: Objects,
    config: ObjectsConfig,
    /// What s3s-fs keeps; `None` for a server elsewhere.
    root: Option<tempfile::TempDir>,
    server: Option<JoinHandle<()>>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

impl Bench {
    async fn without_buckets() -> Self {
        let (endpoint, root, server) = if let Ok(endpoint) = std::env::var("ROADSTEAD_TEST_S3_ENDPOINT") {
            (endpoint, None, None)
        } else {
            let root = tempfile::tempdir().unwrap();
            let (endpoint, server) = serve(root.path()).await;
            (endpoint, Some(root), Some(server))
        };
        let config = config(&endpoint);
        Self { objects: Objects::new(&config).unwrap(), config, root, server }
    }

    async fn new() -> Self {
        let bench = Self::without_buckets().await;
        bench.objects.ensure_buckets().await.unwrap();
        bench
    }

    /// Files that s3s-fs keeps for uploads that were neither completed nor aborted.
    fn open_uploads(&self) -> Vec<PathBuf> {
        let Some(root) = &self.root else { return Vec::new() };
        let entries = std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(".upload")).collect()
    }
}

fn config(endpoint: &str) -> ObjectsConfig {
    let name = Uuid::new_v4().simple().to_string();
    ObjectsConfig {
        endpoint: endpoint.to_owned(),
        public_endpoint: endpoint.to_owned(),
        region: "us-east-1".to_owned(),
        credentials: Some((Secret::new(ACCESS_KEY), Secret::new(SECRET_KEY))),
        path_style: true,
        meta_bucket: format!("meta-{name}"),
        content_bucket: format!("content-{name}"),
        create_buckets: true,
        presign_expiry: Duration::from_secs(60),
    }
}

async fn serve(root: &Path) -> (String, JoinHandle<()>) {
    let mut service = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    service.set_auth(s3s::auth::SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    service.set_access(Strict);
    let service = service.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        while let Ok((socket, _)) = listener.accept().await {
            let connection = http.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
            tokio::spawn(async move {
                let _ = connection.await;
            });
        }
    });
    (endpoint, server)
}

/// Refuses as other servers do what XML can't say, and whatever is called `stuck`.
struct Strict;

type Allowed<'a> = Pin<Box<dyn Future<Output = S3Result<()>> + Send + 'a>>;

impl S3Access for Strict {
    fn delete_objects<'s, 'r, 'a>(&'s self, request: &'r mut S3Request<DeleteObjectsInput>) -> Allowed<'a>
    where
        's: 'a,
        'r: 'a,
    {
        let is_said = |key: &str| !key.contains(['\u{fffe}', '\u{ffff}']) && !key.ends_with("stuck");
        let is_xml = request.input.delete.objects.iter().all(|object| is_said(&object.key));
        Box::pin(async move { if is_xml { Ok(()) } else { Err(s3s::s3_error!(MalformedXML)) } })
    }

    fn delete_object<'s, 'r, 'a>(&'s self, request: &'r mut S3Request<DeleteObjectInput>) -> Allowed<'a>
    where
        's: 'a,
        'r: 'a,
    {
        let is_stuck = request.input.key.ends_with("stuck");
        Box::pin(async move { if is_stuck { Err(s3s::s3_error!(AccessDenied)) } else { Ok(()) } })
    }
}

fn attempt(number: i32) -> AttemptId {
    AttemptId { execution_id: ExecutionId::new(), attempt: number }
}

fn sha256_hex(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// Content in which a part that was lost, doubled or moved shows.
fn content(size: usize) -> Bytes {
    (0..size).map(|n| (n / 7 + n / 4099) as u8).collect()
}

fn chunks(content: &Bytes, size: usize) -> impl stream::Stream<Item = io::Result<Bytes>> + Unpin + Send + use<> {
    let content = content.clone();
    let starts: Vec<_> = (0..content.len()).step_by(size).collect();
    stream::iter(starts.into_iter().map(move |start| Ok(content.slice(start..content.len().min(start + size)))))
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_object_is_stored_replaced_read_and_deleted() {
    let Bench { objects, .. } = &Bench::new().await;
    for store in [Store::Meta, Store::Content] {
        let key = "acme/a key (1) + é=&%.json";
        assert!(objects.get(store, key, 100).await.unwrap().is_none());
        assert!(objects.get_stream(store, key).await.unwrap().is_none());
        objects.put(store, key, Bytes::from_static(b"{\"first\":1}"), "application/json").await.unwrap();
        objects.put(store, key, Bytes::from_static(b"{}"), "application/json").await.unwrap();
        assert_eq!(objects.get(store, key, 2).await.unwrap().unwrap(), "{}");
        objects.delete(store, key).await.unwrap();
        objects.delete(store, key).await.unwrap();
        assert!(objects.get(store, key, 100).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn an_object_that_is_larger_than_wanted_is_not_read() {
    let Bench { objects, .. } = &Bench::new().await;
    objects.put(Store::Content, "big", content(MIB), "text/plain").await.unwrap();
    let error = objects.get(Store::Content, "big", MIB as u64 - 1).await.unwrap_err();
    assert!(matches!(error, ObjectsError::TooLarge { max_bytes } if max_bytes == MIB as u64 - 1), "{error}");
    assert_eq!(objects.get(Store::Content, "big", MIB as u64).await.unwrap().unwrap(), content(MIB));
}

#[tokio::test]
async fn buckets_are_made_by_several_at_once() {
    let bench = Bench::without_buckets().await;
    let missing = bench.objects.ping().await.unwrap_err();
    assert!(
        matches!(missing, ObjectsError::Refused(ref text) if text.contains(&bench.config.meta_bucket)),
        "{missing}"
    );
    let makers: Vec<_> = (0..6).map(|_| Objects::new(&bench.config).unwrap()).collect();
    for made in futures_util::future::join_all(makers.iter().map(Objects::ensure_buckets)).await {
        made.unwrap();
    }
    bench.objects.ping().await.unwrap();
    bench.objects.ensure_buckets().await.unwrap();
}

#[tokio::test]
async fn a_missing_bucket_is_named() {
    let Bench { objects, .. } = &Bench::without_buckets().await;
    let error = objects.delete_prefix(Store::Content, "a/").await.unwrap_err();
    assert!(matches!(error, ObjectsError::Refused(ref text) if text.contains("NoSuchBucket")), "{error}");
}

#[tokio::test]
async fn wrong_keys_are_no_last_word_and_are_not_shown() {
    let bench = Bench::new().await;
    let config =
        ObjectsConfig { credentials: Some((Secret::new(ACCESS_KEY), Secret::new("hush"))), ..bench.config.clone() };
    let error = Objects::new(&config).unwrap().put(Store::Content, "a", Bytes::new(), "text/plain").await.unwrap_err();
    assert!(
        matches!(error, ObjectsError::Unavailable(ref text) if text.contains("SignatureDoesNotMatch") && !text.contains("hush")),
        "{error}"
    );
}

async fn send(put: &PresignedPut, body: impl Into<reqwest::Body>) -> StatusCode {
    let mut request = reqwest::Client::new().put(&put.url);
    for (name, value) in &put.headers {
        if name != "content-length" {
            request = request.header(name, value);
        }
    }
    request.body(body).send().await.unwrap().status()
}

#[tokio::test]
async fn a_presigned_put_takes_the_content_it_was_signed_for_and_no_other() {
    let Bench { objects, .. } = &Bench::new().await;
    let (body, other) = (content(1000), Bytes::from(vec![1; 1000]));
    let key = layout::artifact("acme", attempt(1), "out/words.csv");
    let put = objects.presign_put(&key, 1000, Some(&sha256_hex(&body))).await.unwrap();
    assert!(send(&put, body.slice(..999)).await.is_client_error(), "too short");
    assert!(send(&put, content(1001)).await.is_client_error(), "too long");
    let without = PresignedPut { headers: Vec::new(), ..put.clone() };
    assert!(send(&without, body.clone()).await.is_client_error(), "without the signed checksum");
    let elsewhere = PresignedPut { url: put.url.replace("words.csv", "other.csv"), ..put.clone() };
    assert!(send(&elsewhere, body.clone()).await.is_client_error(), "to another key");
    assert!(objects.get(Store::Content, &key, 2000).await.unwrap().is_none(), "what was refused is not stored");
    // s3s-fs refuses this too, but after it has stored it.
    assert!(send(&put, other).await.is_client_error(), "of another checksum");
    assert_eq!(send(&put, body.clone()).await, StatusCode::OK);
    assert_eq!(objects.get(Store::Content, &key, 1000).await.unwrap().unwrap(), body);
}

#[tokio::test]
async fn a_presigned_put_of_no_known_size_takes_any() {
    let Bench { objects, .. } = &Bench::new().await;
    let key = layout::outcome("acme", attempt(1));
    let url = objects.presign_put_unsized(&key, Duration::from_secs(30 * 86_400)).await.unwrap();
    let put = PresignedPut { url, headers: Vec::new() };
    for size in [0, 7000] {
        assert_eq!(send(&put, content(size)).await, StatusCode::OK);
        assert_eq!(objects.get(Store::Content, &key, 7000).await.unwrap().unwrap(), content(size));
    }
}

#[tokio::test]
async fn a_presigned_get_works_for_one_object() {
    let Bench { objects, .. } = &Bench::new().await;
    objects.put(Store::Content, "a/plot é.html", content(5000), "text/html").await.unwrap();
    objects.put(Store::Content, "a/other", content(10), "text/html").await.unwrap();
    let url = objects.presign_get("a/plot é.html", None).await.unwrap();
    assert_eq!(reqwest::get(&url).await.unwrap().bytes().await.unwrap(), content(5000));
    let other = url.replace("plot%20%C3%A9.html", "other");
    assert_ne!(other, url);
    assert_eq!(reqwest::get(&other).await.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_download_is_an_attachment_of_no_type_that_a_browser_renders() {
    let Bench { objects, .. } = &Bench::new().await;
    objects.put(Store::Content, "a/x", content(50), "text/html").await.unwrap();
    let url = objects.presign_get("a/x", Some("plot \"é\".html")).await.unwrap();
    let answer = reqwest::get(&url).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    let disposition = answer.headers()["content-disposition"].to_str().unwrap();
    assert_eq!(disposition, "attachment; filename=\"plot ___.html\"; filename*=UTF-8''plot%20%22%C3%A9%22.html");
}

#[tokio::test]
async fn an_upload_in_presigned_parts_is_completed_once_and_may_be_asked_for_again() {
    let Bench { objects, .. } = &Bench::new().await;
    let key = layout::artifact("acme", attempt(1), "big.bin");
    let body = content(5 * MIB + 12_345);
    let upload_id = objects.create_multipart(&key).await.unwrap();
    let mut etags = Vec::new();
    for (number, part) in (1..).zip([body.slice(..5 * MIB), body.slice(5 * MIB..)]) {
        let url = objects.presign_part(&key, &upload_id, number).await.unwrap();
        let answer = reqwest::Client::new().put(url).body(part).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        etags.push(answer.headers()["etag"].to_str().unwrap().to_owned());
    }
    objects.complete_multipart(&key, &upload_id, &etags).await.unwrap();
    objects.complete_multipart(&key, &upload_id, &etags).await.unwrap();
    assert_eq!(objects.get(Store::Content, &key, 6 * MIB as u64).await.unwrap().unwrap(), body);
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing_and_takes_nothing() {
    let bench = Bench::new().await;
    let Bench { objects, .. } = &bench;
    let upload_id = objects.create_multipart("a").await.unwrap();
    let url = objects.presign_part("a", &upload_id, 1).await.unwrap();
    let send = || reqwest::Client::new().put(&url).body("x").send();
    assert_eq!(send().await.unwrap().status(), StatusCode::OK);
    objects.abort_multipart("a", &upload_id).await.unwrap();
    if bench.root.is_none() {
        // s3s-fs does not tell an upload that is gone from one that is another's.
        objects.abort_multipart("a", &upload_id).await.unwrap();
    }
    assert_eq!(bench.open_uploads(), Vec::<PathBuf>::new());
    assert!(!send().await.unwrap().status().is_success());
    let completed = objects.complete_multipart("a", &upload_id, &["abc".to_owned()]).await;
    assert!(matches!(completed, Err(ObjectsError::Refused(_))), "{completed:?}");
}

#[tokio::test]
async fn a_stream_of_20_mib_goes_up_and_comes_down_as_it_was() {
    let bench = Bench::new().await;
    let Bench { objects, .. } = &bench;
    let body = content(20 * MIB + 3);
    let size = objects.put_stream(Store::Content, "a/big", "application/json", chunks(&body, 300_001)).await.unwrap();
    assert_eq!(size, body.len() as u64);
    let mut back = objects.get_stream(Store::Content, "a/big").await.unwrap().unwrap();
    let (mut hash, mut largest) = (Sha256::new(), 0);
    while let Some(chunk) = back.next().await {
        let chunk = chunk.unwrap();
        largest = largest.max(chunk.len());
        hash.update(chunk);
    }
    assert_eq!(hex::encode(hash.finalize()), sha256_hex(&body));
    assert!(largest <= 4 * MIB, "the object did not come as a stream: {largest}");
    assert_eq!(bench.open_uploads(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_stream_that_fits_into_one_part_is_one_put() {
    let Bench { objects, .. } = &Bench::new().await;
    for size in [0, 1, 8 * MIB] {
        let body = content(size);
        assert_eq!(
            objects.put_stream(Store::Content, "a/b", "text/plain", chunks(&body, MIB)).await.unwrap(),
            size as u64
        );
        let back: Vec<Bytes> =
            objects.get_stream(Store::Content, "a/b").await.unwrap().unwrap().try_collect().await.unwrap();
        assert_eq!(back.concat(), body);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_leaves_nothing() {
    let bench = Bench::new().await;
    for size in [10, 9 * MIB] {
        let broken = chunks(&content(size), MIB).chain(stream::iter([Err(io::Error::other("the client went away"))]));
        let error = bench.objects.put_stream(Store::Content, "a", "text/plain", broken).await.unwrap_err();
        assert!(
            matches!(error, ObjectsError::Source(ref source) if source.to_string() == "the client went away"),
            "{error}"
        );
        assert_eq!(bench.open_uploads(), Vec::<PathBuf>::new());
        assert!(bench.objects.get(Store::Content, "a", 100).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn an_upload_whose_caller_goes_away_is_aborted() {
    let bench = Bench::new().await;
    if bench.root.is_none() {
        return;
    }
    let objects = bench.objects.clone();
    let endless = chunks(&content(9 * MIB), MIB).chain(stream::pending());
    let caller = tokio::spawn(async move { objects.put_stream(Store::Content, "a", "text/plain", endless).await });
    eventually("an upload is begun", async || !bench.open_uploads().is_empty()).await;
    caller.abort();
    eventually("the upload is aborted", async || bench.open_uploads().is_empty()).await;
}

#[tokio::test]
async fn a_prefix_is_deleted_with_all_its_pages_and_nothing_beside_it() {
    let bench = Bench::new().await;
    let Bench { objects, .. } = &bench;
    let first = attempt(1);
    let tenth = AttemptId { attempt: 10, ..first };
    let kept = [layout::result("acme", tenth), layout::payload("acme", first.execution_id)];
    for key in &kept {
        objects.put(Store::Content, key, Bytes::from_static(b"{}"), "application/json").await.unwrap();
    }
    let put = |seq| async move {
        let key = layout::log_segment("acme", first, seq);
        objects.put(Store::Content, &key, Bytes::from_static(b"x"), "text/plain").await
    };
    stream::iter((0..1005).map(put)).buffer_unordered(8).try_collect::<()>().await.unwrap();
    assert_eq!(objects.delete_prefix(Store::Content, &layout::attempt_prefix("acme", first)).await.unwrap(), 1005);
    assert_eq!(objects.delete_prefix(Store::Content, &layout::attempt_prefix("acme", first)).await.unwrap(), 0);
    for key in &kept {
        assert!(objects.get(Store::Content, key, 10).await.unwrap().is_some(), "{key}");
    }
    let all = layout::execution_prefix("acme", first.execution_id);
    assert_eq!(objects.delete_prefix(Store::Content, &all).await.unwrap(), 2);
    for no_folder in ["", "/", "acme", all.trim_end_matches('/')] {
        assert!(objects.delete_prefix(Store::Content, no_folder).await.is_err(), "{no_folder}");
    }
}

#[tokio::test]
async fn an_object_that_no_page_can_name_holds_up_no_other() {
    let bench = Bench::new().await;
    let Bench { objects, .. } = &bench;
    let id = attempt(1);
    let put = async |name: &str| {
        let key = layout::artifact("acme", id, name);
        objects.put(Store::Content, &key, Bytes::from_static(b"x"), "text/plain").await.unwrap();
        key
    };
    let folder = layout::attempt_prefix("acme", id);
    for name in ["a", "b\u{fffe}", "c\u{ffff}", "d"] {
        put(name).await;
    }
    assert_eq!(objects.delete_prefix(Store::Content, &folder).await.unwrap(), 4);
    assert_eq!(objects.delete_prefix(Store::Content, &folder).await.unwrap(), 0);
    if bench.root.is_none() {
        return;
    }
    let (first, stuck, last) = (put("a").await, put("b/stuck").await, put("c").await);
    assert!(matches!(objects.delete_prefix(Store::Content, &folder).await, Err(ObjectsError::Refused(_))));
    for (key, is_there) in [(first, false), (stuck, true), (last, false)] {
        assert_eq!(objects.get(Store::Content, &key, 10).await.unwrap().is_some(), is_there, "{key}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_quickly() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let objects = Objects::new(&config(&format!("http://{free}"))).unwrap();
    let began = Instant::now();
    let unavailable = |error: Option<ObjectsError>| matches!(error, Some(ObjectsError::Unavailable(_)));
    assert!(unavailable(objects.ping().await.err()));
    assert!(unavailable(objects.put(Store::Content, "a", Bytes::new(), "text/plain").await.err()));
    assert!(unavailable(objects.get_stream(Store::Content, "a").await.err()));
    assert!(unavailable(objects.create_multipart("a").await.err()));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// A server of one connection that answers with these bytes and then says nothing more.
fn stalling(answer: &'static [u8]) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = socket.read(&mut request);
        let _ = socket.write_all(answer);
        // Until the client gives up.
        while socket.read(&mut request).is_ok_and(|length| length > 0) {}
    });
    endpoint
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let objects = Objects::new(&config(&stalling(b""))).unwrap();
    let began = tokio::time::Instant::now();
    let error = objects.ping().await.unwrap_err();
    assert!(matches!(error, ObjectsError::Unavailable(_)), "{error}");
    assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_stream_that_stalls_ends_in_an_error() {
    let objects = Objects::new(&config(&stalling(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"))).unwrap();
    let mut stalled = objects.get_stream(Store::Content, "a").await.unwrap().unwrap();
    assert_eq!(stalled.next().await.unwrap().unwrap(), "abc");
    // From here nothing comes any more, so that time runs to the next timer.
    tokio::time::pause();
    let error = stalled.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(stalled.next().await.is_none());
}
