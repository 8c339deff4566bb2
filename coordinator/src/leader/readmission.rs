//! A fenced host comes back (I7): its gate is opened, Nova cleans up on it, it is protected again, and Nova may use it again.
//! The rules are the ledger's ([`crate::ledger::Ledger::may_admit`]); here is when they are asked, and what Nova says.

use std::time::Duration;

use rekindle_proto::fact::{MigrationKind, MigrationStatus, NovaError, NovaMigration, NovaService, Text};
use rekindle_proto::id::{CallId, HostName};

use super::proposals::Key;
use super::{Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::{HostRecord, Incident, LeaderCommand};
use crate::order::{ServiceChange, ServiceOrder};
use crate::policy::Readmission;
use crate::time::Moment;

/// Between two looks at a host that comes back. nova-compute takes some ten seconds to clean up: nothing is in a hurry here.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// An answer of Nova that has not come in this time is asked for again.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// How old Nova's word may be when the next step is taken on it.
const WORD_AGE_MAX: Duration = Duration::from_secs(10);

/// One host that comes back, as this leader follows it.
#[derive(Debug, Default)]
pub(super) struct ReturnCase {
    asked: Option<(CallId, Ask, Moment)>,
    next: Option<Moment>,
    service: Option<(Moment, Option<NovaService>)>,
    migrations: Option<(Moment, Vec<NovaMigration>)>,
    /// What is waited for, for people.
    text: Text,
    /// That a person is needed was said aloud.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Service,
    Migrations,
    LetBack,
}

impl Leader {
    pub(super) fn drive_readmission(&mut self, cx: &mut Context<'_>) {
        let comes_back = |record: &HostRecord| record.quarantine.is_some() || record.forced_down.is_some();
        let is_concerned = |(host, record): &(&HostName, &HostRecord)| {
            comes_back(record) && cx.ledger.is_hypervisor(host) && cx.ledger.open_incident(host).is_none()
        };
        let hosts: Vec<HostName> = match cx.setup.policy.readmission {
            Readmission::Auto => cx.ledger.hosts.iter().filter(is_concerned).map(|(host, _)| host.clone()).collect(),
            Readmission::Manual => Vec::new(),
        };
        self.returns.retain(|host, _| hosts.contains(host));
        for host in hosts {
            self.drive_return(cx, &host);
        }
    }

    /// Why a fenced host is not back yet, for people.
    pub(crate) fn return_text(&self, host: &HostName) -> Option<&Text> {
        self.returns.get(host).map(|case| &case.text).filter(|text| !text.as_str().is_empty())
    }

    fn drive_return(&mut self, cx: &mut Context<'_>, host: &HostName) {
        let Some(record) = cx.ledger.host(host) else { return };
        if !cx.is_alive(host) || self.suspects.contains_key(host) {
            // Its voice, when it comes, drives us again.
            self.returns.insert(host.clone(), ReturnCase { text: "it is not heard".into(), ..ReturnCase::default() });
            return;
        }
        let boot = record.pulse.as_ref().map(|pulse| pulse.boot);
        if record.quarantine.is_some() && (record.admitted.is_none() || record.admitted != boot) {
            self.open_its_gate(cx, host, record);
            return;
        }
        self.returns.entry(host.clone()).or_default();
        if let Err(why) = self.has_come_back(cx, host, record) {
            if let Some(case) = self.returns.get_mut(host) {
                case.text = why;
            }
            return;
        }
        if record.quarantine.is_some() {
            match cx.ledger.may_readmit(host) {
                Ok(_) => self.command(cx, Key::Return(host.clone()), LeaderCommand::Readmit { host: host.clone() }),
                Err(why) => self.say_of_return(cx, host, why),
            }
        } else {
            self.clear_forced_down(cx, host);
        }
    }

    fn open_its_gate(&mut self, cx: &mut Context<'_>, host: &HostName, record: &HostRecord) {
        let admitted = match record.gate.as_ref().map(|word| word.boot) {
            None => Err("it has no boot gate: a person lets it back".into()),
            Some(boot) => cx.ledger.may_admit(host, boot).map(|_| boot),
        };
        match admitted {
            Ok(boot) => {
                self.command(cx, Key::Return(host.clone()), LeaderCommand::Admit { host: host.clone(), boot });
            }
            Err(why) => self.say_of_return(cx, host, why),
        }
    }

    /// What holds it, in words, once aloud; looked at again after a while.
    fn say_of_return(&mut self, cx: &mut Context<'_>, host: &HostName, why: Text) {
        if !self.returns.get(host).is_some_and(|case| case.told) {
            cx.out.warn(Some(host), Text::new(format!("{host} is up, and does not come back by itself: {why}")));
        }
        self.returns.insert(host.clone(), ReturnCase { text: why, told: true, ..ReturnCase::default() });
        self.wake_at(cx.now.mono + LOOK_EVERY);
    }

    /// Whether Nova's word, young enough, is that its compute service runs again and has cleaned up. Asks for that word.
    fn has_come_back(&mut self, cx: &mut Context<'_>, host: &HostName, record: &HostRecord) -> Result<(), Text> {
        let now = cx.now.mono;
        let Some(case) = self.returns.get_mut(host) else { return Err(Text::default()) };
        if let Some((_, ask, asked)) = case.asked
            && now < asked + ANSWER_WAIT
        {
            let text = if ask == Ask::LetBack { "Nova is told that it is back" } else { "Nova is asked" };
            self.wake_at(asked + ANSWER_WAIT);
            return Err(text.into());
        }
        case.asked = None;
        let young = |at: Moment| now.since(at) < WORD_AGE_MAX;
        let service = case.service.as_ref().filter(|(at, _)| young(*at)).map(|(_, service)| service.clone());
        let migrations = case.migrations.as_ref().filter(|(at, _)| young(*at)).map(|(_, list)| list.clone());
        if let Some(next) = case.next.filter(|next| now < *next) {
            self.wake_at(next);
            return Err(self.returns.get(host).map(|case| case.text.clone()).unwrap_or_default());
        }
        let Some(service) = service else {
            self.ask_of_return(cx, host, Ask::Service, NovaRead::Service(host.clone()));
            return Err("Nova is asked".into());
        };
        let Some(migrations) = migrations else {
            self.ask_of_return(cx, host, Ask::Migrations, NovaRead::Migrations(host.clone()));
            return Err("Nova is asked".into());
        };
        let incident = record.quarantine.or(record.forced_down).and_then(|id| cx.ledger.incidents.get(&id));
        let cleaned = cleaned_up(host, incident, service.as_ref(), &migrations);
        if cleaned.is_err() {
            self.look_at_return_again(now, host);
        }
        cleaned
    }

    fn clear_forced_down(&mut self, cx: &mut Context<'_>, host: &HostName) {
        let service = self.returns.get(host).and_then(|case| case.service.as_ref()).map(|(_, service)| service);
        let is_forced = service.is_some_and(|service| service.as_ref().is_some_and(|service| service.forced_down));
        if !is_forced {
            let key = Key::Return(host.clone());
            self.command(cx, key, LeaderCommand::ServiceBack { host: host.clone() });
            return;
        }
        match self.permit(cx, host) {
            Ok(permit) => {
                let call = cx.out.call();
                let order = ServiceOrder::new(call, permit, host.clone(), ServiceChange::LetBack);
                cx.out.push(Output::SetService(order));
                self.expect_of_return(cx, host, call, Ask::LetBack);
            }
            Err(hold) => {
                if let Some(case) = self.returns.get_mut(host) {
                    case.text = Text::new(hold.to_string());
                }
                self.wake_at(cx.now.mono + super::HOLD_RETRY);
            }
        }
    }

    fn ask_of_return(&mut self, cx: &mut Context<'_>, host: &HostName, ask: Ask, request: NovaRead) {
        let call = cx.out.call();
        cx.out.push(Output::Nova { call, request });
        self.expect_of_return(cx, host, call, ask);
    }

    fn expect_of_return(&mut self, cx: &Context<'_>, host: &HostName, call: CallId, ask: Ask) {
        if let Some(case) = self.returns.get_mut(host) {
            case.asked = Some((call, ask, cx.now.mono));
        }
        self.nova.insert(call, NovaCall::Return(host.clone()));
        self.wake_at(cx.now.mono + ANSWER_WAIT);
    }

    fn look_at_return_again(&mut self, now: Moment, host: &HostName) {
        if let Some(case) = self.returns.get_mut(host) {
            (case.service, case.migrations, case.next) = (None, None, Some(now + LOOK_EVERY));
        }
        self.wake_at(now + LOOK_EVERY);
    }

    pub(super) fn take_return_nova(
        &mut self,
        cx: &Context<'_>,
        host: &HostName,
        call: CallId,
        result: Result<NovaAnswer, NovaError>,
    ) {
        let now = cx.now.mono;
        let Some(case) = self.returns.get_mut(host) else { return };
        let Some((_, ask, asked)) = case.asked.take_if(|(expected, ..)| *expected == call) else { return };
        match (ask, result) {
            (Ask::Service | Ask::LetBack, Ok(NovaAnswer::Service(service))) => case.service = Some((asked, service)),
            (Ask::Migrations, Ok(NovaAnswer::Migrations(list))) => case.migrations = Some((asked, list)),
            (Ask::Service | Ask::Migrations | Ask::LetBack, Ok(_)) => self.look_at_return_again(now, host),
            (Ask::Service | Ask::Migrations | Ask::LetBack, Err(error)) => {
                case.text = Text::new(format!("waiting for Nova: {error}"));
                self.look_at_return_again(now, host);
            }
        }
    }
}

/// Whether nova-compute runs again on a host that was forced down, and nothing of its evacuations is left to be cleaned up.
///
/// nova/compute/manager.py, `_destroy_evacuated_instances`: it deletes what was evacuated, and only then turns `done` into
/// `completed`. nova/api/openstack/compute/services.py refuses to clear the mark while any is `done`; it does not while one
/// is `accepted` or `pre-migrating`, so that is ours to see.
fn cleaned_up(
    host: &HostName,
    incident: Option<&Incident>,
    service: Option<&NovaService>,
    migrations: &[NovaMigration],
) -> Result<(), Text> {
    let Some(service) = service else {
        return Err(Text::new(format!("Nova has no compute service of {host}: look at it")));
    };
    let before = incident.and_then(|incident: &Incident| incident.heartbeat.as_ref());
    if service.forced_down && before.is_some() && service.heartbeat.as_ref() == before {
        return Err("its nova-compute has not reported since it was fenced".into());
    }
    // Nova never ends the record of a move that was cut short by the death of this host, nor that of an evacuation which its
    // destination's death cut short. A later evacuation that is completed is the word that this host was cleaned of the guest.
    let is_overtaken = |cut: &NovaMigration| {
        migrations.iter().any(|later| {
            let is_cleaned = later.kind == MigrationKind::Evacuation && later.status == MigrationStatus::Completed;
            is_cleaned && later.server == cut.server && later.source.as_ref() == Some(host) && later.id > cut.id
        })
    };
    let is_open = |migration: &&NovaMigration| match migration.status {
        MigrationStatus::UnderWay => !is_overtaken(migration),
        MigrationStatus::Done => migration.kind == MigrationKind::Evacuation,
        MigrationStatus::Completed | MigrationStatus::Failed => false,
    };
    let from_here = || migrations.iter().filter(|migration| migration.source.as_ref() == Some(host));
    let is_cleaned = |open: &NovaMigration| {
        let is_later = |other: &&NovaMigration| other.server == open.server && other.id > open.id;
        from_here().filter(is_later).any(|other| other.status == MigrationStatus::Completed)
    };
    match from_here().filter(is_open).count() {
        0 => Ok(()),
        // Of several records of one server a starting nova-compute completes one, the newest.
        open if from_here().filter(is_open).all(is_cleaned) => Err(Text::new(format!(
            "{open} older migrations from it are not settled: Nova completes one of each server at a time; restart nova-compute"
        ))),
        open => Err(Text::new(format!("{open} migrations from it are not settled: its nova-compute cleans up"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::VerdictRecord;
    use rekindle_proto::id::{IncidentId, MigrationId, ServerId, ServiceId, WallTime};
    use uuid::Uuid;

    #[test]
    fn the_table_of_cleaning_up() {
        use MigrationKind::{Cold, Evacuation, LiveMigration};
        use MigrationStatus::{Completed, Done, Failed, UnderWay};
        let host = |name: &str| HostName::new(name).expect("legal");
        let migration = |(at, (source, kind, status)): (u64, &(&str, MigrationKind, MigrationStatus))| NovaMigration {
            id: MigrationId(at),
            server: ServerId(Uuid::nil()),
            kind: *kind,
            status: *status,
            status_text: "".into(),
            source: Some(host(source)),
            dest: Some(host("b")),
        };
        let service = |(forced_down, heartbeat): (bool, &str)| NovaService {
            id: ServiceId(Uuid::nil()),
            host: host("a"),
            up: !forced_down,
            enabled: true,
            forced_down,
            heartbeat: Some(heartbeat.into()),
            disabled_reason: None,
        };
        let verdict =
            VerdictRecord { eligible: 2, needed: 2, testimonies: Vec::new(), present: 2, roster: 3, path: None };
        let incident = Incident {
            heartbeat: Some("10".into()),
            ..Incident::begun(IncidentId(1), host("a"), WallTime(0), verdict)
        };
        type Row<'a> = (Option<(bool, &'a str)>, Vec<(&'a str, MigrationKind, MigrationStatus)>, bool);
        let rows: Vec<Row<'_>> = vec![
            (Some((true, "11")), vec![], true),
            (None, vec![], false),
            // It has not reported since.
            (Some((true, "10")), vec![], false),
            // A person has cleared the mark.
            (Some((false, "10")), vec![], true),
            (Some((true, "11")), vec![("a", Evacuation, Completed), ("a", Evacuation, Failed)], true),
            (Some((true, "11")), vec![("a", Evacuation, Done)], false),
            (Some((true, "11")), vec![("a", Evacuation, UnderWay)], false),
            (Some((true, "11")), vec![("a", LiveMigration, UnderWay)], false),
            // Its destination died, and it was evacuated elsewhere; the other way round; or not cleaned up yet.
            (Some((true, "11")), vec![("a", Evacuation, UnderWay), ("a", Evacuation, Completed)], true),
            (Some((true, "11")), vec![("a", Evacuation, Completed), ("a", Evacuation, UnderWay)], false),
            (Some((true, "11")), vec![("a", Evacuation, UnderWay), ("a", Evacuation, Done)], false),
            // Cut short by the death of the host, and evacuated since; begun after that; or not cleaned up yet.
            (Some((true, "11")), vec![("a", LiveMigration, UnderWay), ("a", Evacuation, Completed)], true),
            (Some((true, "11")), vec![("a", Cold, UnderWay), ("a", Evacuation, Completed)], true),
            (Some((true, "11")), vec![("a", Evacuation, Completed), ("a", LiveMigration, UnderWay)], false),
            (Some((true, "11")), vec![("a", LiveMigration, UnderWay), ("a", Evacuation, Done)], false),
            (Some((true, "11")), vec![("a", LiveMigration, UnderWay), ("b", Evacuation, Completed)], false),
            // A resize that is confirmed or waits for it is no evacuation; and what comes here is no matter of ours.
            (Some((true, "11")), vec![("a", Cold, Done), ("b", Evacuation, UnderWay)], true),
        ];
        for (read, list, expected) in rows {
            let migrations: Vec<NovaMigration> = (1..).zip(&list).map(migration).collect();
            let read = read.map(service);
            let said = cleaned_up(&host("a"), Some(&incident), read.as_ref(), &migrations);
            assert_eq!(said.is_ok(), expected, "{read:?} {list:?}: {said:?}");
        }
    }
}
