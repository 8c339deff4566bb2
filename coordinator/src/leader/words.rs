//! What reaches the leader, from members and from adapters, and what it asks of the member it is itself.

use std::time::Duration;

use rekindle_proto::fact::{DeviceReading, LifeSign, NovaError, PathFinding};
use rekindle_proto::id::{CallId, HostName, PathName, ServerId};

use super::devices::ReadFor;
use super::{Leader, NovaCall, OwnExamination};
use crate::context::Context;
use crate::io::{NovaAnswer, Peer};
use crate::time::Moment;

/// Suspects from which on they are judged in rounds, not at every word about one of them: each judgement counts the roster,
/// and a rack's hundreds of words, one by one, would keep the leader from everything else.
pub(super) const CROWD: usize = 8;

/// Between two rounds of judging a crowd: short against the shortest hold on so many, 60 s.
pub(super) const ROUND_EVERY: Duration = Duration::from_millis(500);

impl Leader {
    /// Examinations the leader wants to make itself.
    pub(crate) fn take_own_examinations(&mut self) -> Vec<OwnExamination> {
        std::mem::take(&mut self.own_examinations)
    }

    /// Questions to our own hypervisor: the leader may itself be named by a migration record.
    pub(crate) fn take_own_guest_questions(&mut self) -> Vec<(CallId, Vec<ServerId>)> {
        std::mem::take(&mut self.own_guest_questions)
    }

    /// Our own failed guests that need not be reported again.
    pub(crate) fn take_own_guest_notes(&mut self) -> Vec<ServerId> {
        std::mem::take(&mut self.own_guest_notes)
    }

    /// A peer was heard on that network. Cheap: it runs for every datagram.
    pub(crate) fn heard(&mut self, cx: &mut Context<'_>, peer: &Peer, path: &PathName) {
        self.heard_by_suspects(cx, peer, path);
        self.heard_on_probation(cx, &peer.host);
        if self.devices.heard(&peer.host, peer.boot, cx.now.mono) {
            cx.out.warn(Some(&peer.host), "a fence device reads off while the host is heard: it is not used");
            self.read_again(cx.now.mono, &peer.host);
        }
        if let Some(incident) = cx.ledger.open_incident(&peer.host) {
            self.heard_by_incident(cx, incident.id, peer, path);
        }
    }

    pub(crate) fn testimony(
        &mut self,
        cx: &mut Context<'_>,
        accuser: &HostName,
        target: &HostName,
        question: CallId,
        findings: Vec<PathFinding>,
        signs: &[LifeSign],
    ) {
        self.take_absent(cx, accuser, target, question, &findings, signs);
        self.take_control(cx, accuser, target, question, signs);
        self.take_testimony(cx, accuser, target, question, findings, signs);
        self.touch_soon(cx.now.mono);
    }

    pub(crate) fn device_read(
        &mut self,
        cx: &mut Context<'_>,
        call: CallId,
        reading: &DeviceReading,
        finished: Moment,
    ) {
        match self.take_device_reading(cx, call, reading, finished) {
            // A device is read every 137 ms in a cluster of 2,000: nothing waits for that moment.
            Some(ReadFor::Health) => self.wake_at(cx.now.mono + ROUND_EVERY),
            // A rack's come all at once.
            Some(ReadFor::Suspect) => self.touch_soon(cx.now.mono),
            Some(ReadFor::Binding(_) | ReadFor::Fence(..) | ReadFor::Lease(_) | ReadFor::Rehearsal(_)) | None => {
                self.touch();
            }
        }
    }

    pub(crate) fn nova(&mut self, cx: &mut Context<'_>, call: CallId, result: Result<NovaAnswer, NovaError>) {
        match self.nova.remove(&call) {
            None => {}
            Some(NovaCall::Evacuation(incident, ask)) => self.take_nova(cx, incident, ask, result),
            Some(NovaCall::Life(host)) => {
                self.take_heartbeat(cx, &host, result);
                return self.touch_soon(cx.now.mono);
            }
            Some(NovaCall::Act(incident, server, number)) => {
                self.take_act_answer(cx, (incident, server), number, &result);
            }
            Some(NovaCall::Lock(incident, server)) => self.take_lock_nova(cx.now.mono, (incident, server), result),
            Some(NovaCall::Lost(host, server)) => self.take_lost_nova(cx, &(host, server), result),
            Some(NovaCall::Guest(incident, ask)) => self.take_guest_nova(cx, incident, ask, result),
            Some(NovaCall::Return(host)) => self.take_return_nova(cx, &host, call, result),
            Some(NovaCall::QueuedServer(server)) => self.take_queued_server(server, result),
            Some(NovaCall::QueueReader(host)) => self.take_queue_reader(&host, result),
            Some(NovaCall::Moves) => self.take_moves(cx, result),
            Some(NovaCall::Rehearsal(rehearsal)) => self.take_rehearsal_nova(rehearsal, result),
            Some(NovaCall::Ahead(incident, attempt)) => self.take_ahead(incident, attempt, result),
            Some(NovaCall::Capacity) => return self.take_capacity(cx, call, result),
            Some(NovaCall::Reboot(incident)) => self.take_reboot_nova(cx, incident, result),
            Some(NovaCall::Service(host)) => self.take_service_nova(cx, &host, call, result),
            Some(NovaCall::Reserve(host)) => self.take_reserve_nova(cx, &host, call, result),
            Some(NovaCall::Aggregate(incident, host)) => {
                self.take_aggregate_nova(cx, (incident, host), call, result);
            }
            Some(NovaCall::Forecast(query)) => return self.take_forecast(cx, query, result),
        }
        self.touch();
    }

    /// The same, when it was one word of many: see [`CROWD`].
    pub(super) fn touch_soon(&mut self, now: Moment) {
        if self.suspects.len() < CROWD {
            self.touch();
        } else {
            self.wake_at(now + ROUND_EVERY);
        }
    }
}
