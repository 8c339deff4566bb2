//! Of a server for which Nova found no place: what its server group has to do with it, for people.
//!
//! Nothing but words comes of it. It is read only after an attempt came to no place, only of servers that Nova calls members of
//! a group (which the look at a server before its next attempt tells, at no cost), each group once per incident. No attempt
//! waits for it or is spared by it; only a server that is to be left behind waits a little, so that it is said why.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{ServerGroupId, ServerId};

use super::Leader;
use super::lookups::Glance;
use super::servers::Round;
use crate::context::Context;
use crate::ledger::{Fate, Incident, Ledger, ServerRecord, Unplaced};
use crate::recovery::{Looked, Lookup, MEMBERS_NAMED_MAX, Whereabouts, conflict, is_binding};
use crate::time::Moment;

/// How long a server that is to be left behind waits for the words of why: some answers of a Nova that is busy with hundreds of
/// evacuations. Nobody is better off for it but who reads them.
const WORDS_WITHIN: Duration = Duration::from_secs(30);

/// What one incident says of server groups.
#[derive(Debug, Default)]
pub(super) struct GroupWords {
    /// Of which server, after which attempt, and what; `None`: no group can be why.
    said: BTreeMap<ServerId, (u32, Option<Text>)>,
    /// Since when servers wait to be left behind with it, after which attempt.
    since: BTreeMap<ServerId, (u32, Moment)>,
}

/// What can be said of a server's groups.
enum Word {
    /// That, or nothing.
    Said(Option<Text>),
    /// They are being read.
    Reading,
    /// They could not be read, and may be later.
    Unread(Text),
}

impl Leader {
    /// Why a server waits, with what its server group has to do with it, as far as that is known by now.
    pub(super) fn with_group_word(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        (server, record): (ServerId, &ServerRecord),
        why: &Text,
    ) -> Text {
        match self.group_word(cx, incident, (server, record)) {
            Word::Said(Some(word)) | Word::Unread(word) => joined(why, &word),
            Word::Said(None) | Word::Reading => why.clone(),
        }
    }

    /// A server has used up its tries: it is left behind, if Nova found no place for it with what its server group has to do
    /// with it.
    pub(super) fn leave_behind(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        (server, record): (ServerId, &ServerRecord),
        why: &Text,
        round: &mut Round,
    ) {
        let why = match self.group_word(cx, incident, (server, record)) {
            Word::Said(None) => why.clone(),
            Word::Said(Some(word)) | Word::Unread(word) => joined(why, &word),
            Word::Reading => {
                let now = cx.now.mono;
                let Some(evacuation) = self.evacuations.get_mut(&incident.id) else { return };
                let waits = evacuation.group_words.since.entry(server).or_insert((record.attempts, now));
                if waits.0 != record.attempts {
                    *waits = (record.attempts, now);
                }
                let until = waits.1 + WORDS_WITHIN;
                if now < until {
                    let text = format!("{why}; its server group is being read");
                    evacuation.waits.insert(server, (now, Text::new(text)));
                    self.wake_at(until);
                    return;
                }
                Text::new(format!("{why}; its server group was not read within {} s", WORDS_WITHIN.as_secs()))
            }
        };
        self.conclude(cx, incident, (server, record), Fate::LeftBehind { why }, round);
    }

    fn group_word(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        (server, record): (ServerId, &ServerRecord),
    ) -> Word {
        let Some(unplaced) = record.unplaced else { return Word::Said(None) };
        let Some(evacuation) = self.evacuations.get(&incident.id) else { return Word::Said(None) };
        if let Some((_, said)) =
            evacuation.group_words.said.get(&server).filter(|(attempt, _)| *attempt == record.attempts)
        {
            return Word::Said(said.clone());
        }
        let read = evacuation.server_reads.get(&server).and_then(|read| read.server.as_ref());
        // The list of servers does not tell it; the look at the server before its next attempt does.
        let Some(groups) = read.and_then(|server| server.traits.groups.clone()) else { return Word::Said(None) };
        let mut said = None;
        for group in groups {
            match self.word_of_group(cx, incident, server, group, unplaced) {
                Word::Said(word) => said = said.or(word),
                word @ (Word::Reading | Word::Unread(_)) => return word,
            }
        }
        if let Some(evacuation) = self.evacuations.get_mut(&incident.id) {
            evacuation.group_words.said.insert(server, (record.attempts, said.clone()));
        }
        Word::Said(said)
    }

    fn word_of_group(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        server: ServerId,
        id: ServerGroupId,
        unplaced: Unplaced,
    ) -> Word {
        match self.glance(cx, incident.id, &incident.host, &Lookup::Group(id)) {
            Glance::UnderWay => return Word::Reading,
            Glance::Failed(error, _) => {
                let text = format!("it is in server group {id}, which may be why and cannot be read: {error}");
                return Word::Unread(Text::new(text));
            }
            Glance::Known => {}
        }
        let Some(looked) = self.looked(incident) else { return Word::Said(None) };
        let Some(group) = looked.groups.get(&id).cloned().flatten().filter(is_binding) else {
            return Word::Said(None);
        };
        let others: Vec<ServerId> = group.members.iter().copied().filter(|member| *member != server).collect();
        let strangers = others.iter().filter(|member| told_by_ledger(cx.ledger, incident, **member).is_none());
        let asked: Vec<ServerId> = strangers.take(MEMBERS_NAMED_MAX).copied().collect();
        let mut is_reading = false;
        for member in asked {
            let glance = self.glance(cx, incident.id, &incident.host, &Lookup::Member(member));
            is_reading |= matches!(glance, Glance::UnderWay);
        }
        if is_reading {
            return Word::Reading;
        }
        let Some(looked) = self.looked(incident) else { return Word::Said(None) };
        let others: Vec<Whereabouts> =
            others.iter().map(|member| whereabouts(cx.ledger, incident, looked, *member)).collect();
        Word::Said(conflict(&group, &incident.host, &others, unplaced))
    }

    fn looked(&self, incident: &Incident) -> Option<&Looked> {
        self.evacuations.get(&incident.id).map(|evacuation| &evacuation.lookups.looked)
    }
}

fn joined(why: &Text, word: &Text) -> Text {
    Text::new(format!("{why}; {word}"))
}

/// Where a member is by the ledger: it was on this dead host, or on another.
fn told_by_ledger(ledger: &Ledger, incident: &Incident, member: ServerId) -> Option<Whereabouts> {
    if let Some(record) = incident.servers.get(&member) {
        return Some(match &record.fate {
            Some(Fate::Recovered { to }) => Whereabouts::On { name: record.name.clone(), host: to.clone() },
            Some(Fate::Deleted) => Whereabouts::Gone,
            Some(Fate::LeftBehind { .. }) | None => Whereabouts::OnTheDead,
        });
    }
    let mut others = ledger.open_incidents().filter(|other| other.id != incident.id);
    others.find_map(|other| {
        let record = other.servers.get(&member).filter(|record| record.fate.is_none())?;
        Some(Whereabouts::On { name: record.name.clone(), host: other.host.clone() })
    })
}

fn whereabouts(ledger: &Ledger, incident: &Incident, looked: &Looked, member: ServerId) -> Whereabouts {
    told_by_ledger(ledger, incident, member).unwrap_or_else(|| match looked.members.get(&member) {
        None => Whereabouts::Unknown,
        Some(None | Some((_, None))) => Whereabouts::Gone,
        Some(Some((_, Some(host)))) if *host == incident.host => Whereabouts::OnTheDead,
        Some(Some((name, Some(host)))) => Whereabouts::On { name: name.clone(), host: host.clone() },
    })
}
