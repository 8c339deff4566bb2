//! What compute services do: casts, rebuilds, migrations, their heartbeats, death and return.

use super::*;

impl Nova {
    /// A host lost its power or its kernel: nothing runs there any more.
    pub fn host_died(&mut self, host: &HostName, now: Moment) {
        let _ = now;
        for (server, hosts) in &mut self.running {
            if hosts.remove(host) {
                self.changed.push(*server);
                self.defined.entry(host.clone()).or_default().insert(*server);
            }
        }
        self.died.remove(host);
        for call in self.trails.values_mut() {
            if let Call::Taken { host: taker, lives } = call
                && taker == host
            {
                *lives = false;
            }
        }
        if let Some(service) = self.services.get_mut(host) {
            service.alive = false;
        }
    }

    /// A host runs again, in a new boot. Its compute service first deletes what was evacuated (nova/compute/manager.py,
    /// `_destroy_evacuated_instances`: records accepted, pre-migrating or done), then everything else Nova has there runs
    /// (`resume_guests_state_on_host_boot`), then it reads its queue. Gives back what it finds there.
    #[must_use]
    pub fn host_returned(&mut self, host: &HostName, now: Moment) -> Vec<Cast> {
        let Some(service) = self.services.get_mut(host) else { return Vec::new() };
        service.alive = true;
        service.heartbeat += 1;
        service.reported = now;
        let queue = std::mem::take(&mut service.queue);
        let moved = |server: ServerId| {
            self.migrations.iter().any(|record| {
                record.server == server
                    && record.kind == MigrationKind::Evacuation
                    && record.source.as_ref() == Some(host)
                    && record.status != MigrationStatus::Failed
            })
        };
        let defined = self.defined.remove(host).unwrap_or_default();
        let here = self.servers.values().filter(|server| {
            server.host.as_ref() == Some(host) && server.vm_state.as_str() == "active" && defined.contains(&server.id)
        });
        let restarted: Vec<ServerId> = here.map(|server| server.id).filter(|server| !moved(*server)).collect();
        for server in restarted {
            self.runs(server, host);
        }
        self.clean_up(host);
        // A rebuild that was under way here when the host died is given up, and its server in error.
        for record in &mut self.migrations {
            let is_queued =
                queue.iter().any(|cast| matches!(cast, Cast::Rebuild(rebuild) if rebuild.migration == record.id));
            if record.status == MigrationStatus::UnderWay
                && record.kind == MigrationKind::Evacuation
                && record.dest.as_ref() == Some(host)
                && !is_queued
            {
                record.status = MigrationStatus::Failed;
                record.status_text = "failed".into();
                if let Some(server) = self.servers.get_mut(&record.server) {
                    server.task_state = None;
                }
            }
        }
        queue
    }

    /// A host runs again, in a new boot, and nobody starts its guests: `resume_guests_state_on_host_boot = false`, Nova's
    /// default.
    pub fn host_returned_empty(&mut self, host: &HostName, now: Moment) {
        if let Some(service) = self.services.get_mut(host) {
            service.alive = true;
            service.heartbeat += 1;
            service.reported = now;
        }
        self.clean_up(host);
    }

    /// Hosts in whose queues an order to build a server lies that nobody has ever taken.
    pub fn unread(&self, server: ServerId) -> impl Iterator<Item = &HostName> {
        let is_its = move |cast: &Cast| match cast {
            Cast::Rebuild(rebuild) => rebuild.server == server && self.is_unread(rebuild),
            Cast::Power(..) => false,
        };
        self.services.iter().filter(move |(_, service)| service.queue.iter().any(is_its)).map(|(host, _)| host)
    }

    /// What was evacuated from here is deleted here, and Nova told so (`_destroy_evacuated_instances`).
    fn clean_up(&mut self, host: &HostName) {
        for record in &mut self.migrations {
            let is_done = record.kind == MigrationKind::Evacuation && record.status == MigrationStatus::Done;
            if is_done && record.source.as_ref() == Some(host) {
                record.status = MigrationStatus::Completed;
                record.status_text = "completed".into();
            }
            if record.source.as_ref() == Some(host)
                && let Some(held) = self.placement.get_mut(&record.server)
            {
                held.remove(host);
            }
        }
    }

