//! A guest that died on a healthy host: stopped, then started, in place, through Nova.

use std::time::Duration;

use rekindle_proto::fact::{GuestEvent, NovaError, NovaServer, NovaService, Text};
use rekindle_proto::id::{HostName, IncidentId, ServerId};
use rekindle_proto::message::Message;

use super::backoff::Backoff;
use super::proposals::Key;
use super::{Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output, Peer, ProposeError};
use crate::ledger::{Entry, GuestIncident, LeaderCommand, MemberStatement, Outcome, Statement};
use crate::order::{GuestPower, GuestPowerOrder};
use crate::time::Moment;

/// Between two looks at a server that Nova is stopping or starting.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pause after a stop or start that Nova did not take.
const NOVA_PAUSE: Duration = Duration::from_secs(3);

/// Stops and starts of one guest incident: the planned two, and one repetition of each after a lost call.
const STEPS_MAX: u32 = 4;

/// Reports of one host being committed at once; it repeats the others.
const REPORTS_AT_ONCE: usize = 8;

/// How long a step that was ordered may take to show in Nova before it is repeated: a polite stop of a guest takes up to a
/// minute (`shutdown_timeout`).
const STEP_PATIENCE: Duration = Duration::from_secs(150);

/// How old Nova's word on the compute service may be when a stop or start is sent.
const SERVICE_AGE_MAX: Duration = Duration::from_secs(5);

/// How long a guest incident is worked on before a person is called. Time in which Nova answers no question is not counted.
const PATIENCE: Duration = Duration::from_secs(600);

/// One guest incident, as this leader follows it.
#[derive(Debug, Default)]
pub(super) struct GuestCase {
    since: Option<Moment>,
    asking: bool,
    next_look: Option<Moment>,
    service: Option<Option<NovaService>>,
    /// When the service was read: a stop or start rests on its heartbeat, and waits in a queue if it is dead.
    service_at: Option<Moment>,
    /// The server as read since the last step.
    server: Option<Option<NovaServer>>,
    /// The step whose order this leader has sent.
    ordered: u32,
    /// When it was sent.
    ordered_at: Option<Moment>,
    /// Since when Nova has answered no question, and when it is asked again.
    silent: Option<(Moment, Backoff)>,
}

impl GuestCase {
    /// Nova has answered: while it did not, nothing could be done for the guest.
    fn heard(&mut self, now: Moment) {
        if let Some((silent, _)) = self.silent.take() {
            self.since = self.since.map(|since| now.min(since + now.since(silent)));
        }
    }
}

/// What is asked of Nova for a guest incident.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Service,
    Server,
    Power,
}

impl Leader {
    /// A member says that a guest of its failed. While an incident of that guest is open, the report is left with the member: it
    /// forgets it when it sees the guest run, and repeats it if the guest has died again meanwhile.
    pub(crate) fn guest_failed(&mut self, cx: &mut Context<'_>, from: &Peer, server: ServerId, event: GuestEvent) {
        if cx.ledger.open_guest_incidents().any(|open| open.host == from.host && open.server == server) {
            return;
        }
        let statement = MemberStatement::GuestFailed { server, event };
        let statement = Statement::Member { host: from.host.clone(), boot: from.boot, statement };
        let key = Key::GuestFailed(from.host.clone(), server);
        if self.proposals.guest_failures_of(&from.host) >= REPORTS_AT_ONCE {
            return;
        }
        self.propose(cx, key, Entry::new(cx.now.wall, statement));
    }

    /// Committed or refused by the rules: the member need not repeat it.
    pub(super) fn answer_guest_failure(
        &mut self,
        cx: &mut Context<'_>,
        host: &HostName,
        server: ServerId,
        result: &Result<Outcome, ProposeError>,
    ) {
        if result.is_ok() {
            if *host == cx.setup.host {
                self.own_guest_notes.push(server);
            } else {
                cx.send(host, Message::GuestChangeNoted { server });
            }
        }
    }

    pub(super) fn drive_guests(&mut self, cx: &mut Context<'_>) {
        let open: Vec<IncidentId> = cx.ledger.open_guest_incidents().map(|guest| guest.id).collect();
        self.guests.retain(|id, _| open.contains(id));
        for id in open {
            if let Some(guest) = cx.ledger.guest_incidents.get(&id) {
                self.drive_guest(cx, guest);
            }
        }
    }

