//! The webhook: what it has not taken yet is in the ledger, so that neither a leader's death nor a receiver that is down
//! for an hour loses a change of phase. What was posted and not yet written down when a leader dies is posted again.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, IncidentId};

use super::Leader;
use super::proposals::Key;
use crate::context::Context;
use crate::io::Output;
use crate::ledger::LeaderCommand;
use crate::notice::{PostOrder, Subject, notification, subjects};

/// Posts handed to the adapter at once. All others wait in the ledger.
const POSTS_AT_ONCE: usize = 16;

/// An incident that ended longer ago is not posted any more: nobody is to be woken by the history of a site that has just
/// configured a webhook. Wall clock: it decides about news, not about acts.
const NEWS_FOR_MS: u64 = 24 * 3_600 * 1_000;

#[derive(Debug, Default)]
pub(super) struct NoticeDesk {
    /// With the adapter, which posts them in this order.
    handed: BTreeMap<CallId, (IncidentId, u32)>,
    /// The last change of each incident that was handed over.
    last: BTreeMap<IncidentId, u32>,
    /// Taken by the receiver or given up, and not yet in the ledger.
    told: BTreeMap<IncidentId, u32>,
}

impl Leader {
    /// Hands on what the webhook has not taken, in the order in which it happened to each incident.
    pub(super) fn drive_notices(&mut self, cx: &mut Context<'_>) {
        if !cx.setup.policy.webhook || !self.is_confirmed() {
            return;
        }
        for (incident, number) in self.notices.told.clone() {
            if subjects(cx.ledger).any(|subject| subject.id == incident && subject.told < number) {
                self.command(cx, Key::Notice(incident), LeaderCommand::Told { incident, number });
            } else {
                self.notices.told.remove(&incident);
            }
        }
        let untold = |subject: &Subject<'_>| {
            let is_new = subject.ended.is_none_or(|ended| cx.now.wall.millis_since(ended) < NEWS_FOR_MS);
            is_new && subject.last() > subject.told
        };
        let ledger = cx.ledger;
        for incident in subjects(ledger).filter(untold).collect::<Vec<_>>() {
            let done = self.notices.last.get(&incident.id).copied().unwrap_or_default().max(incident.told);
            for turn in incident.turns.iter().filter(|turn| turn.number > done) {
                if self.notices.handed.len() >= POSTS_AT_ONCE {
                    return;
                }
                let call = cx.out.call();
                self.notices.handed.insert(call, (incident.id, turn.number));
                self.notices.last.insert(incident.id, turn.number);
                let order = PostOrder::new(call, notification(&cx.setup.cluster, &cx.setup.host, incident, turn));
                cx.out.push(Output::Post(order));
            }
        }
        let known: BTreeSet<IncidentId> = subjects(ledger).map(|subject| subject.id).collect();
        self.notices.last.retain(|id, _| known.contains(id));
    }

    pub(crate) fn posted(&mut self, cx: &mut Context<'_>, call: CallId, result: Result<(), Text>) {
        let Some((incident, number)) = self.notices.handed.remove(&call) else { return };
        if let Err(why) = result {
            cx.out.warn(None, format!("the webhook was not told of change {number} of incident {incident}: {why}"));
        }
        self.notices.told.insert(incident, number);
        self.touch();
    }
}
