//! What is told to the outside: the changes of phase as the ledger has them, and the order to post one.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, ClusterName, HostName};
use rekindle_proto::notification::{NOTIFICATION_VERSION, Notification};

use crate::ledger::{Incident, Turn};

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

/// A change of phase in the words for the outside.
pub(crate) fn notification(cluster: &ClusterName, by: &HostName, incident: &Incident, turn: &Turn) -> Notification {
    Notification {
        version: NOTIFICATION_VERSION,
        // With its time: a ledger begun anew may count its incidents from an earlier number.
        id: Text::new(format!("{cluster}/{}/{}/{}", incident.id, turn.number, turn.at.0)),
        cluster: cluster.clone(),
        incident: incident.id,
        number: turn.number,
        host: incident.host.clone(),
        from: turn.from,
        phase: turn.to,
        began: incident.began,
        at: turn.at,
        text: turn.text.clone(),
        by: by.clone(),
    }
}
