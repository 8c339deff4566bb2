//! The ledger's format: which voters read a newer one, and when an operator may raise it.
//!
//! A voter that cannot read an entry stops. So nothing is written in a newer format than the ledger's, which is that of the newest
//! entry in it; and the first such entry is an operator's order, taken only while every voter has just said that it reads it.

use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;

use super::Leader;
use crate::context::Context;
use crate::ledger::LEDGER_FORMAT;
use crate::time::Moment;

/// How long a voter's word about its daemon is believed: it is said every 15 s, and the daemon may have been put back since.
const WORD_BELIEVED: Duration = Duration::from_secs(40);

/// What must be done first, for people.
const UPGRADE: &str = "upgrade their daemons, and see that they run";

impl Leader {
    /// A keeper of the ledger says which format its daemon reads.
    pub(crate) fn format_word(&mut self, now: Moment, host: &HostName, reads: u32) {
        self.seating.formats.insert(host.clone(), (reads, now));
    }

    /// Voters that have not just said that they read that format.
    fn not_reading(&self, cx: &Context<'_>, format: u32) -> Vec<HostName> {
        let reads = |host: &HostName| {
            let word = self.seating.formats.get(host).filter(|(_, at)| cx.now.mono.since(*at) < WORD_BELIEVED);
            *host == cx.setup.host || word.is_some_and(|(reads, _)| *reads >= format)
        };
        self.electorate(cx).into_iter().filter(|host| !reads(host)).collect()
    }

    /// Whether an operator may raise the ledger's format to that one.
    ///
    /// # Errors
    /// Why not; which voters do not read it.
    pub(crate) fn may_raise_format(&self, cx: &Context<'_>, to: u32) -> Result<(), Text> {
        let (present, us) = (cx.ledger.format, &cx.setup.host);
        if to <= present {
            return Err(Text::new(format!("the ledger's format is {present} already, and never lowered")));
        }
        if to > LEDGER_FORMAT {
            return Err(Text::new(format!(
                "the daemon of {us}, which leads, reads ledger formats up to {LEDGER_FORMAT}"
            )));
        }
        let lacking = self.not_reading(cx, to);
        if lacking.is_empty() {
            return Ok(());
        }
        let names = names(&lacking);
        Err(Text::new(format!(
            "{names} have not said within {} s that they read ledger format {to}, and would stop: {UPGRADE}",
            WORD_BELIEVED.as_secs()
        )))
    }

    /// A format that could be raised is no trouble, but what it brings is missing until then.
    pub(crate) fn format_alarm(&self, cx: &Context<'_>) -> Option<Text> {
        let present = cx.ledger.format;
        if present >= LEDGER_FORMAT {
            return None;
        }
        let lacking = self.not_reading(cx, LEDGER_FORMAT);
        let then = if lacking.is_empty() {
            "every voter reads it: `rekindle voters raise-format`".to_owned()
        } else {
            format!("{} have not said that they read it: {UPGRADE}", names(&lacking))
        };
        Some(Text::new(format!("the ledger is written in format {present}, and {LEDGER_FORMAT} is the newest: {then}")))
    }
}

fn names(hosts: &[HostName]) -> String {
    hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ")
}
