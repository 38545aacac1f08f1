//! The arguments of every command, as clap reads them. What can be told wrong without asking the API is told wrong here.

use crate::clock;
use crate::dev::DevArgs;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use roadstead_domain::attempt::protocol::Stream;
use roadstead_domain::execution::{Priority, State};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Environment:
  ROADSTEAD_URL      the API's address [default: http://127.0.0.1:8080]
  ROADSTEAD_API_KEY  the API key
  NO_COLOR           no colours, also on a terminal

Exit status:
  0 done
  1 the execution did not succeed (submit --watch, watch --exit-status), its state does not
    allow this (cancel, retry), or something failed here
  2 wrong usage or input, 3 not found, 4 not allowed, 5 the API is not available";

/// Roadstead: an execution queue for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "roadstead", version, after_help = AFTER_HELP, propagate_version = true)]
pub struct Cli {
    /// How data is shown.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// The API's address; wins over ROADSTEAD_URL.
    #[arg(long, global = true, value_hint = ValueHint::Url)]
    pub url: Option<String>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// What the API answered.
    Json,
    Yaml,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Submit an execution of a workflow.
    Submit(SubmitArgs),
    /// Show an execution's progress until it ends.
    Watch(WatchArgs),
    /// Show what an execution's steps printed.
    Logs(LogsArgs),
    /// Show one execution.
    Get(ExecutionArgs),
    /// List executions, newest first.
    List(ListArgs),
    /// Cancel an execution.
    Cancel(ExecutionArgs),
    /// Submit an ended execution again.
    Retry(ExecutionArgs),
    /// Print an execution's result document.
    Result(ExecutionArgs),
    /// List an execution's artifacts, or download them.
    Artifacts(ArtifactsArgs),
    /// Manage workflows.
    #[command(subcommand)]
    Workflow(WorkflowCommand),
    /// Show how full the queue and the cluster are.
    Capacity,
    /// Run the whole stack on this machine until Ctrl-C.
    Dev(DevArgs),
    /// Print a completion script.
    Completion { shell: clap_complete::Shell },
    /// The S3 server of `dev`; reads its credentials from standard input.
    #[command(name = "dev-s3", hide = true)]
    DevS3(DevS3Args),
}

#[derive(Debug, Args)]
pub struct ExecutionArgs {
    /// The execution's id.
    pub id: String,
}

