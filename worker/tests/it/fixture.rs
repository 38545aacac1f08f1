//! A database, a Redis prefix, an object store of one page, workers on them, and their make-believe launchers.

use chrono::Utc;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use roadstead_backend::config::{LaunchTimes, ObjectsConfig, PostgresConfig, RedisConfig, Secret};
use roadstead_backend::dispatch::{Dispatch, DispatchError, Group, Share, Stream};
use roadstead_backend::objects::Objects;
use roadstead_backend::secrets;
use roadstead_backend::store::repeats::Repeats;
use roadstead_backend::store::submit::{NewExecution, Submission, Submitted, submit};
use roadstead_backend::store::{Connection, Database, database, finish, query, start, tenants};
use roadstead_domain::attempt::protocol::{Finish, Outcome, Status};
use roadstead_domain::execution::{Priority, Reason, State};
use roadstead_domain::ids::{AttemptId, ExecutionId};
use roadstead_worker::dispatch::Dispatcher;
use roadstead_worker::launch::{End, Ended, LaunchError, LaunchOrder, Launcher, Needs, News, Reach, Stage, StopCause};
use roadstead_worker::supervise::{Supervisor, news, presence};
use roadstead_worker::worker::{Freed, Judged, Pulse, Settings, Worker};
use slog::{Discard, Logger, o};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub const SESSION: &str = "session";
const PATIENCE: Duration = Duration::from_secs(60);
const ATTEMPT_LEASE: Duration = Duration::from_secs(90);

pub struct World {
    pub database: Database,
    pub redis: RedisConfig,
    objects: ObjectsConfig,
    /// The answer to every question for an object; nothing: there is none.
    pub outcome: Arc<Mutex<Option<String>>>,
}

pub struct Running {
    pub launcher: Arc<Pretended>,
    rooms: JoinSet<()>,
    stop: CancellationToken,
}

pub fn settings(cap: usize) -> Settings {
    Settings {
        cap,
        launch: LaunchTimes { launch_lease: Duration::from_secs(15), start_timeout: Duration::from_secs(300) },
        reconcile_interval: Duration::from_secs(30),
        retention: Duration::from_secs(86_400),
        idempotency_retention: Duration::from_secs(86_400),
        shutdown_timeout: Duration::from_millis(100),
    }
}

impl World {
    pub async fn new() -> Self {
        let servers = roadstead_testkit::servers().await;
        let config = PostgresConfig {
            url: Secret::new(servers.new_database().await),
            max_connections: 12,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
        };
        database::migrate(&config).await.unwrap();
        let database = Database::new(&config);
        for tenant in ["t", "u"] {
            tenants::set(&mut database.get().await.unwrap(), tenant, tenants::Change::default()).await.unwrap();
        }
        let redis = RedisConfig {
            url: Secret::new(servers.redis_url()),
            prefix: format!("test-{}", &secrets::random_token()[..16]),
        };
        // Otherwise the first worker takes Redis for one that was wiped, and enqueues twice what a test has submitted by then.
        let dispatch = Dispatch::new(&redis).unwrap();
        patient(async || dispatch.begin_epoch().await).await;
        let outcome = Arc::new(Mutex::new(None));
        let objects = ObjectsConfig {
            endpoint: object_store(Arc::clone(&outcome)).await,
            public_endpoint: "http://127.0.0.1:9".to_owned(),
            region: "us-east-1".to_owned(),
            credentials: Some((Secret::new("id"), Secret::new("secret"))),
            path_style: true,
            meta_bucket: "meta".to_owned(),
            content_bucket: "content".to_owned(),
            create_buckets: false,
            presign_expiry: Duration::from_secs(900),
        };
        Self { database, redis, objects, outcome }
    }

    pub fn dispatch(&self) -> Dispatch {
        Dispatch::new(&self.redis).unwrap()
    }

    /// A worker with all its rooms.
    pub fn start(&self, name: &str, settings: Settings) -> Running {
        self.start_with(name, settings, Reach::Worker)
    }

    /// One whose launcher sees what every worker has launched.
    pub fn start_in_a_cluster(&self, name: &str, settings: Settings) -> Running {
        self.start_with(name, settings, Reach::Cluster)
    }

    fn start_with(&self, name: &str, settings: Settings, reach: Reach) -> Running {
        let launcher = Arc::new(Pretended::new(reach));
        let worker = Arc::new(Worker {
            id: name.to_owned(),
            database: self.database.clone(),
            dispatch: self.dispatch(),
            objects: Objects::new(&self.objects).unwrap(),
            launcher: Arc::<Pretended>::clone(&launcher),
            settings,
            freed: Freed::default(),
            judged: Judged::default(),
            settling: TaskTracker::new(),
            pulse: Pulse::default(),
            log: Logger::root(Discard, o!()),
        });
        let (stop, over, mut rooms) = (CancellationToken::new(), CancellationToken::new(), JoinSet::new());
        let (reclaimer, reclaimed) = mpsc::channel(1);
        rooms.spawn(Supervisor::new(Arc::clone(&worker), reclaimer).run(stop.clone()));
        rooms.spawn(news::hear(Arc::clone(&worker), over.clone()));
        rooms.spawn(presence::run(Arc::clone(&worker), over.clone()));
        let dispatching = Dispatcher::new(Arc::clone(&worker), reclaimed).run(stop.clone());
        rooms.spawn(async move {
            dispatching.await;
            over.cancel();
        });
        Running { launcher, rooms, stop }
    }

