//! Progress of one execution on standard error: moving bars on a terminal, a line a change anywhere else.

use crate::model::{Execution, Step};
use crate::terminal::{self, Palette, harmless};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::time::Duration;

/// More steps than this are summed up in one line.
const MAX_STEP_BARS: usize = 16;
/// Running steps that are named in that line.
const MAX_NAMED: usize = 4;

pub struct Progress {
    screen: Option<Screen>,
    palette: Palette,
    told: HashMap<String, String>,
}

struct Screen {
    bars: MultiProgress,
    head: ProgressBar,
    steps: HashMap<String, ProgressBar>,
}

impl Progress {
    pub fn new(is_terminal: bool, palette: Palette) -> Self {
        let screen = is_terminal.then(|| {
            let bars = MultiProgress::new();
            let head = bars.add(spinner("{spinner} {msg} {elapsed:.dim}"));
            Screen { bars, head, steps: HashMap::new() }
        });
        Self { screen, palette, told: HashMap::new() }
    }

    pub fn execution(&mut self, execution: &Execution) {
        let mut text = self.palette.state(&harmless(&execution.state));
        if execution.attempt > 1 {
            text = format!("{text} (attempt {} of {})", execution.attempt, execution.max_attempts);
        }
        if execution.cancel_requested && !execution.is_over() {
            text.push_str(", being cancelled");
        }
        let waiting = harmless(&execution.waiting_shown());
        let reason = harmless(&execution.reason_shown());
        let shown = |extra: &str| if extra.is_empty() { text.clone() } else { format!("{text}: {extra}") };
        match &self.screen {
            Some(screen) => screen.head.set_message(shown(if reason.is_empty() { &waiting } else { &reason })),
            // How many are ahead changes with everybody else's executions: not worth a line each time.
            None => self.tell(String::new(), format!("execution: {}", shown(&reason))),
        }
    }

    pub fn steps(&mut self, steps: &[Step]) {
        if self.screen.is_none() {
            for step in steps.iter().filter(|step| step.state != "pending") {
                let (id, ending) = (harmless(&step.id), harmless(&step.ending()));
                let ending = if ending.is_empty() { ending } else { format!(": {ending}") };
                let state = self.palette.state(&harmless(&step.state));
                self.tell(format!("/{id}"), format!("step {id}: {state}{ending}"));
            }
            return;
        }
        if steps.len() > MAX_STEP_BARS { self.sum_up(steps) } else { self.bars(steps) }
    }

    /// Leaves what was shown last on the screen.
    pub fn finish(self) {
        if let Some(screen) = self.screen {
            for bar in screen.steps.values() {
                bar.abandon();
            }
            screen.head.abandon();
        }
    }

    fn bars(&mut self, steps: &[Step]) {
        let Some(screen) = &mut self.screen else { return };
        for step in steps {
            let bar = screen
                .steps
                .entry(step.id.clone())
                .or_insert_with(|| screen.bars.add(ProgressBar::new_spinner().with_style(style("    {msg}"))));
            let ending = harmless(&step.ending());
            let tries = if step.tries > 1 { format!(", try {}", step.tries) } else { String::new() };
            let state = self.palette.state(&harmless(&step.state));
            bar.set_message(format!("{}  {state}{tries} {}", harmless(&step.id), self.palette.dim(&ending)));
        }
    }

    fn sum_up(&mut self, steps: &[Step]) {
        let Some(screen) = &mut self.screen else { return };
        let in_state = |state: &str| steps.iter().filter(|step| step.state == state).count();
        let running = steps.iter().filter(|step| step.state == "running");
        let names: Vec<String> = running.take(MAX_NAMED).map(|step| harmless(&step.id)).collect();
        let bar = screen
            .steps
            .entry(String::new())
            .or_insert_with(|| screen.bars.add(ProgressBar::new_spinner().with_style(style("    {msg}"))));
        bar.set_message(format!(
            "{} of {} steps succeeded, {} failed, {} running {}",
            in_state("succeeded"),
            steps.len(),
            in_state("failed") + in_state("timed_out"),
            in_state("running"),
            self.palette.dim(&names.join(" ")),
        ));
    }

    /// Tells a line unless it is what was told of the same thing last.
    fn tell(&mut self, about: String, line: String) {
        if self.told.get(&about) != Some(&line) {
            terminal::say_painted(&line);
            self.told.insert(about, line);
        }
    }
}

fn spinner(template: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_style(style(template));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// A bar for a transfer of known size; hidden where there is no terminal.
pub fn transfer(label: &str, size_bytes: u64) -> ProgressBar {
    if !terminal::stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(size_bytes);
    bar.set_style(style("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}"));
    bar.set_message(harmless(label));
    bar
}