#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// A workflow's name, `name@version`, or a file that defines one (YAML or JSON). What can be a name is one, also
    /// where a file has it: `./name` is the file.
    #[arg(value_name = "WORKFLOW|FILE", value_hint = ValueHint::FilePath)]
    pub workflow: String,
    /// The input: a JSON document, `@file` that holds one, or `-` for standard input.
    #[arg(long, value_name = "@FILE|-|JSON", allow_hyphen_values = true)]
    pub input: Option<String>,
    /// The input: a text file (`@file`, or `-` for standard input), sent as one JSON string.
    #[arg(long, value_name = "@FILE|-", conflicts_with = "input", allow_hyphen_values = true)]
    pub input_text: Option<String>,
    /// Show progress until the execution ends; exit status 1 when it does not succeed.
    #[arg(long)]
    pub watch: bool,
    #[arg(long, value_parser = word::<Priority>(Priority::ALL.iter().map(|p| p.as_str())))]
    pub priority: Option<Priority>,
    /// A label; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// When it may start: a time as in 2030-01-31T08:00:00Z, or a delay as in +10m.
    #[arg(long, value_name = "TIME", value_parser = clock::parse_time)]
    pub run_at: Option<String>,
    /// Run deadline of an attempt.
    #[arg(long, value_name = "N")]
    pub timeout_seconds: Option<u32>,
    /// How long it may wait for its start.
    #[arg(long, value_name = "N")]
    pub queue_timeout_seconds: Option<u32>,
    #[arg(long, value_name = "N")]
    pub max_retries: Option<u32>,
    /// Submitting again under the same key gives the same execution.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The execution's id.
    pub id: String,
    /// Exit with status 1 when the execution does not succeed.
    #[arg(long)]
    pub exit_status: bool,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The execution's id.
    pub id: String,
    /// Keep reading until the execution ends.
    #[arg(short, long)]
    pub follow: bool,
    /// Which attempt [default: the current one].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
    /// Only this step.
    #[arg(long, value_name = "ID")]
    pub step: Option<String>,
    /// Only this stream.
    #[arg(long, value_parser = stream_word())]
    pub stream: Option<Stream>,
    /// Only the last lines.
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u32>,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[arg(long, value_parser = word::<State>(State::ALL.iter().map(|s| s.as_str())))]
    pub state: Option<State>,
    #[arg(long, value_name = "NAME")]
    pub workflow: Option<String>,
    /// Only executions that carry this label; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// How many at most.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// All of them, page after page.
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct ArtifactsArgs {
    /// The execution's id.
    pub id: String,
    /// Download all of them into this folder, checked against their SHA-256.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub download: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum WorkflowCommand {
    /// Store a workflow; a changed definition becomes its next version.
    Apply {
        /// The definition: YAML or JSON.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The workflow's name [default: the file's, or its folder's when it is called `workflow`].
        #[arg(long)]
        name: Option<String>,
    },
    /// List workflows.
    List,
    /// Show a workflow's definition.
    Get {
        /// Its name, or `name@version`.
        #[arg(value_name = "NAME[@VERSION]")]
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct DevS3Args {
    /// The folder whose sub-folders are the buckets.
    #[arg(long)]
    pub root: PathBuf,
    #[arg(long)]
    pub port: u16,
}

/// A `KEY=VALUE`.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

/// A parser for one of a few words, which help and completion then list.
fn word<T>(words: impl Iterator<Item = &'static str>) -> impl clap::builder::TypedValueParser<Value = T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(words).try_map(|text| text.parse::<T>())
}

fn stream_word() -> impl clap::builder::TypedValueParser<Value = Stream> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(["stdout", "stderr", "system"]).map(|text| match text.as_str() {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => Stream::System,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn submit_takes_everything_the_contract_names() {
        let line = "roadstead submit count@3 --input - --watch --priority high --label a=b --label c=d=e \
            --run-at 2030-01-01T00:00:00Z --timeout-seconds 5 --queue-timeout-seconds 6 --max-retries 7 --idempotency-key k --format json";
        let cli = parse(&line.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap();
        assert_eq!(cli.format, Format::Json);
        let Command::Submit(args) = cli.command else { panic!("not submit") };
        assert_eq!(args.workflow, "count@3");
        assert_eq!(args.input.as_deref(), Some("-"));
        assert_eq!(args.priority, Some(Priority::High));
        assert_eq!(args.labels, [("a".into(), "b".into()), ("c".into(), "d=e".into())]);
        assert_eq!(args.run_at.as_deref(), Some("2030-01-01T00:00:00.000Z"));
        assert_eq!((args.timeout_seconds, args.queue_timeout_seconds, args.max_retries), (Some(5), Some(6), Some(7)));
    }

    #[test]
    fn wrong_words_are_usage_errors() {
        for line in [
            "roadstead",
            "roadstead submit",
            "roadstead submit x --priority urgent",
            "roadstead submit x --label novalue",
            "roadstead submit x --run-at soon",
            "roadstead submit x --input 1 --input-text -",
            "roadstead list --state done",
            "roadstead list --limit 0",
            "roadstead list --all --limit 3",
            "roadstead logs x --stream stdin",
            "roadstead logs x --attempt 0",
            "roadstead get",
            "roadstead nonsense",
            "roadstead get x --format xml",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_negative_number_is_an_input_and_not_an_option() {
        let Command::Submit(args) = parse("roadstead submit x --input -1").unwrap().command else {
            panic!("not submit")
        };
        assert_eq!(args.input.as_deref(), Some("-1"));
    }
}
