//! What is told to the outside: the changes of phase as the ledger has them, and the order to post one.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, ClusterName, HostName, IncidentId, ProcessName, WallTime};
use rekindle_proto::notification::{NOTIFICATION_VERSION, Notification};

use crate::ledger::{Incident, Ledger, ProcessIncident, Turn};

/// A notification to be posted to the site's webhook: this leadership alone does.
#[derive(Debug)]
pub struct PostOrder {
    call: CallId,
    notification: Box<Notification>,
}

impl PostOrder {
    pub(crate) fn new(call: CallId, notification: Notification) -> Self {
        Self { call, notification: Box::new(notification) }
    }

    /// To be repeated in the answer.
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }

    /// The body.
    #[must_use]
    pub fn notification(&self) -> &Notification {
        &self.notification
    }
}

/// What is told of: an incident of a host, or of a process of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) id: IncidentId,
    pub(crate) host: &'a HostName,
    began: WallTime,
    pub(crate) ended: Option<WallTime>,
    pub(crate) turns: &'a [Turn],
    pub(crate) told: u32,
    pub(crate) process: Option<&'a ProcessName>,
}

impl<'a> From<&'a Incident> for Subject<'a> {
    fn from(incident: &'a Incident) -> Self {
        let Incident { id, host, began, ended, turns, told, .. } = incident;
        Self { id: *id, host, began: *began, ended: *ended, turns, told: *told, process: None }
    }
}

impl<'a> From<&'a ProcessIncident> for Subject<'a> {
    fn from(incident: &'a ProcessIncident) -> Self {
        let ProcessIncident { id, host, process, began, ended, turns, told, .. } = incident;
        Self { id: *id, host, began: *began, ended: *ended, turns, told: *told, process: Some(process) }
    }
}

impl Subject<'_> {
    /// The number of the last change.
    pub(crate) fn last(&self) -> u32 {
        self.turns.last().map_or(0, |turn| turn.number)
    }
}

/// All that the outside is told of.
pub(crate) fn subjects(ledger: &Ledger) -> impl Iterator<Item = Subject<'_>> {
    let hosts = ledger.incidents.values().map(Subject::from);
    hosts.chain(ledger.processes.values().map(Subject::from))
}

/// A change of phase in the words for the outside.
pub(crate) fn notification(cluster: &ClusterName, by: &HostName, subject: Subject<'_>, turn: &Turn) -> Notification {
    Notification {
        version: NOTIFICATION_VERSION,
        // With its time: a ledger begun anew may count its incidents from an earlier number.
        id: Text::new(format!("{cluster}/{}/{}/{}", subject.id, turn.number, turn.at.0)),
        cluster: cluster.clone(),
        incident: subject.id,
        number: turn.number,
        host: subject.host.clone(),
        from: turn.from,
        phase: turn.to,
        began: subject.began,
        at: turn.at,
        text: turn.text.clone(),
        by: by.clone(),
        process: subject.process.cloned(),
    }
}
