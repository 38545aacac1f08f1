//! How a process of the stack is started: every command of this crate is made here.
//!
//! Every process gets its own process group, so that the terminal's Ctrl-C reaches only us and the order of stopping is ours.

use super::account::Account;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What to start, and how. Secrets go through `environment` or `stdin`, never through the arguments, which everybody can read.
#[derive(Clone)]
pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(String, String)>,
    /// Variables of ours that it must not inherit.
    pub hidden: &'static [&'static str],
    /// Its current folder.
    pub folder: PathBuf,
    pub account: Option<Account>,
    /// Written to its standard input, which is then closed.
    pub stdin: Option<String>,
    /// Its output is appended here.
    pub log: PathBuf,
}

impl Launch {
    pub fn new(program: PathBuf, folder: PathBuf, log: PathBuf) -> Self {
        Self {
            program,
            arguments: Vec::new(),
            environment: Vec::new(),
            hidden: &[],
            folder,
            account: None,
            stdin: None,
            log,
        }
    }

    #[must_use]
    pub fn arguments<I: IntoIterator<Item: Into<OsString>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// The command, ready to be spawned; its output goes to the log.
    pub fn command(&self) -> io::Result<Command> {
        let log = File::options().append(true).create(true).mode(0o600).open(&self.log)?;
        let mut command = Command::new(&self.program);
        for name in self.hidden {
            command.env_remove(name);
        }
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        Ok(command)
    }
}

/// What a program says to `--version`; nothing when it can't be asked.
pub fn version_line(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
