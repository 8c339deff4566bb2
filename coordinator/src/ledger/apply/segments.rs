//! Segments and who is in them, by operators' orders.

use rekindle_proto::fact::{MemberRole, Text};
use rekindle_proto::id::{HostName, SegmentHostId, SegmentId};
use rekindle_proto::segment::{SERVICE_TYPE_DEFAULT, SegmentWord};

use super::super::segments::{SEGMENTS_MAX, Segment, SegmentFields, SegmentHost, SegmentHostFields, SegmentOrder};
use super::super::state::Ledger;
use super::operator::By;
use super::{Applied, Outcome};

impl Ledger {
    pub(super) fn segment_order(&mut self, by: &By<'_>, order: &SegmentOrder) -> Applied {
        match order {
            SegmentOrder::Create { id, name, fields } => self.create_segment(by, *id, name, fields),
            SegmentOrder::Set { id, name, fields } => self.set_segment(by, *id, name.as_ref(), fields),
            SegmentOrder::Delete { id, with_hosts } => self.delete_segment(*id, *with_hosts),
            SegmentOrder::AddHost { host, id, segment, fields } => self.add_segment_host(host, *id, *segment, fields),
            SegmentOrder::SetHost { host, segment, fields } => self.set_segment_host(host, *segment, fields),
            SegmentOrder::RemoveHost { host } => self.remove_segment_host(host),
        }
    }

    fn create_segment(&mut self, by: &By<'_>, id: SegmentId, name: &SegmentWord, fields: &SegmentFields) -> Applied {
        if self.roster.is_empty() {
            return Err(Outcome::refused("there is no roster yet: rekindle init"));
        }
        if self.segments.segments.contains_key(&id) {
            return Err(Outcome::refused(format!("there is a segment {id} already")));
        }
        if self.segments.segments.len() >= SEGMENTS_MAX {
            return Err(Outcome::refused(format!("there are {SEGMENTS_MAX} segments; more are not kept")));
        }
        self.must_be_free(name, None)?;
        let mut segment = Segment {
            name: name.clone(),
            method: Default::default(),
            service_type: default_word()?,
            description: Text::default(),
            disabled: None,
        };
        segment.change(by, fields);
        self.segments.segments.insert(id, segment);
        Ok(Outcome::done(format!("segment {name} is made, {id}")))
    }

    fn set_segment(
        &mut self,
        by: &By<'_>,
        id: SegmentId,
        name: Option<&SegmentWord>,
        fields: &SegmentFields,
    ) -> Applied {
        self.must_be_changeable(id)?;
        if name.is_none() && fields.is_empty() {
            return Err(Outcome::refused("nothing is changed"));
        }
        if let Some(name) = name {
            self.must_be_free(name, Some(id))?;
        }
        let segment = self.segments.segments.get_mut(&id).ok_or_else(|| unknown(id))?;
        if let Some(name) = name {
            segment.name = name.clone();
        }
        segment.change(by, fields);
        Ok(Outcome::done(format!("segment {} is changed", segment.name)))
    }

    fn delete_segment(&mut self, id: SegmentId, with_hosts: bool) -> Applied {
        let name = self.must_be_changeable(id)?;
        let hosts = self.segments.hosts_of(id).count();
        if hosts > 0 && !with_hosts {
            return Err(Outcome::refused(format!(
                "segment {name} has {hosts} hosts: take them out first, or remove it with its hosts"
            )));
        }
        self.segments.segments.remove(&id);
        self.segments.hosts.retain(|_, place| place.segment != id);
        Ok(Outcome::done(format!("segment {name} is removed; {hosts} hosts were in it and are in none now")))
    }

    fn add_segment_host(
        &mut self,
        host: &HostName,
        id: SegmentHostId,
        segment: SegmentId,
        fields: &SegmentHostFields,
    ) -> Applied {
        let into = self.segments.segments.get(&segment).ok_or_else(|| unknown(segment))?;
        if let Some(known) = self.segments.of(host) {
            return Err(Outcome::refused(format!("{host} is in segment {} already", known.name)));
        }
        if self.entry_of(host).is_none_or(|entry| entry.role != MemberRole::Member) {
            return Err(Outcome::refused(format!("{host} is not an enrolled hypervisor: rekindle host enroll {host}")));
        }
        if self.segments.hosts.values().any(|place| place.id == id) {
            return Err(Outcome::refused(format!("there is a host {id} already")));
        }
        // Into a segment whose other hosts have incidents a host may come: a reserved one may be what is missing.
        if let Some(incident) = self.incident_on(host) {
            return Err(Outcome::refused(format!(
                "incident {incident} of {host} is open: it goes by the rules it began by"
            )));
        }
        let text = format!("{host} is in segment {}", into.name);
        let mut place =
            SegmentHost { id, segment, reserved: false, kind: default_word()?, control_attributes: Text::default() };
        place.change(fields);
        self.segments.hosts.insert(host.clone(), place);
        Ok(Outcome::done(text))
    }

