//! Rehearsals: an operator's order, then what the leader may write, step by step.

use std::collections::BTreeSet;

use rekindle_proto::fact::{DeviceName, Text};
use rekindle_proto::id::{BootId, HostName, IncidentId, LeadershipId, OperatorName, WallTime};
use rekindle_proto::status::StoryLine;

use super::super::incident::{FenceAttempt, tell};
use super::super::rehearsal::{
    Finding, ON_TRIES_MAX, OnAttempt, REHEARSALS_MAX, Rehearsal, RehearsalEnd, RehearsalMark, RehearsalStage,
    RehearseCommand, RehearsedDevice, SILENT_MS,
};
use super::super::state::Ledger;
use super::leader::OFF_READS_APART_MS;
use super::operator::By;
use super::{Applied, Outcome, When, evidence_words};
use crate::mutant::{Guard, keeps};

/// Devices of one level: more feeds than any machine has.
const DEVICES_MAX: usize = 16;

/// An off order of a rehearsal, as it is about to be given.
struct OffOrder<'a> {
    author: LeadershipId,
    boot: BootId,
    level: u8,
    devices: &'a [RehearsedDevice],
    not_after: WallTime,
}

impl Ledger {
    pub(super) fn rehearse(&mut self, by: &By<'_>, host: &HostName, level: Option<u8>) -> Applied {
        if let Some(open) = self.open_rehearsal() {
            let Rehearsal { id, host, .. } = open;
            return Err(Outcome::refused(format!("rehearsal {id} of {host} is under way: one at a time")));
        }
        self.may_rehearse(host).map_err(Outcome::refused)?;
        let id = self.next_incident();
        self.last_incident = id;
        let mut rehearsal = Rehearsal {
            id,
            host: host.clone(),
            by: by.operator.clone(),
            reason: by.reason.clone(),
            level,
            began: by.at,
            ended: None,
            stage: RehearsalStage::Asked,
            boot: None,
            off: None,
            devices: Vec::new(),
            finding: None,
            off_settled: false,
            on: None,
            end: None,
            story: Vec::new(),
        };
        let which = level.map_or_else(|| "its lowest level".to_owned(), |level| format!("level {level}"));
        rehearsal.say_by(by.at, format!("rehearsal of {which}: {}", by.reason), Some(by.operator.clone()));
        self.rehearsals.insert(id, rehearsal);
        self.forget_old_rehearsals();
        let text = format!("rehearsal {id}: {host} is switched off by its fence devices, and on again");
        Ok(Outcome::Applied { incident: Some(id), text: text.into() })
    }

    pub(super) fn apply_rehearse(&mut self, when: When<'_>, command: &RehearseCommand) -> Applied {
        let at = when.at;
        match command {
            RehearseCommand::Refuse { id, why } => {
                let rehearsal = self.rehearsal_in(*id, RehearsalStage::Asked)?;
                rehearsal.end(at, RehearsalEnd::Failed, format!("not done, nothing was switched: {why}"));
                Ok(Outcome::done(format!("rehearsal {id} is not done")))
            }
            RehearseCommand::Off { id, author, boot, level, devices, not_after } => {
                let (author, boot, level, not_after) = (*author, *boot, *level, *not_after);
                self.rehearse_off(when, *id, &OffOrder { author, boot, level, devices, not_after })
            }
            RehearseCommand::Found { id, finding } => self.rehearsal_found(when, *id, finding),
            RehearseCommand::OffSettled { id } => {
                let rehearsal = self.rehearsal_in(*id, RehearsalStage::On)?;
                rehearsal.off_settled = true;
                Ok(Outcome::done(format!("no off order of rehearsal {id} is under way")))
            }
            RehearseCommand::On { id, attempt, author, not_after } => {
                let on = OnAttempt { attempt: *attempt, author: *author, not_after: *not_after };
                self.rehearse_on(at, *id, on)
            }
            RehearseCommand::End { id, end, why } => self.end_rehearsal(at, *id, *end, why),
            RehearseCommand::Unbind { host, device, why } => self.unbind_rehearsed(host, device, why),
        }
    }

