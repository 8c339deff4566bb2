//! Who else might run a copy of this server, and what they say of it (I11).

use std::collections::{BTreeMap, BTreeSet};

use rekindle_proto::fact::{NovaMigration, Text};
use rekindle_proto::id::{CallId, HostName, IncidentId, ServerId};
use rekindle_proto::message::Message;
use rekindle_proto::status::Phase;

use super::Leader;
use super::servers::{ASK_AGAIN_AFTER, Round, WORD_AGE_MAX};
use crate::context::Context;
use crate::ledger::Incident;
use crate::mutant::{Guard, keeps};
use crate::recovery::hosts_to_ask;
use crate::time::Moment;

/// Who said, when, which guests it does not (or does) run.
#[derive(Debug, Default)]
pub(super) struct Denials {
    calls: BTreeMap<CallId, (HostName, Moment, Vec<ServerId>)>,
    asked: BTreeMap<HostName, Moment>,
    said: BTreeMap<(HostName, ServerId), (Moment, bool)>,
    /// When each server's intent was last seen open: what was asked before says nothing of what that call has left behind.
    pub(super) last_open: BTreeMap<ServerId, Moment>,
}

impl Leader {
    /// Every host that may run a copy has denied it, or is itself proven off (I11). Else the question is added to the
    /// round, and the server waits.
    pub(super) fn copies_denied(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        server: ServerId,
        migrations: &[NovaMigration],
        round: &mut Round,
    ) -> Result<(), Text> {
        if !keeps(Guard::CopiesDenied) {
            return Ok(());
        }
        if let Some(reader) = cx.ledger.reader_of(server) {
            return Err(Text::new(format!("{reader} came back, and may be reading an order to build it")));
        }
        let now = cx.now.mono;
        let mut hosts = hosts_to_ask(&incident.host, migrations);
        // Whose queue has an order of it is in no record of Nova's any more, once a later call has taken that record.
        let queues = incident.servers.get(&server).into_iter().flat_map(|record| &record.leg.queued_on);
        hosts.extend(queues.cloned());
        let unproven: BTreeSet<&HostName> = hosts.iter().filter(|host| !self.is_proven_off(cx, host)).collect();
        let Some(evacuation) = self.evacuations.get(&incident.id) else { return Err("".into()) };
        let last_open = evacuation.denials.last_open.get(&server).copied();
        let mut why = None;
        for host in unproven {
            let said = evacuation.denials.said.get(&(host.clone(), server));
            match said.filter(|(at, _)| now.since(*at) < WORD_AGE_MAX && Some(*at) > last_open) {
                Some((_, false)) => {}
                Some((_, true)) => {
                    why = Some(format!("{host}, named by its migration records, says that it runs it: look at it"));
                }
                None => {
                    round.questions.entry(host.clone()).or_default().push(server);
                    why.get_or_insert_with(|| {
                        format!("{host}, named by its migration records, has not said that it does not run it")
                    });
                }
            }
        }
        why.map_or(Ok(()), |why| Err(Text::new(why)))
    }

    /// Another incident's host, off by a proof that holds now.
    pub(super) fn is_proven_off(&self, cx: &Context<'_>, host: &HostName) -> bool {
        let Some(incident) = cx.ledger.open_incident(host) else { return false };
        matches!(incident.phase, Phase::Fenced | Phase::Evacuating) && self.proof(cx, incident).is_some()
    }

    pub(super) fn ask_hosts(
        &mut self,
        cx: &mut Context<'_>,
        id: IncidentId,
        questions: BTreeMap<HostName, Vec<ServerId>>,
    ) {
        let now = cx.now.mono;
        for (host, servers) in questions {
            let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
            let denials = &mut evacuation.denials;
            if denials.asked.get(&host).is_some_and(|asked| now.since(*asked) < ASK_AGAIN_AFTER) {
                continue;
            }
            denials.asked.insert(host.clone(), now);
            let call = cx.out.call();
            denials.calls.retain(|_, (other, ..)| *other != host);
            denials.calls.insert(call, (host.clone(), now, servers.clone()));
            if host == cx.setup.host {
                self.own_guest_questions.push((call, servers));
            } else {
                cx.send(&host, Message::AskGuests { call, servers });
            }
        }
    }

    /// A host's answer to which of the asked guests it runs; `None`: its hypervisor did not answer. It is as old as the
    /// question.
    pub(crate) fn guests_answer(
        &mut self,
        cx: &mut Context<'_>,
        from: &HostName,
        call: CallId,
        running: Option<&[ServerId]>,
    ) {
        let now = cx.now.mono;
        if self.take_lost_word(now, from, call, running) {
            return;
        }
        if self.reboot_answer(cx, from, call, running) {
            self.touch();
            return;
        }
        for evacuation in self.evacuations.values_mut() {
            let denials = &mut evacuation.denials;
            let is_asked = denials.calls.get(&call).is_some_and(|(host, ..)| host == from);
            let Some((host, asked, servers)) = is_asked.then(|| denials.calls.remove(&call)).flatten() else {
                continue;
            };
            let Some(running) = running else { continue };
            denials.said.retain(|_, (at, _)| now.since(*at) < WORD_AGE_MAX);
            for server in servers {
                let runs = running.contains(&server);
                denials.said.insert((host.clone(), server), (asked, runs));
            }
        }
        self.touch();
    }
}
