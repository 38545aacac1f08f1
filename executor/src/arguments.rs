//! What this process was started for. The only place that reads its arguments, of which it never repeats one: somebody may have put a token there.

use crate::bootstrap::{self, BadField};
use crate::token::{self, TokenError};
use roadstead_domain::attempt::protocol::Bootstrap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const USAGE: &str = "to be started with a bootstrap document on standard input, with `install FOLDER --token FILE`, or with \
    `attempt --execution UUID --attempt N --api-url URL --token FILE --workspace-root DIR`";

#[derive(Debug, thiserror::Error)]
pub enum ArgumentError {
    #[error("{USAGE}")]
    UnknownErrand,
    #[error("argument {0} is not one that this errand takes; {USAGE}")]
    Unknown(usize),
    #[error("{0} comes twice; {USAGE}")]
    Twice(&'static str),
    #[error("{0} is missing; {USAGE}")]
    Missing(&'static str),
    #[error("--execution is not a UUID")]
    NotAnExecution,
    #[error("--attempt is not a number")]
    NotANumber,
    #[error("--workspace-root is not UTF-8")]
    NotUtf8,
    #[error(transparent)]
    BadField(#[from] BadField),
    #[error(transparent)]
    Token(#[from] TokenError),
}

#[derive(Debug)]
pub enum Errand {
    /// An attempt whose bootstrap document comes through standard input: the process launcher's way.
    Bootstrapped,
    /// To lay this program and the pod's token where the workflow's container finds them.
    Install { folder: PathBuf, token: PathBuf },
    /// An attempt in a pod.
    Attempt(Placed),
}

/// The arguments of an attempt in a pod.
#[derive(Debug)]
pub struct Placed {
    execution: OsString,
    attempt: OsString,
    api_url: OsString,
    token: OsString,
    workspace_root: OsString,
}

impl Errand {
    pub fn read() -> Result<Self, ArgumentError> {
        Self::of(std::env::args_os().skip(1).collect())
    }

    fn of(arguments: Vec<OsString>) -> Result<Self, ArgumentError> {
        let mut words = arguments.into_iter();
        let Some(errand) = words.next() else { return Ok(Self::Bootstrapped) };
        match errand.to_str() {
            Some("install") => {
                let folder = words.next().filter(|folder| !folder.as_encoded_bytes().starts_with(b"-"));
                let folder = folder.ok_or(ArgumentError::Missing("the folder"))?.into();
                let [token] = options(["--token"], words, 3)?;
                Ok(Self::Install { folder, token: token.into() })
            }
            Some("attempt") => {
                let names = ["--execution", "--attempt", "--api-url", "--token", "--workspace-root"];
                let [execution, attempt, api_url, token, workspace_root] = options(names, words, 2)?;
                Ok(Self::Attempt(Placed { execution, attempt, api_url, token, workspace_root }))
            }
            _ => Err(ArgumentError::UnknownErrand),
        }
    }
}

impl Placed {
    /// Takes the token, which must be gone whatever comes next, and then looks at the rest.
    pub fn bootstrap(self) -> Result<Bootstrap, ArgumentError> {
        let credential = token::take(Path::new(&self.token))?;
        let text = |argument: &OsString| argument.to_str().map(ToOwned::to_owned);
        let bootstrap = Bootstrap {
            execution_id: text(&self.execution)
                .and_then(|text| text.parse().ok())
                .ok_or(ArgumentError::NotAnExecution)?,
            attempt: text(&self.attempt).and_then(|text| text.parse().ok()).ok_or(ArgumentError::NotANumber)?,
            // What is not UTF-8 is not a URL either, and refused as such.
            api_url: self.api_url.to_string_lossy().into_owned(),
            credential,
            workspace_root: text(&self.workspace_root).ok_or(ArgumentError::NotUtf8)?,
        };
        bootstrap::check(&bootstrap)?;
        Ok(bootstrap)
    }
}

/// The values of options that each come once, in the order of their names; `place` is the first one's number.
fn options<const N: usize>(
    names: [&'static str; N],
    mut words: impl Iterator<Item = OsString>,
    mut place: usize,
) -> Result<[OsString; N], ArgumentError> {
    let mut values = [const { None }; N];
    while let Some(word) = words.next() {
        let option = names.iter().position(|name| word == *name).ok_or(ArgumentError::Unknown(place))?;
        let value = words.next().ok_or(ArgumentError::Missing(names[option]))?;
        if values[option].replace(value).is_some() {
            return Err(ArgumentError::Twice(names[option]));
        }
        place += 2;
    }
    match values.iter().position(Option::is_none) {
        Some(missing) => Err(ArgumentError::Missing(names[missing])),
        None => Ok(values.map(Option::unwrap_or_default)),
    }
}