    fn drive_guest(&mut self, cx: &mut Context<'_>, guest: &GuestIncident) {
        let (id, now) = (guest.id, cx.now.mono);
        let case = self.guests.entry(id).or_default();
        let since = *case.since.get_or_insert(now);
        let is_over = case.silent.is_none() && now.since(since) > PATIENCE;
        if case.asking || self.is_proposing(&Key::Guest(id)) {
            return;
        }
        let case = self.guests.entry(id).or_default();
        if let Some(next_look) = case.next_look.filter(|next| now < *next) {
            self.wake_at(next_look);
            return;
        }
        // A host that may itself be failing is another matter: its guests are its own incident's (a queued start would run
        // when it returns).
        if !cx.is_alive(&guest.host) || cx.ledger.open_incident(&guest.host).is_some() {
            let why = format!("{} itself is failing: its guests are recovered with it", guest.host);
            self.settle_guest(cx, id, false, why);
            return;
        }
        if cx.ledger.host(&guest.host).is_some_and(|record| record.quarantine.is_some()) {
            let why = format!("{} is quarantined: nothing is started there before it is released", guest.host);
            self.settle_guest(cx, id, false, why);
            return;
        }
        if self.runs_already(cx, guest) {
            self.settle_guest(cx, id, true, "it runs already, started by somebody else".to_owned());
            return;
        }
        if is_over {
            self.settle_guest(cx, id, false, "it does not run after ten minutes of trying: look at it".to_owned());
            return;
        }
        if let Some(brake) = cx.ledger.brakes_of(&guest.host) {
            self.hold(now, id, brake);
            return;
        }
        // A start sent to a host that dies is carried out when it returns: nothing is sent while somebody doubts it.
        if self.suspects.contains_key(&guest.host) {
            self.hold(now, id, format!("waiting until it is settled whether {} lives", guest.host));
            return;
        }
        self.holds.remove(&id);
        let case = self.guests.entry(id).or_default();
        match (&case.service, &case.server) {
            (None, _) => self.ask_for_guest(cx, id, Ask::Service, NovaRead::Service(guest.host.clone())),
            (Some(_), None) => self.ask_for_guest(cx, id, Ask::Server, NovaRead::Server(guest.server)),
            (Some(service), Some(server)) => {
                let step = guest_step(guest, service.as_ref(), server.as_ref());
                self.take_guest_step(cx, guest, step);
            }
        }
    }

    fn take_guest_step(&mut self, cx: &mut Context<'_>, guest: &GuestIncident, step: GuestStep) {
        let id = guest.id;
        match step {
            GuestStep::Settle(recovered, why) => self.settle_guest(cx, id, recovered, why),
            GuestStep::LookAgain => self.look_again(cx.now.mono, id, LOOK_EVERY),
            GuestStep::Power(power) => {
                let case = self.guests.entry(id).or_default();
                let committed = guest.intent == Some(power) && case.ordered < guest.steps;
                let repeated = guest.intent == Some(power) && case.ordered == guest.steps;
                if committed {
                    self.order_guest_power(cx, guest, power);
                } else if repeated && guest.steps < STEPS_MAX {
                    // Ordered, and Nova shows no effect yet.
                    let shows_late = case.ordered_at.is_some_and(|at| cx.now.mono.since(at) < STEP_PATIENCE);
                    self.look_again(cx.now.mono, id, LOOK_EVERY);
                    if shows_late {
                        return;
                    }
                    self.command(cx, Key::Guest(id), LeaderCommand::GuestIntent { incident: id, power });
                } else if guest.steps >= STEPS_MAX {
                    self.settle_guest(cx, id, false, "stop and start had no effect: look at it".to_owned());
                } else {
                    self.command(cx, Key::Guest(id), LeaderCommand::GuestIntent { incident: id, power });
                }
            }
        }
    }

    fn order_guest_power(&mut self, cx: &mut Context<'_>, guest: &GuestIncident, power: GuestPower) {
        let id = guest.id;
        let read = self.guests.get(&id).and_then(|case| case.service_at);
        if read.is_none_or(|at| cx.now.mono.since(at) >= SERVICE_AGE_MAX) {
            self.look_again(cx.now.mono, id, Duration::ZERO);
            return;
        }
        match self.permit(cx, &guest.host) {
            Ok(permit) => {
                let call = cx.out.call();
                cx.out.push(Output::GuestPower(GuestPowerOrder::new(call, permit, guest.server, power)));
                self.nova.insert(call, NovaCall::Guest(id, Ask::Power));
                let case = self.guests.entry(id).or_default();
                case.asking = true;
                case.ordered = guest.steps;
                case.ordered_at = Some(cx.now.mono);
            }
            Err(hold) => self.hold(cx.now.mono, id, hold.to_string()),
        }
    }

    fn settle_guest(&mut self, cx: &mut Context<'_>, id: IncidentId, recovered: bool, why: String) {
        let command = LeaderCommand::SettleGuest { incident: id, recovered, why: Text::new(why) };
        self.command(cx, Key::Guest(id), command);
    }

    fn ask_for_guest(&mut self, cx: &mut Context<'_>, id: IncidentId, ask: Ask, request: NovaRead) {
        let call = cx.out.call();
        cx.out.push(Output::Nova { call, request });
        self.nova.insert(call, NovaCall::Guest(id, ask));
        self.guests.entry(id).or_default().asking = true;
    }

    fn look_again(&mut self, now: Moment, id: IncidentId, after: Duration) {
        let case = self.guests.entry(id).or_default();
        case.server = None;
        case.service = None;
        case.next_look = Some(now + after);
        self.wake_at(now + after);
    }

