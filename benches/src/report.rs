//! The figures: a table for people, JSON for programs.

use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

/// One measured thing.
#[derive(Debug, Default, Serialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    /// What was measured beside it, in the same unit.
    pub control: Option<(String, f64)>,
    /// Microseconds of CPU per operation, by process.
    pub cpu_micros: Vec<(&'static str, f64)>,
    pub note: String,
}

#[derive(Debug, Default, Serialize)]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
    pub fn add(&mut self, figure: Figure) {
        eprintln!("{}", row(&figure));
        self.figures.push(figure);
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, serde_json::to_vec_pretty(self)?)?)
    }

    pub fn table(&self) -> String {
        let mut text = String::from(
            "| what | figure | control | ratio | CPU µs an operation | note |\n|---|---|---|---|---|---|\n",
        );
        for figure in &self.figures {
            text += &row(figure);
            text.push('\n');
        }
        text
    }
}

fn row(figure: &Figure) -> String {
    let (control, ratio) = figure.control.as_ref().map_or_else(Default::default, |(name, value)| {
        (format!("{name}: {}", number(*value)), format!("{:.2}", figure.value / value))
    });
    let total: f64 = figure.cpu_micros.iter().map(|(_, micros)| micros).sum();
    let mut cpu = String::new();
    if total > 0.0 {
        let _ = write!(cpu, "{total:.0} =");
        for (name, micros) in &figure.cpu_micros {
            let _ = write!(cpu, " {name} {micros:.0}");
        }
    }
    format!(
        "| {} | {} {} | {control} | {ratio} | {cpu} | {} |",
        figure.name,
        number(figure.value),
        figure.unit,
        figure.note
    )
}

fn number(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The middle one; of an even number, the upper of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this share of the values lies.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or(f64::NAN)
}
