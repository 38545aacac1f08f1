//! Which step next: the pure core of a run. It knows the graph, the tries and what ended how; it starts nothing itself.

use super::kill::Exit;
use roadstead_domain::attempt::protocol::StepState;
use roadstead_domain::workflow::dag::Dag;
use std::collections::VecDeque;

/// Children at once. More would only take turns.
pub const MAX_PARALLEL: usize = 64;

/// How one try of a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Exited(i32),
    Signalled(i32),
    /// It was killed, and the container's OOM killer struck meanwhile.
    OutOfMemory {
        exit: Exit,
        limit_bytes: Option<u64>,
    },
    /// It passed its own timeout and was stopped.
    TimedOut,
    /// It was stopped with the whole run.
    Halted,
    /// There was no process. `hopeless`: another try would find the same.
    NotStarted {
        message: String,
        hopeless: bool,
    },
}

impl End {
    pub fn is_success(&self) -> bool {
        *self == Self::Exited(0)
    }

    pub fn state(&self) -> StepState {
        match self {
            Self::Exited(0) => StepState::Succeeded,
            Self::Exited(_) | Self::Signalled(_) | Self::OutOfMemory { .. } | Self::NotStarted { .. } => {
                StepState::Failed
            }
            Self::TimedOut => StepState::TimedOut,
            Self::Halted => StepState::Cancelled,
        }
    }
}

/// What follows a step's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It succeeded, and what became ready is started in turn; or it was stopped with all others.
    Go,
    /// It is tried again.
    Again,
    /// It failed for good; these steps, which need it, never start.
    Skip(Vec<usize>),
}

/// A step's failure for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub step: usize,
    pub end: End,
}

#[derive(Debug)]
pub struct Plan {
    dag: Dag,
    ready: VecDeque<usize>,
    tries_left: Vec<u32>,
    running: usize,
    first_failure: Option<Failure>,
}

impl Plan {
    /// `retries` of each step, by its position.
    pub fn of(dag: Dag, retries: impl Iterator<Item = u32>) -> Self {
        let ready = dag.roots().into();
        Self { dag, ready, tries_left: retries.collect(), running: 0, first_failure: None }
    }

    /// The step to start now, if one may.
    pub fn start_one(&mut self) -> Option<usize> {
        if self.running >= MAX_PARALLEL {
            return None;
        }
        let step = self.ready.pop_front()?;
        self.running += 1;
        Some(step)
    }

    pub fn ended(&mut self, step: usize, end: &End) -> Next {
        self.running -= 1;
        if end.is_success() {
            self.ready.extend(self.dag.succeeded(step));
            return Next::Go;
        }
        let may_help = match end {
            End::Exited(_) | End::Signalled(_) | End::OutOfMemory { .. } | End::TimedOut => true,
            End::NotStarted { hopeless, .. } => !hopeless,
            End::Halted => false,
        };
        if may_help && self.tries_left[step] > 0 {
            self.tries_left[step] -= 1;
            self.ready.push_front(step);
            return Next::Again;
        }
        if *end == End::Halted {
            return Next::Go;
        }
        self.first_failure.get_or_insert_with(|| Failure { step, end: end.clone() });
        Next::Skip(self.dag.downstream(step))
    }

    /// The failure that the attempt's outcome names.
    pub fn first_failure(&self) -> Option<&Failure> {
        self.first_failure.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_domain::workflow::from_text;

    fn plan(yaml: &str) -> Plan {
        let workflow = from_text(yaml).unwrap();
        Plan::of(Dag::of(&workflow.steps).unwrap(), workflow.steps.iter().map(|step| step.retries))
    }

    fn start_all(plan: &mut Plan) -> Vec<usize> {
        std::iter::from_fn(|| plan.start_one()).collect()
    }

    #[test]
    fn branches_run_side_by_side_and_meet() {
        let mut plan = plan(
            "steps:\n- {id: split, command: [x]}\n- {id: l, command: [x], needs: [split]}\n\
             - {id: r, command: [x], needs: [split]}\n- {id: merge, command: [x], needs: [l, r]}",
        );
        assert_eq!(start_all(&mut plan), [0]);
        plan.ended(0, &End::Exited(0));
        assert_eq!(start_all(&mut plan), [1, 2]);
        plan.ended(2, &End::Exited(0));
        assert!(start_all(&mut plan).is_empty());
        plan.ended(1, &End::Exited(0));
        assert_eq!(start_all(&mut plan), [3]);
        assert_eq!(plan.first_failure(), None);
    }

    #[test]
    fn a_failure_skips_what_needs_it_and_nothing_else() {
        let mut plan = plan(
            "steps:\n- {id: bad, command: [x]}\n- {id: good, command: [x]}\n\
             - {id: after-bad, command: [x], needs: [bad]}\n- {id: both, command: [x], needs: [after-bad, good]}\n\
             - {id: after-good, command: [x], needs: [good]}",
        );
        assert_eq!(start_all(&mut plan), [0, 1]);
        assert_eq!(plan.ended(0, &End::Exited(3)), Next::Skip(vec![2, 3]));
        plan.ended(1, &End::Exited(0));
        assert_eq!(start_all(&mut plan), [4]);
        plan.ended(4, &End::Signalled(9));
        assert_eq!(plan.first_failure(), Some(&Failure { step: 0, end: End::Exited(3) }), "the first is named");
    }

    #[test]
    fn tries_are_counted_and_some_ends_are_final() {
        let yaml = "steps:\n- {id: a, command: [x], retries: 2}";
        let mut failing = plan(yaml);
        for _ in 0..2 {
            assert_eq!(start_all(&mut failing), [0]);
            assert_eq!(failing.ended(0, &End::TimedOut), Next::Again);
        }
        assert_eq!(start_all(&mut failing), [0]);
        assert_eq!(failing.ended(0, &End::Exited(1)), Next::Skip(vec![]));

        let mut hopeless = plan(yaml);
        start_all(&mut hopeless);
        let end = End::NotStarted { message: String::new(), hopeless: true };
        assert_eq!(hopeless.ended(0, &end), Next::Skip(vec![]));

        let mut halted = plan(yaml);
        start_all(&mut halted);
        assert_eq!(halted.ended(0, &End::Halted), Next::Go);
        assert!(start_all(&mut halted).is_empty() && halted.first_failure().is_none());
    }

    #[test]
    fn children_at_once_are_bounded() {
        let steps: Vec<String> = (0..100).map(|i| format!("- {{id: s{i}, command: [x]}}")).collect();
        let mut plan = plan(&format!("steps:\n{}", steps.join("\n")));
        assert_eq!(start_all(&mut plan).len(), MAX_PARALLEL);
        plan.ended(0, &End::Exited(0));
        assert_eq!(start_all(&mut plan), [MAX_PARALLEL]);
    }
}
