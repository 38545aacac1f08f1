//! An execution's input: from an argument, a file or standard input to bytes that are sent unchanged.
//!
//! Whatever its size, it is checked to be JSON here, and then streamed; it is never held whole. It is a file in the end
//! (what comes through a pipe is put into one that has no name), so that a request can be sent again.

use crate::client::Payload;
use crate::failure::Failure;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::Body;
use serde::de::IgnoredAny;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

const PIECE_BYTES: usize = 64 * 1024;

/// A checked JSON document.
#[derive(Debug)]
pub enum Input {
    Inline(Bytes),
    File { file: File, size_bytes: u64 },
}

impl Input {
    /// From what `--input` was given: `-`, `@file`, or the document itself.
    pub fn json(argument: &str) -> Result<Self, Failure> {
        let Some(place) = place(argument) else {
            serde_json::from_str::<IgnoredAny>(argument).map_err(|e| {
                Failure::Usage(format!(
                    "`{argument}` is not JSON ({e}); `@{argument}` would name a file, '\"…\"' be a string"
                ))
            })?;
            return Ok(Self::Inline(Bytes::copy_from_slice(argument.as_bytes())));
        };
        let shown = shown(place);
        let mut file = seekable(place)?;
        serde_json::from_reader::<_, IgnoredAny>(BufReader::new(&file)).map_err(|e| {
            Failure::Usage(format!("{shown} is not JSON ({e}); --input-text sends any text as a JSON string"))
        })?;
        Self::of(&mut file, &shown)
    }

    /// From what `--input-text` was given: `-` or `@file`. The text becomes one JSON string.
    pub fn text(argument: &str) -> Result<Self, Failure> {
        let place = place(argument).ok_or_else(|| {
            Failure::Usage(format!("--input-text takes `-` or `@file`, not `{argument}`; --input takes a document"))
        })?;
        let shown = shown(place);
        let wrapped = (|| {
            let source: Box<dyn Read> =
                if place == "-" { Box::new(io::stdin().lock()) } else { Box::new(File::open(place)?) };
            let mut file = tempfile::tempfile()?;
            let mut writer = BufWriter::new(&mut file);
            write_as_json_string(source, &mut writer)?;
            writer.flush()?;
            drop(writer);
            Ok(file)
        })();
        let mut file = wrapped.map_err(|e: io::Error| Failure::Usage(format!("can't read {shown}: {e}")))?;
        Self::of(&mut file, &shown)
    }

    fn of(file: &mut File, shown: &str) -> Result<Self, Failure> {
        let size_bytes = file.metadata().map_err(|e| Failure::local(shown, e))?.len();
        let file = file.try_clone().map_err(|e| Failure::local(shown, e))?;
        Ok(Self::File { file, size_bytes })
    }

    fn size_bytes(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::File { size_bytes, .. } => *size_bytes,
        }
    }
}

/// A submission: an object whose last member is the input, as it is.
pub struct Submission {
    head: Bytes,
    input: Option<Input>,
}

impl Submission {
    /// `fields` holds everything but the input.
    pub fn new(fields: &serde_json::Map<String, serde_json::Value>, input: Option<Input>) -> Result<Self, Failure> {
        let mut head = serde_json::to_vec(fields).map_err(|e| Failure::local("can't write the request", e))?;
        head.pop();
        if input.is_some() {
            head.extend_from_slice(if fields.is_empty() { b"\"input\":" } else { b",\"input\":" });
        }
        Ok(Self { head: Bytes::from(head), input })
    }
}

const TAIL: &[u8] = b"}";

impl Payload for Submission {
    fn body(&self) -> Result<Body, Failure> {
        let mut file = match &self.input {
            Some(Input::File { file, .. }) => {
                file.try_clone().map_err(|e| Failure::local("can't read the input", e))?
            }
            Some(Input::Inline(bytes)) => return Ok(Body::from([&self.head, bytes, TAIL].concat())),
            None => return Ok(Body::from([&self.head, TAIL].concat())),
        };
        file.rewind().map_err(|e| Failure::local("can't read the input", e))?;
        // A file that grows meanwhile must not break the framing that was announced.
        let input = tokio::fs::File::from_std(file).take(self.input.as_ref().map_or(0, Input::size_bytes));
        let once = |bytes: Bytes| stream::once(async move { io::Result::Ok(bytes) });
        let pieces = once(self.head.clone())
            .chain(ReaderStream::with_capacity(input, PIECE_BYTES))
            .chain(once(Bytes::from_static(TAIL)));
        Ok(Body::wrap_stream(pieces))
    }

