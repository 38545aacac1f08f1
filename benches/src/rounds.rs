//! What is measured several times, in turn with its control, so that a bad moment of the machine is both's.

use crate::cpu;
use crate::report::median;
use std::time::Instant;

/// One stretch of work.
#[derive(Debug)]
pub struct Round {
    pub per_second: f64,
    /// CPU of each process, in microseconds an operation.
    pub micros: Vec<(&'static str, f64)>,
}

/// What a stretch did.
pub struct Work {
    pub operations: f64,
    pub per_second: f64,
}

impl Work {
    pub fn since(begun: Instant, operations: f64) -> Self {
        Self { operations, per_second: operations / begun.elapsed().as_secs_f64() }
    }
}

impl Round {
    /// Does the work, and reads what it took of these processes.
    pub async fn of(
        processes: Vec<(&'static str, u32)>,
        work: impl AsyncFnOnce() -> anyhow::Result<Work>,
    ) -> anyhow::Result<Self> {
        let before = cpu::seconds(&processes);
        let Work { operations, per_second } = work().await?;
        let after = cpu::seconds(&processes);
        Ok(Self { per_second, micros: cpu::micros_per_operation(&before, &after, operations) })
    }

    /// The median of each figure, over rounds of the same processes.
    pub fn median(rounds: &[Self]) -> Self {
        let names = rounds.first().map(|round| round.micros.as_slice()).unwrap_or_default();
        let of = |figure: &dyn Fn(&Self) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
        Self {
            per_second: of(&|round| round.per_second),
            micros: names.iter().enumerate().map(|(n, (name, _))| (*name, of(&|round| round.micros[n].1))).collect(),
        }
    }
}
