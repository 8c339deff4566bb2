//! What the leader of the entry's term may write.

use std::collections::BTreeSet;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{BootId, HostName, IncidentId, WallTime};
use rekindle_proto::status::{Phase, StoryLine};

use super::super::entry::{LeaderCommand, ProofRecord, VerdictRecord};
use super::super::evidence::Evidence;
use super::super::incident::{Incident, Proof, tell};
use super::super::state::Ledger;
use super::fence::FenceOrder;
use super::{Applied, Outcome, When, evidence_words};
use crate::mutant::{Guard, keeps};
use crate::order::GuestPower;
use crate::verdict::{brake_needs, testimonies_needed};

/// Least time between two off readings, in milliseconds (I2).
pub(super) const OFF_READS_APART_MS: u64 = 1_000;

impl Ledger {
    pub(super) fn apply_leader(&mut self, when: When<'_>, command: &LeaderCommand) -> Applied {
        let at = when.at;
        match command {
            LeaderCommand::OpenIncident { host, boot, suspected_at, verdict, needed_by } => {
                self.may_begin(host, *needed_by)?;
                self.open(at, host, *boot, *suspected_at, verdict)
            }
            LeaderCommand::OpenStuck { host, boot, suspected_at, verdict, why } => {
                self.open_stuck(at, host, *boot, *suspected_at, verdict, why)
            }
            LeaderCommand::EndSigns { incident, heard, why } => self.end_signs(at, *incident, *heard, why),
            LeaderCommand::Refute { incident, why } => self.refute(when, *incident, why),
            LeaderCommand::FenceIntent { incident, attempt, author, level, devices, not_after, rate } => {
                let (attempt, author, level) = (*attempt, *author, *level);
                let (not_after, rate, executor) = (*not_after, *rate, None);
                let order = FenceOrder { attempt, author, level, devices, not_after, rate, executor };
                self.fence_intent(when, *incident, &order)
            }
            LeaderCommand::FenceIntentBy { executor, incident, attempt, author, level, devices, not_after, rate } => {
                let (attempt, author, level) = (*attempt, *author, *level);
                let (not_after, rate, executor) = (*not_after, *rate, Some(executor));
                let order = FenceOrder { attempt, author, level, devices, not_after, rate, executor };
                self.fence_intent(when, *incident, &order)
            }
            LeaderCommand::FenceFailed { incident, attempt, why } => self.fence_failed(at, *incident, *attempt, why),
            LeaderCommand::ConfirmFence { incident, attempt, proof } => {
                self.confirm_fence(when, *incident, *attempt, proof)
            }
            LeaderCommand::VoidProof { incident, why } => self.void_proof(at, *incident, why),
            LeaderCommand::BeginEvacuation { incident, heartbeat, servers, remarks } => {
                self.begin_evacuation(at, *incident, heartbeat.as_ref(), servers, remarks)
            }
            LeaderCommand::EvacuateIntent { incident, server, attempt, author, newest_migration, to } => {
                self.evacuate_intent(at, (*incident, *server), *attempt, *author, (*newest_migration, to))
            }
            LeaderCommand::CloseIntent { incident, server, attempt, end } => {
                self.close_intent(at, *incident, *server, *attempt, end)
            }
            LeaderCommand::Settle { incident, server, fate } => self.settle(at, *incident, *server, fate),
            LeaderCommand::Close { incident, owes_hooks } => self.close(at, *incident, *owes_hooks),
            LeaderCommand::HooksOver { incident } => self.hooks_over(*incident),
            LeaderCommand::Stick { incident, why } => self.stick(at, *incident, why),
            LeaderCommand::GuestIntent { incident, power } => self.guest_intent(at, *incident, *power),
            LeaderCommand::SettleGuest { incident, recovered, why } => {
                self.settle_guest(at, *incident, *recovered, why)
            }
            LeaderCommand::BeginEpoch { number, why, voters } => self.begin_epoch(at, *number, why, voters),
            LeaderCommand::MarkEpoch { number, elapsed_ms, seen, voters } => {
                self.mark_epoch(*number, *elapsed_ms, seen, voters)
            }
            LeaderCommand::AbsentAnswers { host, life } => self.absent_answers(host, *life),
            LeaderCommand::DropLift { host } => self.drop_lift(host),
            LeaderCommand::Elapse { ms } => self.elapse(at, *ms),
            LeaderCommand::EndProbation { host } => self.end_probation(host),
            LeaderCommand::BeginReboot { incident, servers } => self.begin_reboot(at, *incident, servers),
            LeaderCommand::StartInPlace { incident, server } => self.start_in_place(at, *incident, *server),
            LeaderCommand::CloseReboot { incident } => self.close_reboot(at, *incident),
            LeaderCommand::StickReboot { incident, why } => self.stick_reboot(at, *incident, why),
            LeaderCommand::OffSettled { incident, attempt } => self.off_settled(*incident, *attempt),
            LeaderCommand::ConfirmWatchdog { incident, evidence } => self.confirm_watchdog(when, *incident, evidence),
            LeaderCommand::Admit { host, boot } => self.admit(at, host, *boot),
            LeaderCommand::Readmit { host } => self.readmit(at, host),
            LeaderCommand::ServiceBack { host } => self.service_back(at, host),
            LeaderCommand::Voters(command) => self.apply_voters(at, command),
            LeaderCommand::Restore(command) => self.apply_restore(at, command),
            LeaderCommand::BeginHook { incident, on, hook, program, author } => {
                self.begin_hook(at, *incident, (*on, *hook), program, *author)
            }
            LeaderCommand::EndHook { incident, on, hook, end, text } => {
                self.end_hook(at, *incident, (*on, *hook), *end, text)
            }
            LeaderCommand::Told { incident, number } => self.told(*incident, *number),
            LeaderCommand::Reserve(command) => self.apply_reserve(at, command),
            LeaderCommand::OpenProcess { host, process } => self.open_process_incident(at, host, process),
            LeaderCommand::ServiceDisabled { incident } => self.service_disabled(at, *incident),
            LeaderCommand::EndProcess { incident, recovered, why } => self.end_process(at, *incident, *recovered, why),
            LeaderCommand::Rehearse(command) => self.apply_rehearse(when, command),
            LeaderCommand::PowerOn(command) => self.apply_power_on(at, command),
            LeaderCommand::Queue(command) => self.apply_queue(command),
        }
    }

