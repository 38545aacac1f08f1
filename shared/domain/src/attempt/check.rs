//! What the types of an executor's report don't say: how much it may hold. Pure; for whoever takes a report, over the API or from `outcome.json`.

use super::protocol::{Artifact, Finish, Segment, StepReport};
use crate::decode::{Errors, FieldError};
use crate::workflow::validate::{MAX_STEPS, is_relative_path};
use std::collections::HashSet;

/// A result up to this size may travel in the report.
pub const INLINE_RESULT_BYTES: u32 = 64 << 10;
const MAX_REASON_CODE_BYTES: usize = 100;
/// The most that one report may tell of.
const MAX_SEGMENTS: usize = 10_000;
/// What no log comes near, and is far from the end of a column's integers.
const MAX_COUNT: u32 = 1_000_000_000;
/// Of a step's id in a definition.
const MAX_STEP_ID_BYTES: usize = 63;
/// It may quote what has any length, so a longer one is cut and not refused.
const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// What an installation sets.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub max_result_bytes: u64,
    pub max_artifacts: u32,
    pub max_artifact_bytes: u64,
}

impl Bounds {
    /// For whoever is not told the installation's own: no settings allow more.
    pub const LOOSEST: Self = Self { max_result_bytes: 1 << 30, max_artifacts: 100_000, max_artifact_bytes: 5 << 40 };
}

/// Refuses a report that no executor makes, and cuts long messages.
pub fn finish(finish: &mut Finish, bounds: &Bounds) -> Result<(), Vec<FieldError>> {
    let mut errors = Errors::default();
    if let Some(result) = &finish.result {
        let max_bytes = bounds.max_result_bytes;
        if result.size_bytes > max_bytes {
            errors.push("/result/size_bytes", format!("a result may have {max_bytes} bytes at most"));
        }
        if result.inline.as_ref().is_some_and(|inline| inline.get().len() > INLINE_RESULT_BYTES as usize) {
            errors.push("/result/inline", format!("may have {INLINE_RESULT_BYTES} bytes at most"));
        }
    }
    if finish.artifacts.len() > bounds.max_artifacts as usize {
        errors.push("/artifacts", format!("at most {} are accepted", bounds.max_artifacts));
    }
    for (place, artifact) in finish.artifacts.iter().enumerate() {
        if !is_artifact(artifact, bounds.max_artifact_bytes) {
            errors.push(
                format!("/artifacts/{place}"),
                "must have a relative path, a size within the limit, and a SHA-256 in hex",
            );
        }
    }
    if finish.outcome.reason.as_ref().is_some_and(|reason| reason.code.len() > MAX_REASON_CODE_BYTES) {
        errors.push("/outcome/reason/code", format!("may have {MAX_REASON_CODE_BYTES} bytes at most"));
    }
    steps(&mut finish.steps, &mut errors);
    segments(&finish.segments, &mut errors);
    errors.into_result(())
}

pub fn steps(steps: &mut [StepReport], errors: &mut Errors) {
    if steps.len() > MAX_STEPS {
        return errors.push("/steps", format!("at most {MAX_STEPS} are accepted"));
    }
    let mut ids = HashSet::new();
    if let Some(place) = steps.iter().position(|step| step.id.len() > MAX_STEP_ID_BYTES || !ids.insert(&step.id)) {
        let detail = format!("must be an id of {MAX_STEP_ID_BYTES} bytes at most that no other report has");
        errors.push(format!("/steps/{place}/id"), detail);
    }
    for message in steps.iter_mut().filter_map(|step| step.message.as_mut()) {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
    }
}

pub fn segments(segments: &[Segment], errors: &mut Errors) {
    if segments.len() > MAX_SEGMENTS {
        return errors.push("/segments", format!("at most {MAX_SEGMENTS} are accepted at a time"));
    }
    let fits = |segment: &Segment| {
        segment.seq < MAX_COUNT && segment.lines < MAX_COUNT && i64::try_from(segment.size_bytes).is_ok()
    };
    if let Some(place) = segments.iter().position(|segment| !fits(segment)) {
        errors.push(format!("/segments/{place}"), "holds a number that is too large");
    }
}

