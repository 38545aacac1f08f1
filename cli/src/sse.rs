//! Server-sent events, as the HTML standard defines their stream. Pure: bytes in, events out.

/// An event larger than this ends the stream with an error.
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The event's type; `message` when the stream names none.
    pub kind: String,
    pub data: String,
    /// The last id that the stream named, with this event or before it.
    pub id: Option<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {MAX_EVENT_BYTES} bytes")]
pub struct TooLarge;

/// Takes the stream in pieces of any size.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    after_carriage_return: bool,
    kind: String,
    data: String,
    has_data: bool,
    id: Option<String>,
}

impl Parser {
    /// The events that `piece` completes.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for &byte in piece {
            let ends_pair = std::mem::take(&mut self.after_carriage_return) && byte == b'\n';
            match byte {
                _ if ends_pair => {}
                b'\n' | b'\r' => {
                    self.after_carriage_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.line(&String::from_utf8_lossy(&line)));
                }
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > MAX_EVENT_BYTES {
                return Err(TooLarge);
            }
        }
        Ok(events)
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let kind = std::mem::take(&mut self.kind);
        let data = std::mem::take(&mut self.data);
        // Unlike the standard, an event that is named but empty counts: `end` may carry nothing.
        if !std::mem::take(&mut self.has_data) && kind.is_empty() {
            return None;
        }
        let kind = if kind.is_empty() { "message".to_owned() } else { kind };
        Some(Event { kind, data, id: self.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b": hello\n\nid: 1\nevent: log\ndata: {\"a\":1}\n\ndata:x\r\ndata: y\r\n\r\nretry: 5\rid: 2\rdata\r\rnonsense\nevent: end\n\n";

    fn event(kind: &str, data: &str, id: &str) -> Event {
        Event { kind: kind.to_owned(), data: data.to_owned(), id: Some(id.to_owned()) }
    }

    #[test]
    fn pieces_of_any_size_give_the_same_events() {
        let whole = Parser::default().feed(STREAM).unwrap();
        assert_eq!(
            whole,
            [
                event("log", "{\"a\":1}", "1"),
                event("message", "x\ny", "1"),
                event("message", "", "2"),
                event("end", "", "2")
            ]
        );
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let events: Vec<Event> = STREAM.chunks(size).flat_map(|piece| parser.feed(piece).unwrap()).collect();
            assert_eq!(events, whole, "pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1024 * 1024];
        let refused = (0..20).any(|_| parser.feed(&piece).is_err());
        assert!(refused);
    }
}
