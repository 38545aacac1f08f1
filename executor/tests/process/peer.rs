//! The API and the object store in one small HTTP server, with a memory of all that happened and a list of faults to play.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use roadstead_domain::attempt::protocol::{
    CompleteRequest, Finish, Heartbeat, HeartbeatReply, LogLine, Object, PartsGrant, PartsRequest, StartGrant,
    StartRequest, UploadGrant, UploadRequest, UploadTarget,
};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Far longer than anything here takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(40);

/// What to do to the next requests whose path contains something.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The request is lost: the connection ends and nothing was done.
    Lose,
    /// Everything is done, and the reply is lost.
    LoseReply,
    Answer(u16),
}

#[derive(Default)]
pub struct State {
    pub grant: Option<StartGrant>,
    pub reply: Option<HeartbeatReply>,
    faults: Vec<(String, usize, Fault)>,
    pub connections: usize,
    /// Path and time of every request that arrived, faults included.
    pub requests: Vec<(String, Instant)>,
    pub session_tokens: Vec<String>,
    pub heartbeats: Vec<(Heartbeat, Instant)>,
    pub finishes: Vec<Finish>,
    /// Objects by what they are; parts are `{path}#{number}` until they are put together.
    pub objects: BTreeMap<String, Vec<u8>>,
    used_urls: HashSet<String>,
    next_url: u32,
    pub most_parts_at_once: usize,
    parts_under_way: usize,
}

pub struct Peer {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// What URLs begin with.
    base: String,
}

impl Peer {
    pub fn start(grant: StartGrant) -> Self {
        Self::start_with(grant, None)
    }

    /// Speaks TLS when it gets what that takes.
    pub fn start_with(grant: StartGrant, tls: Option<TlsAcceptor>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { grant: Some(grant), ..State::default() };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{address}");
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), base });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || runtime.block_on(serve(listener, serving, tls)));
        Self { address, scheme, shared }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Plays `fault` to the next `times` requests whose path contains `path`.
    pub fn fault(&self, path: &str, times: usize, fault: Fault) {
        self.state().faults.push((path.to_owned(), times, fault));
    }

    pub fn heal(&self) {
        self.state().faults.clear();
    }

    pub fn reply(&self, cancel: bool, following: bool) {
        self.state().reply = Some(HeartbeatReply { cancel, following });
    }

    /// Waits until `look` finds something.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let until = Instant::now() + SOON;
        let mut state = self.state();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}; requests: {:?}", state.paths());
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits until the log, as far as it was shipped, holds a line.
    pub fn wait_for_line(&self, line: &str) {
        self.wait_for(line, |state| state.log().iter().any(|found| found.line == line).then_some(()));
    }

    pub fn requests_to(&self, path: &str) -> usize {
        self.state().count(path)
    }
}

impl State {
    pub fn count(&self, path: &str) -> usize {
        self.requests.iter().filter(|(found, _)| found.contains(path)).count()
    }

    pub fn paths(&self) -> Vec<&str> {
        self.requests.iter().map(|(path, _)| path.as_str()).collect()
    }

    /// All shipped lines, in order.
    pub fn log(&self) -> Vec<LogLine> {
        let segments = (0..).map_while(|seq| self.objects.get(&format!("log/{seq}")));
        let lines = segments.flat_map(|segment| segment.split_inclusive(|&byte| byte == b'\n'));
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// What was printed, without the executor's own words.
    pub fn printed(&self) -> Vec<String> {
        use roadstead_domain::attempt::protocol::Stream;
        self.log().into_iter().filter(|line| line.stream != Stream::System).map(|line| line.line).collect()
    }

    fn fault_for(&mut self, path: &str) -> Option<Fault> {
        let (_, times, fault) =
            self.faults.iter_mut().find(|(part, times, _)| *times > 0 && path.contains(part.as_str()))?;
        *times -= 1;
        Some(*fault)
    }

    fn url(&mut self, base: &str, key: &str) -> String {
        self.next_url += 1;
        let key = key.replace(' ', "%20").replace('#', "%23");
        format!("{base}/store/{key}?signature=hush{}", self.next_url)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        shared.state.lock().unwrap().connections += 1;
        shared.changed.notify_all();
        tokio::spawn(async move {
            match tls {
                None => converse(TokioIo::new(stream), shared).await,
                Some(tls) => {
                    // A client that does not trust this peer ends the handshake.
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(TokioIo::new(stream), shared).await;
                    }
                }
            }
        });
    }
}

async fn converse(io: impl hyper::rt::Read + hyper::rt::Write + Unpin, shared: Arc<Shared>) {
    let service = service_fn(|request| answer(Arc::clone(&shared), request));
    // A fault ends the connection.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
}

type Answer = Result<Response<Full<Bytes>>, std::io::Error>;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let lost = || Err(std::io::Error::other("lost on purpose"));
    let path = request.uri().path().to_owned();
    let is_part = path.contains("%23");
    let fault = {
        let mut state = shared.state.lock().unwrap();
        state.requests.push((path.clone(), Instant::now()));
        state.parts_under_way += usize::from(is_part);
        state.most_parts_at_once = state.most_parts_at_once.max(state.parts_under_way);
        state.fault_for(&path)
    };
    shared.changed.notify_all();
    let outcome = match fault {
        Some(Fault::Lose) => lost(),
        Some(Fault::Answer(status)) => Ok(status_only(status)),
        Some(Fault::LoseReply) => {
            let _ = apply(&shared, request).await;
            lost()
        }
        None => Ok(apply(&shared, request).await),
    };
    shared.state.lock().unwrap().parts_under_way -= usize::from(is_part);
    shared.changed.notify_all();
    outcome
}

