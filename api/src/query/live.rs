//! Answers that grow: what there is is sent at once, what comes is sent when it comes, until the feed has ended.
//!
//! Pulled by the connection, so a slow reader holds back its own feed only, and one that went away ends it. The first step is taken before the answer
//! begins, so that its failure is a problem document. A feed that fails later breaks the connection off: a whole answer always is one.

use super::sse;
use crate::changes::Watch;
use crate::problem::{Kind, Problem};
use crate::state::App;
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream;
use roadstead_domain::ids::ExecutionId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a feed looks by itself: another replica's changes don't wake it, and a log is to be live within a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Readers that wait or follow at once, in this process.
const MAX_STREAMS: usize = 4_000;
/// Of one tenant, so that no tenant takes all.
const MAX_STREAMS_OF_TENANT: usize = 1_000;
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
    Ok(response.streaming(stream::unfold(live, |mut live| async move { Some((live.next().await?, live)) })))
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