    pub(super) fn open(
        &mut self,
        at: WallTime,
        host: &HostName,
        boot: Option<BootId>,
        suspected_at: WallTime,
        verdict: &VerdictRecord,
    ) -> Applied {
        self.may_open(host)?;
        self.must_convince(host, verdict)?;
        let id = self.next_incident();
        // The ledger's own count: what is opened now counts against no smaller roster later.
        let counted = VerdictRecord { roster: u32::try_from(self.roster.len()).unwrap_or(u32::MAX), ..verdict.clone() };
        let mut incident = Incident { boot, ..Incident::begun(id, host.clone(), suspected_at, counted) };
        incident.tell(suspected_at, "no answer to a probe", None);
        let accusers: Vec<&str> = verdict.testimonies.iter().map(|record| record.accuser.as_str()).collect();
        let text = format!(
            "{} testimonies of {} eligible (need {}): {}; {} of {} answered the roll call",
            accusers.len(),
            verdict.eligible,
            verdict.needed,
            accusers.join(" "),
            verdict.present,
            verdict.roster
        );
        incident.tell(at, evidence_words::testimony(verdict), None);
        incident.tell(at, self.guards_of_opening(host, verdict), None);
        incident.turn(Phase::Unclean, at, text)?;
        self.last_incident = id;
        self.incidents.insert(id, incident);
        self.bind_lift(at, host, id);
        self.supersede_reboot(at, host, id);
        self.forget_old_incidents();
        Ok(Outcome::Applied { incident: Some(id), text: format!("incident {id} of {host} opened").into() })
    }

    fn may_open(&self, host: &HostName) -> Result<(), Outcome> {
        if !self.is_hypervisor(host) {
            return Err(Outcome::refused(format!("{host} is not a hypervisor of the roster")));
        }
        if let Some(open) = self.open_incident(host).filter(|_| keeps(Guard::OneIncident)) {
            return Err(Outcome::refused(format!("incident {} of {host} is open", open.id)));
        }
        let record = self.hosts.get(host);
        if let Some(incident) = record.and_then(|record| record.quarantine) {
            return Err(Outcome::refused(format!("{host} is quarantined since incident {incident}")));
        }
        self.brakes_of(host).map_or(Ok(()), |brake| Err(Outcome::refused(brake)))
    }

