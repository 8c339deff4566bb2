//! What answers, and their absence, come to.

use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid};

use super::super::call::{Answer, Ask, SLOWEST_MAX};
use super::super::command::{self, Command, Reply};
use super::super::error::{IpmiError, Meaning, StatusMeaning};
use super::super::rakp::Progress;
use super::{Console, State};

impl Console {
    /// A step of the handshake.
    pub(super) fn progressed(&mut self, now: Moment, progress: Progress) {
        let Some(call) = &mut self.call else { return };
        call.waiting = None;
        match progress {
            Progress::Nothing | Progress::Next => {}
            Progress::Open(session) => {
                self.state = State::Open(session);
                call.is_fresh = true;
            }
            Progress::Refused(StatusMeaning::Full | StatusMeaning::Lost, error) => {
                call.busy = Some(error);
                call.rest(now);
                // Message 4 may have been lost on its way, and the session be open there.
                self.let_go();
            }
            Progress::Refused(StatusMeaning::Suite, error) => {
                self.state = State::Closed;
                if self.suite + 1 < self.login.suites().len() {
                    self.suite += 1;
                } else {
                    self.suite = 0;
                    self.finish(Err(error));
                }
            }
            Progress::Refused(StatusMeaning::Credentials | StatusMeaning::Refused, error) => {
                self.let_go();
                self.finish(Err(error));
            }
        }
    }

    /// The answer to what was asked.
    pub(super) fn answered(&mut self, now: Moment, command: Command, reply: &Reply) {
        let Some(call) = &mut self.call else { return };
        call.waiting = None;
        let (name, completion) = (command.name(), reply.completion);
        match (completion.meaning(), command) {
            (Meaning::Done, _) => self.done(now, command, &reply.data),
            (Meaning::NotInThisState, Command::Control(_)) => {
                call.busy = Some(IpmiError::Refused { command: name, completion });
                call.verify = true;
            }
            (Meaning::Busy | Meaning::NotInThisState, _) => {
                call.busy = Some(IpmiError::Refused { command: name, completion });
                call.rest(now);
            }
            (Meaning::Privilege, _) | (Meaning::Refused, Command::Raise(_)) => {
                self.let_go();
                self.finish(Err(IpmiError::Privilege { command: name, completion }));
            }
            (Meaning::Refused, Command::Guid) => {
                self.told_guid(Err(IpmiError::Refused { command: name, completion }));
            }
            (Meaning::Refused, _) => self.finish(Err(IpmiError::Refused { command: name, completion })),
        }
    }

    fn done(&mut self, now: Moment, command: Command, data: &[u8]) {
        let Some(call) = &mut self.call else { return };
        let result = match command {
            Command::Raise(_) => return self.raised(command::privilege(data)),
            Command::Status => match (command::power_state(data), call.ask) {
                // An order that was refused as "not in this state", and the state is the wanted one.
                (Ok(state), Ask::Order(wanted)) if state == wanted => Ok(Answer::Accepted),
                (Ok(_), Ask::Order(_)) => {
                    call.verify = false;
                    return call.rest(now);
                }
                (state, _) => state.map(Answer::Power),
            },
            Command::Control(_) => Ok(Answer::Accepted),
            Command::Guid => return self.told_guid(command::guid(data)),
            Command::DeviceId => command::device_id(data).map(Answer::DeviceId),
            Command::Close(_) => return,
        };
        self.finish(result);
    }

    /// Whose machine it is, or that it does not tell. What else was asked is asked next, if that is the one that is meant.
    fn told_guid(&mut self, told: Result<[u8; 16], IpmiError>) {
        self.told = Some(told.clone().map(DeviceGuid).map_err(DeviceError::from));
        if self.call.as_ref().is_some_and(|call| call.ask == Ask::Guid) {
            self.finish(told.map(Answer::Guid));
        }
    }

    fn raised(&mut self, level: Result<u8, IpmiError>) {
        let wanted = self.login.level();
        match &mut self.state {
            State::Open(session) if level == Ok(wanted) => session.raised = true,
            State::Open(_) | State::Opening(_) | State::Closed => {
                self.let_go();
                self.finish(level.and_then(|level| Err(IpmiError::Level { wanted, level })));
            }
        }
    }

    /// The BMC has answered what was asked.
    pub(super) fn heard(&mut self, now: Moment) {
        self.last_heard = now;
        self.trouble = None;
        let Some(call) = &mut self.call else { return };
        call.heard = true;
        if let Some(waiting) = &call.waiting {
            let since = if waiting.command.is_some() { waiting.asked } else { self.step_since };
            self.slowest = now.since(since).max(self.slowest / 2).min(SLOWEST_MAX);
            self.step_since = now;
        }
    }

    /// The time is over.
    pub(super) fn overdue(&mut self) {
        let Some(call) = &mut self.call else { return };
        let asked = match (&self.state, call.waiting.as_ref().and_then(|waiting| waiting.command)) {
            (_, Some((command, _))) => command.name(),
            (State::Opening(handshake), None) => handshake.name(),
            (State::Open(_) | State::Closed, None) => "RMCP+ Open Session Request",
        };
        let is_order = matches!(call.ask, Ask::Order(_));
        let error = if is_order && call.ordered == 0 && call.heard && call.busy.is_none() {
            IpmiError::TooLate
        } else {
            call.overdue(asked, self.trouble.take())
        };
        // What is open or opening stays: an answer that comes later has the number of a question nobody waits for.
        self.finish(Err(error));
    }
}
