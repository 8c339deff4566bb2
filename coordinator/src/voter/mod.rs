//! What every voter does besides voting: it watches whether it would be fit to lead, tells the other voters, and does not
//! stand while it is not and another is (I3; voters: "no BMC or Nova reach, no candidacy").
//!
//! The probes are sparing: one question to Nova and one device reading a minute, by at most seven voters; more often only
//! while something fails.

mod fitness;
mod standing;

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{DeviceError, DeviceName, DeviceReading, NovaError};
use rekindle_proto::id::{CallId, HostName, Term};
use rekindle_proto::message::Message;

use crate::context::Context;
use crate::fencing::DeviceBook;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::LEDGER_FORMAT;
use crate::time::Moment;

pub use fitness::Ailment;
use fitness::{Fitness, LOOP_LATE, Reach, Signs, ailment};
use standing::{Outlook, Standing};

/// Between two probes of Nova, and between two readings of some device, while they are answered.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// By which the probes of the voters are spread, up or down.
const PROBE_JITTER_MS: u64 = 10_000;
/// The next probe after one that failed.
const PROBE_AGAIN: Duration = Duration::from_secs(3);
/// A probe of Nova without an answer for this long has failed: beyond the adapter's own time-outs.
const NOVA_LOST_AFTER: Duration = Duration::from_secs(60);
/// Device time-outs after which a reading without an answer has failed: a command, and a queue before it.
const READING_LOST_AFTER: u32 = 4;
/// Between two words to the other voters.
const WORD_EVERY: Duration = Duration::from_secs(15);
/// How long such a word is believed.
const WORD_BELIEVED: Duration = Duration::from_secs(40);
/// Between two looks at signs that no input tells of.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Voter {
    fitness: Fitness,
    standing: Standing,
    signs: Signs,
    nova: Option<(CallId, Moment)>,
    nova_due: Moment,
    reading: Option<(CallId, Moment)>,
    reading_due: Moment,
    /// The last device asked: the next one is another.
    last_device: Option<DeviceName>,
    /// What the other voters last said of themselves, and when.
    words: BTreeMap<HostName, (bool, Moment)>,
    said: Option<bool>,
    word_due: Moment,
    look_due: Moment,
    /// What Raft last said: the term, and who leads it.
    hint: (Term, Option<HostName>),
}

