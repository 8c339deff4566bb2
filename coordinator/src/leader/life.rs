//! A dead agent is not a dead host: what the leader makes of signs of life, and what it reads itself.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{LifeGrade, LifeSign, NovaError, PowerState, Text};
use rekindle_proto::id::{CallId, HostName, IncidentId};
use rekindle_proto::message::Message;
use rekindle_proto::status::Phase;

use super::suspects::OwnExamination;
use super::{Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::life::{KERNEL_WITNESSES, LAPSE, Life, Network};
use crate::policy::OnAgentDeath;
use crate::time::Moment;

/// Between two readings of a suspect's heartbeat: a compute service reports every 10 s.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

/// Such readings under way at once: Nova has better to do when a rack fails.
const HEARTBEATS_AT_ONCE: usize = 8;

/// Between two readings of the fence device of a host that seems to live: does it contradict?
const CONTRADICTION_EVERY: Duration = Duration::from_secs(30);

/// What is known beyond the single suspect.
#[derive(Debug, Default)]
pub(super) struct LifeDesk {
    /// The same question about hosts that are proven off, once an incident: nothing may answer for them.
    controls: BTreeMap<IncidentId, BTreeMap<HostName, CallId>>,
    /// Networks on which something did, and for which host.
    noisy: BTreeMap<Network, HostName>,
}

/// Nova's heartbeat of a suspect, and the readings of its device.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    asked: bool,
    next: Option<Moment>,
    last: Option<Text>,
    next_device: Option<Moment>,
}

/// What a convincing silence leads to.
#[derive(Debug)]
pub(super) enum Ending {
    /// An incident like any other.
    Fence,
    /// A person.
    Stuck(Text),
}

impl Leader {
    /// While signs hold, nothing is done; when they have lapsed or are contradicted, a person is called; when there are none
    /// the host is suspect like any other.
    pub(super) fn signs_of_life(&mut self, cx: &mut Context<'_>, host: &HostName) -> Result<Ending, Text> {
        let now = cx.now.mono;
        let network = cx.address(host).map(|address| Network::of(address.ip()));
        let noisy = network.and_then(|network| self.life.noisy.get(&network)).cloned();
        let dumps = self.is_dumping(now, host);
        let Some(case) = self.suspects.get_mut(host) else { return Ok(Ending::Fence) };
        let before = case.life;
        let is_neighbour = |witness: &HostName| cx.are_neighbours(witness, host);
        case.life = case.book.judge(now, is_neighbour, noisy.is_none() && !dumps);
        let signs = || {
            let told: Vec<String> = case.book.tell(now).iter().map(ToString::to_string).collect();
            told.join("; ")
        };
        match case.life {
            Life::None => {
                let is_changed = before != Life::None;
                if is_changed {
                    case.begin_anew(cx);
                    self.touch();
                    return Err("its last sign of life is gone: everything is asked anew".into());
                }
                Ok(Ending::Fence)
            }
            Life::Alive(grade) => {
                let text = agent_down(grade, &signs());
                if before == Life::None {
                    cx.out.warn(Some(host), text.clone());
                }
                match self.device_says_off(cx, host) {
                    Some(device) => Ok(Ending::Stuck(Text::new(format!(
                        "contradiction: something lives there, and {device} reads off. Is the device this machine's, does \
                         another answer at its address? {text}"
                    )))),
                    None => Err(Text::new(text)),
                }
            }
            Life::Lapsed => {
                let text = format!(
                    "agent down; a kernel answers, and no process of the host has for {} s: {}",
                    LAPSE.as_secs(),
                    signs()
                );
                match cx.setup.policy.on_agent_death {
                    OnAgentDeath::Fence => Ok(Ending::Fence),
                    OnAgentDeath::Alarm => Ok(Ending::Stuck(Text::new(format!(
                        "{text}. Look at its console; restart rekindled there, or resume this incident to fence it"
                    )))),
                }
            }
        }
    }

    /// Its device is asked now and then while it seems to live, and must not say off.
    fn device_says_off(&mut self, cx: &Context<'_>, host: &HostName) -> Option<Text> {
        let now = cx.now.mono;
        let case = self.suspects.get_mut(host)?;
        let began = case.suspicion.began;
        let is_due = case.heartbeat.next_device.is_none_or(|due| due <= now);
        if is_due {
            case.heartbeat.next_device = Some(now + CONTRADICTION_EVERY);
            self.read_again(now, host);
        }
        let says_off = |entry: &&crate::fencing::DeviceEntry| {
            let is_off = |(at, reading): &(Moment, rekindle_proto::fact::DeviceReading)| {
                *at >= began && reading.power == Ok(PowerState::Off)
            };
            entry.binding.counts() && entry.last.as_ref().is_some_and(is_off)
        };
        self.devices.of(host).into_iter().find(says_off).map(|entry| Text::new(entry.plan.name.to_string()))
    }

    pub(super) fn drive_life(&mut self, cx: &mut Context<'_>) {
        self.read_heartbeats(cx);
        self.ask_of_the_dead(cx);
    }

