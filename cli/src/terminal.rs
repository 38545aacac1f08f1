//! What is particular to a terminal: whether there is one, colours, and text that must not be able to steer it.

use crate::environment::Environment;
use anstyle::{AnsiColor, Style};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

/// Text without escape sequences, control characters (tabs stay) and characters that reorder what is read.
pub fn harmless(text: &str) -> String {
    let reorders = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    anstream::adapter::strip_str(text)
        .to_string()
        .chars()
        .filter(|&c| c == '\t' || !(c.is_control() || reorders(c)))
        .collect()
}

/// Like [`harmless`], for text of several lines.
pub fn harmless_lines(text: &str) -> String {
    text.split('\n').map(harmless).collect::<Vec<_>>().join("\n")
}

pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Tells of a failure. Failing to tell is not worth another failure.
pub fn complain(message: &str) {
    let message = harmless_lines(message);
    let _ = writeln!(std::io::stderr().lock(), "error: {message}");
}

/// Tells a person something beside the data.
pub fn say(message: &str) {
    say_painted(&harmless_lines(message));
}

/// Like [`say`], for a message that a [`Palette`] has painted; what is foreign in it was made harmless before.
pub fn say_painted(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{message}");
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    enabled: bool,
}

impl Palette {
    /// Colours only on a terminal that has them, and if nobody asked for none.
    pub fn of(is_terminal: bool, environment: &Environment) -> Self {
        let dumb = environment.terminal_kind.as_deref() == Some("dumb");
        Self { enabled: is_terminal && !environment.no_color && !dumb }
    }

    pub fn none() -> Self {
        Self { enabled: false }
    }

    fn paint(self, style: Style, text: &str) -> String {
        let mut painted = String::new();
        if self.enabled {
            let _ = write!(painted, "{style}{text}{style:#}");
        } else {
            painted.push_str(text);
        }
        painted
    }

    pub fn bold(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }

    pub fn red(self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default(), text)
    }

    /// A state in the colour of how it is going. Takes the words of executions, attempts and steps.
    pub fn state(self, state: &str) -> String {
        let style = match state {
            "succeeded" => AnsiColor::Green.on_default(),
            "failed" | "timed_out" => AnsiColor::Red.on_default(),
            "cancelled" | "skipped" => AnsiColor::Yellow.on_default(),
            "running" | "launching" => AnsiColor::Cyan.on_default(),
            _ => Style::new().dimmed(),
        };
        self.paint(style, state)
    }

    /// A step's name, in a colour of its own.
    pub fn step(self, step: &str) -> String {
        const COLOURS: [AnsiColor; 5] =
            [AnsiColor::Cyan, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::Yellow, AnsiColor::Green];
        let sum: usize = step.bytes().map(usize::from).sum();
        self.paint(COLOURS[sum % COLOURS.len()].on_default(), step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_passes() {
        assert_eq!(harmless("a\x1b[31mred\x1b[0m b\tc"), "ared b\tc");
        assert_eq!(harmless("\x1b]0;title\x07x"), "x");
        assert_eq!(harmless("a\rb\x08\x07\u{9b}31m\u{202e}c\u{2066}"), "ab31mc");
        assert_eq!(harmless("grüße 日本 ✓"), "grüße 日本 ✓");
        assert!(!harmless("x\x1b]52;c;aGk=").contains('\x1b'));
    }

    #[test]
    fn colours_need_a_terminal_and_nobody_against_them() {
        let plain = Environment::default();
        assert!(Palette::of(true, &plain).state("failed").contains('\x1b'));
        assert_eq!(Palette::of(false, &plain).state("failed"), "failed");
        let against = Environment { no_color: true, ..Environment::default() };
        assert_eq!(Palette::of(true, &against).bold("x"), "x");
        let dumb = Environment { terminal_kind: Some("dumb".to_owned()), ..Environment::default() };
        assert_eq!(Palette::of(true, &dumb).step("x"), "x");
    }
}
