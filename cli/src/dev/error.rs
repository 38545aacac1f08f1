//! What can go wrong with the stack on this machine, told so that a newcomer knows what to do.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum DevError {
    #[error("{doing}: {source}")]
    Io { doing: String, source: std::io::Error },
    #[error("can't find {what}{}\n  try: {remedy}", places(.looked_in))]
    Missing { what: String, looked_in: Vec<PathBuf>, remedy: &'static str },
    #[error("another `roadstead dev` runs on {folder} already{}\n  try: --data-dir with another folder", .pid.map_or_else(String::new, |pid| format!(" (process {pid})")))]
    Busy { folder: String, pid: Option<u32> },
    #[error("port {port} is taken\n  try: another --port, or none for a free one")]
    PortTaken { port: u16 },
    #[error("no free port was found")]
    NoPort,
    #[error("{part} is not ready: {why}{}", tail(.log))]
    NotReady { part: String, why: String, log: PathBuf },
    #[error("{what} failed: {why}{}", tail(.log))]
    CommandFailed { what: String, why: String, log: PathBuf },
    #[error("{0}")]
    Unsafe(String),
}

impl DevError {
    pub fn io(doing: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.to_string();
        move |source| Self::Io { doing, source }
    }
}

const TAIL_LINES: usize = 20;
const TAIL_BYTES: usize = 8 * 1024;

fn places(looked_in: &[PathBuf]) -> String {
    if looked_in.is_empty() {
        return String::new();
    }
    let places: Vec<String> = looked_in.iter().map(|place| place.display().to_string()).collect();
    format!(" (looked in {})", places.join(", "))
}

/// The end of a log, indented, under its path.
pub fn tail(log: &Path) -> String {
    let Ok(content) = std::fs::read(log) else { return format!("\n  its log: {}", log.display()) };
    let end = String::from_utf8_lossy(&content[content.len().saturating_sub(TAIL_BYTES)..]).into_owned();
    let lines: Vec<&str> = end.lines().collect();
    let mut shown = format!("\n  the end of {}:", log.display());
    for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
        shown.push_str("\n  | ");
        shown.push_str(line);
    }
    shown
}