    /// The verdict's figures are counted again, against this ledger's own roster.
    fn must_convince(&self, host: &HostName, verdict: &VerdictRecord) -> Result<(), Outcome> {
        let may_testify = |accuser: &&HostName| **accuser != *host && self.roster.contains_key(*accuser);
        let accusers: BTreeSet<&HostName> =
            verdict.testimonies.iter().map(|record| &record.accuser).filter(may_testify).collect();
        let eligible = usize::try_from(verdict.eligible).unwrap_or(usize::MAX).max(accusers.len());
        let needed = testimonies_needed(eligible).map(|needed| needed.max(verdict.needed as usize));
        if needed.is_none_or(|needed| accusers.len() < needed) {
            return Err(Outcome::refused(format!(
                "{} members of the roster testify; {} are needed, never fewer than 2",
                accusers.len(),
                needed.map_or(verdict.needed as usize, |needed| needed)
            )));
        }
        let (present, roster) = (usize::try_from(verdict.present).unwrap_or(0), self.roster.len());
        let too_few = present < brake_needs(roster) && self.lift_of(host).is_none();
        if too_few || present > roster {
            return Err(Outcome::refused(format!(
                "mass-failure stop: {present} of {roster} answered the roll call; {} are needed",
                brake_needs(roster)
            )));
        }
        Ok(())
    }

    fn refute(&mut self, when: When<'_>, id: IncidentId, why: &Text) -> Applied {
        let incident = self.incident_mut(id)?;
        let is_untouched = match incident.attempts.as_slice() {
            [] => true,
            // Only the leader that committed the first order knows that it has not given it.
            [only] => only.term == when.term,
            [_, _, ..] => false,
        };
        // A voided proof takes the proof back, and not the order; servers are planned once there was one.
        let was_proven = incident.voided > 0 || incident.phase == Phase::Fencing && !incident.servers.is_empty();
        if !is_untouched || was_proven || incident.phase == Phase::Stuck {
            return Err(Outcome::refused("an off order may have been given: the fence is finished (I6)"));
        }
        incident.turn(Phase::Refuted, when.at, why.clone())?;
        incident.ended = Some(when.at);
        incident.end_attempt(why);
        let host = incident.host.clone();
        self.came_up(&host);
        Ok(Outcome::done(format!("incident {id} refuted")))
    }

    fn confirm_fence(&mut self, when: When<'_>, id: IncidentId, attempt: u32, proof: &ProofRecord) -> Applied {
        let executor = self.executors.get(&(id, attempt)).cloned();
        let incident = self.incident_mut(id)?;
        incident.must_be(Phase::Fencing)?;
        let Some(last) = incident.attempts.last_mut() else {
            return Err(Outcome::refused("no fence attempt to prove"));
        };
        if last.attempt != attempt || last.failed.is_some() || last.term != when.term {
            return Err(Outcome::refused(format!("attempt {attempt} is not the running one of term {}", when.term)));
        }
        let ordered: BTreeSet<_> = last.devices.iter().collect();
        let read_twice = proof
            .devices
            .iter()
            .filter(|reads| reads.apart_ms >= OFF_READS_APART_MS || !keeps(Guard::TwoReads) || !keeps(Guard::Proof));
        let proven: BTreeSet<_> = read_twice.map(|reads| &reads.device).collect();
        if ordered != proven || proof.level != last.level || proof.devices.len() != ordered.len() {
            return Err(Outcome::refused(format!(
                "{} of the {} devices of level {} were read off twice, at least {OFF_READS_APART_MS} ms apart",
                proven.intersection(&ordered).count(),
                ordered.len(),
                last.level
            )));
        }
        let names: Vec<String> = proof.devices.iter().map(|reads| reads.device.to_string()).collect();
        let readings = evidence_words::readings(proof, last, executor.as_ref());
        last.proof = Some(proof.clone());
        incident.tell(when.at, readings, None);
        let how =
            if proof.devices.iter().any(|reads| reads.unverified) { "off, UNVERIFIED" } else { "off, read twice" };
        incident.turn(Phase::Fenced, when.at, format!("{how}: {}", names.join(" and ")))?;
        incident.proof = Some(Proof { attempt, evidence: Evidence::Devices(proof.clone()), at: when.at });
        Ok(Outcome::done(format!("{} is proven off", incident.host)))
    }