    pub async fn connection(&self) -> impl std::ops::DerefMut<Target = Connection> + '_ {
        self.database.get().await.unwrap()
    }

    /// Records executions of tenant `t` and appends to their stream those that say so.
    pub async fn submit(&self, executions: Vec<NewExecution>) -> Vec<ExecutionId> {
        let ids: Vec<_> = executions.iter().map(|e| e.id).collect();
        let enqueued: Vec<_> = executions.iter().filter(|e| e.enqueued).map(|e| e.id).collect();
        let submission = Submission { tenant: "t".to_owned(), idempotency: None, executions };
        let answers = submit(&mut *self.connection().await, &[submission], &Repeats::default()).await.unwrap();
        assert!(matches!(answers[..], [Submitted::Recorded]));
        if !enqueued.is_empty() {
            let share = Share { weight: 1, max_concurrent: None };
            let (dispatch, groups) = (self.dispatch(), [Group { stream: stream(), share, ids: enqueued }]);
            patient(async || dispatch.enqueue(&groups).await).await;
        }
        ids
    }

    pub async fn wait_for_state(&self, id: ExecutionId, state: State) -> query::Execution {
        let mut last = None;
        let reached = async {
            loop {
                let execution = query::get(&mut *self.connection().await, "t", id).await.unwrap().unwrap();
                if execution.state == state {
                    return execution;
                }
                last = Some(execution.state);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let execution = tokio::time::timeout(PATIENCE, reached).await;
        execution.unwrap_or_else(|late| panic!("{id} should be {state} and is {last:?}: {late}"))
    }

    /// What the API does when the executor asks for its start.
    pub async fn start_attempt(&self, order: &LaunchOrder) {
        let claim = start::StartClaim {
            attempt: order.attempt,
            launch_hash: Some(order.credential.as_ref().unwrap().hash.clone()),
            session_hash: secrets::hash(SESSION),
        };
        let answers = start::start(&mut *self.connection().await, &[claim], ATTEMPT_LEASE).await.unwrap();
        assert!(matches!(answers[..], [start::Start::Granted(_)]), "{answers:?}");
    }

    /// What the API does when the executor reports its end.
    pub async fn report(&self, attempt: AttemptId) {
        let report =
            finish::Report { attempt, session_hash: secrets::hash(SESSION), finish: finished(Status::Succeeded) };
        finish::finish(&mut *self.connection().await, &[report]).await.unwrap();
    }

    /// Runs SQL for its effect: the clock can't be waited for, so stories set times back.
    pub async fn sql(&self, text: &str) {
        diesel_async::SimpleAsyncConnection::batch_execute(&mut *self.connection().await, text).await.unwrap();
    }
}

impl Running {
    /// An orderly end.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(room) = self.rooms.join_next().await {
            room.unwrap();
        }
    }

    /// As a SIGKILL ends it: in the middle, without a word.
    pub async fn kill(mut self) {
        self.rooms.shutdown().await;
        // What the rooms had begun dies with them.
        self.stop.cancel();
    }
}

/// Where what is submitted here goes.
pub fn stream() -> Stream {
    Stream { tenant: "t".to_owned(), priority: Priority::Normal }
}

/// Asks Redis again when it was late: the machine that tests run on may be busy with other things.
pub async fn patient<T>(mut ask: impl AsyncFnMut() -> Result<T, DispatchError>) -> T {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(std::time::Instant::now() < until, "{error}"),
        }
    }
}

pub fn finished(status: Status) -> Finish {
    let outcome = Outcome { status, reason: None, retryable: false };
    Finish { outcome, steps: Vec::new(), result: None, artifacts: Vec::new(), segments: Vec::new() }
}

pub fn execution() -> NewExecution {
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
        created_at: Utc::now(),
        run_at: None,
        queue_deadline: None,
        enqueued: true,
    }
}

/// Starts nothing. What it was told to launch is alive until a test ends it.
pub struct Pretended {
    orders: watch::Sender<Vec<LaunchOrder>>,
    held: Mutex<Vec<LaunchOrder>>,
    live: watch::Sender<usize>,
    pub most_live: AtomicUsize,
    pub refusing: AtomicBool,
    /// Why nothing can be launched now.
    pub putting_off: Mutex<Option<Reason>>,
    reach: Reach,
    /// It sees nothing of what is there.
    pub is_blind: AtomicBool,
    /// When it last looked at everything.
    pub looked_at: Mutex<Option<Instant>>,
    /// How long ago any attempt could begin to start.
    pub begun: Mutex<Option<Duration>>,
    ends: mpsc::UnboundedSender<Ended>,
    untold: tokio::sync::Mutex<mpsc::UnboundedReceiver<Ended>>,
}

