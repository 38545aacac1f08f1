//! Standard output: data only, in the format that was asked for. A reader who leaves early is not an error.

use crate::args::Format;
use crate::failure::Failure;
use crate::terminal::{self, Palette};
use serde::de::IgnoredAny;
use serde_yaml_ng::Value;
use std::io::Write;

/// Where data goes. Only `dev` ever shows any beside standard output.
#[derive(Clone, Copy)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Copy)]
pub struct Output {
    pub format: Format,
    pub stream: Stream,
    pub is_terminal: bool,
    pub palette: Palette,
}

impl Output {
    /// Shows what the API answered: as it is for `json`, converted for `yaml`, and as `people` makes it for `table`.
    pub fn document(self, answer: &[u8], people: impl FnOnce(Palette) -> String) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.line(&people(self.palette)),
            Format::Json => self.json(answer),
            Format::Yaml => self.yaml(answer),
        }
    }

    /// The bytes that were answered, so that numbers and key order survive, and a line end.
    fn json(self, answer: &[u8]) -> Result<(), Failure> {
        let mut line = answer.trim_ascii().to_vec();
        line.push(b'\n');
        self.foreign(&line)
    }

    pub fn yaml(self, answer: &[u8]) -> Result<(), Failure> {
        // A YAML value keeps the order of its keys, which a JSON value would not.
        serde_json::from_slice::<IgnoredAny>(answer).map_err(|e| Failure::local("the API's answer is not JSON", e))?;
        let no_yaml = |why: &dyn std::fmt::Display| {
            Failure::Usage(format!(
                "this can't be shown as YAML: {why}\n  try: `--format json`, which shows it as it came"
            ))
        };
        let value: Value = serde_json::from_slice(answer).map_err(|e| no_yaml(&e))?;
        let text = serde_yaml_ng::to_string(&value).map_err(|e| no_yaml(&e))?;
        self.foreign(text.as_bytes())
    }

    pub fn line(self, text: &str) -> Result<(), Failure> {
        self.raw(format!("{text}\n").as_bytes())
    }

    pub fn raw(self, bytes: &[u8]) -> Result<(), Failure> {
        let write = |stream: &mut dyn Write| stream.write_all(bytes).and_then(|()| stream.flush());
        Ok(match self.stream {
            Stream::Stdout => write(&mut std::io::stdout().lock()),
            Stream::Stderr => write(&mut std::io::stderr().lock()),
        }?)
    }

    /// Data as it came; on a terminal without what could steer it.
    pub fn foreign(self, bytes: &[u8]) -> Result<(), Failure> {
        if self.is_terminal {
            self.raw(terminal::harmless_lines(&String::from_utf8_lossy(bytes)).as_bytes())
        } else {
            self.raw(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_can_not_hold_is_not_called_something_else() {
        let output =
            Output { format: Format::Yaml, stream: Stream::Stderr, is_terminal: false, palette: Palette::none() };
        for result in ["1e999", r#""\ud800""#, r#"{"a":1,"a":2}"#, &format!("{}{}", "[".repeat(200), "]".repeat(200))] {
            let failure = output.yaml(format!(r#"{{"result":{result}}}"#).as_bytes()).unwrap_err();
            assert!(failure.to_string().starts_with("this can't be shown as YAML"), "{failure}");
            assert_eq!(failure.exit_status(), 2);
        }
        assert!(output.yaml(b"<html>").unwrap_err().to_string().starts_with("the API's answer is not JSON"));
    }
}
