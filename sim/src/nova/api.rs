//! What is asked of the API, and what it does at once.

use rekindle_coordinator::order::ServiceChange;

use super::*;

impl Nova {
    /// Answers a question.
    ///
    /// # Errors
    /// Only about server groups, where its policy hides them; the world adds outages.
    pub fn read(&self, request: &NovaRead, now: Moment) -> Result<NovaAnswer, NovaError> {
        Ok(match request {
            NovaRead::Service(host) => NovaAnswer::Service(self.service(host, now)),
            NovaRead::Servers(host) => NovaAnswer::Servers(
                self.servers
                    .values()
                    .filter(|server| server.host.as_ref() == Some(host))
                    .map(|server| self.shown(server))
                    .collect(),
            ),
            NovaRead::Migrations(host) => NovaAnswer::Migrations(
                self.migrations
                    .iter()
                    .filter(|record| record.source.as_ref() == Some(host) || record.dest.as_ref() == Some(host))
                    .cloned()
                    .collect(),
            ),
            NovaRead::NewestEvacuations { rows } => {
                let newest = self.migrations.iter().rev().filter(|record| record.kind == MigrationKind::Evacuation);
                NovaAnswer::Migrations(newest.take(*rows).cloned().collect())
            }
            NovaRead::MigrationsOf(server) => NovaAnswer::Migrations(
                self.migrations.iter().filter(|record| record.server == *server).cloned().collect(),
            ),
            NovaRead::Begun { migration, .. } => {
                NovaAnswer::Begun(self.taken.get(migration).map(|(host, _)| host.clone()))
            }
            NovaRead::Server(server) => NovaAnswer::Server(self.shown_alone(*server)),
            NovaRead::Look { lookup: Lookup::Image(id), .. } => NovaAnswer::Image(self.images.get(id).cloned()),
            // A project is called by its id.
            NovaRead::Look { lookup: Lookup::Project(id), .. } => NovaAnswer::Project(Some(id.clone())),
            NovaRead::Look { lookup: Lookup::Aggregates, host } => NovaAnswer::Aggregates(self.aggregates_of(host)),
            NovaRead::Look { lookup: Lookup::Group(_), .. } if self.about_groups == Openness::Refuses => {
                let text = "Policy doesn't allow os_compute_api:os-server-groups:show to be performed.".into();
                return Err(NovaError::Refused { status: 403, text });
            }
            NovaRead::Look { lookup: Lookup::Group(id), .. } => NovaAnswer::ServerGroup(self.group(*id)),
            NovaRead::Look { lookup: Lookup::Member(id), .. } => NovaAnswer::Server(self.shown_alone(*id)),
            NovaRead::Capacity(_) => NovaAnswer::Capacity(Err("this world has no Placement".into())),
        })
    }

    pub(super) fn is_up(service: &Service, now: Moment) -> bool {
        !service.forced_down && now.since(service.reported) < SERVICE_DOWN
    }

    pub(super) fn service(&self, host: &HostName, now: Moment) -> Option<NovaService> {
        let service = self.services.get(host)?;
        Some(NovaService {
            id: service.id,
            host: host.clone(),
            up: Self::is_up(service, now),
            enabled: service.disabled.is_none(),
            forced_down: service.forced_down,
            heartbeat: Some(Text::new(service.heartbeat.to_string())),
            disabled_reason: service.disabled.clone(),
        })
    }

    /// Marks a service forced-down.
    pub fn force_down(&mut self, host: &HostName, now: Moment) -> NovaAnswer {
        if let Some(service) = self.services.get_mut(host) {
            service.forced_down = true;
        }
        NovaAnswer::Service(self.service(host, now))
    }

    /// Somebody clears it by hand, and does not look at what Nova answers.
    pub fn clear_forced_down(&mut self, host: &HostName, now: Moment) {
        let _ = self.set_service(host, &ServiceChange::LetBack, now);
    }

