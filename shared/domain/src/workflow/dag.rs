//! The steps as a directed acyclic graph: which may start now, and whether there is a cycle.

use super::spec::Step;
use std::collections::HashMap;

/// The graph by positions in the list of steps.
#[derive(Clone, Debug)]
pub struct Dag {
    /// For each step, how many of the steps that it needs have not succeeded yet.
    missing: Vec<usize>,
    /// For each step, the steps that need it.
    dependents: Vec<Vec<usize>>,
}

/// A need that names no step: (position of the step, position in its `needs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownNeed {
    pub step: usize,
    pub need: usize,
}

impl Dag {
    /// Ids must be unique.
    pub fn of(steps: &[Step]) -> Result<Self, Vec<UnknownNeed>> {
        let places: HashMap<&str, usize> = steps.iter().enumerate().map(|(i, s)| (s.id.as_str(), i)).collect();
        let mut dag = Self { missing: vec![0; steps.len()], dependents: vec![Vec::new(); steps.len()] };
        let mut unknown = Vec::new();
        for (step, definition) in steps.iter().enumerate() {
            for (need, id) in definition.needs.iter().enumerate() {
                match places.get(id.as_str()) {
                    Some(&needed) => {
                        dag.dependents[needed].push(step);
                        dag.missing[step] += 1;
                    }
                    None => unknown.push(UnknownNeed { step, need }),
                }
            }
        }
        if unknown.is_empty() { Ok(dag) } else { Err(unknown) }
    }

    /// The steps that need nothing.
    pub fn roots(&self) -> Vec<usize> {
        (0..self.missing.len()).filter(|&step| self.missing[step] == 0).collect()
    }

    /// Notes that a step succeeded; answers the steps that may start because of it.
    pub fn succeeded(&mut self, step: usize) -> Vec<usize> {
        let mut ready = Vec::new();
        for &dependent in &self.dependents[step] {
            self.missing[dependent] -= 1;
            if self.missing[dependent] == 0 {
                ready.push(dependent);
            }
        }
        ready
    }

    /// Everything that needs `step`, directly or not: what is skipped when it fails.
    pub fn downstream(&self, step: usize) -> Vec<usize> {
        let mut seen = vec![false; self.missing.len()];
        let mut queue = vec![step];
        let mut found = Vec::new();
        while let Some(at) = queue.pop() {
            for &dependent in &self.dependents[at] {
                if !std::mem::replace(&mut seen[dependent], true) {
                    found.push(dependent);
                    queue.push(dependent);
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// The positions of one cycle's steps, each needed by the one behind it and the last by the first, beginning with the first in the list; empty when there
    /// is none (Kahn's algorithm).
    pub fn cycle(&self) -> Vec<usize> {
        let mut dag = self.clone();
        let mut queue = dag.roots();
        let mut done = vec![false; self.missing.len()];
        while let Some(step) = queue.pop() {
            done[step] = true;
            queue.extend(dag.succeeded(step));
        }
        // What is not done is on a cycle or behind one: each needs another such, so whoever goes from need to need comes round.
        let mut needs = vec![None; done.len()];
        for (step, dependents) in self.dependents.iter().enumerate().filter(|(step, _)| !done[*step]) {
            for &dependent in dependents {
                needs[dependent].get_or_insert(step);
            }
        }
        let mut path = Vec::new();
        let mut at = (0..done.len()).find(|&step| !done[step]);
        while let Some(step) = at {
            if let Some(begin) = path.iter().position(|&passed| passed == step) {
                let mut cycle = path.split_off(begin);
                cycle.reverse();
                let first = cycle.iter().enumerate().min_by_key(|(_, step)| **step).map_or(0, |(place, _)| place);
                cycle.rotate_left(first);
                return cycle;
            }
            path.push(step);
            at = needs[step];
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(needs: &[&[usize]]) -> Vec<Step> {
        needs
            .iter()
            .enumerate()
            .map(|(i, needs)| Step {
                id: format!("s{i}"),
                command: vec!["true".into()],
                needs: needs.iter().map(|n| format!("s{n}")).collect(),
                env: Default::default(),
                timeout_seconds: None,
                retries: 0,
                files: Default::default(),
            })
            .collect()
    }

    #[test]
    fn a_diamond_opens_step_by_step() {
        let mut dag = Dag::of(&steps(&[&[], &[0], &[0], &[1, 2]])).unwrap();
        assert_eq!(dag.roots(), [0]);
        assert_eq!(dag.succeeded(0), [1, 2]);
        assert!(dag.succeeded(1).is_empty());
        assert_eq!(dag.succeeded(2), [3]);
        assert_eq!(dag.downstream(0), [1, 2, 3]);
    }

    #[test]
    fn a_cycle_is_found_without_what_waits_behind_it() {
        let cycle = |needs: &[&[usize]]| Dag::of(&steps(needs)).unwrap().cycle();
        assert_eq!(cycle(&[&[], &[2], &[1], &[2]]), [1, 2]);
        assert_eq!(cycle(&[&[1], &[2], &[1]]), [1, 2], "the first waits behind it");
        assert_eq!(cycle(&[&[0]]), [0], "a step that needs itself");
        assert_eq!(cycle(&[&[], &[0, 3], &[1], &[2]]), [1, 2, 3], "each is needed by the next");
        assert_eq!(cycle(&[&[1], &[2], &[3], &[1, 0]]), [0, 3, 2, 1], "one of two");
    }

    #[test]
    fn an_unknown_need_is_named_by_its_place() {
        assert_eq!(Dag::of(&steps(&[&[], &[0, 7]])).unwrap_err(), [UnknownNeed { step: 1, need: 1 }]);
    }

    proptest! {
        #[test]
        fn steps_that_need_only_earlier_ones_all_run_once(edges in prop::collection::vec((0usize..40, 0usize..40), 0..120)) {
            let mut needs = vec![Vec::new(); 40];
            for (a, b) in edges {
                if a < b && !needs[b].contains(&a) {
                    needs[b].push(a);
                }
            }
            let needs: Vec<&[usize]> = needs.iter().map(Vec::as_slice).collect();
            let mut dag = Dag::of(&steps(&needs)).unwrap();
            prop_assert!(dag.cycle().is_empty());
            let mut order = dag.roots();
            let mut at = 0;
            while at < order.len() {
                let ready = dag.succeeded(order[at]);
                order.extend(ready);
                at += 1;
            }
            prop_assert_eq!(order.len(), 40);
            for (step, needs) in needs.iter().enumerate() {
                let place = |s: usize| order.iter().position(|&o| o == s).unwrap();
                prop_assert!(needs.iter().all(|&n| place(n) < place(step)));
            }
        }
    }
}
