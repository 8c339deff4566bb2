//! Hosts that came back in another boot: their guests are started in place, through Nova, in order (I6).
//!
//! Nothing is sent until the host's compute service has reported again *in our own sight* (a start sent before waits in its
//! queue), and until the host's own hypervisor has said, freshly, which of its guests run already.

use std::time::Duration;

use rekindle_proto::fact::{NovaError, NovaService, Text};
use rekindle_proto::id::{CallId, HostName, IncidentId, ServerId};
use rekindle_proto::message::Message;

use super::proposals::Key;
use super::{HOLD_RETRY, Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::{GuestIncident, LeaderCommand, PRIORITY_DEFAULT, Reboot, RebootPhase, STARTS_AT_ONCE};
use crate::mutant::{Guard, keeps};
use crate::time::Moment;

/// Between two looks at a compute service that has not reported yet.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// An answer about guests that has not come in this time is asked for again.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// How long the compute service and the hypervisor of a booting host are waited for before a person is called.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// One reboot, as this leader follows it.
#[derive(Debug, Default)]
pub(super) struct RebootCase {
    since: Option<Moment>,
    asking: bool,
    next_look: Option<Moment>,
    /// Nova's heartbeat of the service when it was first read: the old boot's, for all we know.
    first: Option<Option<Text>>,
    /// It has reported since.
    reports: bool,
    question: Option<(CallId, Moment)>,
}

impl RebootCase {
    /// Whether the service has reported since it was first read.
    fn take(&mut self, service: &NovaService) {
        match &self.first {
            None => self.first = Some(service.heartbeat.clone()),
            Some(first) => self.reports |= service.up && service.heartbeat.is_some() && *first != service.heartbeat,
        }
    }
}

impl Leader {
    pub(super) fn drive_reboots(&mut self, cx: &mut Context<'_>) {
        self.reboots.retain(|id, _| cx.ledger.reboots.get(id).is_some_and(Reboot::is_open));
        let ledger = cx.ledger;
        for reboot in ledger.open_reboots().filter(|_| keeps(Guard::RebootMended)) {
            match reboot.phase {
                RebootPhase::Waiting => self.wait_for_reboot(cx, reboot),
                RebootPhase::Starting => self.start_rebooted(cx, reboot),
                RebootPhase::Stuck | RebootPhase::Recovered | RebootPhase::Ended => {
                    self.reboots.remove(&reboot.id);
                    self.holds.remove(&reboot.id);
                }
            }
        }
    }

    fn wait_for_reboot(&mut self, cx: &mut Context<'_>, reboot: &Reboot) {
        let (id, now) = (reboot.id, cx.now.mono);
        if let Some(why) = self.reboot_hold(cx, &reboot.host) {
            // Whatever was read before says nothing of the host after the hold.
            self.reboots.remove(&id);
            self.hold(now, id, why);
            return;
        }
        let case = self.reboots.entry(id).or_default();
        let since = *case.since.get_or_insert(now);
        if case.asking {
            return;
        }
        if let Some(next_look) = case.next_look.filter(|next| now < *next) {
            self.wake_at(next_look);
            return;
        }
        if now.since(since) > PATIENCE {
            let what = if case.reports {
                "its hypervisor does not say which guests run"
            } else {
                "its compute service does not report"
            };
            let why = format!(
                "{what}, {} minutes after it rebooted: look at it, then `rekindle resume {id}`",
                PATIENCE.as_secs() / 60
            );
            self.command(cx, Key::Reboot(id), LeaderCommand::StickReboot { incident: id, why: Text::new(why) });
            return;
        }
        if case.reports {
            self.ask_what_runs(cx, reboot);
            return;
        }
        case.asking = true;
        case.next_look = Some(now + LOOK_EVERY);
        let call = cx.out.call();
        cx.out.push(Output::Nova { call, request: NovaRead::Service(reboot.host.clone()) });
        self.nova.insert(call, NovaCall::Reboot(id));
        self.holds.insert(id, "waiting until its compute service reports".into());
    }

    /// What holds a start on this host.
    fn reboot_hold(&self, cx: &Context<'_>, host: &HostName) -> Option<Text> {
        if let Some(brake) = cx.ledger.brakes_of(host) {
            return Some(brake);
        }
        let doubted = self.suspects.contains_key(host) || !cx.is_alive(host);
        doubted.then(|| Text::new(format!("waiting until it is settled whether {host} lives")))
    }

    fn ask_what_runs(&mut self, cx: &mut Context<'_>, reboot: &Reboot) {
        let (id, now) = (reboot.id, cx.now.mono);
        let case = self.reboots.entry(id).or_default();
        if let Some((_, asked)) = case.question
            && now < asked + ANSWER_WAIT
        {
            self.wake_at(asked + ANSWER_WAIT);
            return;
        }
        let call = cx.out.call();
        case.question = Some((call, now));
        let servers = reboot.ran.clone();
        if reboot.host == cx.setup.host {
            self.own_guest_questions.push((call, servers));
        } else {
            cx.send(&reboot.host, Message::AskGuests { call, servers });
        }
        self.holds.insert(id, "asking its hypervisor which guests run".into());
        self.wake_at(now + ANSWER_WAIT);
    }

    /// The host's own hypervisor answered. `true`: the question was a reboot's.
    pub(super) fn reboot_answer(
        &mut self,
        cx: &mut Context<'_>,
        from: &HostName,
        call: CallId,
        running: Option<&[ServerId]>,
    ) -> bool {
        let asked = |case: &RebootCase| case.question.is_some_and(|(question, _)| question == call);
        let Some(id) = self.reboots.iter().find(|(_, case)| asked(case)).map(|(id, _)| *id) else { return false };
        let waiting =
            cx.ledger.reboots.get(&id).filter(|reboot| reboot.phase == RebootPhase::Waiting && reboot.host == *from);
        if let (Some(reboot), Some(running)) = (waiting, running) {
            let off = reboot.ran.iter().filter(|server| !running.contains(server));
            let servers = off.map(|server| (*server, PRIORITY_DEFAULT)).collect();
            self.command(cx, Key::Reboot(id), LeaderCommand::BeginReboot { incident: id, servers });
        }
        true
    }

    pub(super) fn take_reboot_nova(
        &mut self,
        cx: &mut Context<'_>,
        id: IncidentId,
        result: Result<NovaAnswer, NovaError>,
    ) {
        let Some(case) = self.reboots.get_mut(&id) else { return };
        case.asking = false;
        match result {
            Ok(NovaAnswer::Service(Some(service))) => case.take(&service),
            Ok(NovaAnswer::Service(None)) => {
                let why = format!("Nova has no compute service of this host: look at it, then `rekindle resume {id}`");
                self.command(cx, Key::Reboot(id), LeaderCommand::StickReboot { incident: id, why: Text::new(why) });
            }
            Ok(_) => {}
            Err(error) => {
                self.holds.insert(id, Text::new(format!("waiting for Nova: {error}")));
            }
        }
    }

    fn start_rebooted(&mut self, cx: &mut Context<'_>, reboot: &Reboot) {
        let id = reboot.id;
        self.reboots.remove(&id);
        if reboot.servers.values().all(|server| server.fate.is_some()) {
            self.command(cx, Key::Reboot(id), LeaderCommand::CloseReboot { incident: id });
            return;
        }
        if let Some(why) = self.reboot_hold(cx, &reboot.host) {
            self.hold(cx.now.mono, id, why);
            return;
        }
        self.holds.remove(&id);
        let free = STARTS_AT_ONCE.saturating_sub(reboot.starting());
        for server in reboot.next_starts().into_iter().take(free) {
            self.command(cx, Key::Server(id, server), LeaderCommand::StartInPlace { incident: id, server });
        }
        self.wake_at(cx.now.mono + HOLD_RETRY);
    }

    /// A guest that a reboot is to start, and that its host, in the new boot, says is running: somebody was quicker.
    pub(super) fn runs_already(&self, cx: &Context<'_>, guest: &GuestIncident) -> bool {
        let Some(reboot) = cx.ledger.open_reboot(&guest.host) else { return false };
        let is_its = reboot.servers.get(&guest.server).is_some_and(|server| server.guest == Some(guest.id));
        let pulse = cx.ledger.host(&guest.host).and_then(|record| record.pulse.as_ref());
        is_its
            && guest.steps == 0
            && pulse.filter(|pulse| pulse.boot == reboot.after).is_some_and(|pulse| {
                pulse.guests.guests.iter().any(|known| known.server == guest.server && known.running)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rekindle_proto::id::ServiceId;
    use uuid::Uuid;

    #[test]
    fn a_service_reports_when_its_heartbeat_changes_in_our_sight() {
        // Heartbeats as they are read, and whether Nova calls the service up; then whether it reports.
        let rows: [(&[(&str, bool)], bool); 6] = [
            // Nova calls a service up for a minute after its host died.
            (&[("10", true)], false),
            (&[("10", true), ("10", true), ("10", true)], false),
            (&[("10", true), ("11", true)], true),
            (&[("10", false), ("11", true), ("11", false)], true),
            // Forced down: it reports, and Nova would take no start.
            (&[("10", false), ("11", false)], false),
            (&[("10", false), ("", false)], false),
        ];
        for (reads, expected) in rows {
            let mut case = RebootCase::default();
            for (heartbeat, up) in reads {
                case.take(&NovaService {
                    id: ServiceId(Uuid::nil()),
                    host: HostName::new("x").expect("legal"),
                    up: *up,
                    enabled: true,
                    forced_down: false,
                    heartbeat: (!heartbeat.is_empty()).then(|| Text::from(*heartbeat)),
                    disabled_reason: None,
                });
            }
            assert_eq!(case.reports, expected, "{reads:?}");
        }
    }
}
