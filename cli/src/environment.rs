//! The environment variables that the command line reads. No other file reads any.

use std::ffi::OsString;
use std::path::PathBuf;

pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// What the environment says; empty variables count as unset.
#[derive(Clone, Default)]
pub struct Environment {
    pub url: Option<String>,
    pub api_key: Option<String>,
    pub no_color: bool,
    pub terminal_kind: Option<String>,
    pub path: Option<OsString>,
    pub home: Option<PathBuf>,
    pub cache_home: Option<PathBuf>,
}

impl Environment {
    pub fn read() -> Self {
        let os = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| os(name).and_then(|value| value.into_string().ok());
        Self {
            url: text("ROADSTEAD_URL"),
            api_key: text("ROADSTEAD_API_KEY"),
            no_color: os("NO_COLOR").is_some(),
            terminal_kind: text("TERM"),
            path: os("PATH"),
            home: os("HOME").map(PathBuf::from),
            cache_home: os("XDG_CACHE_HOME").map(PathBuf::from),
        }
    }
}
