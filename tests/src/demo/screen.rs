//! How it looks: aligned, and coloured only on a terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Uneasy,
    Bad,
}

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    terminal: bool,
    colours: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        // no-color.org
        Self { terminal, colours: terminal && std::env::var_os("NO_COLOR").is_none() }
    }

    pub(super) fn colours(self) -> bool {
        self.colours
    }

    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Uneasy => "33",
            Tone::Bad => "31;1",
        };
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A line that stays: seconds, a word (a phase), what happened.
    pub(super) fn line(self, at: Duration, word: &str, text: &str, tone: Tone) {
        self.gone();
        println!("{}", self.composed(at, word, text, tone));
    }

    /// A line that the next one replaces. Only on a terminal.
    pub(super) fn passing(self, at: Duration, word: &str, text: &str) {
        if self.terminal {
            print!("\r\u{1b}[K{}", self.composed(at, word, text, Tone::Faint));
            // A terminal that is gone is seen by the next line.
            let _ = std::io::stdout().flush();
        }
    }

    /// Clears a passing line.
    pub(super) fn gone(self) {
        if self.terminal {
            print!("\r\u{1b}[K");
            let _ = std::io::stdout().flush();
        }
    }

    fn composed(self, at: Duration, word: &str, text: &str, tone: Tone) -> String {
        let seconds = format!("{:7.2} s", at.as_secs_f64());
        if word.is_empty() {
            return format!("{}  {text}", self.paint(Tone::Faint, &seconds));
        }
        let padding = " ".repeat(10_usize.saturating_sub(word.chars().count()));
        format!("{}  {}{padding}  {text}", self.paint(Tone::Faint, &seconds), self.paint(tone, word))
    }
}
