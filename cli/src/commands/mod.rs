//! The commands, one file each. Each gets a [`Session`] and says by its [`Failure`] how the program exits.

pub mod artifacts;
mod cancel;
mod capacity;
mod completion;
mod get;
mod list;
pub mod logs;
pub mod result;
mod retry;
mod submit;
pub mod watch;
pub mod workflow;

use crate::args::{Cli, Command, Format};
use crate::client::Client;
use crate::dev;
use crate::environment::{DEFAULT_URL, Environment};
use crate::failure::Failure;
use crate::output::{Output, Stream};
use crate::terminal::{self, Palette};

/// What every command is given: the API to speak to and where to show what it says.
pub struct Session {
    pub output: Output,
    /// For messages on standard error.
    pub message_palette: Palette,
    url: String,
    api_key: Option<String>,
}

impl Session {
    pub fn new(cli: &Cli, environment: &Environment) -> Self {
        let is_terminal = terminal::stdout_is_terminal();
        let colours = cli.format == Format::Table && is_terminal;
        Self {
            output: Output {
                format: cli.format,
                stream: Stream::Stdout,
                is_terminal,
                palette: Palette::of(colours, environment),
            },
            message_palette: Palette::of(terminal::stderr_is_terminal(), environment),
            url: cli.url.clone().or_else(|| environment.url.clone()).unwrap_or_else(|| DEFAULT_URL.to_owned()),
            api_key: environment.api_key.clone(),
        }
    }

    pub fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.url, self.api_key.as_deref())
    }
}

pub async fn run(command: Command, session: &Session, environment: &Environment) -> Result<(), Failure> {
    match command {
        Command::Submit(args) => submit::run(args, session).await,
        Command::Watch(args) => watch::run(&args, session).await,
        Command::Logs(args) => logs::run(&args, session).await,
        Command::Get(args) => get::run(&args.id, session).await,
        Command::List(args) => list::run(&args, session).await,
        Command::Cancel(args) => cancel::run(&args.id, session).await,
        Command::Retry(args) => retry::run(&args.id, session).await,
        Command::Result(args) => result::run(&args.id, session).await,
        Command::Artifacts(args) => artifacts::run(&args, session).await,
        Command::Workflow(command) => workflow::run(command, session).await,
        Command::Capacity => capacity::run(session).await,
        Command::Dev(args) => dev::run(args, session.output, environment).await,
        Command::Completion { shell } => completion::run(shell, session.output),
        Command::DevS3(args) => dev::s3_server::run(&args).await,
    }
}

/// An id as the API knows them. What can be none is not found, without asking.
fn execution_id(text: &str) -> Result<String, Failure> {
    text.parse::<roadstead_domain::ids::ExecutionId>()
        .map(|id| id.to_string())
        .map_err(|_| Failure::NotFound(format!("`{text}` is not the id of an execution")))
}

/// A workflow's name and, after an `@`, one of its versions.
fn workflow_reference(text: &str) -> Result<(&str, Option<u32>), Failure> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    if !roadstead_domain::ids::is_name(name) {
        return Err(Failure::Usage(format!("`{name}` is not a workflow's name (a-z, 0-9 and `-`, at most 63)")));
    }
    let version = version.map(|version| {
        let parsed = version.parse().ok().filter(|version| *version > 0);
        parsed.ok_or_else(|| Failure::Usage(format!("`{version}` is not a version: versions are numbered from 1")))
    });
    Ok((name, version.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_a_name_and_perhaps_a_version() {
        assert_eq!(workflow_reference("word-count").unwrap(), ("word-count", None));
        assert_eq!(workflow_reference("a@12").unwrap(), ("a", Some(12)));
        for bad in ["", "A", "a@", "a@0", "a@x", "a@1@2", "../a", "wf.toml"] {
            assert_eq!(workflow_reference(bad).unwrap_err().exit_status(), 2, "{bad}");
        }
    }

    #[test]
    fn what_can_be_no_id_is_not_found() {
        assert_eq!(execution_id("nonsense").unwrap_err().exit_status(), 3);
        let id = "0190b5a0-7000-7000-8000-000000000001";
        assert_eq!(execution_id(id).unwrap(), id);
    }
}
