//! Goodbyes on their way to the ledger, and what an absent host's silence means.

use rekindle_proto::id::HostName;

use super::Leader;
use super::proposals::Key;
use crate::context::Context;
use crate::ledger::{Entry, MemberStatement, Rehearsal, Silence, Statement, silence};
use crate::mutant::{Guard, keeps};

impl Leader {
    /// What hosts have said to us of their going and coming, and the ledger does not hold yet: the next leader must know.
    pub(super) fn drive_absence(&mut self, cx: &mut Context<'_>) {
        let us = &cx.setup.host;
        let mut news = Vec::new();
        for entry in cx.ledger.enrolled().filter(|entry| cx.ledger.open_incident(&entry.host).is_none()) {
            let host = &entry.host;
            let known = cx.ledger.absence(host).map(|absence| absence.life);
            let heard = cx.heard.get(host);
            let goodbye = heard.and_then(|heard| Some((heard.boot, heard.goodbye()?)));
            let (life, boot) = if host == us {
                (Some(cx.membership.incarnation()), Some(cx.setup.boot))
            } else {
                (heard.map(|heard| heard.life), heard.map(|heard| heard.boot))
            };
            if let Some((boot, (life, why))) = goodbye.filter(|(_, (life, _))| known.is_none_or(|known| known < *life))
            {
                news.push((host.clone(), boot, MemberStatement::Absent { life, why }));
            } else if let (Some(known), Some(life), Some(boot)) = (known, life, boot)
                && known < life
            {
                news.push((host.clone(), boot, MemberStatement::Returned { life }));
            }
        }
        for (host, boot, statement) in news {
            let statement = Statement::Member { host: host.clone(), boot, statement };
            self.propose(cx, Key::Absence(host), Entry::new(cx.now.wall, statement));
        }
    }

    /// Whether a host's goodbye, or its rehearsal, explains its silence. After the wait for a reboot, or when its kernel is gone too, it does
    /// not: it is suspect like any other.
    pub(super) fn is_explained(&self, cx: &Context<'_>, host: &HostName) -> bool {
        // It is switched off by an operator's order, and on again.
        if cx.ledger.rehearsal_of(host).is_some_and(Rehearsal::explains_silence) {
            return true;
        }
        if !keeps(Guard::Goodbye) {
            return false;
        }
        let Some((why, life)) = cx.goodbye(host) else { return false };
        // Not yet in the ledger: the wait has not begun.
        let committed = cx.ledger.absence(host).filter(|absence| absence.life == life);
        let waited_ms = committed.map_or(0, |absence| cx.ledger.time.millis_since(absence.since));
        match silence(why, waited_ms, cx.setup.policy.on_shutdown, self.kernel_life(cx, host)) {
            Silence::Explained => true,
            Silence::Suspect => false,
        }
    }
}
