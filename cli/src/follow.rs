//! Reading a log to its end while it grows: resumed where it broke off, every line given once and in order.

use crate::client::{Call, Client};
use crate::failure::Failure;
use crate::sse::{Event, Parser};
use reqwest::header::{ACCEPT, HeaderName};
use std::time::Duration;
use tokio::time::Instant;

/// The API may be away for this long in the middle of a log.
const MAX_OUTAGE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(500);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What of a log is wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub attempt: Option<u32>,
    pub step: Option<String>,
    pub stream: Option<&'static str>,
    pub tail: Option<u32>,
}

impl Selection {
    pub fn call<'a>(&self, id: &'a str, accept: &str) -> Call<'a> {
        Call::get(&["executions", id, "logs"])
            .query("attempt", self.attempt)
            .query("step", self.step.as_deref())
            .query("stream", self.stream)
            .query("tail", self.tail)
            .header(ACCEPT, accept)
    }
}

/// Gives each line's JSON to `on_line` until the log has ended.
pub async fn follow(
    client: &Client,
    id: &str,
    selection: &Selection,
    mut on_line: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut last_id: Option<String> = None;
    let mut heard_at: Option<Instant> = None;
    loop {
        let outcome = read_stream(client, id, selection, &mut last_id, &mut heard_at, &mut on_line).await;
        let is_outage = heard_at.is_some_and(|heard_at| heard_at.elapsed() <= MAX_OUTAGE);
        match outcome {
            Ok(Ended::Log) => return Ok(()),
            Ok(Ended::Connection) if is_outage => {}
            Ok(Ended::Connection) => {
                return Err(Failure::Local(format!("the log of {id} ended without its end event")));
            }
            // A log that was never heard of is not resumed: its address or key is wrong, or nobody is there.
            Err(failure) if is_outage && failure.exit_status() == 5 => {}
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

enum Ended {
    Log,
    Connection,
}

async fn read_stream(
    client: &Client,
    id: &str,
    selection: &Selection,
    last_id: &mut Option<String>,
    heard_at: &mut Option<Instant>,
    on_line: &mut impl FnMut(&str) -> Result<(), Failure>,
) -> Result<Ended, Failure> {
    let call = match last_id {
        // Where to go on is exact; a tail would be counted anew.
        Some(last_id) => Selection { tail: None, ..selection.clone() }
            .call(id, "text/event-stream")
            .header(LAST_EVENT_ID, last_id.clone()),
        None => selection.call(id, "text/event-stream"),
    };
    let mut response = client.send(call.query("follow", Some(true))).await?;
    let mut parser = Parser::default();
    // A broken connection is not a failure here but the time to resume.
    while let Ok(Some(piece)) = response.chunk().await {
        *heard_at = Some(Instant::now());
        let events = parser.feed(&piece).map_err(|e| Failure::local("can't read the log", e))?;
        for Event { kind, data, id } in events {
            if kind == "end" {
                return Ok(Ended::Log);
            }
            if !data.is_empty() {
                on_line(&data)?;
            }
            *last_id = id.or(last_id.take());
        }
    }
    Ok(Ended::Connection)
}
