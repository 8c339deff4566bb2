//! Testimony: three direct probes of a host, 200 ms apart on every path, and what came back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rekindle_proto::fact::{LIFE_SIGNS_MAX, LifeSign, PathFinding};
use rekindle_proto::id::{BootId, CallId, HostName, MemberId, PathName};
use rekindle_proto::message::Message;

use crate::context::Outbox;
use crate::io::Output;
use crate::life::LOOK_WITHIN;
use crate::paths::PATHS_MAX;
use crate::time::Moment;

/// Probes per path.
const PROBES: u32 = 3;
/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// What the last one is given to be answered.
const LAST_PROBE_WAIT: Duration = Duration::from_millis(400);
/// How long the search for signs of life may hold a testimony: the adapter's own limit, and its way back.
const SIGNS_WAIT: Duration = Duration::from_millis(1_500);
/// Testimonies under way at once: a leader asks for one per suspect, and suspects beyond a rack are a brake's matter.
const EXAMINATIONS_MAX: usize = 64;

/// Of these for one asker: nobody can take every place.
const EXAMINATIONS_OF_ONE: usize = 32;

/// Probing on behalf of leaders.
#[derive(Debug, Default)]
pub(crate) struct Testifier {
    examinations: BTreeMap<CallId, Examination>,
}

#[derive(Debug)]
struct Examination {
    /// Who asked, and under which number of theirs. `None`: we lead, and ask ourselves.
    asked_by: Option<HostName>,
    question: CallId,
    target: HostName,
    paths: Vec<(PathName, SocketAddr, Option<BootId>)>,
    sent: u32,
    next: Moment,
    /// What was found to live there; `None`: still being looked for.
    signs: Option<Vec<LifeSign>>,
    /// Signs are not waited for beyond this.
    signs_due: Moment,
}

/// A finished examination.
#[derive(Debug)]
pub(crate) struct Testimony {
    pub(crate) to: Option<HostName>,
    pub(crate) question: CallId,
    pub(crate) target: HostName,
    pub(crate) findings: Vec<PathFinding>,
    pub(crate) signs: Vec<LifeSign>,
}

impl Testifier {
    /// Begins an examination; the first probe goes out with the next tick, which is due at once.
    pub(crate) fn begin(
        &mut self,
        call: CallId,
        asked_by: Option<HostName>,
        question: CallId,
        target: HostName,
        addresses: Vec<(PathName, SocketAddr)>,
        now: Moment,
    ) {
        let by_asker = self.examinations.values().filter(|examination| examination.asked_by == asked_by).count();
        if self.examinations.len() >= EXAMINATIONS_MAX || by_asker >= EXAMINATIONS_OF_ONE || addresses.is_empty() {
            return;
        }
        let paths = addresses.into_iter().take(PATHS_MAX).map(|(path, address)| (path, address, None)).collect();
        let signs_due = now + SIGNS_WAIT;
        let examination = Examination { asked_by, question, target, paths, sent: 0, next: now, signs: None, signs_due };
        self.examinations.insert(call, examination);
    }

    /// What lives there, though the daemon may be silent.
    pub(crate) fn life_found(&mut self, call: CallId, mut signs: Vec<LifeSign>, now: Moment) {
        let Some(examination) = self.examinations.get_mut(&call) else { return };
        signs.truncate(LIFE_SIGNS_MAX);
        examination.signs = Some(signs);
        if examination.next == examination.signs_due {
            examination.next = now;
        }
    }

    /// The host was heard on that path, in that boot.
    pub(crate) fn heard(&mut self, host: &HostName, path: &PathName, boot: BootId) {
        for examination in self.examinations.values_mut().filter(|examination| examination.target == *host) {
            for (_, _, heard) in examination.paths.iter_mut().filter(|(known, _, _)| known == path) {
                *heard = Some(boot);
            }
        }
    }

