//! Answers that grow: what there is is sent at once, what comes is sent when it comes, until the feed has ended.
//!
//! A feed runs beside its connection, a step ahead of it at most: a slow reader holds back its own feed only, one that went away ends it, and so does one
//! that stays and takes nothing. The first step is taken before the answer begins, so that its failure is a problem document. A feed that fails later breaks
//! the connection off: a whole answer always is one.

use super::sse;
use crate::changes::Watch;
use crate::problem::{Kind, Problem};
use crate::state::App;
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::{Stream, stream};
use roadstead_domain::ids::ExecutionId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a feed looks by itself: another replica's changes don't wake it, and a log is to be live within a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Readers that wait or follow at once, in this process. Each is a query every [`LOOK_INTERVAL`].
const MAX_STREAMS: usize = 1_000;
/// Of one tenant, so that no tenant takes all.
const MAX_STREAMS_OF_TENANT: usize = 500;
/// For a reader to take the next piece: the connection asks for one when there is room for it, and for none from a reader that doesn't read.
const TAKE_TIMEOUT: Duration = Duration::from_mins(5);
/// So small that a reader which is only slow takes one in time.
const MAX_PIECE_BYTES: usize = 64 << 10;
const MAX_TENANTS: u64 = 10_000;

/// Permits for readers that stay. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Streams {
    all: Arc<Semaphore>,
    by_tenant: moka::sync::Cache<String, Arc<Semaphore>>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    _of_all: OwnedSemaphorePermit,
    _of_tenant: OwnedSemaphorePermit,
}

impl Default for Streams {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(MAX_STREAMS)), by_tenant: moka::sync::Cache::new(MAX_TENANTS) }
    }
}

impl Streams {
    pub fn enter(&self, tenant: &str) -> Result<Permit, Problem> {
        let of_tenant = self.by_tenant.get_with_by_ref(tenant, || Arc::new(Semaphore::new(MAX_STREAMS_OF_TENANT)));
        Ok(Permit { _of_tenant: permit(&of_tenant)?, _of_all: permit(&self.all)? })
    }
}

fn permit(readers: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(readers).try_acquire_owned().map_err(|_| {
        Problem::new(Kind::Overloaded, "as many readers are waiting or following already as may be").retry_after(5)
    })
}

/// What a feed has to say.
#[derive(Debug)]
pub enum Step {
    /// To be sent; there may be more at once. May be empty.
    Data(String),
    /// Nothing for now.
    Idle,
    /// The last word; may be empty.
    End(String),
}

pub trait Feed: 'static {
    fn next(&mut self) -> impl Future<Output = Result<Step, Problem>>;
}

struct Live<F> {
    feed: F,
    next: Option<Step>,
    watch: Watch,
    stopping: CancellationToken,
    is_sse: bool,
    sent_at: Instant,
    ended: bool,
    /// Given back with the stream.
    _permit: Permit,
}

/// Answers with what `feed` says of `id`.
pub async fn respond(
    app: &App,
    request: &HttpRequest,
    tenant: &str,
    id: ExecutionId,
    content_type: &'static str,
    mut feed: impl Feed,
) -> Result<HttpResponse, Problem> {
    let permit = app.streams.enter(tenant)?;
    let watch = app.changes.watch(id);
    let mut first = feed.next().await?;
    if matches!(&first, Step::Data(text) if text.is_empty()) {
        // It has found where to begin; reading there is what may fail yet.
        first = feed.next().await?;
    }
    let mut response = HttpResponse::Ok();
    response
        .content_type(content_type)
        .insert_header((HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff")))
        .insert_header((HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")));
    if request.method() == Method::HEAD {
        return Ok(response.streaming(stream::empty::<Result<Bytes, BrokenOff>>()));
    }
    let live = Live {
        feed,
        next: Some(first),
        watch,
        stopping: app.stopping.clone(),
        is_sse: content_type == sse::CONTENT_TYPE,
        sent_at: Instant::now(),
        ended: false,
        _permit: permit,
    };
    Ok(response.streaming(body(live)))
}

/// Why an answer ends before its end. The HTTP layer logs it, by its `Debug`, and nobody else does.
#[derive(thiserror::Error)]
#[error("{0}")]
struct BrokenOff(Problem);

impl fmt::Debug for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0, self.0.cause().unwrap_or("no cause"))
    }
}

/// `None`: that was all of it.
type Piece = Option<Result<Bytes, BrokenOff>>;

/// What the connection asks for its pieces.
fn body(live: Live<impl Feed>) -> impl Stream<Item = Result<Bytes, BrokenOff>> {
    let (pieces, arriving) = mpsc::channel(1);
    actix_web::rt::spawn(run(live, pieces));
    stream::unfold(Some(arriving), async |arriving| {
        let mut arriving = arriving?;
        match arriving.recv().await {
            Some(Some(piece)) => Some((piece, Some(arriving))),
            Some(None) => None,
            None => {
                let given_up = Problem::new(Kind::Unavailable, "the feed was given up, as its reader took nothing");
                Some((Err(BrokenOff(given_up)), None))
            }
        }
    })
}

/// Returns, and with that gives the permit back, at the end or when nobody takes the pieces.
async fn run(mut live: Live<impl Feed>, pieces: mpsc::Sender<Piece>) {
    loop {
        let next = tokio::select! {
            next = live.next() => next,
            () = pieces.closed() => return,
        };
        let (mut text, last) = match next {
            Some(Ok(text)) => (text, None),
            last => (Bytes::new(), Some(last)),
        };
        while !text.is_empty() {
            let piece = text.split_to(text.len().min(MAX_PIECE_BYTES));
            if pieces.send_timeout(Some(Ok(piece)), TAKE_TIMEOUT).await.is_err() {
                return;
            }
        }
        if let Some(last) = last {
            let _ = pieces.send_timeout(last, TAKE_TIMEOUT).await;
            return;
        }
    }
}

impl<F: Feed> Live<F> {
    async fn next(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        while !self.ended {
            let step = match self.next.take() {
                Some(step) => Ok(step),
                None => self.feed.next().await,
            };
            let text = match step {
                Ok(Step::Data(text)) => text,
                Ok(Step::End(text)) => {
                    self.ended = true;
                    text
                }
                Ok(Step::Idle) => match self.idle().await {
                    Ok(text) => text.to_owned(),
                    Err(stopping) => return stopping.map(|problem| Err(BrokenOff(problem))),
                },
                Err(problem) => {
                    self.ended = true;
                    return Some(Err(BrokenOff(problem)));
                }
            };
            if !text.is_empty() {
                self.sent_at = Instant::now();
                return Some(Ok(text.into()));
            }
        }
        None
    }

    /// Waits for a change or for the time to look; what is to be said meanwhile. An error ends the stream: quietly where its reader knows by the
    /// missing `end` event, otherwise by breaking it off.
    async fn idle(&mut self) -> Result<&'static str, Option<Problem>> {
        tokio::select! {
            () = self.watch.changed(LOOK_INTERVAL) => {}
            () = self.stopping.cancelled() => {
                self.ended = true;
                return Err((!self.is_sse).then(|| Problem::new(Kind::Unavailable, "the server is stopping")));
            }
        }
        let silent = self.is_sse && self.sent_at.elapsed() >= KEEP_ALIVE_INTERVAL;
        Ok(if silent { sse::KEEP_ALIVE } else { "" })
    }
}

