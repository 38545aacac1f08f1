//! The cluster's published keys, remembered.
//!
//! Invariants: the cluster is asked at most once per [`PAUSE`] whatever tokens are shown, by one question however many wait for its answer, and a
//! question outlives whoever asked it. Keys that can't be had again serve for [`LONGEST_BELIEF`]; a key that was taken back is forgotten with the next
//! answer, an hour later at most.

use super::key::{Jwk, Key};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinError;
use tokio::time::Instant;

/// How long keys are believed without asking again.
const BELIEF: Duration = Duration::from_secs(3600);
/// How long they are while the cluster does not answer.
const LONGEST_BELIEF: Duration = Duration::from_secs(24 * 3600);
/// Between an answer and the next question.
pub const PAUSE: Duration = Duration::from_secs(10);
/// Between a question without an answer and the next one.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);
/// Less than an executor waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who publishes the keys: the cluster's API server, or a test.
pub trait Publisher: Send + Sync {
    fn published(&self) -> BoxFuture<'static, anyhow::Result<Documents>>;
}

/// What a cluster publishes, as JSON.
#[derive(Clone, Debug)]
pub struct Documents {
    /// `/.well-known/openid-configuration`
    pub configuration: String,
    /// `/openid/v1/jwks`
    pub keys: String,
}

/// A key, and who signs with it.
#[derive(Clone, Debug)]
pub struct Found {
    pub issuer: Arc<str>,
    pub key: Arc<Key>,
}

/// Whether the cluster knows a key can't be told now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the cluster's keys can't be had: {why}")]
pub struct KeysUnavailable {
    pub why: String,
    pub retry_after: Duration,
}

/// Cloning shares it.
#[derive(Clone)]
pub struct Keyring {
    publisher: Arc<dyn Publisher>,
    known: Arc<RwLock<Option<Known>>>,
    /// Held while the cluster is asked.
    turn: Arc<Mutex<Option<Asked>>>,
    /// Where it is asked: a request's own runtime may drop what it does with the request.
    runtime: Handle,
}

#[derive(Clone, Debug)]
struct Known {
    issuer: Arc<str>,
    keys: HashMap<String, Arc<Key>>,
    since: Instant,
}

/// The last question.
#[derive(Clone, Debug)]
struct Asked {
    began: Instant,
    ended: Instant,
    failure: Option<String>,
}

impl Keyring {
    pub fn new(publisher: Arc<dyn Publisher>) -> Self {
        Self { publisher, known: Arc::default(), turn: Arc::default(), runtime: Handle::current() }
    }

    /// Asks for the keys before the first token is shown.
    pub async fn warm(&self) -> Result<(), KeysUnavailable> {
        self.find("").await.map(|_| ())
    }

    /// The key of this id; `None` if the cluster, asked after this call began, publishes none.
    pub async fn find(&self, id: &str) -> Result<Option<Found>, KeysUnavailable> {
        self.seek(|known| known.key(id)).await
    }

    /// The same, if this issuer is the cluster. Asked of signed claims only: of others anybody could make it a question to the cluster.
    pub async fn find_of(&self, issuer: &str, id: &str) -> Result<Option<Found>, KeysUnavailable> {
        self.seek(|known| known.key(id).filter(|found| &*found.issuer == issuer)).await
    }

    /// What is known already is found without waiting for anybody's question.
    async fn seek(&self, pick: impl Fn(&Known) -> Option<Found>) -> Result<Option<Found>, KeysUnavailable> {
        let now = Instant::now();
        if let Some(found) = self.look(BELIEF, &pick) {
            return Ok(Some(found));
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        // Others asked while this one waited for its turn.
        let asked = match &*turn {
            Some(asked) if asked.began >= now || asked.pause_left() > Duration::ZERO => asked.clone(),
            _ => self.ask(turn).await,
        };
        let answered = asked.failure.is_none();
        match self.look(if answered { BELIEF } else { LONGEST_BELIEF }, &pick) {
            Some(found) => Ok(Some(found)),
            None if answered && asked.began >= now => Ok(None),
            None => {
                let why = asked
                    .failure
                    .clone()
                    .unwrap_or_else(|| "what is asked for may be newer than the last answer".to_owned());
                Err(KeysUnavailable { why, retry_after: asked.pause_left() })
            }
        }
    }

    fn look(&self, belief: Duration, pick: impl Fn(&Known) -> Option<Found>) -> Option<Found> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|known| known.since.elapsed() < belief).and_then(pick)
    }

    async fn ask(&self, mut turn: OwnedMutexGuard<Option<Asked>>) -> Asked {
        let began = Instant::now();
        let (published, known) = (self.publisher.published(), Arc::clone(&self.known));
        let asking = self.runtime.spawn(async move {
            let answer = match tokio::time::timeout(PATIENCE, published).await {
                Ok(answer) => answer.and_then(|documents| Known::of(&documents, began)),
                Err(_) => Err(anyhow::anyhow!("no answer within {} s", PATIENCE.as_secs())),
            };
            let failure = match answer {
                Ok(answer) => {
                    *known.write().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                    None
                }
                Err(error) => Some(format!("{error:#}")),
            };
            turn.insert(Asked { began, ended: Instant::now(), failure }).clone()
        });
        let ended = |error: JoinError| Asked { began, ended: Instant::now(), failure: Some(error.to_string()) };
        asking.await.unwrap_or_else(ended)
    }
}