    /// Sends the probes that are due and gives back what is finished.
    pub(crate) fn tick(&mut self, now: Moment, ports: &[u16], out: &mut Outbox) -> Vec<Testimony> {
        let mut finished = Vec::new();
        for (call, examination) in &mut self.examinations {
            let due = examination.next <= now;
            let looked = examination.signs.is_some() || now >= examination.signs_due;
            if examination.all_heard() || (due && examination.sent == PROBES && looked) {
                finished.push(*call);
            } else if due && examination.sent == PROBES {
                examination.next = examination.signs_due;
            } else if due {
                if examination.sent == 0
                    && let Some((_, address, _)) = examination.paths.first()
                {
                    out.push(Output::LookForLife {
                        call: *call,
                        host: examination.target.clone(),
                        address: *address,
                        ports: ports.to_vec(),
                        within: LOOK_WITHIN,
                    });
                }
                examination.sent += 1;
                let last = examination.sent == PROBES;
                examination.next = now + if last { LAST_PROBE_WAIT } else { PROBE_EVERY };
                for (path, to, _) in examination.paths.iter().filter(|(_, _, heard)| heard.is_none()) {
                    out.push(Output::Message {
                        to: *to,
                        member: Some(MemberId::of(&examination.target)),
                        path: path.clone(),
                        message: Message::Probe { call: *call, path: path.clone() },
                    });
                }
            }
        }
        finished.into_iter().filter_map(|call| self.examinations.remove(&call)).map(Examination::conclude).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let due = |examination: &Examination| if examination.all_heard() { Moment::ZERO } else { examination.next };
        self.examinations.values().map(due).min()
    }
}

impl Examination {
    fn all_heard(&self) -> bool {
        self.paths.iter().all(|(_, _, heard)| heard.is_some())
    }

    fn conclude(self) -> Testimony {
        let findings = self.paths.into_iter().map(|(path, _, heard)| PathFinding { path, heard }).collect();
        let signs = self.signs.unwrap_or_default();
        Testimony { to: self.asked_by, question: self.question, target: self.target, findings, signs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn begin() -> (Testifier, HostName, PathName) {
        let target = HostName::new("x").expect("legal");
        let path = PathName::new("management").expect("legal");
        let mut testifier = Testifier::default();
        let address = "127.0.0.1:7946".parse().expect("an address");
        testifier.begin(CallId(1), None, CallId(9), target.clone(), vec![(path.clone(), address)], Moment::ZERO);
        (testifier, target, path)
    }

    const SIGN: LifeSign = LifeSign::PortUnreachable;

    /// Examines a silent host; gives back when each probe went out, when it was finished, and with what.
    fn examine(answers: bool) -> (Vec<u64>, u64, Testimony) {
        let (mut testifier, _, _) = begin();
        let mut out = Outbox::new(0);
        let mut probes = Vec::new();
        loop {
            let now = testifier.next_deadline().expect("under way");
            let done = testifier.tick(now, &[22], &mut out);
            while let Some(output) = out.pop() {
                if matches!(output, Output::Message { .. }) {
                    probes.push(now.as_micros() / 1_000);
                } else if let (true, Output::LookForLife { call, .. }) = (answers, output) {
                    testifier.life_found(call, vec![SIGN], now);
                }
            }
            if let Some(testimony) = done.into_iter().next() {
                return (probes, now.as_micros() / 1_000, testimony);
            }
        }
    }

    #[test]
    fn silence_is_found_after_three_probes() {
        let (probes, finished, testimony) = examine(true);
        assert_eq!((probes.as_slice(), finished), ([0, 200, 400].as_slice(), 800));
        assert_eq!((testimony.findings[0].heard, testimony.signs), (None, vec![SIGN]));
    }

    #[test]
    fn a_search_for_life_that_never_answers_does_not_hold_testimony_for_long() {
        let (probes, finished, testimony) = examine(false);
        assert_eq!((probes.as_slice(), finished), ([0, 200, 400].as_slice(), 1_500));
        assert!(testimony.signs.is_empty());
    }

    #[test]
    fn an_answer_ends_it_at_once() {
        let (mut testifier, target, path) = begin();
        let mut out = Outbox::new(0);
        assert!(testifier.tick(Moment::ZERO, &[22], &mut out).is_empty());
        let boot = BootId(Uuid::from_u128(5));
        testifier.heard(&target, &path, boot);
        let done = testifier.tick(Moment::from_micros(1), &[22], &mut out);
        assert_eq!(done[0].findings[0].heard, Some(boot));
        assert_eq!(testifier.next_deadline(), None);
    }
}