impl Pretended {
    fn new(reach: Reach) -> Self {
        let (ends, untold) = mpsc::unbounded_channel();
        Self {
            orders: watch::Sender::new(Vec::new()),
            held: Mutex::default(),
            live: watch::Sender::new(0),
            most_live: AtomicUsize::default(),
            refusing: AtomicBool::default(),
            putting_off: Mutex::default(),
            reach,
            is_blind: AtomicBool::default(),
            looked_at: Mutex::default(),
            begun: Mutex::default(),
            ends,
            untold: tokio::sync::Mutex::new(untold),
        }
    }

    /// Waits until it was told to launch `count` in all, and answers what.
    pub async fn launched(&self, count: usize) -> Vec<LaunchOrder> {
        let mut orders = self.orders.subscribe();
        let enough = orders.wait_for(|orders| orders.len() >= count);
        let reached = tokio::time::timeout(PATIENCE, enough).await.map(|orders| orders.unwrap().clone());
        reached.unwrap_or_else(|late| panic!("{} launches, not {count}: {late}", self.orders.borrow().len()))
    }

    pub fn all_launched(&self) -> Vec<LaunchOrder> {
        self.orders.borrow().clone()
    }

    /// It goes, and nobody sees it.
    pub fn vanish(&self, attempt: AttemptId) {
        self.held.lock().unwrap().retain(|order| order.attempt != attempt);
        self.live.send_modify(|live| *live -= 1);
    }

    pub fn end(&self, attempt: AttemptId, end: End) {
        self.vanish(attempt);
        self.ends.send(Ended { tenant: "t".to_owned(), attempt, end, because: None, stage: Stage::Gone }).unwrap();
    }
}

impl Launcher for Pretended {
    fn name(&self) -> &'static str {
        "pretended"
    }

    fn reach(&self) -> Reach {
        self.reach
    }

    fn needs(&self) -> Needs {
        Needs { credential: true, demand: false }
    }

    fn launch(&self, order: LaunchOrder, _until: Instant) -> BoxFuture<'_, Result<(), LaunchError>> {
        async move {
            let refused = self.refusing.load(Ordering::SeqCst);
            let put_off = self.putting_off.lock().unwrap().clone();
            if !refused && put_off.is_none() {
                self.held.lock().unwrap().push(order.clone());
                self.live.send_modify(|live| *live += 1);
                self.most_live.fetch_max(*self.live.borrow(), Ordering::SeqCst);
            }
            self.orders.send_modify(|orders| orders.push(order));
            if let Some(reason) = put_off {
                Err(LaunchError::Unknown(reason.message))
            } else if refused {
                Err(LaunchError::Refused { reason: Reason::new("create_rejected", "no"), retryable: true })
            } else {
                Ok(())
            }
        }
        .boxed()
    }

    fn observe(&self) -> BoxFuture<'_, News> {
        async move { News::Ended(self.untold.lock().await.recv().await.expect("it holds a sender")) }.boxed()
    }

    fn stop(&self, attempt: AttemptId, cause: StopCause) -> bool {
        let holds = self.holds(attempt);
        if holds {
            self.end(attempt, End::Stopped(cause));
        }
        holds
    }

    fn end_strays(&self, _attempt: AttemptId, _cause: StopCause) -> BoxFuture<'_, bool> {
        std::future::ready(true).boxed()
    }

    fn explain(&self, _attempt: AttemptId) -> Option<Reason> {
        self.putting_off.lock().unwrap().clone()
    }

    fn begun(&self, _attempt: AttemptId) -> Option<Duration> {
        *self.begun.lock().unwrap()
    }

    fn sees(&self, _tenant: &str) -> bool {
        !self.is_blind.load(Ordering::SeqCst)
    }

    fn looked_at(&self, _tenant: &str) -> Option<Instant> {
        *self.looked_at.lock().unwrap()
    }

    fn held(&self) -> Vec<AttemptId> {
        self.held.lock().unwrap().iter().map(|order| order.attempt).collect()
    }

    fn live(&self) -> watch::Receiver<usize> {
        self.live.subscribe()
    }
}

/// Answers every request with the page, or that there is none.
async fn object_store(page: Arc<Mutex<Option<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte).await, Ok(1)) {
                head.push(byte[0]);
            }
            let missing = "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>".to_owned();
            let (status, body) = match page.lock().unwrap().clone() {
                Some(page) => ("200 OK", page),
                None => ("404 Not Found", missing),
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}")
}