impl Asked {
    fn pause_left(&self) -> Duration {
        let pause = if self.failure.is_some() { PAUSE_AFTER_FAILURE } else { PAUSE };
        pause.saturating_sub(self.ended.elapsed())
    }
}

impl Known {
    fn of(documents: &Documents, since: Instant) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Configuration {
            issuer: String,
        }
        #[derive(Deserialize)]
        struct Keys {
            /// Each for itself: a key of a kind that is not known here must not hide the others.
            keys: Vec<serde_json::Value>,
        }
        let Configuration { issuer } = serde_json::from_str(&documents.configuration)
            .map_err(|error| anyhow::anyhow!("the OpenID configuration is not one: {error}"))?;
        let Keys { keys } = serde_json::from_str(&documents.keys)
            .map_err(|error| anyhow::anyhow!("the published keys are none: {error}"))?;
        let usable = |jwk: serde_json::Value| {
            let jwk: Jwk = serde_json::from_value(jwk).ok()?;
            Some((jwk.kid.clone()?, Arc::new(Key::of(&jwk)?)))
        };
        let keys: HashMap<String, Arc<Key>> = keys.into_iter().filter_map(usable).collect();
        anyhow::ensure!(!issuer.is_empty(), "the OpenID configuration names no issuer");
        anyhow::ensure!(!keys.is_empty(), "none of the published keys is for RS256, ES256 or ES384");
        Ok(Self { issuer: issuer.into(), keys, since })
    }

    fn key(&self, id: &str) -> Option<Found> {
        Some(Found { issuer: Arc::clone(&self.issuer), key: Arc::clone(self.keys.get(id)?) })
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("known", &self.known).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::{advance, sleep};

    const POINT: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
    const MOMENT: Duration = Duration::from_secs(1);

    /// Answers after a while with keys of these ids; `None`: not at all; none of them: with a mistake.
    #[derive(Default)]
    struct Asked {
        times: AtomicUsize,
        ids: std::sync::Mutex<Option<Vec<&'static str>>>,
    }

    impl Publisher for Arc<Asked> {
        fn published(&self) -> BoxFuture<'static, anyhow::Result<Documents>> {
            self.times.fetch_add(1, Ordering::Relaxed);
            let ids = self.ids.lock().unwrap().clone();
            async move {
                let Some(ids) = ids else { return std::future::pending().await };
                sleep(MOMENT).await;
                let keys: Vec<String> = ids.iter().map(|id| format!(r#"{{"kid":"{id}",{POINT}}}"#)).collect();
                let keys = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
                Ok(Documents { configuration: r#"{"issuer":"https://cluster"}"#.into(), keys })
            }
            .boxed()
        }
    }

    fn cluster(ids: &[&'static str]) -> (Arc<Asked>, Keyring) {
        let asked = Arc::new(Asked { ids: std::sync::Mutex::new(Some(ids.to_vec())), ..Asked::default() });
        (Arc::clone(&asked), Keyring::new(Arc::new(asked)))
    }

    impl Asked {
        fn times(&self) -> usize {
            self.times.load(Ordering::Relaxed)
        }

        fn publishes(&self, ids: Option<&[&'static str]>) {
            *self.ids.lock().unwrap() = ids.map(<[_]>::to_vec);
        }
    }

    async fn has(keyring: &Keyring, id: &str) -> Option<bool> {
        keyring.find(id).await.ok().map(|found| found.is_some())
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_together_ask_once() {
        let (asked, keyring) = cluster(&["one"]);
        let answers = join_all((0..50).map(|_| keyring.find("one"))).await;
        assert!(answers.iter().all(|answer| &*answer.as_ref().unwrap().as_ref().unwrap().issuer == "https://cluster"));
        assert_eq!(has(&keyring, "one").await, Some(true));
        assert_eq!(asked.times(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_found_and_unknown_ones_ask_no_more_than_once_in_a_pause() {
        let (asked, keyring) = cluster(&["one"]);
        assert_eq!(has(&keyring, "one").await, Some(true));
        asked.publishes(Some(&["one", "two"]));
        let KeysUnavailable { retry_after, .. } = keyring.find("two").await.unwrap_err();
        assert_eq!((retry_after, asked.times()), (PAUSE, 1), "it can't be told yet");
        advance(PAUSE).await;
        assert_eq!(has(&keyring, "two").await, Some(true));
        for _ in 0..100 {
            assert_eq!(has(&keyring, "nobody's").await, None);
            assert_eq!(has(&keyring, "one").await, Some(true));
        }
        assert_eq!(asked.times(), 2);
        advance(PAUSE).await;
        assert_eq!(has(&keyring, "nobody's").await, Some(false), "it was asked for");
        assert_eq!(asked.times(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_shows_a_known_key_waits_for_nobody_elses_question() {
        let (asked, keyring) = cluster(&["one"]);
        assert_eq!(has(&keyring, "one").await, Some(true));
        asked.publishes(None);
        advance(PAUSE).await;
        let strangers: Vec<_> = (0..50)
            .map(|n| {
                let keyring = keyring.clone();
                tokio::spawn(async move { keyring.find(&format!("stranger {n}")).await })
            })
            .collect();
        while asked.times() < 2 {
            tokio::task::yield_now().await;
        }
        let before = Instant::now();
        assert_eq!((has(&keyring, "one").await, before.elapsed()), (Some(true), Duration::ZERO));
        for stranger in strangers {
            assert!(stranger.await.unwrap().is_err());
        }
        assert_eq!((asked.times(), before.elapsed()), (2, PATIENCE), "they waited together");
        assert_eq!(has(&keyring, "one").await, Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_was_taken_back_is_forgotten_within_the_hour() {
        let (asked, keyring) = cluster(&["one", "two"]);
        assert_eq!(has(&keyring, "one").await, Some(true));
        asked.publishes(Some(&["two"]));
        advance(BELIEF / 2).await;
        assert_eq!((has(&keyring, "one").await, asked.times()), (Some(true), 1));
        advance(BELIEF / 2).await;
        assert_eq!((has(&keyring, "one").await, asked.times()), (Some(false), 2));
        assert_eq!(has(&keyring, "two").await, Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_is_away_is_asked_again_soon_and_its_last_word_counts_for_a_day() {
        let (asked, keyring) = cluster(&[]);
        let unavailable = keyring.find("one").await.unwrap_err();
        assert!(unavailable.why.contains("none of the published keys"), "{unavailable}");
        assert_eq!(
            (unavailable.retry_after, has(&keyring, "one").await, asked.times()),
            (PAUSE_AFTER_FAILURE, None, 1)
        );
        asked.publishes(None);
        advance(PAUSE_AFTER_FAILURE).await;
        let unavailable = keyring.find("one").await.unwrap_err();
        assert_eq!((unavailable.why.as_str(), asked.times()), ("no answer within 5 s", 2));
        asked.publishes(Some(&["one"]));
        advance(PAUSE_AFTER_FAILURE).await;
        assert_eq!(has(&keyring, "one").await, Some(true));

        asked.publishes(None);
        advance(LONGEST_BELIEF / 2).await;
        assert_eq!((has(&keyring, "one").await, has(&keyring, "two").await), (Some(true), None));
        advance(LONGEST_BELIEF / 2).await;
        assert_eq!(has(&keyring, "one").await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_outlives_whoever_asked_it() {
        let (asked, keyring) = cluster(&["one"]);
        for _ in 0..10 {
            assert!(tokio::time::timeout(MOMENT / 100, keyring.find("one")).await.is_err());
        }
        assert_eq!(has(&keyring, "one").await, Some(true));
        assert_eq!(asked.times(), 1);
    }
}