impl Voter {
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            fitness: Fitness::default(),
            standing: Standing::default(),
            signs: Signs::default(),
            nova: None,
            nova_due: now,
            reading: None,
            reading_due: now,
            last_device: None,
            words: BTreeMap::new(),
            said: None,
            word_due: now,
            look_due: now,
            hint: (Term(0), None),
        }
    }

    /// Whether we stand for leadership, and may hold it.
    pub(crate) fn stands(&self) -> bool {
        self.standing.stands()
    }

    /// Why we must not act, though we lead.
    pub(crate) fn bars_acts(&self) -> Option<&Ailment> {
        self.fitness.bars_acts()
    }

    /// What Raft last said of leadership.
    pub(crate) fn hint(&self) -> &(Term, Option<HostName>) {
        &self.hint
    }

    pub(crate) fn take_hint(&mut self, term: Term, leader: Option<HostName>) {
        self.hint = (term, leader);
    }

    /// How late our loop came to something that was due.
    pub(crate) fn was_late(&mut self, now: Moment, by: Duration) {
        if by >= LOOP_LATE {
            self.signs.late = Some((now, by));
        }
    }

    /// Another voter's word about itself.
    pub(crate) fn take_word(&mut self, host: &HostName, fit: bool, now: Moment) {
        self.words.insert(host.clone(), (fit, now));
    }

    /// Nova's answer, if the question was ours. Anybody's answer shows that Nova answers; somebody else's failure only
    /// makes us ask.
    pub(crate) fn take_nova(&mut self, now: Moment, call: CallId, result: &Result<NovaAnswer, NovaError>) -> bool {
        let ours = self.nova.is_some_and(|(asked, _)| asked == call);
        let sign = match result {
            Ok(_) => Reach::Answers,
            Err(NovaError::Refused { status, .. }) if ![401, 403].contains(status) => Reach::Answers,
            Err(error) => Reach::Away(error.clone()),
        };
        match (sign, ours) {
            (Reach::Away(_), false) => self.nova_due = self.nova_due.min(now + PROBE_AGAIN),
            (sign, _) => self.signs.nova = sign,
        }
        if ours {
            self.nova = None;
            let away = matches!(self.signs.nova, Reach::Away(_));
            self.nova_due = now + if away { PROBE_AGAIN } else { spread(call) };
        }
        ours
    }

    /// A device's answer, if the question was ours.
    pub(crate) fn take_reading(&mut self, now: Moment, call: CallId, reading: &DeviceReading) -> bool {
        if self.reading.is_none_or(|(asked, _)| asked != call) {
            return false;
        }
        self.reading = None;
        let answered = match &reading.power {
            // It refuses us: a matter of its own, and no sign of the network.
            Ok(_) | Err(DeviceError::Credentials(_) | DeviceError::Refused(_) | DeviceError::Foreign(_)) => true,
            Err(DeviceError::Silent(_) | DeviceError::Unusable(_)) => false,
        };
        self.note_reading(now, call, answered);
        true
    }

    fn note_reading(&mut self, now: Moment, call: CallId, answered: bool) {
        if answered {
            self.signs.devices_silent = 0;
            self.reading_due = now + spread(call);
        } else {
            self.signs.devices_silent = self.signs.devices_silent.saturating_add(1);
            self.reading_due = now + PROBE_AGAIN;
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        [Some(self.look_due), self.fitness.next_deadline(), self.standing.next_deadline()].into_iter().flatten().min()
    }

    /// Does what is due. `Some`: from now on we stand, or no longer do.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> Option<bool> {
        let now = cx.now.mono;
        if self.next_deadline().is_some_and(|due| due > now) {
            return None;
        }
        self.look_due = now + LOOK_EVERY;
        // Before there is a roster there is nothing to lead.
        if !cx.ledger.roster.is_empty() {
            self.probe_nova(cx);
            self.probe_device(cx);
        }
        self.signs.local_health = cx.membership.local_health();
        self.fitness.note(now, ailment(&self.signs, now));
        self.say(cx);
        let us = &cx.setup.host;
        let is_fit = |host: &HostName| {
            let word = self.words.get(host).filter(|(_, at)| now.since(*at) < WORD_BELIEVED);
            host != us && word.is_some_and(|(fit, _)| *fit) && cx.is_alive(host)
        };
        let outlook = Outlook {
            unfit: self.fitness.unfit().is_some(),
            other_fit: cx.voters().iter().any(is_fit),
            other_leads: self.hint.1.as_ref().is_some_and(|leader| leader != us && cx.is_alive(leader)),
        };
        let changed = self.standing.decide(now, outlook);
        match (changed, self.fitness.unfit()) {
            (Some(false), Some(why)) => cx.out.warn(None, format!("this voter does not stand for leadership: {why}")),
            (Some(false), None) => cx.out.warn(None, "this voter does not stand for leadership"),
            (Some(true), Some(why)) => {
                cx.out.warn(None, format!("this voter stands, unfit, because no fitter one leads: {why}"));
            }
            (Some(true), None) => cx.out.warn(None, "this voter is fit again and stands for leadership"),
            (None, _) => {}
        }
        changed
    }

    fn probe_nova(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        if let Some((call, asked)) = self.nova
            && now.since(asked) >= NOVA_LOST_AFTER
        {
            self.take_nova(now, call, &Err(NovaError::Unknown("no answer".into())));
        }
        if self.nova.is_some() || self.nova_due > now {
            return;
        }
        let own = cx.ledger.is_hypervisor(&cx.setup.host).then(|| cx.setup.host.clone());
        let about = own.or_else(|| cx.ledger.roster.keys().find(|host| cx.ledger.is_hypervisor(host)).cloned());
        let Some(about) = about else { return };
        let call = cx.out.call();
        self.nova = Some((call, now));
        cx.out.push(Output::Nova { call, request: NovaRead::Service(about) });
    }

    fn probe_device(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let lost_after = READING_LOST_AFTER * cx.setup.policy.device_timeout;
        if let Some((call, asked)) = self.reading
            && now.since(asked) >= lost_after
        {
            self.reading = None;
            self.note_reading(now, call, false);
        }
        if self.reading.is_some() || self.reading_due > now {
            return;
        }
        // A device may go down with its host; only those of living hosts speak for their network.
        let lives = |host: &&HostName| {
            cx.ledger.is_hypervisor(host) && cx.is_alive(host) && cx.ledger.open_incident(host).is_none()
        };
        let mut book = DeviceBook::default();
        book.enroll(cx.ledger.roster.keys().filter(lives), &cx.setup.devices);
        self.signs.devices = book.iter().count();
        let after = self.last_device.as_ref();
        let next = book.iter().find(|entry| after.is_none_or(|last| entry.plan.name > *last)).or(book.iter().next());
        let Some((host, device)) = next.map(|entry| (entry.host.clone(), entry.plan.name.clone())) else {
            self.signs.devices_silent = 0;
            self.reading_due = now + PROBE_EVERY;
            return;
        };
        let call = cx.out.call();
        self.reading = Some((call, now));
        self.last_device = Some(device.clone());
        let within = cx.setup.policy.device_timeout;
        cx.out.push(Output::ReadDevice { call, host, device, guid: false, within });
    }

    fn say(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        // Before we have asked we say nothing: nobody must hand leadership to a voter that knows nothing of itself.
        if self.signs.nova == Reach::Unknown {
            return;
        }
        let fit = self.fitness.unfit().is_none();
        if self.said == Some(fit) && self.word_due > now {
            return;
        }
        self.said = Some(fit);
        self.word_due = now + WORD_EVERY;
        let others: Vec<HostName> = cx.voters().iter().filter(|voter| **voter != cx.setup.host).cloned().collect();
        for voter in others {
            cx.send(&voter, Message::Fitness { fit });
        }
        // Said only while it matters: a daemon of before does not know this word.
        let leader = self.hint.1.as_ref().filter(|leader| **leader != cx.setup.host);
        if let Some(leader) = leader.filter(|_| cx.ledger.format < LEDGER_FORMAT) {
            cx.send(leader, Message::LedgerFormat { reads: LEDGER_FORMAT });
        }
    }
}

/// The voters' probes do not fall together, nor every time in the same order.
fn spread(call: CallId) -> Duration {
    let jitter = call.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (2 * PROBE_JITTER_MS);
    PROBE_EVERY + Duration::from_millis(jitter) - Duration::from_millis(PROBE_JITTER_MS)
}
