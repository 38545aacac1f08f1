//! What the API should know and what it knows already: the steps' reports and the shipped segments.
//!
//! Something counts as known only when a request that carried it was answered, so a lost heartbeat loses nothing.

use roadstead_domain::attempt::protocol::{Heartbeat, Segment, StepReport, StepState};
use roadstead_domain::workflow::Step;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A heartbeat stays small however long the API was away; the rest goes with the next.
const MAX_SEGMENTS: usize = 512;

#[derive(Debug)]
pub struct Report(Mutex<State>);

#[derive(Debug)]
struct State {
    steps: Vec<StepReport>,
    /// For each step, the revision of its last change.
    changed: Vec<u64>,
    revision: u64,
    /// The revision that the API knows.
    known: u64,
    unknown_segments: Vec<Segment>,
}

/// What a heartbeat carried.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    revision: u64,
    segments: usize,
}

impl Report {
    pub fn of(steps: &[Step]) -> Self {
        let reports = steps.iter().map(|step| StepReport {
            id: step.id.clone(),
            state: StepState::Pending,
            tries: 0,
            exit_code: None,
            signal: None,
            started_at_ms: None,
            finished_at_ms: None,
            message: None,
        });
        Self(Mutex::new(State {
            steps: reports.collect(),
            changed: vec![0; steps.len()],
            revision: 0,
            known: 0,
            unknown_segments: Vec::new(),
        }))
    }

    pub fn change(&self, step: usize, change: impl FnOnce(&mut StepReport)) {
        let mut state = self.lock();
        change(&mut state.steps[step]);
        state.revision += 1;
        state.changed[step] = state.revision;
    }

    pub fn shipped(&self, segment: Segment) {
        self.lock().unknown_segments.push(segment);
    }

    pub fn unknown(&self) -> (Heartbeat, Carried) {
        let state = self.lock();
        let steps = state.steps.iter().zip(&state.changed).filter(|(_, changed)| **changed > state.known);
        let steps = steps.map(|(step, _)| step.clone()).collect();
        let segments: Vec<Segment> = state.unknown_segments.iter().take(MAX_SEGMENTS).copied().collect();
        let carried = Carried { revision: state.revision, segments: segments.len() };
        (Heartbeat { steps, segments }, carried)
    }

    pub fn answered(&self, carried: Carried) {
        let mut state = self.lock();
        state.known = carried.revision;
        state.unknown_segments.drain(..carried.segments);
    }

    /// For the end: all steps, and the segments that no answered heartbeat carried.
    pub fn last(&self) -> (Vec<StepReport>, Vec<Segment>) {
        let state = self.lock();
        (state.steps.clone(), state.unknown_segments.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_domain::workflow::from_text;

    fn ids(heartbeat: &Heartbeat) -> Vec<&str> {
        heartbeat.steps.iter().map(|step| step.id.as_str()).collect()
    }

    #[test]
    fn what_an_unanswered_heartbeat_carried_goes_with_the_next_one() {
        let workflow =
            from_text("steps:\n- {id: a, command: [x]}\n- {id: b, command: [x]}\n- {id: c, command: [x]}").unwrap();
        let report = Report::of(&workflow.steps);
        assert!(report.unknown().0.steps.is_empty());

        report.change(0, |step| step.state = StepState::Running);
        report.shipped(Segment { seq: 0, size_bytes: 1, lines: 1 });
        let (lost, _) = report.unknown();
        assert_eq!((ids(&lost), lost.segments.len()), (vec!["a"], 1));

        report.change(1, |step| step.state = StepState::Running);
        let (heartbeat, carried) = report.unknown();
        assert_eq!(ids(&heartbeat), ["a", "b"]);
        // Both happen while that heartbeat is under way.
        report.change(1, |step| step.state = StepState::Succeeded);
        report.shipped(Segment { seq: 1, size_bytes: 1, lines: 1 });
        report.answered(carried);

        let (heartbeat, _) = report.unknown();
        assert_eq!((ids(&heartbeat), heartbeat.segments[0].seq), (vec!["b"], 1));
        assert_eq!(report.last().0.len(), 3);
    }
}