/// Where a reader that comes back left off.
pub fn last_event_id<T>(request: &HttpRequest, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Problem> {
    let Some(given) = request.headers().get("last-event-id").filter(|given| !given.is_empty()) else { return Ok(None) };
    let id = given.to_str().ok().and_then(|text| parse(text.trim()));
    id.map(Some).ok_or_else(|| Problem::field("Last-Event-ID", "is not an id of this stream's events"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::Changes;
    use futures_util::StreamExt;
    use tokio::time::{pause, sleep};

    /// So many steps, and the end.
    struct Steps(usize, usize);

    impl Feed for Steps {
        async fn next(&mut self) -> Result<Step, Problem> {
            let Some(left) = self.0.checked_sub(1) else { return Ok(Step::End("end".to_owned())) };
            self.0 = left;
            Ok(Step::Data("x".repeat(self.1)))
        }
    }

    fn live(streams: &Streams, feed: Steps) -> Live<Steps> {
        Live {
            feed,
            next: None,
            watch: Changes::default().watch(ExecutionId::new()),
            stopping: CancellationToken::new(),
            is_sse: false,
            sent_at: Instant::now(),
            ended: false,
            _permit: streams.enter("a").unwrap(),
        }
    }

    #[actix_web::test]
    async fn a_reader_that_takes_nothing_is_given_up_and_told_so() {
        pause();
        let streams = Streams::default();
        let mut pieces = Box::pin(body(live(&streams, Steps(usize::MAX, 1))));
        assert!(pieces.next().await.unwrap().is_ok());
        sleep(TAKE_TIMEOUT * 9 / 10).await;
        assert_eq!(streams.all.available_permits(), MAX_STREAMS - 1);
        sleep(TAKE_TIMEOUT).await;
        assert_eq!(streams.all.available_permits(), MAX_STREAMS);
        let rest: Vec<_> = pieces.collect().await;
        assert!(rest.last().unwrap().is_err(), "it is no whole answer");
    }

    #[actix_web::test]
    async fn a_reader_that_is_only_slow_gets_it_all() {
        pause();
        let streams = Streams::default();
        let slow = body(live(&streams, Steps(3, 3 * MAX_PIECE_BYTES))).then(async |piece| {
            sleep(TAKE_TIMEOUT * 9 / 10).await;
            piece.unwrap().len()
        });
        let sizes: Vec<usize> = slow.collect().await;
        assert_eq!(sizes, [vec![MAX_PIECE_BYTES; 9], vec!["end".len()]].concat());
        assert_eq!(streams.all.available_permits(), MAX_STREAMS);
    }

    #[actix_web::test]
    async fn a_reader_that_went_away_ends_its_feed() {
        let streams = Streams::default();
        drop(body(live(&streams, Steps(usize::MAX, 1))));
        while streams.all.available_permits() < MAX_STREAMS {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn one_tenants_readers_leave_room_for_anothers() {
        let streams = Streams::default();
        let permits: Vec<Permit> = std::iter::from_fn(|| streams.enter("a").ok()).collect();
        assert_eq!(permits.len(), MAX_STREAMS_OF_TENANT);
        assert!(streams.enter("b").is_ok());
        drop(permits);
        assert!(streams.enter("a").is_ok());
    }
}