    fn rehearse_off(&mut self, when: When<'_>, id: IncidentId, order: &OffOrder<'_>) -> Applied {
        let host = self.rehearsal_in(id, RehearsalStage::Asked)?.host.clone();
        self.may_rehearse(&host).map_err(Outcome::refused)?;
        let said = self.host(&host).and_then(|record| record.pulse.as_ref()).map(|pulse| pulse.boot);
        if said != Some(order.boot) {
            return Err(Outcome::refused(format!("{host} has not said in boot {} that it is empty", order.boot)));
        }
        let distinct: BTreeSet<&DeviceName> = order.devices.iter().map(|device| &device.name).collect();
        let count = order.devices.len();
        if count == 0 || count > DEVICES_MAX || distinct.len() != count {
            return Err(Outcome::refused(format!(
                "{} different devices of {count}; a rehearsal switches each of 1 to {DEVICES_MAX} once",
                distinct.len()
            )));
        }
        let names: Vec<DeviceName> = order.devices.iter().map(|device| device.name.clone()).collect();
        let words: Vec<String> = names.iter().map(ToString::to_string).collect();
        let rehearsal = self.rehearsal_in(id, RehearsalStage::Asked)?;
        rehearsal.boot = Some(order.boot);
        rehearsal.devices = order.devices.to_vec();
        rehearsal.off = Some(FenceAttempt {
            attempt: 1,
            term: when.term,
            author: order.author,
            level: order.level,
            devices: names,
            not_after: order.not_after,
            failed: None,
            leader: when.leader.cloned(),
            at: Some(when.at),
            proof: None,
        });
        rehearsal.stage = RehearsalStage::Off;
        let text =
            format!("empty, heard in boot {}; power off by level {}: {}", order.boot, order.level, words.join(" and "));
        rehearsal.say(when.at, text);
        Ok(Outcome::done(format!("off order of rehearsal {id} committed")))
    }

    fn rehearsal_found(&mut self, when: When<'_>, id: IncidentId, finding: &Finding) -> Applied {
        let rehearsal = self.rehearsal_in(id, RehearsalStage::Off)?;
        let Some(off) = rehearsal.off.clone() else { return Err(Outcome::refused("no off order was given")) };
        let text = match finding {
            Finding::Dark { proof, silent_ms } => {
                if off.term != when.term {
                    return Err(Outcome::refused(format!("its off order is of term {}, not {}", off.term, when.term)));
                }
                let read = proof.devices.iter().filter(|reads| reads.apart_ms >= OFF_READS_APART_MS);
                let read: BTreeSet<&DeviceName> = read.map(|reads| &reads.device).collect();
                if read != off.devices.iter().collect::<BTreeSet<_>>() || proof.devices.len() != off.devices.len() {
                    let (read, all) = (read.len(), off.devices.len());
                    return Err(Outcome::refused(format!("{read} of its {all} devices were read off twice")));
                }
                if *silent_ms < SILENT_MS && keeps(Guard::RehearsedSilence) {
                    return Err(Outcome::refused(format!("silent for {silent_ms} ms; {SILENT_MS} are needed")));
                }
                let readings = evidence_words::readings(proof, &off, None);
                rehearsal.say(when.at, readings);
                if let Some(off) = rehearsal.off.as_mut() {
                    off.proof = Some(proof.clone());
                }
                format!("nobody has heard it for {} s since: to have power again", silent_ms / 1_000)
            }
            Finding::Lies { why } => format!("NOT ITS OWN, or lying: {why}. To have power again"),
            Finding::Nothing { why } => format!("nothing is shown: {why}. To have power again"),
        };
        rehearsal.say(when.at, text);
        rehearsal.finding = Some(finding.clone());
        rehearsal.stage = RehearsalStage::On;
        if let Finding::Lies { why } = finding {
            self.mark_rehearsed(when.at, id, Some(why));
        }
        Ok(Outcome::done(format!("finding of rehearsal {id} committed")))
    }

    fn rehearse_on(&mut self, at: WallTime, id: IncidentId, on: OnAttempt) -> Applied {
        if !self.arming.armed {
            return Err(Outcome::refused(format!("disarmed: {}", self.arming.reason)));
        }
        let rehearsal = self.rehearsal_in(id, RehearsalStage::On)?;
        if !rehearsal.off_settled && keeps(Guard::OffSettled) {
            return Err(Outcome::refused(format!("the off order of rehearsal {id} may still be under way (I5)")));
        }
        let last = rehearsal.on.map_or(0, |on| on.attempt);
        if last.checked_add(1) != Some(on.attempt) || on.attempt > ON_TRIES_MAX {
            return Err(Outcome::refused(format!(
                "attempt {} to power on does not follow {last}, or is beyond {ON_TRIES_MAX}",
                on.attempt
            )));
        }
        rehearsal.on = Some(on);
        rehearsal.say(at, format!("attempt {}: power on", on.attempt));
        Ok(Outcome::done(format!("on order of rehearsal {id} committed")))
    }

