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
        for (_, lives) in self.taken.values_mut().filter(|(taker, _)| taker == host) {
            *lives = false;
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

    /// What was evacuated from here is deleted here, and Nova told so (`_destroy_evacuated_instances`).
    fn clean_up(&mut self, host: &HostName) {
        for record in &mut self.migrations {
            let is_done = record.kind == MigrationKind::Evacuation && record.status == MigrationStatus::Done;
            if is_done && record.source.as_ref() == Some(host) {
                record.status = MigrationStatus::Completed;
                record.status_text = "completed".into();
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
        let service = self.services.get_mut(host)?;
        if !service.alive {
            service.queue.push(cast);
            return None;
        }
        match cast {
            // nova/compute/manager.py, `_do_rebuild_instance`: `instance.save(expected_task_state=[REBUILDING])`. One that is
            // read from the queue when the server has long arrived elsewhere fails there.
            Cast::Rebuild(rebuild) if !self.is_rebuilding(rebuild.server) => {
                if let Some(record) = self.migration_mut(rebuild.migration).filter(|record| !record.status.is_final()) {
                    record.status = MigrationStatus::Failed;
                    record.status_text = "failed".into();
                }
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
                None
            }
            Cast::Rebuild(rebuild) => {
                self.taken.insert(rebuild.migration, (host.clone(), true));
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

    /// The destination claims what a rebuild needs. If it has died since it took the order, nobody ever says so. Gives back
    /// what must follow.
    #[must_use]
    pub fn claim(&mut self, rebuild: Rebuild) -> Option<Stage> {
        if !self.taken.get(&rebuild.migration).is_some_and(|(_, lives)| *lives) {
            return None;
        }
        if let Some(record) = self.migration_mut(rebuild.migration).filter(|record| !record.status.is_final()) {
            record.status_text = "pre-migrating".into();
            record.dest = Some(rebuild.dest.clone());
        }
        Some(Stage::Finish(rebuild))
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
