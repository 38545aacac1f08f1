//! The keys of all objects: where each document of an execution lies.
//!
//! Pure. A key is made of parts that were validated where they entered (tenant and workflow are names, an artifact's path is relative);
//! [`super::Objects`] refuses what is no plain key all the same. An attempt's objects share one prefix, an execution's attempts another, so
//! that each can be deleted as a whole; both prefixes end with `/`, so that attempt 1 is no prefix of attempt 10.

use roadstead_domain::ids::{AttemptId, ExecutionId};

/// A workflow's definition, in the meta bucket. All other keys are of the content bucket.
pub fn workflow(tenant: &str, name: &str, version: i32) -> String {
    format!("workflows/{tenant}/{name}/{version}.json")
}

/// All that an execution leaves.
pub fn execution_prefix(tenant: &str, execution_id: ExecutionId) -> String {
    format!("{tenant}/{execution_id}/")
}

/// An input that is too large for a row.
pub fn payload(tenant: &str, execution_id: ExecutionId) -> String {
    format!("{tenant}/{execution_id}/payload.json")
}

/// All that an attempt leaves.
pub fn attempt_prefix(tenant: &str, id: AttemptId) -> String {
    format!("{tenant}/{}/{}/", id.execution_id, id.attempt)
}

/// A log segment. Numbers up to 999,999 list in their order.
pub fn log_segment(tenant: &str, id: AttemptId, seq: u32) -> String {
    format!("{}log/{seq:06}", attempt_prefix(tenant, id))
}

/// An artifact, by its relative path with `/` between its parts.
pub fn artifact(tenant: &str, id: AttemptId, path: &str) -> String {
    format!("{}artifacts/{path}", attempt_prefix(tenant, id))
}

/// The result document, as the attempt wrote it.
pub fn result(tenant: &str, id: AttemptId) -> String {
    format!("{}result.json", attempt_prefix(tenant, id))
}

/// The second witness of how the attempt ended.
pub fn outcome(tenant: &str, id: AttemptId) -> String {
    format!("{}outcome.json", attempt_prefix(tenant, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXECUTION: &str = "01939d3c-7c1e-7000-8000-0000000000aa";

    fn attempt(attempt: i32) -> AttemptId {
        AttemptId { execution_id: EXECUTION.parse().unwrap(), attempt }
    }

    #[test]
    fn keys_are_the_designs() {
        let id = attempt(2);
        let base = format!("acme/{EXECUTION}");
        assert_eq!(workflow("acme", "word-count", 3), "workflows/acme/word-count/3.json");
        assert_eq!(payload("acme", id.execution_id), format!("{base}/payload.json"));
        assert_eq!(log_segment("acme", id, 7), format!("{base}/2/log/000007"));
        assert_eq!(artifact("acme", id, "charts/top.svg"), format!("{base}/2/artifacts/charts/top.svg"));
        assert_eq!(result("acme", id), format!("{base}/2/result.json"));
        assert_eq!(outcome("acme", id), format!("{base}/2/outcome.json"));
    }

    #[test]
    fn a_prefix_holds_its_own_objects_and_no_others() {
        let (first, tenth) = (attempt(1), attempt(10));
        for key in [log_segment("a", first, 0), artifact("a", first, "x"), result("a", first), outcome("a", first)] {
            assert!(key.starts_with(&attempt_prefix("a", first)), "{key}");
            assert!(key.starts_with(&execution_prefix("a", first.execution_id)), "{key}");
        }
        assert!(payload("a", first.execution_id).starts_with(&execution_prefix("a", first.execution_id)));
        assert!(!log_segment("a", tenth, 0).starts_with(&attempt_prefix("a", first)));
        assert!(!result("aa", first).starts_with(&execution_prefix("a", first.execution_id)));
    }

    #[test]
    fn log_segments_list_in_their_order() {
        let id = attempt(1);
        let keys: Vec<_> = [0, 9, 10, 99_999, 999_999].map(|seq| log_segment("a", id, seq)).to_vec();
        assert!(keys.is_sorted(), "{keys:?}");
    }
}