fn is_artifact(artifact: &Artifact, max_bytes: u64) -> bool {
    is_relative_path(&artifact.path) && artifact.size_bytes <= max_bytes && is_sha256(&artifact.sha256)
}

pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const BOUNDS: Bounds = Bounds { max_result_bytes: 100_000, max_artifacts: 2, max_artifact_bytes: 10 };

    fn report(change: impl FnOnce(&mut Value)) -> Finish {
        let mut report = json!({
            "outcome": {"status": "failed", "retryable": true, "reason": {"code": "step_failed", "message": "x"}},
            "steps": [{"id": "a", "state": "failed", "tries": 1}, {"id": "b", "state": "skipped", "tries": 0}],
            "result": {"size_bytes": 100_000, "inline": "x"},
            "artifacts": [{"path": "a/b", "size_bytes": 10, "sha256": "0f".repeat(32)}],
            "segments": [{"seq": 0, "size_bytes": 1, "lines": MAX_COUNT - 1}],
        });
        change(&mut report);
        serde_json::from_str(&report.to_string()).unwrap()
    }

    #[test]
    fn a_report_is_refused_at_the_place_that_no_executor_fills_so() {
        assert_eq!(finish(&mut report(|_| {}), &BOUNDS), Ok(()));
        let places: [(&str, &str, Value); 13] = [
            ("/result/size_bytes", "/result/size_bytes", json!(100_001)),
            ("/result/inline", "/result/inline", json!("x".repeat(INLINE_RESULT_BYTES as usize))),
            ("/artifacts/0/path", "/artifacts/0", json!("../b")),
            ("/artifacts/0/size_bytes", "/artifacts/0", json!(11)),
            ("/artifacts/0/sha256", "/artifacts/0", json!("0g".repeat(32))),
            ("/outcome/reason/code", "/outcome/reason/code", json!("x".repeat(MAX_REASON_CODE_BYTES + 1))),
            ("/steps/1/id", "/steps/1/id", json!("a")),
            ("/steps/0/id", "/steps/0/id", json!("x".repeat(MAX_STEP_ID_BYTES + 1))),
            ("/steps", "/steps", json!(vec![json!({"id": "a", "state": "failed", "tries": 1}); MAX_STEPS + 1])),
            ("/segments/0/seq", "/segments/0", json!(u32::MAX)),
            ("/segments/0/lines", "/segments/0", json!(MAX_COUNT)),
            ("/segments/0/size_bytes", "/segments/0", json!(u64::MAX)),
            ("/segments", "/segments", json!(vec![json!({"seq": 0, "size_bytes": 1, "lines": 1}); MAX_SEGMENTS + 1])),
        ];
        for (place, told, value) in places {
            let mut bad = report(|report| *report.pointer_mut(place).unwrap() = value);
            let errors = finish(&mut bad, &BOUNDS).unwrap_err();
            assert_eq!(errors.iter().map(|error| error.pointer.as_str()).collect::<Vec<_>>(), [told]);
        }
        let many = json!(vec![json!({"path": "a", "size_bytes": 1, "sha256": "00".repeat(32)}); 3]);
        assert!(finish(&mut report(|report| report["artifacts"] = many.clone()), &BOUNDS).is_err());
        assert!(finish(&mut report(|report| report["artifacts"] = many), &Bounds::LOOSEST).is_ok());
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut long = report(|report| report["steps"][0]["message"] = json!("€".repeat(MAX_MESSAGE_BYTES)));
        finish(&mut long, &BOUNDS).unwrap();
        assert_eq!(long.steps[0].message.as_deref(), Some(&*"€".repeat(MAX_MESSAGE_BYTES / 3)));
    }
}
