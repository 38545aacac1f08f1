//! What `roadstead dev` tells: data on standard output, everything else on standard error.

use super::folder::Folder;
use super::stack::Addresses;
use super::supervise::Notice;
use crate::args::Format;
use crate::failure::Failure;
use crate::output::Output;
use crate::terminal::say;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Tells of what befell a part: a line for people, or one of JSON.
pub fn notice(format: Format, notice: &Notice) {
    let seconds = |pause: &Duration| pause.as_secs_f64();
    if format == Format::Json {
        let line = match notice {
            Notice::Died { part, how, pause } => {
                json!({"event": "died", "part": part, "how": how, "restart_in_seconds": seconds(pause)})
            }
            Notice::Restarted { part, pid } => json!({"event": "restarted", "part": part, "pid": pid}),
            Notice::NotRestarted { part, why, pause } => {
                json!({"event": "not_restarted", "part": part, "why": why, "retry_in_seconds": seconds(pause)})
            }
        };
        return say(&line.to_string());
    }
    say(&match notice {
        Notice::Died { part, how, pause } => {
            format!("{part} died ({how}); it is started again in {} s", seconds(pause))
        }
        Notice::Restarted { part, pid } => format!("{part} was started again (process {pid})"),
        Notice::NotRestarted { part, why, pause } => {
            format!("{part} can't be started: {why}; again in {} s", seconds(pause))
        }
    });
}

/// What programs wait for, one line of JSON or a document of YAML; for people there is the [`banner`].
pub fn ready(output: Output, addresses: &Addresses) -> Result<(), Failure> {
    if output.format == Format::Table {
        return Ok(());
    }
    let document = serde_json::to_vec(addresses).map_err(|e| Failure::local("can't write the addresses", e))?;
    output.document(&document, |_| String::new())
}

/// What a shell needs for the command line and for roadstead-api's own commands, as a file to be sourced.
pub fn shell_environment(addresses: &Addresses, own_folder: &Path) -> String {
    let Addresses { api_url, api_key, database_url, redis_url, .. } = addresses;
    format!(
        "export ROADSTEAD_URL={api_url} ROADSTEAD_API_KEY={api_key} DATABASE_URL='{database_url}' REDIS_URL='{redis_url}' PATH={}:\"$PATH\"\n",
        shell_quoted(own_folder)
    )
}

/// Where everything is and what to try next. `sample` is the id of the sample's execution, if it was run.
pub fn banner(
    output: Output,
    addresses: &Addresses,
    sample: Option<&str>,
    own_folder: &Path,
    folder: &Folder,
) -> Result<(), Failure> {
    let Addresses { api_url, api_key, worker_url, .. } = addresses;
    let palette = output.palette;
    let commands = match sample {
        Some(id) => [
            format!("roadstead artifacts {id} --download word-count"),
            "roadstead submit word-count --input '\"the sea, the ship, the sea and the stars\"' --watch".to_owned(),
            "roadstead list".to_owned(),
        ],
        None => ["roadstead capacity".to_owned(), "roadstead list".to_owned(), "roadstead submit --help".to_owned()],
    };
    let commands = commands.map(|command| format!("  {}\n", palette.bold(&command))).concat();
    output.line(&format!(
        "\n{}\n\n  API      {api_url}\n  docs     {api_url}/docs\n  metrics  {api_url}/metrics and {worker_url}/metrics\n  \
         logs     {}\n\nTry next, in another terminal:\n\n  export ROADSTEAD_URL={api_url} ROADSTEAD_API_KEY={api_key} PATH={}:\"$PATH\"\n\
         {commands}\nFor roadstead-api (keys, tenants) too: . {}\n\nCtrl-C ends it all.",
        palette.bold("Roadstead is running."),
        folder.logs().display(),
        shell_quoted(own_folder),
        shell_quoted(&folder.shell_environment()),
    ))
}

/// A path as one word of a shell.
fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if is_plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word() {
        assert_eq!(shell_quoted(Path::new("/a/b-1.x")), "/a/b-1.x");
        assert_eq!(shell_quoted(Path::new("/it's a/b")), r"'/it'\''s a/b'");
    }
}
