//! Server-sent events, as the HTML standard defines their stream. Pure: text in, text out.

use std::fmt::{Display, Write};

pub const CONTENT_TYPE: &str = "text/event-stream";
/// Says nothing, but shows both sides that the other is there.
pub const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// Appends a message. `data` must be one line, as compact JSON is.
pub fn message(out: &mut String, id: Option<impl Display>, data: &str) {
    debug_assert!(!data.contains(['\n', '\r']));
    if let Some(id) = id {
        // Writing to a string does not fail.
        let _ = writeln!(out, "id: {id}");
    }
    out.push_str("data: ");
    out.push_str(data);
    out.push_str("\n\n");
}

/// The last event of a stream that is complete: a client that sees it need not come again.
pub fn end(state: impl Display) -> String {
    format!("event: end\ndata: {{\"state\":\"{state}\"}}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed_as_the_standard_says() {
        let mut out = String::new();
        message(&mut out, Some("1-7"), "{}");
        message(&mut out, None::<u8>, "[]");
        out.push_str(&end("succeeded"));
        assert_eq!(out, "id: 1-7\ndata: {}\n\ndata: []\n\nevent: end\ndata: {\"state\":\"succeeded\"}\n\n");
    }
}
