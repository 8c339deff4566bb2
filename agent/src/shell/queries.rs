//! Questions of operators on their way through the loop, whoever carried them here.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_coordinator::time::Moment;
use rekindle_proto::admin::{AdminErrorKind, AdminReply, AdminRequest};
use rekindle_proto::id::CallId;
use rekindle_proto::message::Reply;
use tokio::sync::oneshot;

use crate::telemetry::systemd;

/// Questions waiting for an answer. More are refused: a script that asks in a loop must not fill the memory.
const WAITING_MAX: usize = 256;

/// Whither an answer goes.
#[derive(Debug)]
pub(super) enum Asker {
    /// The local socket.
    Local(oneshot::Sender<AdminReply>),
    /// Another member, for an operator there.
    Carried(oneshot::Sender<Reply>),
    /// The shell itself.
    Ourselves,
}

#[derive(Debug)]
pub(super) struct Queries {
    waiting: BTreeMap<CallId, Asker>,
    last: u64,
    feed_every: Option<Duration>,
    fed: Moment,
}

impl Default for Queries {
    fn default() -> Self {
        let feed_every = systemd::watchdog_interval();
        Self { waiting: BTreeMap::new(), last: 0, feed_every, fed: Moment::ZERO }
    }
}

impl Asker {
    /// Gives the answer, and gives it back if the asker is the shell itself. An asker that is gone is not told.
    pub(super) fn give(self, reply: AdminReply) -> Option<AdminReply> {
        match self {
            Self::Local(sender) => {
                let _ = sender.send(reply);
                None
            }
            Self::Carried(sender) => {
                let answer = match serde_json::to_vec(&reply) {
                    Ok(json) => Reply::Admin(json),
                    Err(error) => Reply::Refused(error.to_string().into()),
                };
                let _ = sender.send(answer);
                None
            }
            Self::Ourselves => Some(reply),
        }
    }
}

impl Queries {
    pub(super) fn ask(&mut self, reply: oneshot::Sender<AdminReply>) -> CallId {
        self.wait(Asker::Local(reply))
    }

    pub(super) fn ask_ourselves(&mut self) -> CallId {
        self.wait(Asker::Ourselves)
    }

    /// A request carried here by another member. Only a leader answers: it must not travel in circles.
    pub(super) fn carried(
        &mut self,
        json: &[u8],
        leads: bool,
        reply: oneshot::Sender<Reply>,
    ) -> Option<(CallId, AdminRequest)> {
        let asker = Asker::Carried(reply);
        if !leads {
            let text = "the member that was asked does not lead (any more); ask again".into();
            asker.give(AdminReply::Error { kind: AdminErrorKind::NoLeader, text });
            return None;
        }
        match serde_json::from_slice(json) {
            Ok(request) => Some((self.wait(asker), request)),
            Err(error) => {
                let text = error.to_string().into();
                asker.give(AdminReply::Error { kind: AdminErrorKind::Malformed, text });
                None
            }
        }
    }

    fn wait(&mut self, asker: Asker) -> CallId {
        self.last += 1;
        let call = CallId(self.last);
        if self.waiting.len() >= WAITING_MAX {
            // The oldest has waited longest: its asker has most likely given up.
            if let Some((_, oldest)) = self.waiting.pop_first() {
                let text = "too many questions wait for an answer".into();
                oldest.give(AdminReply::Error { kind: AdminErrorKind::Refused, text });
            }
        }
        self.waiting.insert(call, asker);
        call
    }

    pub(super) fn take(&mut self, call: CallId) -> Option<Asker> {
        self.waiting.remove(&call)
    }

    pub(super) fn answer(&mut self, call: CallId, reply: AdminReply) -> Option<AdminReply> {
        self.take(call).and_then(|asker| asker.give(reply))
    }

    /// Whether systemd is to be told that the loop turns.
    pub(super) fn watchdog_is_due(&mut self, now: Moment) -> bool {
        let Some(every) = self.feed_every else { return false };
        if now < self.fed + every / 2 {
            return false;
        }
        self.fed = now;
        true
    }
}