    fn read_heartbeats(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let mut under_way = self.suspects.values().filter(|case| case.heartbeat.asked).count();
        let mut next = None;
        for (host, case) in &mut self.suspects {
            if case.heartbeat.asked || case.suspicion.path.is_some() || !cx.ledger.is_hypervisor(host) {
                continue;
            }
            let due = case.heartbeat.next.unwrap_or(now);
            if due <= now && under_way < HEARTBEATS_AT_ONCE {
                under_way += 1;
                let call = cx.out.call();
                self.nova.insert(call, NovaCall::Life(host.clone()));
                cx.out.push(Output::Nova { call, request: NovaRead::Service(host.clone()) });
                case.heartbeat.asked = true;
                case.heartbeat.next = Some(now + HEARTBEAT_EVERY);
            } else if due > now {
                next = Some(next.map_or(due, |next: Moment| next.min(due)));
            }
        }
        if let Some(next) = next {
            self.wake_at(next);
        }
    }

    /// Compared for change only. The first reading says nothing: it may be of before the suspicion.
    pub(super) fn take_heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        host: &HostName,
        result: Result<NovaAnswer, NovaError>,
    ) {
        let Some(case) = self.suspects.get_mut(host) else { return };
        case.heartbeat.asked = false;
        let Ok(NovaAnswer::Service(Some(service))) = result else { return };
        let Some(read) = service.heartbeat else { return };
        if case.heartbeat.last.as_ref().is_some_and(|last| *last != read) {
            case.book.note_heartbeat(&cx.setup.host, cx.now.mono);
        }
        case.heartbeat.last = Some(read);
    }

    /// Hosts proven off are a test of the network: whoever sees a kernel there sees something else.
    fn ask_of_the_dead(&mut self, cx: &mut Context<'_>) {
        self.life.controls.retain(|id, _| cx.ledger.incidents.get(id).is_some_and(|incident| incident.is_open()));
        let mut due = Vec::new();
        for incident in cx.ledger.open_incidents() {
            let is_off = matches!(incident.phase, Phase::Fenced | Phase::Evacuating) && incident.proof.is_some();
            if is_off && !self.life.controls.contains_key(&incident.id) {
                due.push((incident.id, incident.host.clone()));
            }
        }
        for (id, host) in due {
            let addresses = cx.addresses(&host);
            let fit = |member: &&HostName| **member != host && cx.is_alive(member) && cx.are_neighbours(member, &host);
            let chosen: Vec<HostName> = cx.ledger.roster.keys().filter(fit).take(KERNEL_WITNESSES).cloned().collect();
            let mut asked = BTreeMap::new();
            for member in chosen {
                let call = cx.out.call();
                let (target, addresses) = (host.clone(), addresses.clone());
                if member == cx.setup.host {
                    self.own_examinations.push(OwnExamination { question: call, target, addresses });
                } else {
                    cx.send(&member, Message::AskTestimony { call, target, addresses, knows_goodbye: true });
                }
                asked.insert(member, call);
            }
            self.life.controls.insert(id, asked);
        }
    }

    pub(super) fn take_control(
        &mut self,
        cx: &mut Context<'_>,
        witness: &HostName,
        target: &HostName,
        question: CallId,
        signs: &[LifeSign],
    ) {
        let Some(incident) = cx.ledger.open_incident(target).filter(|incident| incident.proof.is_some()) else {
            return;
        };
        let asked = self.life.controls.get(&incident.id).and_then(|asked| asked.get(witness));
        let has_kernel = signs.iter().any(|sign| sign.grade() == LifeGrade::Kernel);
        let Some(address) = cx.address(target).filter(|_| asked == Some(&question) && has_kernel) else { return };
        if self.life.noisy.insert(Network::of(address.ip()), target.clone()).is_none() {
            let text = "it is proven off, and something on its network answers for it: no kernel's answer is taken for a sign \
                        of life there";
            cx.out.warn(Some(target), text);
        }
    }

    /// Whether kernel signs count on the network of this host; if not, for which dead host something answered.
    pub(crate) fn answers_for_the_dead(&self, cx: &Context<'_>, host: &HostName) -> Option<&HostName> {
        self.life.noisy.get(&Network::of(cx.address(host)?.ip()))
    }
}

fn agent_down(grade: LifeGrade, signs: &str) -> String {
    let what = match grade {
        LifeGrade::Userland => "host alive",
        LifeGrade::Kernel => "host alive by its kernel's word",
    };
    format!("agent down, {what}: nothing is fenced, and the host is not protected ({signs})")
}

impl Context<'_> {
    /// Whether both listen on the same network, as far as their addresses show it.
    pub(super) fn are_neighbours(&self, a: &HostName, b: &HostName) -> bool {
        let network = |host: &HostName| {
            let ours = (*host == self.setup.host).then(|| self.setup.listen[0].1);
            ours.or_else(|| self.address(host)).map(|address| Network::of(address.ip()))
        };
        network(a).is_some_and(|of_a| Some(of_a) == network(b))
    }
}
