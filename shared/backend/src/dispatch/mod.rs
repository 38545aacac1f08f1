//! Redis Streams, the hint: which executions may be taken next, in what order, and a bell that wakes whoever waits.
//!
//! The whole stream protocol is in this folder. Redis holds ids only, at most a window of them per stream; it may be wiped, restarted
//! or absent at any moment and nothing is lost, because every id is claimed in PostgreSQL, and what Redis lost is enqueued again
//! from there. One stream per (tenant, priority), all under one hash tag; a ring of the tenants that have entries.

mod bell;
mod connection;
mod epoch;
mod keys;

pub use bell::{Bell, Rung};
pub use epoch::Health;

use crate::config::{RedisConfig, extra_roots_file};
use crate::outage::Outage;
use bb8::PooledConnection;
use connection::Manager;
use keys::Keys;
use redis::{FromRedisValue, RedisError, Script, TlsCertificates};
use roadstead_domain::execution::Priority;
use roadstead_domain::ids::ExecutionId;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The most entries that a stream holds; what comes after them waits in PostgreSQL.
pub const WINDOW: usize = 10_000;
/// The relay refills a stream that has rows waiting when it has drained to this.
pub const LOW_WATER: usize = WINDOW / 2;
/// In place of what a tenant has live: nothing of it may be taken.
pub const NOTHING: i64 = -1;
/// Holds, as a consumer, what was put back: a delivered entry has to be somebody's. No worker is called so.
const NOBODY: &str = "nobody";

/// Redis did not do it, or did not say so.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    #[error("Redis is not available: {0}")]
    Unavailable(String),
    /// The epoch key is gone: Redis was wiped, or is new. Repair with [`Dispatch::begin_epoch`].
    #[error("Redis has lost its data")]
    Wiped,
}

impl From<RedisError> for DispatchError {
    fn from(error: RedisError) -> Self {
        if error.code() == Some("WIPED") { Self::Wiped } else { Self::Unavailable(error.to_string()) }
    }
}

/// One stream's name and its tenant's share of the ring.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    pub tenant: String,
    pub priority: Priority,
}

/// What the ring knows of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub weight: i32,
    pub max_concurrent: Option<i32>,
}

/// Ids for one stream, in order.
#[derive(Clone, Debug)]
pub struct Group {
    pub stream: Stream,
    pub share: Share,
    pub ids: Vec<ExecutionId>,
}

/// An entry that was delivered to this consumer and must be acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub stream: Stream,
    pub entry: String,
    pub id: ExecutionId,
}

/// The streams, through a small pool for short commands.
#[derive(Clone)]
pub struct Dispatch {
    pool: bb8::Pool<Manager>,
    outage: Arc<Outage>,
    client: redis::Client,
    keys: Keys,
    scripts: Arc<Scripts>,
}

struct Scripts {
    enqueue: Script,
    take: Script,
    done: Script,
    reclaim: Script,
    put_back: Script,
    leave: Script,
    oldest: Script,
    ring: Script,
    share: Script,
}

/// With what all have in common before it. Only what appends may be refused for want of memory: a Redis that is full would otherwise refuse what empties it
/// (Redis documentation, "Redis Lua API reference", script flags).
macro_rules! script {
    ($name:literal) => {
        script!("#!lua flags=allow-oom\n", $name)
    };
    ($flags:literal, $name:literal) => {
        Script::new(concat!($flags, include_str!("lua/common.lua"), include_str!(concat!("lua/", $name, ".lua"))))
    };
}

/// Under TLS the roots of `SSL_CERT_FILE` take the place of the public ones: the crate knows one of the two.
fn client(url: &str) -> redis::RedisResult<redis::Client> {
    match extra_roots_file().filter(|_| url.starts_with("rediss:")) {
        Some(file) => redis::Client::build_with_tls(
            url,
            TlsCertificates { client_tls: None, root_cert: Some(std::fs::read(file)?) },
        ),
        None => redis::Client::open(url),
    }
}

