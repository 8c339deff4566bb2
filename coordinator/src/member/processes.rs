//! Our own processes: started again when they fail, a few times and ever more slowly, and called down for good when that is
//! of no use. What then becomes of the host's compute service is the leader's matter.

use std::time::Duration;

use rekindle_proto::fact::{GateReport, GateState, Text};
use rekindle_proto::id::{CallId, ProcessName};
use rekindle_proto::process::{ProcessReport, ProcessStanding, ProcessState};

use super::Member;
use crate::context::Context;
use crate::io::Output;
use crate::process::{ProcessRule, ProcessSeen, RestartOrder, STAYS_FOR};
use crate::time::Moment;

/// How long a process that somebody stopped may stay so: packages are upgraded within it.
const STOPPED_FOR: Duration = Duration::from_secs(120);

/// How long a process may come and go, or be about to start, before it counts as down although it runs at times.
const TROUBLED_FOR: Duration = Duration::from_secs(300);

/// After a restart was ordered, before an adapter that has not answered is given up. Above the time systemd gives a unit to
/// start, 90 s.
const RESTART_ANSWER: Duration = Duration::from_secs(100);

/// Longest wait before a restart, however often it was tried.
const DELAY_MAX: Duration = Duration::from_secs(300);

/// What we know of our processes.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    /// `None`: the adapter has not spoken, and nothing is said about them.
    watched: Option<Vec<Watched>>,
    /// The daemon stops, with the host perhaps: nothing is started any more.
    stopping: bool,
}

#[derive(Debug)]
struct Watched {
    rule: ProcessRule,
    seen: ProcessSeen,
    /// Since when it was seen so, in this run.
    since: Moment,
    /// Since when it has not run for [`STAYS_FOR`] in one go; `None`: it has, or nothing bad was seen of it yet.
    unsettled: Option<Moment>,
    tries: u32,
    next_try: Option<Moment>,
    restarting: Option<(CallId, Moment)>,
    standing: ProcessStanding,
    text: Text,
}

/// What is to be done about a process, and when to look again.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Restart,
    Look(Option<Moment>),
}

impl Watched {
    fn new(rule: ProcessRule, now: Moment) -> Self {
        Self {
            rule,
            seen: ProcessSeen::Unknown("it has not been looked at yet".into()),
            since: now,
            unsettled: None,
            tries: 0,
            next_try: None,
            restarting: None,
            standing: ProcessStanding::Unknown,
            text: Text::default(),
        }
    }

    fn take(&mut self, now: Moment, seen: ProcessSeen) {
        if self.seen != seen {
            (self.seen, self.since) = (seen, now);
        }
    }

    fn say(&mut self, standing: ProcessStanding, text: impl Into<Text>) {
        // What is down for good stays so until it has run for a while: a word a second would be an entry a second.
        let sticks = self.standing == ProcessStanding::Down;
        if !sticks || matches!(standing, ProcessStanding::Running | ProcessStanding::Unknown) {
            (self.standing, self.text) = (standing, text.into());
        }
    }

    /// How long is waited before the next restart.
    fn delay(&self) -> Duration {
        self.rule.delay.saturating_mul(1 << self.tries.min(16)).min(DELAY_MAX)
    }

    /// How long it may be troubled: all restarts must have had their time.
    fn patience(&self) -> Duration {
        let waits = (0..self.rule.restarts).map(|n| self.rule.delay.saturating_mul(1 << n.min(16)).min(DELAY_MAX));
        TROUBLED_FOR.max(waits.sum::<Duration>().saturating_add(STAYS_FOR))
    }

    /// `held`: why it is kept from running on purpose.
    fn judge(&mut self, now: Moment, held: Option<&Text>) -> Step {
        if let Some(why) = held {
            (self.unsettled, self.tries, self.next_try) = (None, 0, None);
            self.say(ProcessStanding::Unknown, why.clone());
            return Step::Look(None);
        }
        if let Some((_, until)) = self.restarting {
            if now < until {
                return Step::Look(Some(until));
            }
            self.restarting = None;
        }
        match self.seen.clone() {
            ProcessSeen::Unknown(why) => {
                self.say(ProcessStanding::Unknown, why);
                Step::Look(None)
            }
            ProcessSeen::Running { .. } if now.since(self.since) >= STAYS_FOR => {
                (self.unsettled, self.tries, self.next_try) = (None, 0, None);
                self.say(ProcessStanding::Running, "");
                Step::Look(None)
            }
            ProcessSeen::Running { .. } => {
                self.next_try = None;
                let settles = self.since + STAYS_FOR;
                let is_lost = self.is_beyond_patience(now);
                if is_lost {
                    self.say(ProcessStanding::Down, "it starts again and again, and does not stay");
                } else {
                    self.say(ProcessStanding::Settling, "it runs since a moment ago");
                }
                Step::Look(Some(settles))
            }
            ProcessSeen::Starting => {
                let since = *self.unsettled.get_or_insert(now);
                if self.is_beyond_patience(now) {
                    self.say(ProcessStanding::Down, "it is being started all the time, and does not get up");
                    return Step::Look(None);
                }
                self.say(ProcessStanding::Troubled, "it is being started");
                Step::Look(Some(since + self.patience()))
            }
            ProcessSeen::Stopped(why) => {
                self.unsettled.get_or_insert(now);
                let until = self.since + STOPPED_FOR;
                if now >= until {
                    self.say(ProcessStanding::Down, format!("it was stopped ({why}), and nobody has started it"));
                    return Step::Look(None);
                }
                self.say(ProcessStanding::Troubled, format!("it was stopped: {why}"));
                Step::Look(Some(until))
            }
            ProcessSeen::Failed(why) => self.judge_failed(now, &why),
        }
    }

