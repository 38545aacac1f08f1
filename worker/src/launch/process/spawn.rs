//! The one place that makes a process: the executor, with its own group, next to no environment, and its bootstrap document on standard input.

use crate::launch::LaunchOrder;
use roadstead_domain::attempt::protocol::Bootstrap;
use roadstead_domain::ids::AttemptId;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// A pipe takes this much without a reader; the document is a tenth of it.
const MAX_BOOTSTRAP_BYTES: usize = 4096;

/// What all executors of this worker get.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub executor: PathBuf,
    pub api_url: String,
    /// Absolute.
    pub workspace_root: PathBuf,
    /// `PATH`, where the steps' programs are looked for.
    pub search_path: Option<OsString>,
    /// `SSL_CERT_FILE`.
    pub certificates: Option<PathBuf>,
}

impl Surroundings {
    pub fn workspace(&self, attempt: AttemptId) -> PathBuf {
        self.workspace_root.join(attempt.to_string())
    }

    pub(super) fn spawn(&self, order: &LaunchOrder) -> io::Result<Child> {
        let mut command = Command::new(&self.executor);
        command
            .process_group(0)
            .env_clear()
            .stdin(Stdio::from(self.bootstrap(order)?))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(path) = &self.search_path {
            command.env("PATH", path);
        }
        if let Some(file) = &self.certificates {
            command.env("SSL_CERT_FILE", file);
        }
        command.spawn()
    }

    /// A pipe that holds the bootstrap document and nothing after it.
    fn bootstrap(&self, order: &LaunchOrder) -> io::Result<OwnedFd> {
        let document = serde_json::to_vec(&Bootstrap {
            execution_id: order.attempt.execution_id,
            attempt: order.attempt.attempt,
            api_url: self.api_url.clone(),
            credential: order.credential.as_ref().map(|c| c.token.clone()).unwrap_or_default(),
            workspace_root: self.workspace_root.to_string_lossy().into_owned(),
        })?;
        if document.len() > MAX_BOOTSTRAP_BYTES {
            return Err(io::Error::other("the bootstrap document is too long: API_URL or WORKSPACE_ROOT is"));
        }
        let (reader, mut writer) = io::pipe()?;
        writer.write_all(&document)?;
        Ok(reader.into())
    }
}