    /// Every service that lives and can reach Nova reports.
    pub fn heartbeat(&mut self, now: Moment, reaches: impl Fn(&HostName) -> bool) {
        for (host, service) in &mut self.services {
            if service.alive && reaches(host) {
                service.heartbeat += 1;
                service.reported = now;
            }
        }
    }

    /// The guest runs at the destination now, and no more at the source; Nova's record says nothing of it yet.
    pub fn switch_over(&mut self, id: MigrationId) -> bool {
        let Some(NovaMigration { server, source: Some(source), dest: Some(dest), .. }) =
            self.migration_mut(id).cloned()
        else {
            return false;
        };
        let ran = self.running.get(&server).is_some_and(|hosts| hosts.contains(&source));
        let dest_lives = self.services.get(&dest).is_some_and(|service| service.alive);
        if !ran || !dest_lives {
            // Its source has died, or its destination: the record stays as it is until somebody cleans up.
            return false;
        }
        self.ends(server, &source);
        self.runs(server, &dest);
        true
    }

    /// The source's compute service has told Nova; without it nobody does.
    pub fn complete(&mut self, id: MigrationId) {
        let Some(record) = self.migration_mut(id) else { return };
        let (server, source, dest) = (record.server, record.source.clone(), record.dest.clone());
        let source_lives = source.is_some_and(|source| self.services.get(&source).is_some_and(|service| service.alive));
        if !source_lives {
            return;
        }
        if let Some(record) = self.migration_mut(id) {
            record.status = MigrationStatus::Completed;
            record.status_text = "completed".into();
        }
        if let Some(server) = self.servers.get_mut(&server) {
            server.task_state = None;
            server.host = dest;
        }
    }

    /// A cast arrives: it is done now, or waits for the service to come back. Gives back what must follow.
    #[must_use]
    pub fn cast(&mut self, host: &HostName, cast: Cast) -> Option<Stage> {
        if let Cast::Rebuild(rebuild) = &cast {
            self.trails.entry(rebuild.call).or_insert(Call::Sent);
        }
        let service = self.services.get_mut(host)?;
        if !service.alive {
            service.queue.push(cast);
            return None;
        }
        match cast {
            Cast::Rebuild(rebuild) if !self.is_rebuilding(rebuild.server) => {
                self.refuse_late(&rebuild);
                None
            }
            // Nothing catches it (`GroupAffinityViolation`), and its server is in error.
            Cast::Rebuild(rebuild) if self.fails_late(&rebuild) => {
                if let Some(record) = self.migration_mut(rebuild.migration) {
                    record.status = MigrationStatus::Failed;
                    record.status_text = "failed".into();
                }
                if let Some(server) = self.servers.get_mut(&rebuild.server) {
                    server.vm_state = "error".into();
                    server.task_state = None;
                }
                self.ended(&rebuild, false);
                None
            }
            Cast::Rebuild(rebuild) => {
                self.begin_again(&rebuild);
                self.trails.insert(rebuild.call, Call::Taken { host: host.clone(), lives: true });
                Some(Stage::Claim(rebuild))
            }
            Cast::Power(server, start) => {
                // libvirt's power-on defines the domain anew from Nova's record, whoever has moved it meanwhile.
                if start {
                    self.runs(server, host);
                } else {
                    self.ends(server, host);
                }
                None
            }
        }
    }

    /// nova/compute/manager.py, `_do_rebuild_instance`: `instance.save(expected_task_state=[REBUILDING])`. An order that is read
    /// from the queue when its server has long arrived elsewhere fails there. Nova shows the server as `REBUILD` from then on
    /// (tried on Nova 34), until somebody resets its state: what is refused leaves behind what lets the next one through.
    fn refuse_late(&mut self, rebuild: &Rebuild) {
        if let Some(record) = self.migration_mut(rebuild.migration).filter(|record| !record.status.is_final()) {
            record.status = MigrationStatus::Failed;
            record.status_text = "failed".into();
        }
        let was_unread = self.is_unread(rebuild);
        if let Some(server) = self.servers.get_mut(&rebuild.server).filter(|_| was_unread) {
            server.task_state = Some("rebuilding".into());
        }
        self.ended(rebuild, false);
    }

