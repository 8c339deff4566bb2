//! `rekindle capacity`.

use rekindle_proto::capacity::{Amounts, CapacityDoc, LossLine};

use super::table::{Cell, table};
use super::{Paint, Tone};
use crate::telemetry::plain;

/// Losses of one host that leave room for all are only counted, beyond so many: the worst stand first.
const CALM_LINES_MAX: usize = 5;

/// What is there, which losses fail, and for which servers.
#[must_use]
pub fn capacity(document: &CapacityDoc, paint: Paint) -> String {
    let question = match (&document.host, document.lose) {
        (Some(host), 1) => format!("if {host} is lost"),
        (Some(host), lose) => format!("if {host} and any {} more are lost", lose - 1),
        (None, 1) => "if any one host is lost".to_owned(),
        (None, lose) => format!("if any {lose} hosts are lost"),
    };
    let verdict = if document.survives {
        paint.paint(Tone::Good, "room for all servers")
    } else {
        paint.paint(Tone::Bad, &format!("NOT ENOUGH ROOM in {} of {} cases", document.failing, document.tried))
    };
    let mut text = format!("{question}: {verdict}   (Placement read {})\n\n", super::date_time(document.at));
    let rows = document.classes.iter().map(|line| {
        vec![
            Cell::new(&line.class),
            Cell::right(&line.capacity.to_string()),
            Cell::right(&line.used.to_string()),
            Cell::right(&line.capacity.saturating_sub(line.used).to_string()),
            Cell::right(&line.most_free.to_string()),
        ]
    });
    text.push_str(&table(&["CLASS", "CAPACITY", "USED", "FREE", "MOST ON ONE HOST"], rows, paint));
    let failing = document.losses.iter().filter(|loss| loss.unfit > 0).count();
    let shown: Vec<&LossLine> = document.losses.iter().take(failing.max(CALM_LINES_MAX)).collect();
    if !shown.is_empty() {
        text.push('\n');
        text.push_str(&table(&["LOST", "SERVERS", "NO ROOM", ""], shown.iter().map(|loss| row(loss)), paint));
        let more = document.losses.len() - shown.len();
        if more > 0 {
            text.push_str(&format!("and {more} more, each with room for all\n"));
        }
    }
    for loss in shown.iter().filter(|loss| !loss.named.is_empty()) {
        text.push_str(&format!("\n{}: the largest without room\n", names(loss)));
        for server in &loss.named {
            text.push_str(&format!("  {}  {}\n", server.server, plain(server.why.as_str())));
        }
    }
    text.push_str(&format!("\n{} hosts may receive servers\n", document.open));
    for (host, why) in &document.closed {
        text.push_str(&format!("  not {host}: {}\n", plain(why.as_str())));
    }
    if document.tried < document.of {
        text.push_str(&format!("{} of {} losses were tried\n", document.tried, document.of));
    }
    for note in &document.notes {
        text.push_str(&format!("{}\n", plain(note.as_str())));
    }
    text
}

fn row(loss: &LossLine) -> Vec<Cell> {
    let tone = if loss.unfit > 0 { Tone::Bad } else { Tone::Good };
    vec![
        Cell::new(&names(loss)),
        Cell::right(&loss.servers.to_string()),
        Cell::toned(&loss.unfit.to_string(), tone),
        Cell::new(&words(&loss.short)),
    ]
}

fn names(loss: &LossLine) -> String {
    loss.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ")
}

fn words(amounts: &Amounts) -> String {
    amounts.iter().map(|(class, amount)| format!("{class} {amount}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn the_screen() {
        let expected = "\
if any one host is lost: NOT ENOUGH ROOM in 1 of 2 cases   (Placement read 2026-11-21 02:13:07Z)

CLASS  CAPACITY  USED  FREE  MOST ON ONE HOST
VCPU         64    40    24                16

LOST    SERVERS  NO ROOM
cmp-01       20  1        VCPU 32
cmp-02       22  0

cmp-01: the largest without room
  00000000-0000-0000-0000-000000000007  wants VCPU 32; the most that one host has free is 16

2 hosts may receive servers
  not cmp-03: maintenance: new disks
an estimate
";
        let shown = capacity(&samples::capacity(), Paint { colours: false });
        assert_eq!(shown, expected);
    }
}
