//! Our programs run to their end, with nothing of this process's environment but what programs are found by.

use roadstead_testkit::programs_folder;
use std::process::{Command, Stdio};

/// What a run came to.
#[derive(Debug)]
pub struct Ended {
    /// -1 after a signal.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The command, ready to be completed.
pub fn command(name: &str, environment: &[(String, String)]) -> Command {
    let folder = programs_folder().unwrap_or_else(|error| panic!("{error:#}"));
    let kept = ["PATH", "HOME", "XDG_CACHE_HOME"].map(|name| (name, std::env::var_os(name)));
    let mut command = Command::new(folder.join(name));
    command
        .env_clear()
        .envs(kept.into_iter().filter_map(|(name, value)| Some((name, value?))))
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end without holding up others.
pub async fn run(name: &str, arguments: &[&str], environment: &[(String, String)]) -> Ended {
    let mut command = command(name, environment);
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.unwrap_or_else(|error| panic!("{error}")).unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { status: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The environment with one variable changed, added or, without a value, taken out.
#[must_use]
pub fn with(environment: &[(String, String)], name: &str, value: Option<&str>) -> Vec<(String, String)> {
    let kept = environment.iter().filter(|(other, _)| other != name).cloned();
    kept.chain(value.map(|value| (name.to_owned(), value.to_owned()))).collect()
}
