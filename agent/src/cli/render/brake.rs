//! `rekindle brake`.

use rekindle_proto::brake::BrakesDoc;

use super::table::{Cell, table};
use super::{Paint, Tone};

/// Every brake, then who is held.
#[must_use]
pub fn brakes(document: &BrakesDoc, paint: Paint) -> String {
    let rows = document.brakes.iter().map(|line| {
        let holds = if line.holds { Cell::toned("HOLDS", Tone::Bad) } else { Cell::toned("free", Tone::Good) };
        vec![holds, Cell::new(line.brake.as_str()), Cell::new(line.text.as_str())]
    });
    let mut text = format!("brakes as {} judges them\n\n", document.told_by);
    text.push_str(&table(&["", "BRAKE", ""], rows, paint));
    if document.held.is_empty() {
        text.push_str("\nnobody is held\n");
        return text;
    }
    let rows = document.held.iter().map(|line| {
        let incident = line.incident.map_or_else(|| "-".to_owned(), |incident| incident.to_string());
        let brake = line.brake.as_ref().map_or("-", |brake| brake.as_str());
        let lifted = line.lifted.as_ref().map_or("", |lifted| lifted.as_str());
        let words = if line.text.as_str().is_empty() { lifted } else { line.text.as_str() };
        vec![Cell::new(line.host.as_str()), Cell::right(&incident), Cell::new(brake), Cell::new(words)]
    });
    text.push('\n');
    text.push_str(&table(&["HELD", "INCIDENT", "BRAKE", ""], rows, paint));
    if document.held.iter().any(|line| line.brake.is_some()) {
        text.push_str("\nlift one with `rekindle brake lift INCIDENT|HOST --reason …`\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn the_screen() {
        let expected = "\
brakes as cmp-01 judges them

       BRAKE
free   armed         armed: first week is over
HOLDS  domain-event  domain event: 4 of 20 fell silent within 15 s, 0 of them read off: held for 96 s more

HELD    INCIDENT  BRAKE
cmp-04         -  domain-event  domain event: 4 of 20 fell silent within 15 s, 0 of them read off: held for 96 s more
cmp-09        14  -             lifted by alice: I pulled its plug

lift one with `rekindle brake lift INCIDENT|HOST --reason …`
";
        assert_eq!(brakes(&samples::brakes(), Paint { colours: false }), expected);
    }
}