impl Dispatch {
    /// Makes the pool without connecting: Redis may come later. Within the runtime that its connections are to live on.
    pub fn new(config: &RedisConfig) -> Result<Self, DispatchError> {
        let client = client(config.url.expose())?;
        let outage = Arc::new(Outage::default());
        let pool = bb8::Pool::builder()
            .max_size(4)
            .test_on_check_out(false)
            .connection_timeout(Duration::from_secs(1))
            .build_unchecked(Manager::new(&client, Arc::clone(&outage))?);
        let scripts = Scripts {
            enqueue: script!("", "enqueue"),
            take: script!("take"),
            done: script!("done"),
            reclaim: script!("reclaim"),
            put_back: script!("put_back"),
            leave: script!("leave"),
            oldest: script!("oldest"),
            ring: script!("ring"),
            share: script!("share"),
        };
        Ok(Self { pool, outage, client, keys: Keys::new(&config.prefix), scripts: scripts.into() })
    }

    async fn connection(&self) -> Result<PooledConnection<'_, Manager>, DispatchError> {
        self.pool.get().await.map_err(|_| DispatchError::Unavailable(self.outage.why(self.pool.state().connections)))
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        build: impl FnOnce(&mut redis::ScriptInvocation<'_>) + Send,
    ) -> Result<T, DispatchError> {
        let mut connection = self.connection().await?;
        let mut invocation = script.prepare_invoke();
        invocation.arg(self.keys.prefix());
        build(&mut invocation);
        let answer = invocation.invoke_async(connection.inner()).await;
        connection.note(&answer);
        Ok(answer?)
    }

    /// Appends ids to their streams, in order, to each as far as its window goes, and rings the bell. Answers how many of each group were taken in; the
    /// others wait for the relay. An id that is already there is there twice then, which the claim finds harmless.
    pub async fn enqueue(&self, groups: &[Group]) -> Result<Vec<usize>, DispatchError> {
        self.append(groups, false).await
    }

    /// The relay's [`Dispatch::enqueue`]: it alone may append while rows wait in PostgreSQL, so that order is kept.
    pub async fn refill(&self, group: &Group) -> Result<usize, DispatchError> {
        let accepted = self.append(std::slice::from_ref(group), true).await?;
        Ok(accepted.into_iter().sum())
    }

    async fn append(&self, groups: &[Group], refill: bool) -> Result<Vec<usize>, DispatchError> {
        self.run(&self.scripts.enqueue, |script| {
            script.arg(WINDOW).arg(i32::from(refill));
            for Group { stream, share, ids } in groups {
                script
                    .arg(&stream.tenant)
                    .arg(stream.priority.rank())
                    .arg(share.weight)
                    .arg(share.max_concurrent.unwrap_or(-1))
                    .arg(ids.len());
                for id in ids {
                    script.arg(id.to_string());
                }
            }
        })
        .await
    }

    /// Takes up to `count` entries for `consumer`: round the ring of tenants, by weight, under each tenant's own limit, high priority first.
    /// What was put back goes before the rest of its stream. `live` is what each tenant has live already, or [`NOTHING`].
    pub async fn take(
        &self,
        consumer: &str,
        count: usize,
        live: &HashMap<String, i64>,
    ) -> Result<Vec<Taken>, DispatchError> {
        let rows: Vec<(String, i16, String, String)> = self
            .run(&self.scripts.take, |script| {
                script.arg(NOBODY).arg(consumer).arg(count).arg(LOW_WATER);
                for (tenant, live) in live {
                    script.arg(tenant).arg(*live);
                }
            })
            .await?;
        Ok(taken(rows))
    }

    /// Acknowledges and deletes entries whose outcome is recorded.
    pub async fn done(&self, taken: &[Taken]) -> Result<(), DispatchError> {
        if taken.is_empty() {
            return Ok(());
        }
        self.run(&self.scripts.done, |script| {
            for entry in taken {
                script.arg(&entry.stream.tenant).arg(entry.stream.priority.rank()).arg(&entry.entry);
            }
        })
        .await
    }

    /// Delivers to `consumer` what some consumer was given `idle` ago and neither acknowledged nor put back since: its worker is dead.
    /// The entries keep their places. At most `max`; the rest comes with the next call.
    pub async fn reclaim(&self, consumer: &str, idle: Duration, max: usize) -> Result<Vec<Taken>, DispatchError> {
        let rows: Vec<(String, i16, String, String)> = self
            .run(&self.scripts.reclaim, |script| {
                script.arg(NOBODY).arg(consumer).arg(idle.as_millis() as u64).arg(max);
            })
            .await?;
        Ok(taken(rows))
    }

