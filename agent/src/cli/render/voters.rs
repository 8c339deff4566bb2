//! `rekindle voters`.

use rekindle_proto::voters::VotersDoc;

use super::table::{Cell, table};
use super::{Paint, Tone, ago, date_time};
use crate::telemetry::plain;

/// Who keeps the ledger.
#[must_use]
pub fn voters(document: &VotersDoc, paint: Paint) -> String {
    let rows = document.voters.iter().map(|line| {
        let tone = match line.text.as_str() {
            "current" | "ready" => Tone::Good,
            text if text.starts_with("lost") => Tone::Bad,
            _ => Tone::Uneasy,
        };
        vec![
            Cell::new(line.host.as_str()),
            Cell::new(line.role.as_str()),
            Cell::new(line.domain.as_ref().map_or("-", |domain| domain.as_str())),
            Cell::right(&line.lag.map_or("?".to_owned(), |lag| lag.to_string())),
            Cell::right(&line.silent_ms.map_or("?".to_owned(), ago)),
            Cell::toned(line.text.as_str(), tone),
        ]
    });
    let mut text = table(&["HOST", "ROLE", "DOMAIN", "LAG", "HEARD", "STATE"], rows, paint);
    let count = document.voters.iter().filter(|line| line.role.as_str() == "voter").count();
    text.push_str(&format!(
        "told by {}   {count} of {} voters   generation {}\n",
        document.told_by, document.wanted, document.generation
    ));
    for (what, words) in [("change", &document.change), ("placement", &document.placement)] {
        if let Some(words) = words {
            text.push_str(&format!("{what}: {}\n", paint.paint(Tone::Uneasy, &plain(words.as_str()))));
        }
    }
    for line in &document.story {
        text.push_str(&format!("{}  {}\n", date_time(line.at), plain(line.text.as_str())));
    }
    text
}
