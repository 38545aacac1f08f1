//! What the executor takes from its own environment: the only place that reads it.
//!
//! None of it reaches a step but the search path, which belongs to the machine or image and not to the platform.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where programs are looked for when the executor was started without `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug)]
pub struct Environment {
    /// `PATH` for the steps.
    pub search_path: OsString,
    /// Certificates (PEM) to trust beside the built-in ones.
    pub certificates: Option<PathBuf>,
}

impl Environment {
    pub fn read() -> Self {
        Self {
            search_path: std::env::var_os("PATH").filter(|p| !p.is_empty()).unwrap_or_else(|| DEFAULT_PATH.into()),
            certificates: std::env::var_os("SSL_CERT_FILE").filter(|p| !p.is_empty()).map(PathBuf::from),
        }
    }
}