    /// Puts entries back into their places in their streams, to be taken before what was never taken, and wakes a worker.
    pub async fn put_back(&self, entries: &[Taken]) -> Result<(), DispatchError> {
        self.run(&self.scripts.put_back, |script| {
            script.arg(NOBODY);
            for entry in entries {
                script.arg(&entry.stream.tenant).arg(entry.stream.priority.rank()).arg(&entry.entry);
            }
        })
        .await
    }

    /// The oldest entry of a stream, be it given to a consumer or not; `None`: there is none. What was queued before it is not in the stream.
    pub async fn oldest(&self, stream: &Stream) -> Result<Option<ExecutionId>, DispatchError> {
        let id: Option<String> = self
            .run(&self.scripts.oldest, |script| {
                script.arg(&stream.tenant).arg(stream.priority.rank());
            })
            .await?;
        Ok(id.and_then(|id| id.parse().ok()))
    }

    /// How many entries a stream holds, those with consumers included.
    pub async fn depth(&self, stream: &Stream) -> Result<usize, DispatchError> {
        self.command(redis::cmd("XLEN").arg(self.keys.stream_of_member(&Keys::member(stream)))).await
    }

    /// Notes a tenant's share of the ring, and wakes a waiting worker when it is another than before; appending notes it too.
    pub async fn note_share(&self, tenant: &str, share: Share) -> Result<(), DispatchError> {
        self.run(&self.scripts.share, |script| {
            script.arg(tenant).arg(share.weight).arg(share.max_concurrent.unwrap_or(-1));
        })
        .await
    }

    /// Wakes a waiting worker.
    pub async fn ring_workers(&self) -> Result<(), DispatchError> {
        self.ring(&self.keys.bell()).await
    }

    /// Wakes the supervisor: something is scheduled, or waits for the relay.
    pub async fn ring_supervisor(&self) -> Result<(), DispatchError> {
        self.ring(&self.keys.relay_bell()).await
    }

    async fn ring(&self, key: &str) -> Result<(), DispatchError> {
        self.run(&self.scripts.ring, |script| {
            script.arg(key);
        })
        .await
    }

    async fn command<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, DispatchError> {
        let mut connection = self.connection().await?;
        let answer = command.query_async(connection.inner()).await;
        connection.note(&answer);
        Ok(answer?)
    }

    /// Notes that nothing waits in PostgreSQL for this stream any more, so that submissions may append to it again.
    pub async fn caught_up(&self, stream: &Stream) -> Result<(), DispatchError> {
        self.command(redis::cmd("SREM").arg(self.keys.overflow()).arg(Keys::member(stream))).await
    }

    /// Puts back whatever `consumer` holds, known to it or not, and forgets the name.
    pub async fn leave(&self, consumer: &str) -> Result<(), DispatchError> {
        self.run(&self.scripts.leave, |script| {
            script.arg(NOBODY).arg(consumer);
        })
        .await
    }

    pub async fn ping(&self) -> Result<(), DispatchError> {
        self.command::<String>(&redis::cmd("PING")).await.map(|_| ())
    }

    /// A queue must never be evicted: anything but `noeviction` loses work's hints silently. `None`: the server does not say.
    pub async fn eviction_policy(&self) -> Option<String> {
        let answer: Result<(String, String), _> =
            self.command(redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy")).await;
        answer.ok().map(|(_, policy)| policy)
    }
}

fn taken(rows: Vec<(String, i16, String, String)>) -> Vec<Taken> {
    rows.into_iter()
        .filter_map(|(tenant, rank, entry, id)| {
            let stream = Stream { tenant, priority: Priority::from_rank(rank) };
            // An entry that is no id is nobody's: it stays pending and is swept away with the stream.
            Some(Taken { stream, entry, id: id.parse().ok()? })
        })
        .collect()
}

impl std::fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatch").field("keys", &self.keys).finish_non_exhaustive()
    }
}