    pub(super) fn void_proof(&mut self, at: WallTime, id: IncidentId, why: &Text) -> Applied {
        let incident = self.incident_mut(id)?;
        let Some(proof) = &incident.proof else {
            return Err(Outcome::refused("there is no proof to void"));
        };
        let (host, by_watchdog) = (incident.host.clone(), matches!(proof.evidence, Evidence::Watchdog(_)));
        incident.turn(Phase::Fencing, at, format!("the proof is void: {why}"))?;
        incident.proof = None;
        incident.voided = incident.voided.saturating_add(1);
        incident.heartbeat = None;
        incident.end_attempt(why);
        if by_watchdog {
            self.distrust_watchdog(&host);
        }
        Ok(Outcome::done("proof voided"))
    }

    /// Closed incidents too: what matters is the host, which may be waiting for its release.
    fn off_settled(&mut self, id: IncidentId, attempt: u32) -> Applied {
        let Some(incident) = self.incidents.get_mut(&id) else {
            return Err(Outcome::refused(format!("no incident {id}")));
        };
        if incident.last_attempt().is_none_or(|last| last.attempt != attempt) {
            return Err(Outcome::refused(format!("attempt {attempt} is not the last: its successor is waited for")));
        }
        incident.off_settled = attempt;
        Ok(Outcome::done(format!("no off order of incident {id} is under way")))
    }

    fn stick(&mut self, at: WallTime, id: IncidentId, why: &Text) -> Applied {
        let incident = self.incident_mut(id)?;
        incident.turn(Phase::Stuck, at, why.clone())?;
        incident.awaits_signs = false;
        incident.proof = None;
        incident.end_attempt(why);
        Ok(Outcome::done("stuck"))
    }

    fn guest_intent(&mut self, at: WallTime, id: IncidentId, power: GuestPower) -> Applied {
        let Some(guest) = self.guest_incidents.get(&id).filter(|guest| guest.is_open()) else {
            return Err(Outcome::refused(format!("no open guest incident {id}")));
        };
        if let Some(brake) = self.brakes_of(&guest.host) {
            return Err(Outcome::refused(brake));
        }
        if self.open_incident(&guest.host).is_some() {
            return Err(Outcome::refused(format!("{} itself has an open incident", guest.host)));
        }
        let Some(guest) = self.guest_incidents.get_mut(&id) else {
            return Err(Outcome::refused(format!("no open guest incident {id}")));
        };
        guest.intent = Some(power);
        guest.steps = guest.steps.saturating_add(1);
        let text = match power {
            GuestPower::Stop => "Nova is asked to stop it",
            GuestPower::Start => "Nova is asked to start it",
        };
        tell(&mut guest.story, StoryLine { at, phase: Phase::Evacuating, text: text.into(), operator: None });
        Ok(Outcome::done(text))
    }

    fn settle_guest(&mut self, at: WallTime, id: IncidentId, recovered: bool, why: &Text) -> Applied {
        let Some(guest) = self.guest_incidents.get_mut(&id).filter(|guest| guest.is_open()) else {
            return Err(Outcome::refused(format!("no open guest incident {id}")));
        };
        guest.recovered = Some(recovered);
        guest.ended = Some(at);
        let phase = if recovered { Phase::Recovered } else { Phase::Stuck };
        tell(&mut guest.story, StoryLine { at, phase, text: why.clone(), operator: None });
        self.note_started(at, id, recovered, why);
        Ok(Outcome::done("guest settled"))
    }

    pub(super) fn may_act_on(&self, id: IncidentId) -> Result<(), Outcome> {
        let Some(incident) = self.incidents.get(&id) else {
            return Err(Outcome::refused(format!("no incident {id}")));
        };
        self.brakes_of(&incident.host).map_or(Ok(()), |brake| Err(Outcome::refused(brake)))
    }
}

impl Incident {
    /// A running attempt is over, or its proof is: it is never followed again.
    pub(super) fn end_attempt(&mut self, why: &Text) {
        if let Some(last) = self.attempts.last_mut() {
            last.failed.get_or_insert_with(|| why.clone());
        }
    }
}