    fn set_segment_host(&mut self, host: &HostName, segment: Option<SegmentId>, fields: &SegmentHostFields) -> Applied {
        let from = self.place_of(host)?.segment;
        self.must_be_changeable(from)?;
        if segment.is_none() && fields.is_empty() {
            return Err(Outcome::refused("nothing is changed"));
        }
        let into = segment.unwrap_or(from);
        let name = self.must_be_changeable(into)?;
        let place = self.segments.hosts.get_mut(host).ok_or_else(|| in_none(host))?;
        place.segment = into;
        place.change(fields);
        Ok(Outcome::done(format!("{host} is changed, in segment {name}")))
    }

    fn remove_segment_host(&mut self, host: &HostName) -> Applied {
        let name = self.must_be_changeable(self.place_of(host)?.segment)?;
        self.segments.hosts.remove(host);
        Ok(Outcome::done(format!("{host} is taken out of segment {name}: recovered as with auto")))
    }

    fn place_of(&self, host: &HostName) -> Result<&SegmentHost, Outcome> {
        self.segments.hosts.get(host).ok_or_else(|| in_none(host))
    }

    /// The name of a segment that exists and is not in use.
    fn must_be_changeable(&self, id: SegmentId) -> Result<SegmentWord, Outcome> {
        let name = self.segments.segments.get(&id).map(|segment| segment.name.clone()).ok_or_else(|| unknown(id))?;
        match self.segment_in_use(id) {
            None => Ok(name),
            Some((incident, host)) => Err(Outcome::refused(format!(
                "segment {name} is in use: incident {incident} of its host {host} is open, and goes by the rules it began by"
            ))),
        }
    }

    fn must_be_free(&self, name: &SegmentWord, but: Option<SegmentId>) -> Result<(), Outcome> {
        let other = self.segments.segments.iter().any(|(id, segment)| segment.name == *name && Some(*id) != but);
        if other { Err(Outcome::refused(format!("there is a segment {name} already"))) } else { Ok(()) }
    }

    fn incident_on(&self, host: &HostName) -> Option<rekindle_proto::id::IncidentId> {
        let dead = self.open_incident(host).map(|incident| incident.id);
        dead.or_else(|| self.open_reboot(host).map(|reboot| reboot.id))
    }
}

impl Segment {
    fn change(&mut self, by: &By<'_>, fields: &SegmentFields) {
        let SegmentFields { method, service_type, description, enabled } = fields.clone();
        self.method = method.unwrap_or(self.method);
        if let Some(service_type) = service_type {
            self.service_type = service_type;
        }
        if let Some(description) = description {
            self.description = description;
        }
        match enabled {
            Some(true) => self.disabled = None,
            Some(false) => self.disabled = Some(Text::new(format!("{}: {}", by.operator, by.reason))),
            None => {}
        }
    }
}

impl SegmentHost {
    fn change(&mut self, fields: &SegmentHostFields) {
        let SegmentHostFields { reserved, kind, control_attributes } = fields.clone();
        self.reserved = reserved.unwrap_or(self.reserved);
        if let Some(kind) = kind {
            self.kind = kind;
        }
        if let Some(attributes) = control_attributes {
            self.control_attributes = attributes;
        }
    }
}

fn default_word() -> Result<SegmentWord, Outcome> {
    SegmentWord::new(SERVICE_TYPE_DEFAULT).map_err(|error| Outcome::refused(error.to_string()))
}

fn unknown(id: SegmentId) -> Outcome {
    Outcome::refused(format!("there is no segment {id}"))
}

fn in_none(host: &HostName) -> Outcome {
    Outcome::refused(format!("{host} is in no segment"))
}
