//! Server-sent events, read as far as was asked for.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::Method;
use roadstead_testkit::{Client, PATIENCE};
use serde_json::Value;
use std::pin::Pin;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub event: String,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {}", self.data))
    }
}

pub struct Events {
    pieces: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    text: String,
}

impl Events {
    /// Opens the stream that this path answers with.
    pub async fn of(client: &Client, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = client.request(Method::GET, path).header("accept", "text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("no answer: {error}"));
        assert_eq!(response.status(), 200, "{path}");
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        Self { pieces: Box::pin(response.bytes_stream()), text: String::new() }
    }

    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let event = parse(&block);
                if event != Event::default() {
                    return Some(event);
                }
            }
            let piece = tokio::time::timeout(PATIENCE, self.pieces.next());
            // A server that goes away in the middle ends the stream too.
            let Some(Ok(piece)) = piece.await.unwrap_or_else(|_| panic!("no event in time")) else { return None };
            self.text.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    /// Everything up to the stream's end.
    pub async fn rest(mut self) -> Vec<Event> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

fn parse(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        match line.split_once(':') {
            Some(("id", value)) => value.trim_start().clone_into(&mut event.id),
            Some(("event", value)) => value.trim_start().clone_into(&mut event.event),
            Some(("data", value)) => {
                if !event.data.is_empty() {
                    event.data.push('\n');
                }
                event.data.push_str(value.strip_prefix(' ').unwrap_or(value));
            }
            _ => {}
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_events_and_data_may_have_several_lines() {
        assert_eq!(parse(": alive\n\n"), Event::default());
        let event = parse("id: 1-2\nevent: line\ndata: a\ndata:  b: c\n\n");
        assert_eq!((event.id.as_str(), event.event.as_str(), event.data.as_str()), ("1-2", "line", "a\n b: c"));
    }
}
