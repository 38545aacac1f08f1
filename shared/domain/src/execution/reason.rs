//! Why an execution is as it is. Every code that is given stands here, and in the tables of `docs/workflows.md`.

use serde::{Deserialize, Serialize};

/// A stable code for programs, a sentence for people. What is read may have a code that is not known here: another version's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: String,
    pub message: String,
}

macro_rules! codes {
    ($($name:ident = $code:literal;)+) => {
        impl Reason {
            $(pub const $name: &str = $code;)+

            pub const CODES: &[&str] = &[$($code),+];
        }
    };
}

codes! {
    // From the attempt itself.
    STEP_FAILED = "step_failed";
    STEP_TIMEOUT = "step_timeout";
    OOM_KILLED = "oom_killed";
    RUN_TIMEOUT = "run_timeout";
    CANCELLED = "cancelled";
    RESULT_INVALID = "result_invalid";
    RESULT_TOO_LARGE = "result_too_large";
    ARTIFACT_INVALID = "artifact_invalid";
    ARTIFACT_LIMIT = "artifact_limit";
    WORKFLOW_INVALID = "workflow_invalid";
    UPLOAD_FAILED = "upload_failed";
    INPUT_UNAVAILABLE = "input_unavailable";
    WORKSPACE_FAILED = "workspace_failed";
    EXECUTOR_TERMINATED = "executor_terminated";
    LEASE_ENDED = "lease_ended";
    LOG_INCOMPLETE = "log_incomplete";

    // From those who watch over attempts.
    QUEUE_TIMEOUT = "queue_timeout";
    CREATE_REJECTED = "create_rejected";
    START_TIMEOUT = "start_timeout";
    EXECUTOR_STOPPED = "executor_stopped";
    EXECUTOR_LOST = "executor_lost";
    LEASE_EXPIRED = "lease_expired";

    // In a cluster.
    IMAGE_NOT_FOUND = "image_not_found";
    IMAGE_PULL_BACKOFF = "image_pull_backoff";
    IMAGE_PULLING = "image_pulling";
    UNSCHEDULABLE = "unschedulable";
    QUOTA_EXCEEDED = "quota_exceeded";
    SANDBOX_FAILED = "sandbox_failed";
    RUNTIME_CLASS_MISSING = "runtime_class_missing";
    CONTAINER_CONFIG_ERROR = "container_config_error";
    EVICTED = "evicted";
    NODE_LOST = "node_lost";
    JOB_DELETED = "job_deleted";
}

impl Reason {
    /// Why attempts do not start: what failed launches are counted by.
    pub const START_FAILURES: &[&str] = &[
        Self::CREATE_REJECTED,
        Self::START_TIMEOUT,
        Self::IMAGE_NOT_FOUND,
        Self::IMAGE_PULL_BACKOFF,
        Self::UNSCHEDULABLE,
        Self::QUOTA_EXCEEDED,
        Self::SANDBOX_FAILED,
        Self::RUNTIME_CLASS_MISSING,
        Self::CONTAINER_CONFIG_ERROR,
        Self::EXECUTOR_STOPPED,
        Self::EVICTED,
        Self::NODE_LOST,
        Self::JOB_DELETED,
    ];

    pub fn new(code: &str, message: impl Into<String>) -> Self {
        debug_assert!(Self::CODES.contains(&code), "`{code}` is not among the codes");
        Self { code: code.to_owned(), message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

    fn page(name: &str) -> String {
        fs::read_to_string(format!("{ROOT}/docs/{name}")).unwrap()
    }

    /// What stands in backticks in the first column of a page's tables, between two of its headings.
    fn told<'a>(page: &'a str, from: &str, to: &str) -> BTreeSet<&'a str> {
        let (_, section) = page.split_once(from).unwrap();
        let (section, _) = section.split_once(to).unwrap();
        let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
        cells.flat_map(|cell| cell.trim_matches('`').split("`, `")).collect()
    }

    fn codes() -> BTreeSet<&'static str> {
        let codes: BTreeSet<_> = Reason::CODES.iter().copied().collect();
        assert_eq!(codes.len(), Reason::CODES.len());
        codes
    }

    #[test]
    fn every_code_is_documented_and_no_other() {
        let page = page("workflows.md");
        assert_eq!(told(&page, "\n## Why it ended so\n", "\n## Bounds\n"), codes());
    }

    #[test]
    fn operators_are_told_of_codes_that_exist() {
        let page = page("operations.md");
        let mut told = told(&page, "\n## Why an execution waits, or did not start\n", "\n## Scaling\n");
        told.remove("reason.code");
        let unknown: Vec<_> = told.difference(&codes()).copied().collect();
        assert!(!told.is_empty() && unknown.is_empty(), "{unknown:?}");
    }

    /// Those that are written out, among them SQL's, which [`Reason::new`] does not see.
    #[test]
    fn the_sources_give_no_other_code() {
        let mut sources = Vec::new();
        for folder in ["api/src", "executor/src", "shared/backend/src", "worker/src"] {
            read(&Path::new(ROOT).join(folder), &mut sources);
        }
        let given = ["Reason::new(\"", "reason_code = '"];
        let written = sources.iter().flat_map(|source| {
            given
                .iter()
                .flat_map(|given| source.split(given).skip(1))
                .map(|rest| rest.split(['"', '\'']).next().unwrap())
        });
        let written: BTreeSet<_> = written.collect();
        let unknown: Vec<_> = written.difference(&codes()).copied().collect();
        assert!(written.contains(Reason::QUEUE_TIMEOUT) && unknown.is_empty(), "{unknown:?}");
    }

    fn read(folder: &Path, sources: &mut Vec<String>) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                read(&path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(fs::read_to_string(path).unwrap());
            }
        }
    }
}
