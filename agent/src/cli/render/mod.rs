//! Documents as people read them: pure functions from document to text. Texts from elsewhere (a BMC's words, a server's
//! name, which its owner chooses) are stripped of control characters: they must not steer a terminal.

mod brake;
mod capacity;
mod incident;
mod segments;
mod status;
mod table;
mod voters;

use rekindle_proto::fact::PowerState;
use rekindle_proto::id::WallTime;
use rekindle_proto::status::{FenceTestLine, MembersDoc, WhyDoc};

pub use brake::brakes;
pub use capacity::capacity;
pub use incident::{incident, incidents, story_from};
pub use segments::{host, segment, segments};
pub use status::{headline, hosts, status};
use table::{Cell, table};
pub use voters::voters;

use crate::telemetry::plain;

/// Whether to use colours. They never carry anything that the words do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// Only on a terminal, and not with `NO_COLOR` (no-color.org).
    pub colours: bool,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Strong,
    Good,
    Uneasy,
    Bad,
}

impl Paint {
    fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Uneasy => "33",
            Tone::Bad => "31;1",
            Tone::Plain => return text.to_owned(),
        };
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// `rekindle members`.
#[must_use]
pub fn members(document: &MembersDoc, paint: Paint) -> String {
    let rows = document.members.iter().map(|member| {
        vec![
            Cell::new(member.host.as_ref().map_or("?", |host| host.as_str())),
            Cell::new(&member.address),
            Cell::toned(member.state.as_str(), state_tone(member.state.as_str())),
            Cell::right(&ago(member.for_ms)),
            Cell::right(&member.incarnation.to_string()),
        ]
    });
    let header = ["MEMBER", "ADDRESS", "STATE", "FOR", "INCARNATION"];
    format!("gossip as {} has it\n\n{}", document.told_by, table(&header, rows, paint))
}

/// `rekindle why HOST`.
#[must_use]
pub fn why(document: &WhyDoc, paint: Paint) -> String {
    let head = if document.protected {
        paint.paint(Tone::Good, "protected: its servers would be recovered if it died now")
    } else {
        paint.paint(Tone::Bad, "NOT PROTECTED: if it died now, nothing would be done")
    };
    let mut text = format!("{}   {head}\n\n", document.host);
    let rows = document.guards.iter().map(|guard| {
        let verdict = if guard.passes { Cell::toned("pass", Tone::Good) } else { Cell::toned("HOLD", Tone::Bad) };
        vec![verdict, Cell::new(guard.guard.as_str()), Cell::new(guard.text.as_str())]
    });
    text.push_str(&table(&["", "GUARD", ""], rows, paint));
    if let Some(capacity) = &document.capacity {
        text.push_str(&format!("\ncapacity: {}\n", plain(capacity.as_str())));
    }
    if !document.plan.is_empty() {
        text.push_str("\nPLAN\n");
        for (step, line) in document.plan.iter().enumerate() {
            text.push_str(&format!("  {}. {}\n", step + 1, plain(line.as_str())));
        }
    }
    text
}

/// `rekindle fence-test`.
#[must_use]
pub fn fence_test(devices: &[FenceTestLine], paint: Paint) -> String {
    if devices.is_empty() {
        return "no fence device is configured: nothing can be fenced, and nothing will be recovered\n".to_owned();
    }
    let rows = devices.iter().map(|device| {
        let power = match device.power {
            Some(PowerState::On) => Cell::toned("on", Tone::Good),
            Some(PowerState::Off) => Cell::toned("off", Tone::Uneasy),
            None => Cell::toned("unknown", Tone::Bad),
        };
        let bound = if device.bound { Cell::toned("bound", Tone::Good) } else { Cell::toned("NOT BOUND", Tone::Bad) };
        let level = device.level.to_string();
        let host = Cell::new(device.host.as_str());
        vec![host, Cell::right(&level), Cell::new(&device.device), power, bound, Cell::new(device.text.as_str())]
    });
    table(&["HOST", "LEVEL", "DEVICE", "POWER", "BINDING", ""], rows, paint)
}

/// A time of day in UTC, to a tenth of a second.
fn time_of_day(at: WallTime) -> String {
    stamp(at, "%H:%M:%S%.1f")
}

/// Date and time in UTC.
pub(super) fn date_time(at: WallTime) -> String {
    stamp(at, "%Y-%m-%d %H:%M:%SZ")
}

/// The date in UTC.
fn date(at: WallTime) -> String {
    stamp(at, "%Y-%m-%d")
}

fn stamp(at: WallTime, format: &str) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| "?".to_owned(), |time| time.strftime(format).to_string())
}

/// How long, in the two largest units that matter.
fn ago(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {:02}m", minutes % 60),
        (1..=9, _, _) => format!("{days}d {:02}h", hours % 24),
        _ => format!("{days}d"),
    }
}

fn state_tone(state: &str) -> Tone {
    match state {
        "alive" | "recovered" | "refuted" | "passed" => Tone::Good,
        "suspect" | "absent" | "unseen" | "waiting" | "arrived" | "starting" | "evacuating" | "fenced"
        | "quarantined" => Tone::Uneasy,
        "down" | "stuck" | "unclean" | "fencing" | "left-behind" | "failed" => Tone::Bad,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests;