    /// The order bears its record as it was when it was sent: whatever became of that meanwhile, it is under way again.
    fn begin_again(&mut self, rebuild: &Rebuild) {
        if !self.is_unread(rebuild) {
            return;
        }
        if let Some(record) = self.migration_mut(rebuild.migration).filter(|record| record.status.is_final()) {
            record.status = MigrationStatus::UnderWay;
            record.status_text = "pre-migrating".into();
            record.dest = Some(rebuild.dest.clone());
        }
    }

    /// Whether nobody has taken that order before. A message that is delivered twice is dropped (oslo.messaging knows its id).
    fn is_unread(&self, rebuild: &Rebuild) -> bool {
        self.trails.get(&rebuild.call).is_none_or(|call| *call == Call::Sent)
    }

    /// An operator takes back what a refused order left behind (`openstack server set --state active`): for every server that
    /// runs where Nova has it, on this host.
    pub fn reset_states(&mut self, host: &HostName) {
        let running = &self.running;
        let runs_here = |server: &&mut NovaServer| {
            let is_here = server.host.as_ref() == Some(host);
            is_here && running.get(&server.id).is_some_and(|hosts| hosts.contains(host))
        };
        for server in self.servers.values_mut().filter(runs_here) {
            if server.task_state.as_ref().is_some_and(|task| task.as_str() == "rebuilding") {
                server.task_state = None;
            }
        }
    }

    /// The destination claims what a rebuild needs. If it has died since it took the order, nobody ever says so. Gives back
    /// what must follow.
    #[must_use]
    pub fn claim(&mut self, rebuild: Rebuild) -> Option<Stage> {
        if !matches!(self.trails.get(&rebuild.call), Some(Call::Taken { lives: true, .. })) {
            return None;
        }
        if let Some(record) = self.migration_mut(rebuild.migration).filter(|record| !record.status.is_final()) {
            record.status_text = "pre-migrating".into();
            record.dest = Some(rebuild.dest.clone());
        }
        Some(Stage::Finish(rebuild))
    }

    /// The action of a call says how it ended. What failed holds nothing at its destination any more.
    fn ended(&mut self, rebuild: &Rebuild, done: bool) {
        self.trails.insert(rebuild.call, Call::Ended { host: rebuild.dest.clone(), done });
        let held = self.placement.entry(rebuild.server).or_default();
        match done {
            // Where it came from, until that host's compute service has cleaned up.
            true => held.extend(self.servers.get(&rebuild.server).and_then(|server| server.host.clone())),
            false => drop(held.remove(&rebuild.dest)),
        }
    }

    fn is_rebuilding(&self, server: ServerId) -> bool {
        let task = self.servers.get(&server).and_then(|record| record.task_state.as_ref());
        task.is_some_and(|task| task.as_str() == "rebuilding")
    }

    /// The rebuild's guest starts, or it fails, or its destination is dead (then nobody says anything). A failed one may leave
    /// its guest running, where Nova does not look (measured on Nova 34).
    pub fn finish(&mut self, rebuild: &Rebuild, fails: bool, leaves_copy: bool) {
        let is_over = self.migration_mut(rebuild.migration).is_none_or(|record| record.status.is_final());
        if is_over || !self.services.get(&rebuild.dest).is_some_and(|service| service.alive) {
            return;
        }
        if (!fails && !rebuild.stops) || leaves_copy {
            self.runs(rebuild.server, &rebuild.dest);
        }
        self.ended(rebuild, !fails);
        if let Some(record) = self.migration_mut(rebuild.migration) {
            record.status = if fails { MigrationStatus::Failed } else { MigrationStatus::Done };
            record.status_text = if fails { "failed" } else { "done" }.into();
        }
        if let Some(server) = self.servers.get_mut(&rebuild.server) {
            server.task_state = None;
            if !fails {
                server.host = Some(rebuild.dest.clone());
                server.vm_state = if rebuild.stops { "stopped" } else { "active" }.into();
            }
        }
    }
}