    /// Takes an evacuate call. Whatever task is under way, it is accepted, if the service is down. `None`: and the scheduler
    /// finds no host, or none but the wished-for one would do and it cannot take it.
    ///
    /// # Errors
    /// Nova's own refusals: no such server, no such host, service in use, no host at all.
    pub fn evacuate(
        &mut self,
        server: ServerId,
        now: Moment,
        stop_on_arrival: bool,
        wish: Option<&HostName>,
        pick: impl Fn(usize) -> usize,
    ) -> Result<Option<Rebuild>, NovaError> {
        let refused = |status: u16, text: &str| NovaError::Refused { status, text: text.into() };
        let record = self.servers.get(&server).ok_or_else(|| refused(404, "no such server"))?;
        let source = record.host.clone().ok_or_else(|| refused(400, "no host"))?;
        if !matches!(record.vm_state.as_str(), "active" | "stopped" | "error") {
            let text = format!("Cannot 'evacuate' instance {server} while it is in vm_state {}", record.vm_state);
            return Err(refused(409, &text));
        }
        match self.stops {
            Stops::OldApi if stop_on_arrival => {
                return Err(refused(406, "Version 2.95 is not supported by the API."));
            }
            Stops::OldCompute if stop_on_arrival => return Err(refused(400, "{'currently': 61, 'expected': 62}")),
            Stops::OldApi | Stops::OldCompute | Stops::Known => {}
        }
        // Nova leaves stopped what it is asked to, but for a server in error (nova/compute/manager.py, `rebuild_instance`).
        let leaves = stop_on_arrival && record.vm_state.as_str() != "error";
        let stops = leaves || record.vm_state.as_str() == "stopped";
        if self.services.get(&source).is_some_and(|service| Self::is_up(service, now)) {
            return Err(refused(400, "Compute service is still in use."));
        }
        if let Some(wish) = wish.filter(|wish| !self.services.contains_key(*wish)) {
            return Err(refused(404, &format!("Compute host {wish} not found.")));
        }
        let mut candidates = self.candidates(server, &source, now);
        candidates.retain(|host| wish.is_none_or(|wish| wish == host) && self.group_lets(server, host));
        if candidates.is_empty() && !self.has_unusable(&source, now) {
            return Err(refused(400, "No valid host was found."));
        }
        *self.calls_of.entry(server).or_default() += 1;
        self.accepted.push((server, source.clone()));
        if candidates.is_empty() {
            self.found_no_host(server, &source, wish);
            return Ok(None);
        }
        // Where every rebuild fails nothing stays, and the weighers, none of which knows of failed rebuilds, take the emptiest.
        let emptiest = candidates.iter().find(|host| self.is_failing(host));
        let dest = emptiest.unwrap_or(&candidates[pick(candidates.len())]).clone();
        let migration = self.record(server, MigrationKind::Evacuation, "accepted", &source, &dest);
        self.allotted.insert(migration, dest.clone());
        let late = self.names_late;
        if let Some(record) = self.migration_mut(migration).filter(|_| late && wish.is_none()) {
            // Until the claim nothing but a wish stands there (nova/compute/api.py, `evacuate`).
            record.dest = None;
        }
        if let Some(record) = self.servers.get_mut(&server) {
            record.task_state = Some("rebuilding".into());
        }
        if self.bears.is_some() {
            self.note_peak();
        }
        Ok(Some(Rebuild { migration, server, dest, stops }))
    }

    pub(super) fn record(
        &mut self,
        server: ServerId,
        kind: MigrationKind,
        text: &str,
        source: &HostName,
        dest: &HostName,
    ) -> MigrationId {
        let id = MigrationId(self.migrations.len() as u64 + 1);
        self.migrations.push(NovaMigration {
            id,
            server,
            kind,
            status: MigrationStatus::UnderWay,
            status_text: text.into(),
            source: Some(source.clone()),
            dest: Some(dest.clone()),
        });
        id
    }

    /// A live migration begins; `None` if it cannot.
    pub fn migrate(&mut self, server: ServerId, dest: &HostName) -> Option<MigrationId> {
        let record = self.servers.get_mut(&server)?;
        let source = record.host.clone()?;
        let able = |host: &HostName| self.services.get(host).is_some_and(|service| service.alive);
        if source == *dest || record.task_state.is_some() || !able(&source) || !able(dest) {
            return None;
        }
        record.task_state = Some("migrating".into());
        Some(self.record(server, MigrationKind::LiveMigration, "running", &source, dest))
    }

    /// An accepted stop or start: the state is written at once, the cast goes to where the server is.
    pub fn power(&mut self, server: ServerId, start: bool) -> Option<(HostName, Cast)> {
        let record = self.servers.get_mut(&server)?;
        record.vm_state = if start { "active" } else { "stopped" }.into();
        record.host.clone().map(|host| (host, Cast::Power(server, start)))
    }
}