    pub(super) fn take_guest_nova(
        &mut self,
        cx: &mut Context<'_>,
        id: IncidentId,
        ask: Ask,
        result: Result<NovaAnswer, NovaError>,
    ) {
        let now = cx.now.mono;
        let Some(case) = self.guests.get_mut(&id) else { return };
        case.asking = false;
        match (ask, result) {
            (Ask::Service, Ok(NovaAnswer::Service(service))) => {
                case.heard(now);
                case.service = Some(service);
                case.service_at = Some(now);
            }
            (Ask::Server, Ok(NovaAnswer::Server(server))) => {
                case.heard(now);
                case.server = Some(server);
            }
            (Ask::Power, Ok(_)) => self.look_again(now, id, LOOK_EVERY),
            (Ask::Power, Err(error)) => {
                cx.out.warn(None, format!("guest incident {id}: Nova did not do it: {error}"));
                self.look_again(now, id, NOVA_PAUSE);
            }
            (Ask::Service | Ask::Server, Err(error)) => {
                if case.silent.is_none() {
                    cx.out.warn(None, format!("guest incident {id} waits for Nova: {error}"));
                }
                let backoff = Backoff::after(case.silent.map(|(_, last)| last), now, cx.setup.seed ^ id.0);
                case.silent = Some((case.silent.map_or(now, |(since, _)| since), backoff));
                self.look_again(now, id, backoff.until.since(now));
            }
            (Ask::Service | Ask::Server, Ok(_)) => self.look_again(now, id, NOVA_PAUSE),
        }
    }
}

enum GuestStep {
    Settle(bool, String),
    LookAgain,
    Power(GuestPower),
}

/// The next step, from what Nova shows.
fn guest_step(guest: &GuestIncident, service: Option<&NovaService>, server: Option<&NovaServer>) -> GuestStep {
    let Some(server) = server else {
        return GuestStep::Settle(true, "it was deleted meanwhile".to_owned());
    };
    if server.host.as_ref() != Some(&guest.host) {
        return GuestStep::Settle(false, "Nova has it on another host: left alone".to_owned());
    }
    if service.is_none_or(|service| !service.up) {
        return GuestStep::LookAgain;
    }
    if server.task_state.is_some() {
        return GuestStep::LookAgain;
    }
    match (server.vm_state.as_str(), guest.intent) {
        ("active", Some(GuestPower::Start)) => GuestStep::Settle(true, "it runs again, in place".to_owned()),
        ("active", None | Some(GuestPower::Stop)) => GuestStep::Power(GuestPower::Stop),
        // Stopped by us, or by Nova itself, which notices a missing guest after a while.
        ("stopped", _) => GuestStep::Power(GuestPower::Start),
        (other, _) => GuestStep::Settle(false, format!("vm_state {other}: left alone")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rekindle_proto::id::{ServiceId, WallTime};
    use std::collections::BTreeMap;
    use uuid::Uuid;

    #[test]
    fn the_guest_table() {
        let host = HostName::new("cmp-1").expect("legal");
        let other = HostName::new("cmp-2").expect("legal");
        let guest = |intent| GuestIncident {
            id: IncidentId(1),
            host: host.clone(),
            server: ServerId(Uuid::nil()),
            began: WallTime(0),
            ended: None,
            intent,
            steps: 0,
            recovered: None,
            story: Vec::new(),
        };
        let server = |at: &HostName, vm_state: &str, task: Option<&str>| NovaServer {
            id: ServerId(Uuid::nil()),
            name: "web-1".into(),
            host: Some(at.clone()),
            vm_state: vm_state.into(),
            task_state: task.map(Text::from),
            metadata: BTreeMap::new(),
            standing: Default::default(),
            traits: Default::default(),
        };
        let service = |up| NovaService {
            id: ServiceId(Uuid::nil()),
            host: host.clone(),
            up,
            enabled: true,
            forced_down: false,
            heartbeat: None,
            disabled_reason: None,
        };
        use GuestPower::{Start, Stop};
        let rows = [
            (None, true, Some(server(&host, "active", None)), "Stop"),
            (Some(Stop), true, Some(server(&host, "active", None)), "Stop"),
            (Some(Stop), true, Some(server(&host, "active", Some("powering-off"))), "look again"),
            (Some(Stop), true, Some(server(&host, "stopped", None)), "Start"),
            (None, true, Some(server(&host, "stopped", None)), "Start"),
            (Some(Start), true, Some(server(&host, "active", None)), "settled true"),
            (None, false, Some(server(&host, "active", None)), "look again"),
            (None, true, Some(server(&other, "active", None)), "settled false"),
            (None, true, Some(server(&host, "paused", None)), "settled false"),
            (None, true, None, "settled true"),
        ];
        for (intent, up, server, expected) in rows {
            let said = match guest_step(&guest(intent), Some(&service(up)), server.as_ref()) {
                GuestStep::Settle(recovered, _) => format!("settled {recovered}"),
                GuestStep::LookAgain => "look again".to_owned(),
                GuestStep::Power(power) => format!("{power:?}"),
            };
            assert_eq!(said, expected, "{intent:?} {up} {server:?}");
        }
    }
}
