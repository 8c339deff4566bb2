//! Which hosts Nova's scheduler may use, and for how many servers each has room.

use rekindle_coordinator::order::ServiceChange;

use super::*;

impl Nova {
    /// A host has room for so many servers; it never had a bound before.
    pub fn set_room(&mut self, host: &HostName, servers: usize) {
        self.rooms.insert(host.clone(), servers);
    }

    /// Every rebuild of that server fails, wherever.
    pub fn set_broken(&mut self, server: ServerId) {
        self.broken.insert(server);
    }

    /// Whether every rebuild of that server fails.
    #[must_use]
    pub fn is_broken(&self, server: ServerId) -> bool {
        self.broken.contains(&server)
    }

    /// Every rebuild on that host fails from now on, or none does any more.
    pub fn set_failing(&mut self, host: &HostName, fails: bool) {
        match fails {
            true => self.failing.insert(host.clone()),
            false => self.failing.remove(host),
        };
    }

    /// Whether every rebuild on that host fails.
    #[must_use]
    pub fn is_failing(&self, host: &HostName) -> bool {
        self.failing.contains(host)
    }

    /// Enables or disables a service, also one that is down, or takes its forced-down mark away.
    ///
    /// # Errors
    /// Nova lets no host back while evacuations from there are `done` and not cleaned up; it does while they are under way.
    pub fn set_service(
        &mut self,
        host: &HostName,
        change: &ServiceChange,
        now: Moment,
    ) -> Result<NovaAnswer, NovaError> {
        let waits =
            |record: &NovaMigration| record.source.as_ref() == Some(host) && record.status == MigrationStatus::Done;
        if *change == ServiceChange::LetBack && self.migrations.iter().any(waits) {
            let text = "`done` evacuation migration records remain associated with the host.".into();
            return Err(NovaError::Refused { status: 400, text });
        }
        if let Some(service) = self.services.get_mut(host) {
            match change {
                ServiceChange::Enable => service.disabled = None,
                ServiceChange::Disable { reason } => service.disabled = Some(reason.clone()),
                ServiceChange::LetBack => service.forced_down = false,
            }
        }
        Ok(NovaAnswer::Service(self.service(host, now)))
    }

    /// Hosts whose service is disabled.
    pub fn disabled(&self) -> impl Iterator<Item = &HostName> {
        self.services.iter().filter(|(_, service)| service.disabled.is_some()).map(|(host, _)| host)
    }

    /// Whether the scheduler finds room on a host.
    fn has_room(&self, host: &HostName) -> bool {
        let Some(room) = self.rooms.get(host) else { return true };
        let there = self.servers.values().filter(|server| server.host.as_ref() == Some(host)).count();
        there + self.coming_to(host).count() < *room
    }

    /// Evacuations under way to a host.
    pub fn coming_to<'a>(&'a self, host: &'a HostName) -> impl Iterator<Item = &'a NovaMigration> {
        self.migrations.iter().filter(move |record| {
            record.status == MigrationStatus::UnderWay
                && record.kind == MigrationKind::Evacuation
                && self.allotted.get(&record.id) == Some(host)
        })
    }

    /// Where the oldest evacuation from a host goes that is under way.
    pub fn destination_of(&self, source: &HostName) -> Option<&HostName> {
        let from_there = |record: &&NovaMigration| {
            record.status == MigrationStatus::UnderWay && record.source.as_ref() == Some(source)
        };
        let record = self.migrations.iter().find(from_there)?;
        self.allotted.get(&record.id).or(record.dest.as_ref())
    }

    /// The hosts that the scheduler may choose from for a server of that source, by name.
    pub(super) fn candidates(&self, server: ServerId, source: &HostName, now: Moment) -> Vec<HostName> {
        let fits = |(host, service): &(&HostName, &Service)| {
            let is_free = *host != source && self.has_room(host);
            Self::is_up(service, now) && service.disabled.is_none() && is_free && self.passes_filters(server, host)
        };
        self.services.iter().filter(fits).map(|(host, _)| host.clone()).collect()
    }

    /// Whether any service is up that the scheduler only must not use: then a call is taken, and comes to nothing.
    pub(super) fn has_unusable(&self, source: &HostName, now: Moment) -> bool {
        self.services.iter().any(|(host, service)| Self::is_up(service, now) && host != source)
    }

    /// An accepted evacuation for which the scheduler finds no host: its record is `error`, and so is its server
    /// (nova/conductor/manager.py, `rebuild_instance`). A wished-for host stands in the record all the same
    /// (nova/compute/api.py, `evacuate`).
    pub(super) fn found_no_host(&mut self, server: ServerId, source: &HostName, wish: Option<&HostName>) {
        let id = self.record(server, MigrationKind::Evacuation, "error", source, source);
        if let Some(record) = self.migration_mut(id) {
            record.dest = wish.cloned();
            record.status = MigrationStatus::Failed;
        }
        if let Some(record) = self.servers.get_mut(&server) {
            record.vm_state = "error".into();
            record.task_state = None;
        }
    }
}
