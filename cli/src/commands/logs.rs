//! `roadstead logs`: what the steps printed, so far or until the end.

use super::{Session, execution_id};
use crate::args::{Format, LogsArgs};
use crate::failure::Failure;
use crate::follow::{Selection, follow};
use crate::model::{self, LogEvent};
use crate::output::Output;
use crate::terminal::harmless;
use roadstead_domain::attempt::protocol::Stream;

/// A longer line is no log line.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

pub async fn run(args: &LogsArgs, session: &Session) -> Result<(), Failure> {
    let id = execution_id(&args.id)?;
    let client = session.client()?;
    let selection = Selection {
        attempt: args.attempt,
        step: args.step.clone(),
        stream: args.stream.map(stream_word),
        tail: args.tail,
    };
    let printer = Printer { output: session.output, with_step: args.step.is_none() };
    if args.follow {
        return follow(&client, &id, &selection, |line| printer.print(line)).await;
    }
    let mut response = client.send(selection.call(&id, "application/x-ndjson")).await?;
    let mut rest: Vec<u8> = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|e| Failure::local("the log broke off", e))? {
        rest.extend_from_slice(&piece);
        let Some(end) = rest.iter().rposition(|&byte| byte == b'\n') else {
            if rest.len() > MAX_LINE_BYTES {
                return Err(Failure::Local(format!("a line of the log is longer than {MAX_LINE_BYTES} bytes")));
            }
            continue;
        };
        printer.print_lines(&rest[..end])?;
        rest.drain(..=end);
    }
    printer.print_lines(&rest)
}

fn stream_word(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
        Stream::System => "system",
    }
}

/// Shows log lines, each given as its JSON.
#[derive(Clone, Copy)]
pub struct Printer {
    pub output: Output,
    /// Whether a line says which step printed it.
    pub with_step: bool,
}

impl Printer {
    /// Several lines at once: one write, so that a long log costs no system call a line.
    fn print_lines(self, lines: &[u8]) -> Result<(), Failure> {
        let mut text = String::new();
        for line in String::from_utf8_lossy(lines).lines().filter(|line| !line.trim().is_empty()) {
            self.append(line, &mut text)?;
        }
        self.output.raw(text.as_bytes())
    }

    pub fn print(self, line: &str) -> Result<(), Failure> {
        let mut text = String::new();
        self.append(line, &mut text)?;
        self.output.raw(text.as_bytes())
    }

    fn append(self, line: &str, text: &mut String) -> Result<(), Failure> {
        match self.output.format {
            Format::Table => self.append_shown(&model::read(line.as_bytes())?, text),
            Format::Json => {
                let line = line.trim();
                text.push_str(&if self.output.is_terminal { harmless(line) } else { line.to_owned() });
            }
            Format::Yaml => {
                let value: serde_yaml_ng::Value = model::read(line.as_bytes())?;
                let yaml = serde_yaml_ng::to_string(&[value]).map_err(|e| Failure::local("can't write YAML", e))?;
                text.push_str(yaml.trim_end());
            }
        }
        text.push('\n');
        Ok(())
    }

    fn append_shown(self, event: &LogEvent, text: &mut String) {
        let palette = self.output.palette;
        if self.with_step && !event.step.is_empty() {
            text.push_str(&palette.step(&harmless(&event.step)));
            text.push_str(&palette.dim(" │ "));
        }
        // A file or a pipe gets what was printed; only a terminal could be steered by it.
        let line = if self.output.is_terminal { harmless(&event.line) } else { event.line.clone() };
        text.push_str(&match event.stream.as_str() {
            "stderr" => palette.red(&line),
            "system" => palette.dim(&line),
            _ => line,
        });
    }
}