    fn size_bytes(&self) -> u64 {
        (self.head.len() + TAIL.len()) as u64 + self.input.as_ref().map_or(0, Input::size_bytes)
    }
}

/// Where an argument says that the input is; nothing when the argument is the input.
fn place(argument: &str) -> Option<&str> {
    if argument == "-" { Some(argument) } else { argument.strip_prefix('@') }
}

fn shown(place: &str) -> String {
    if place == "-" { "standard input".to_owned() } else { place.to_owned() }
}

/// The file itself, or a nameless copy of what can be read only once. Its position is its beginning.
fn seekable(place: &str) -> Result<File, Failure> {
    let open = || -> io::Result<File> {
        let mut source: Box<dyn Read> = if place == "-" {
            Box::new(io::stdin().lock())
        } else {
            let file = File::open(Path::new(place))?;
            if file.metadata()?.is_file() {
                return Ok(file);
            }
            Box::new(file)
        };
        let mut copy = tempfile::tempfile()?;
        io::copy(&mut source, &mut copy)?;
        copy.rewind()?;
        Ok(copy)
    };
    open().map_err(|e| Failure::Usage(format!("can't read {}: {e}", shown(place))))
}

/// Writes text as a JSON string, piece by piece. Text that is not UTF-8 is refused.
fn write_as_json_string(mut source: impl Read, target: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut held = 0;
    target.write_all(b"\"")?;
    loop {
        let read = source.read(&mut buffer[held..])?;
        let filled = held + read;
        let valid = match std::str::from_utf8(&buffer[..filled]) {
            Ok(text) => text.len(),
            // The end of the piece may cut a character in two; the end of the text may not.
            Err(error) if error.error_len().is_none() && read > 0 => error.valid_up_to(),
            Err(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text")),
        };
        let text = String::from_utf8_lossy(&buffer[..valid]);
        let escaped = serde_json::to_string(&text)?;
        target.write_all(&escaped.as_bytes()[1..escaped.len() - 1])?;
        buffer.copy_within(valid..filled, 0);
        held = filled - valid;
        if read == 0 {
            return target.write_all(b"\"");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(input: &Input) -> String {
        match input {
            Input::Inline(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Input::File { file, .. } => {
                let mut file = file.try_clone().unwrap();
                file.rewind().unwrap();
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            }
        }
    }

    fn file(content: &[u8]) -> (tempfile::NamedTempFile, String) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let argument = format!("@{}", file.path().display());
        (file, argument)
    }

    #[test]
    fn a_document_keeps_its_bytes() {
        assert_eq!(read(&Input::json(r#"{"b":1.50,"a":[]}"#).unwrap()), r#"{"b":1.50,"a":[]}"#);
        let (_guard, argument) = file(b" [1e400,\n2] ");
        assert_eq!(read(&Input::json(&argument).unwrap()), " [1e400,\n2] ");
    }

    #[test]
    fn what_is_not_json_is_a_usage_error() {
        let (_guard, argument) = file(b"{\"a\":1},\"priority\":\"high\"");
        for bad in ["hello", "", "{", &argument, "@/nonexistent/file"] {
            assert_eq!(Input::json(bad).unwrap_err().exit_status(), 2, "{bad}");
        }
    }

    #[test]
    fn any_text_becomes_a_string() {
        let text = "line\n\"quoted\" \\ grüße 日本\u{1}".repeat(9_000);
        let (_guard, argument) = file(text.as_bytes());
        let wrapped = read(&Input::text(&argument).unwrap());
        assert_eq!(serde_json::from_str::<String>(&wrapped).unwrap(), text);
        for bad in [b"\xff".as_slice(), b"cut \xe6\x97"] {
            let (_guard, argument) = file(bad);
            assert_eq!(Input::text(&argument).unwrap_err().exit_status(), 2);
        }
        assert_eq!(Input::text("hello").unwrap_err().exit_status(), 2);
    }

    #[test]
    fn a_submission_announces_the_size_that_it_has() {
        let fields = json!({"workflow": "w"}).as_object().unwrap().clone();
        let (_guard, argument) = file(b"[1]");
        for (input, expected) in [
            (None, r#"{"workflow":"w"}"#),
            (Some(Input::json("7").unwrap()), r#"{"workflow":"w","input":7}"#),
            (Some(Input::json(&argument).unwrap()), r#"{"workflow":"w","input":[1]}"#),
        ] {
            assert_eq!(Submission::new(&fields, input).unwrap().size_bytes(), expected.len() as u64);
        }
    }
}