    fn judge_failed(&mut self, now: Moment, why: &Text) -> Step {
        self.unsettled.get_or_insert(now);
        if self.standing == ProcessStanding::Down {
            return Step::Look(None);
        }
        let all = self.rule.restarts;
        // After the last restart it is waited as long as before the first.
        let delay = if self.tries < all { self.delay() } else { self.rule.delay };
        let due = *self.next_try.get_or_insert(now + delay);
        if now < due {
            let tried =
                if self.tries == 0 { String::new() } else { format!("; started again {} of {all} times", self.tries) };
            self.say(ProcessStanding::Troubled, format!("it failed ({why}){tried}"));
            return Step::Look(Some(due));
        }
        if self.tries >= all {
            self.say(ProcessStanding::Down, format!("it failed ({why}), and {all} restarts were of no use"));
            return Step::Look(None);
        }
        self.tries += 1;
        self.next_try = None;
        Step::Restart
    }

    fn is_beyond_patience(&self, now: Moment) -> bool {
        self.unsettled.is_some_and(|since| now.since(since) >= self.patience())
    }

    fn state(&self) -> ProcessState {
        ProcessState {
            name: self.rule.name.clone(),
            disables: self.rule.disables,
            standing: self.standing,
            text: self.text.clone(),
        }
    }
}

impl Processes {
    /// What is said of them; `None`: nothing.
    pub(super) fn report(&self) -> Option<ProcessReport> {
        let watched = self.watched.as_ref()?;
        Some(ProcessReport { processes: watched.iter().map(Watched::state).collect() })
    }

    /// The daemon stops.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    /// When any of them must be looked at again, and what is to be started now.
    fn judge(&mut self, now: Moment, gate: Option<&GateReport>) -> (Option<Moment>, Vec<usize>) {
        let held = held_by(gate, self.stopping);
        let (mut next, mut restarts) = (None::<Moment>, Vec::new());
        for (index, watched) in self.watched.iter_mut().flatten().enumerate() {
            match watched.judge(now, held.as_ref()) {
                Step::Restart => restarts.push(index),
                Step::Look(when) => next = [next, when].into_iter().flatten().min(),
            }
        }
        (next, restarts)
    }
}

/// What keeps processes from running on purpose: a gate that waits for the ledger's word (I7) is no failure of what it holds.
fn held_by(gate: Option<&GateReport>, stopping: bool) -> Option<Text> {
    if stopping {
        return Some("this host's daemon stops".into());
    }
    match gate.map(|report| &report.state) {
        Some(GateState::Closed { .. }) => Some("the boot gate holds it".into()),
        Some(GateState::NotRun | GateState::OpenedByLedger | GateState::OpenedByHand { .. }) | None => None,
    }
}

impl Member {
    /// What our adapter sees of our processes, whenever it changes; first of all those that are configured, even if none.
    pub(crate) fn take_processes(&mut self, cx: &mut Context<'_>, seen: Vec<(ProcessName, ProcessSeen)>) {
        let now = cx.now.mono;
        let rules = &cx.setup.policy.processes;
        let watched = self
            .processes
            .watched
            .get_or_insert_with(|| rules.iter().map(|rule| Watched::new(rule.clone(), now)).collect());
        for (name, seen) in seen {
            if let Some(watched) = watched.iter_mut().find(|watched| watched.rule.name == name) {
                watched.take(now, seen);
            }
        }
        self.judge_processes(cx);
    }

    /// A restart has ended. What came of it, the next look tells.
    pub(crate) fn process_restarted(&mut self, cx: &mut Context<'_>, call: CallId, result: Result<(), Text>) {
        let now = cx.now.mono;
        let asked = |watched: &&mut Watched| watched.restarting.is_some_and(|(asked, _)| asked == call);
        let Some(watched) = self.processes.watched.iter_mut().flatten().find(asked) else { return };
        watched.restarting = None;
        match result {
            Ok(()) => watched.take(now, ProcessSeen::Starting),
            Err(why) => {
                cx.out.warn(Some(&cx.setup.host), format!("{} was not started: {why}", watched.rule.name));
                watched.take(now, ProcessSeen::Failed(why));
            }
        }
        self.judge_processes(cx);
    }

    pub(super) fn judge_processes(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let before = self.processes.report();
        loop {
            let (next, restarts) = self.processes.judge(now, self.gate.as_ref());
            self.next_process = next;
            if restarts.is_empty() {
                break;
            }
            for index in restarts {
                let Some(watched) = self.processes.watched.as_mut().and_then(|all| all.get_mut(index)) else {
                    continue;
                };
                let call = cx.out.call();
                watched.restarting = Some((call, now + RESTART_ANSWER));
                let text =
                    format!("{} failed: restart {} of {}", watched.rule.name, watched.tries, watched.rule.restarts);
                cx.out.warn(Some(&cx.setup.host), text);
                cx.out.push(Output::RestartProcess(RestartOrder::new(call, watched.rule.name.clone())));
            }
        }
        if before != self.processes.report() {
            self.next_pulse = now;
        }
    }
}

#[cfg(test)]
mod tests;
