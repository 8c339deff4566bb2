//! A host's word about its processes, and what the leader writes of a process that is down for good.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{BootId, HostName, IncidentId, ProcessName, WallTime};
use rekindle_proto::process::{PROCESSES_MAX, ProcessReport};
use rekindle_proto::status::{Phase, StoryLine};

use super::super::CLOSED_INCIDENTS_MAX;
use super::super::incident::{Turn, tell};
use super::super::process::{ProcessIncident, ProcessWord};
use super::super::state::Ledger;
use super::{Applied, Outcome};

impl Ledger {
    /// Also taken while the host has an open incident: it says nothing of its guests.
    pub(super) fn process_said(
        &mut self,
        at: WallTime,
        host: &HostName,
        boot: BootId,
        report: &ProcessReport,
    ) -> Applied {
        if report.processes.len() > PROCESSES_MAX {
            let found = report.processes.len();
            return Err(Outcome::refused(format!("{found} processes; at most {PROCESSES_MAX} are watched")));
        }
        let book = &mut self.hosts.entry(host.clone()).or_default().processes;
        if report.is_well() {
            book.overruled = false;
        }
        book.word = Some(ProcessWord { at, boot, report: report.clone() });
        Ok(Outcome::done(format!("{host}: its processes")))
    }

    pub(super) fn open_process_incident(&mut self, at: WallTime, host: &HostName, process: &ProcessName) -> Applied {
        if let Some(open) = self.open_process(host) {
            return Err(Outcome::refused(format!("incident {} about a process of {host} is open", open.id)));
        }
        self.may_touch_service(host).map_err(Outcome::refused)?;
        let down = self.process_word(host).and_then(ProcessReport::down);
        let Some(down) = down.filter(|down| down.name == *process) else {
            return Err(Outcome::refused(format!("{host} does not say that {process} is down for good")));
        };
        if self.host(host).is_some_and(|record| record.processes.overruled) {
            return Err(Outcome::refused(format!("somebody else has taken the compute service of {host} over")));
        }
        let text = Text::new(format!("{process} is down for good on {host}: {}", down.text));
        let id = self.next_incident();
        self.last_incident = id;
        let mut incident = ProcessIncident {
            id,
            host: host.clone(),
            process: process.clone(),
            began: at,
            ended: None,
            phase: Phase::Suspect,
            disabled: false,
            story: Vec::new(),
            turns: Vec::new(),
            told: 0,
        };
        incident.turn(at, Phase::Unclean, text);
        self.processes.insert(id, incident);
        self.forget_old_processes();
        Ok(Outcome::Applied { incident: Some(id), text: format!("process incident {id}").into() })
    }

    pub(super) fn service_disabled(&mut self, at: WallTime, id: IncidentId) -> Applied {
        let incident = self.process_mut(id)?;
        incident.disabled = true;
        incident.say(at, format!("the compute service of {} is disabled", incident.host));
        Ok(Outcome::done("service disabled"))
    }

    pub(super) fn end_process(&mut self, at: WallTime, id: IncidentId, recovered: bool, why: &Text) -> Applied {
        let incident = self.process_mut(id)?;
        incident.ended = Some(at);
        incident.turn(at, if recovered { Phase::Recovered } else { Phase::Refuted }, why.clone());
        let host = incident.host.clone();
        if !recovered {
            self.hosts.entry(host).or_default().processes.overruled = true;
        }
        Ok(Outcome::done(format!("process incident {id} is over")))
    }

    fn process_mut(&mut self, id: IncidentId) -> Result<&mut ProcessIncident, Outcome> {
        match self.processes.get_mut(&id) {
            None => Err(Outcome::refused(format!("no process incident {id}"))),
            Some(incident) if !incident.is_open() => Err(Outcome::refused(format!("incident {id} is closed"))),
            Some(incident) => Ok(incident),
        }
    }

    fn forget_old_processes(&mut self) {
        let over = self.processes.values().filter(|process| !process.is_open()).map(|process| process.id);
        let over: Vec<IncidentId> = over.collect();
        for id in over.iter().take(over.len().saturating_sub(CLOSED_INCIDENTS_MAX)) {
            self.processes.remove(id);
        }
    }
}

impl ProcessIncident {
    fn turn(&mut self, at: WallTime, to: Phase, text: impl Into<Text>) {
        let text = text.into();
        let number = self.turns.last().map_or(0, |turn| turn.number).saturating_add(1);
        self.turns.push(Turn { number, at, from: self.phase, to, text: text.clone() });
        self.phase = to;
        self.say(at, text);
    }

    fn say(&mut self, at: WallTime, text: impl Into<Text>) {
        let phase = self.phase;
        tell(&mut self.story, StoryLine { at, phase, text: text.into(), operator: None });
    }
}
