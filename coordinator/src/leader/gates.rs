//! Boot gates: whether guests may start on a host (I7), and hosts' words about their gates on the way to the ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::admin::AdminReply;
use rekindle_proto::fact::GateReport;
use rekindle_proto::id::{BootId, CallId, HostName};
use rekindle_proto::status::GateDoc;

use super::Leader;
use super::proposals::Key;
use crate::context::Context;
use crate::io::Output;
use crate::ledger::{Entry, GateAnswer, MemberStatement, ROSTER_MAX, Statement, gate_of};
use crate::permit::CHECK_AGE_MAX;
use crate::time::Moment;

/// Gates waiting for an answer: every host of the largest roster boots after an outage. A host has one place.
const ASKING_MAX: usize = ROSTER_MAX;

/// How long a question waits for a quorum before it is forgotten: its gate has asked again by then.
const ASK_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Gates {
    asking: BTreeMap<HostName, Ask>,
    words: BTreeMap<HostName, (BootId, GateReport)>,
}

#[derive(Debug)]
struct Ask {
    query: CallId,
    boot: BootId,
    at: Moment,
}

impl Leader {
    /// A gate asks. Answered once a quorum, asked after this moment, has said that we lead: an answer from a ledger that
    /// others have since written to could open a gate that must stay closed.
    pub(crate) fn ask_gate(&mut self, cx: &mut Context<'_>, query: CallId, host: HostName, boot: BootId) {
        if self.gates.asking.len() < ASKING_MAX || self.gates.asking.contains_key(&host) {
            self.gates.asking.insert(host, Ask { query, boot, at: cx.now.mono });
            self.touch();
        }
    }

    /// A host's word about its gate.
    pub(crate) fn gate_word(&mut self, host: &HostName, boot: BootId, report: GateReport) {
        if self.gates.words.len() < ROSTER_MAX || self.gates.words.contains_key(host) {
            self.gates.words.insert(host.clone(), (boot, report));
            self.touch();
        }
    }

    pub(super) fn drive_gates(&mut self, cx: &mut Context<'_>) {
        self.answer_gates(cx);
        let known = |host: &HostName, (boot, report): &(BootId, GateReport)| {
            let word = cx.ledger.host(host).and_then(|record| record.gate.as_ref());
            word.is_some_and(|word| word.boot == *boot && word.report == *report)
        };
        self.gates.words.retain(|host, word| !known(host, word));
        let enrolled = |(host, _): &(&HostName, &(BootId, GateReport))| cx.ledger.host(host).is_some();
        let due: Vec<(HostName, BootId, GateReport)> = self
            .gates
            .words
            .iter()
            .filter(enrolled)
            .map(|(host, (boot, report))| (host.clone(), *boot, report.clone()))
            .collect();
        for (host, boot, report) in due {
            let statement = MemberStatement::Gate { report };
            let statement = Statement::Member { host: host.clone(), boot, statement };
            self.propose(cx, Key::Gate(host), Entry::new(cx.now.wall, statement));
        }
    }

    fn answer_gates(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        self.gates.asking.retain(|_, ask| now.since(ask.at) < ASK_PATIENCE);
        let asking = std::mem::take(&mut self.gates.asking);
        let (answered, waiting) =
            asking.into_iter().partition(|(_, ask)| self.is_confirmed_since(ask.at, now, CHECK_AGE_MAX));
        let answered: BTreeMap<HostName, Ask> = answered;
        self.gates.asking = waiting;
        for (host, ask) in &answered {
            let (open, why) = match gate_of(cx.ledger, host, ask.boot) {
                GateAnswer::Open { why } => (true, why),
                GateAnswer::Closed { why } => (false, why),
            };
            if cx.ledger.queue_hold(host, ask.boot).is_some() {
                self.queue_is_waited_for(now, host, ask.boot);
            }
            let gate = GateDoc { host: host.clone(), boot: ask.boot, open, why };
            cx.out.push(Output::Answer { call: ask.query, reply: Box::new(AdminReply::Gate { gate }) });
        }
        if !self.gates.asking.is_empty() {
            self.want_check(cx);
        }
    }
}