fn status_only(status: u16) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::default()).unwrap()
}

fn json(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    Response::new(Full::new(serde_json::to_vec(value).unwrap().into()))
}

async fn apply(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else { return status_only(400) };
    let path = head.uri.path();
    let mut state = shared.state.lock().unwrap();
    if let Some(key) = path.strip_prefix("/store/") {
        return match head.method.as_str() {
            "GET" => state
                .objects
                .get(key)
                .map_or(status_only(404), |object| Response::new(Full::new(object.clone().into()))),
            _ => put(&mut state, key, head.uri.query().unwrap_or_default(), &head.headers, &body),
        };
    }
    let authorization = head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = path.splitn(6, '/').nth(5).unwrap_or_default();
    if operation == "start" {
        return start(&mut state, authorization, &body);
    }
    let expected = state.session_tokens.first().map(|token| format!("Bearer {token}"));
    if expected.as_deref() != Some(authorization) {
        return status_only(401);
    }
    after_start(&mut state, &shared.base, operation, &body)
}

fn start(state: &mut State, authorization: &str, body: &[u8]) -> Response<Full<Bytes>> {
    let StartRequest { session_token } = serde_json::from_slice(body).unwrap();
    if authorization != "Bearer launch-credential" {
        return status_only(403);
    }
    if state.session_tokens.first().is_some_and(|first| *first != session_token) {
        return status_only(410);
    }
    state.session_tokens.push(session_token);
    json(state.grant.as_ref().unwrap())
}

fn after_start(state: &mut State, base: &str, operation: &str, body: &[u8]) -> Response<Full<Bytes>> {
    match operation {
        "heartbeat" => {
            state.heartbeats.push((serde_json::from_slice(body).unwrap(), Instant::now()));
            json(&state.reply.unwrap_or(HeartbeatReply { cancel: false, following: false }))
        }
        "uploads" => uploads(state, base, &serde_json::from_slice(body).unwrap()),
        "uploads/parts" => {
            let PartsRequest { path, parts, .. } = serde_json::from_slice(body).unwrap();
            let urls = parts.iter().map(|number| state.url(base, &format!("artifacts/{path}#{number}"))).collect();
            json(&PartsGrant { urls })
        }
        "uploads/complete" => complete(state, &serde_json::from_slice(body).unwrap()),
        "finish" => {
            state.finishes.push(serde_json::from_slice(body).unwrap());
            json(&serde_json::json!({}))
        }
        _ => status_only(404),
    }
}

/// What this store takes in one PUT.
const MAX_PUT_BYTES: u64 = 2_000_000;

fn uploads(state: &mut State, base: &str, request: &UploadRequest) -> Response<Full<Bytes>> {
    assert!(request.objects.len() <= 64);
    let part_bytes = state.grant.as_ref().unwrap().limits.part_bytes;
    let targets = request.objects.iter().map(|upload| {
        let key = match &upload.object {
            Object::Log { seq } => format!("log/{seq}"),
            Object::Result => "result.json".to_owned(),
            Object::Artifact { path } if upload.size_bytes > if upload.whole { MAX_PUT_BYTES } else { part_bytes } => {
                return UploadTarget::Multipart { upload_id: format!("upload of {path}") };
            }
            Object::Artifact { path } => format!("artifacts/{path}"),
        };
        assert!(upload.whole || upload.sha256.is_some(), "what is hashed before is signed with its hash");
        let mut headers = vec![("content-length".to_owned(), upload.size_bytes.to_string())];
        headers.extend(upload.sha256.clone().map(|sha256| ("x-sha256".to_owned(), sha256)));
        UploadTarget::Put { url: state.url(base, &key), headers }
    });
    let targets = targets.collect();
    json(&UploadGrant { targets })
}

fn put(state: &mut State, key: &str, query: &str, headers: &hyper::HeaderMap, body: &Bytes) -> Response<Full<Bytes>> {
    let hash = hex::encode(Sha256::digest(body));
    if headers.get("x-sha256").is_some_and(|signed| signed.to_str().unwrap() != hash) {
        return status_only(400);
    }
    // A URL is good for one use, so that a second try must have asked for another.
    if !key.contains("outcome") && !state.used_urls.insert(query.to_owned()) {
        return status_only(403);
    }
    state.objects.insert(key.replace("%23", "#").replace("%20", " "), body.to_vec());
    Response::builder().header("etag", format!("\"{hash}\"")).body(Full::default()).unwrap()
}

fn complete(state: &mut State, request: &CompleteRequest) -> Response<Full<Bytes>> {
    let key = format!("artifacts/{}", request.path);
    let mut whole = Vec::new();
    for (index, etag) in request.etags.iter().enumerate() {
        let Some(part) = state.objects.get(&format!("{key}#{}", index + 1)) else { return status_only(400) };
        if *etag != format!("\"{}\"", hex::encode(Sha256::digest(part))) {
            return status_only(400);
        }
        whole.extend_from_slice(part);
    }
    let numbers: Vec<String> = (1..=request.etags.len()).map(|number| format!("{key}#{number}")).collect();
    state.objects.retain(|key, _| !numbers.contains(key));
    state.objects.insert(key, whole);
    json(&serde_json::json!({}))
}