    fn end_rehearsal(&mut self, at: WallTime, id: IncidentId, end: RehearsalEnd, why: &Text) -> Applied {
        let rehearsal = self.rehearsal_in(id, RehearsalStage::On)?;
        let (host, before) = (rehearsal.host.clone(), rehearsal.boot);
        let is_dark = matches!(rehearsal.finding, Some(Finding::Dark { .. }));
        let (settled, boot) =
            (rehearsal.off_settled, self.host(&host).and_then(|record| record.pulse.as_ref()).map(|pulse| pulse.boot));
        match end {
            RehearsalEnd::Passed if !is_dark => {
                return Err(Outcome::refused("its silence was not shown: it has not passed"));
            }
            RehearsalEnd::Passed if (boot.is_none() || boot == before) && keeps(Guard::RehearsedSilence) => {
                return Err(Outcome::refused(format!("{host} has not spoken in another boot: it has not passed")));
            }
            RehearsalEnd::Passed | RehearsalEnd::Failed if !settled => {
                return Err(Outcome::refused(format!("the off order of rehearsal {id} may still be under way (I5)")));
            }
            RehearsalEnd::Passed | RehearsalEnd::Failed | RehearsalEnd::Stuck => {}
        }
        let rehearsal = self.rehearsal_in(id, RehearsalStage::On)?;
        rehearsal.end(at, end, why.clone());
        match end {
            RehearsalEnd::Passed => self.mark_rehearsed(at, id, None),
            // It was dark, and is back in the same boot: what read off was something else.
            RehearsalEnd::Failed if is_dark => self.mark_rehearsed(at, id, Some(why)),
            RehearsalEnd::Failed | RehearsalEnd::Stuck => {}
        }
        Ok(Outcome::done(format!("rehearsal {id} is over: {why}")))
    }

    fn unbind_rehearsed(&mut self, host: &HostName, device: &DeviceName, why: &Text) -> Applied {
        let record = self.hosts.get_mut(host);
        let mark = record.and_then(|record| record.rehearsed.get_mut(device)).filter(|mark| mark.lies.is_none());
        let Some(mark) = mark else {
            return Err(Outcome::refused(format!("{device} of {host} has passed no rehearsal")));
        };
        mark.lies = Some(why.clone());
        self.rehearsed_changes = self.rehearsed_changes.saturating_add(1);
        Ok(Outcome::done(format!("{device} counts no more for {host}: {why}")))
    }

    /// What a rehearsal has shown of each of its devices: that they are the host's own, or what speaks against it.
    fn mark_rehearsed(&mut self, at: WallTime, id: IncidentId, lies: Option<&Text>) {
        let Some(rehearsal) = self.rehearsals.get(&id) else { return };
        let with: Vec<DeviceName> = rehearsal.devices.iter().map(|device| device.name.clone()).collect();
        let marks: Vec<(DeviceName, RehearsalMark)> = rehearsal
            .devices
            .iter()
            .map(|device| {
                let (by, with, guid) = (rehearsal.by.clone(), with.clone(), device.guid);
                (device.name.clone(), RehearsalMark { rehearsal: id, by, at, with, guid, lies: lies.cloned() })
            })
            .collect();
        self.rehearsed_changes = self.rehearsed_changes.saturating_add(1);
        if let Some(record) = self.hosts.get_mut(&rehearsal.host) {
            record.rehearsed.extend(marks);
            // Names of devices that a configuration has long dropped.
            while record.rehearsed.len() > MARKS_MAX {
                let oldest =
                    record.rehearsed.iter().min_by_key(|(_, mark)| mark.rehearsal).map(|(name, _)| name.clone());
                let Some(oldest) = oldest else { break };
                record.rehearsed.remove(&oldest);
            }
        }
    }

    fn rehearsal_in(&mut self, id: IncidentId, stage: RehearsalStage) -> Result<&mut Rehearsal, Outcome> {
        match self.rehearsals.get_mut(&id) {
            None => Err(Outcome::refused(format!("no rehearsal {id}"))),
            Some(rehearsal) if rehearsal.stage != stage => {
                Err(Outcome::refused(format!("rehearsal {id} is {:?}, not {stage:?}", rehearsal.stage)))
            }
            Some(rehearsal) => Ok(rehearsal),
        }
    }

    fn forget_old_rehearsals(&mut self) {
        let over = self.rehearsals.values().filter(|rehearsal| !rehearsal.is_open()).map(|rehearsal| rehearsal.id);
        let over: Vec<IncidentId> = over.collect();
        for id in over.iter().take(over.len().saturating_sub(REHEARSALS_MAX)) {
            self.rehearsals.remove(id);
        }
    }
}

/// Devices of one host that are remembered: those of nine levels, and as many that were replaced.
const MARKS_MAX: usize = 64;

impl Rehearsal {
    fn say(&mut self, at: WallTime, text: impl Into<Text>) {
        self.say_by(at, text, None);
    }

    fn say_by(&mut self, at: WallTime, text: impl Into<Text>, operator: Option<OperatorName>) {
        let phase = self.shown();
        tell(&mut self.story, StoryLine { at, phase, text: text.into(), operator });
    }

    fn end(&mut self, at: WallTime, end: RehearsalEnd, why: impl Into<Text>) {
        self.stage = RehearsalStage::Over;
        self.end = Some(end);
        self.ended = Some(at);
        self.say(at, why);
    }
}
