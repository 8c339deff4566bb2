//! What operators ask, and what they order.

use rekindle_proto::admin::{AdminErrorKind, AdminReply, AdminRequest, SignedOrder};
use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, HostName, MemberId};

use super::{Coordinator, context};
use crate::context::Context;
use crate::io::{Output, ProposeError};
use crate::leader::Leader;
use crate::ledger::{LEDGER_FORMAT, Ledger, LiftTarget, OperatorCommand, Outcome, verify_order};
use crate::policy::Setup;
use crate::time::Now;
use crate::view;

impl Coordinator {
    pub(super) fn query(&mut self, now: Now, call: CallId, request: AdminRequest) {
        if matches!(request, AdminRequest::Members) {
            let members = view::members(&self.context(now));
            self.answer(call, AdminReply::Members { members });
            return;
        }
        let request = match request {
            AdminRequest::Gate { host, boot } => AdminRequest::Gate {
                host: Some(host.unwrap_or_else(|| self.setup.host.clone())),
                boot: Some(boot.unwrap_or(self.setup.boot)),
            },
            AdminRequest::Status
            | AdminRequest::Members
            | AdminRequest::Incidents
            | AdminRequest::Incident { .. }
            | AdminRequest::Why { .. }
            | AdminRequest::FenceTest { .. }
            | AdminRequest::Brakes
            | AdminRequest::Voters
            | AdminRequest::Capacity { .. }
            | AdminRequest::Segments
            | AdminRequest::Submit { .. } => request,
        };
        if self.confirmed_term().is_none() {
            self.query_elsewhere(now, call, request);
            return;
        }
        let Self { setup, ledger, membership, further, heard, out, leader: Some(leader), member, .. } = self else {
            return;
        };
        let mut cx = context(setup, ledger, (membership, further), heard, out, now);
        let reply = match request {
            AdminRequest::Status | AdminRequest::Members => {
                AdminReply::Status { status: Box::new(view::status(&cx, member, Some(leader))) }
            }
            AdminRequest::Incidents => AdminReply::Incidents { incidents: view::incidents(&cx) },
            AdminRequest::Incident { id } => view::incident(&cx, leader, id),
            AdminRequest::Brakes => AdminReply::Brakes { brakes: Box::new(view::brakes(&cx, leader)) },
            AdminRequest::Why { host } => {
                leader.forecast(&mut cx, call, host);
                return;
            }
            AdminRequest::Voters => AdminReply::Voters { voters: leader.voters_doc(&cx) },
            AdminRequest::Capacity { lose, host } => {
                leader.ask_capacity(&mut cx, call, lose, host);
                return;
            }
            AdminRequest::Segments => AdminReply::Segments { segments: Box::new(view::segments(&cx)) },
            AdminRequest::FenceTest { host } => {
                leader.fence_test(&mut cx, call, host);
                return;
            }
            AdminRequest::Gate { host, boot } => {
                let (host, boot) = (host.unwrap_or_else(|| setup.host.clone()), boot.unwrap_or(setup.boot));
                leader.ask_gate(&mut cx, call, host, boot);
                return;
            }
            AdminRequest::Submit { order } => match admit_order(&cx, leader, &order) {
                Err(why) => AdminReply::Error { kind: AdminErrorKind::Refused, text: why },
                Ok(raises) => {
                    leader.submit(&mut cx, call, order, raises);
                    return;
                }
            },
        };
        self.answer(call, reply);
    }

    /// We do not lead: somebody else answers, or nobody can.
    pub(super) fn query_elsewhere(&mut self, now: Now, call: CallId, request: AdminRequest) {
        let leader = self.member.leader(now.mono).filter(|leader| **leader != self.setup.host).cloned();
        if let Some(leader) = leader {
            let member = MemberId::of(&leader);
            if let Some(to) = self.context(now).address(&leader) {
                self.out.push(Output::Relay { call, to, member, request });
                return;
            }
        }
        let reply = if matches!(request, AdminRequest::Status) {
            let Self { setup, ledger, membership, further, heard, out, member, .. } = self;
            let cx = context(setup, ledger, (membership, further), heard, out, now);
            AdminReply::Status { status: Box::new(view::status(&cx, member, None)) }
        } else {
            let text = "no leader is known here now; nothing was done. Look at `rekindle members`".into();
            AdminReply::Error { kind: AdminErrorKind::NoLeader, text }
        };
        self.answer(call, reply);
    }

    pub(super) fn answer(&mut self, call: CallId, reply: AdminReply) {
        self.out.push(Output::Answer { call, reply: Box::new(reply) });
    }
}

/// Checked before it is proposed, so that a refusal is answered at once, and so that nobody's first roster brings
/// another CA than the one this daemon was configured with. Gives back the format that it raises the ledger to, if it does.
fn admit_order(cx: &Context<'_>, leader: &Leader, order: &SignedOrder) -> Result<Option<u32>, Text> {
    let refused = |text: String| Err(Text::new(text));
    let (setup, ledger) = (cx.setup, cx.ledger);
    let verified = verify_order(order, &ledger.cluster, &ledger.operator_ca, cx.now.wall)
        .map_err(|error| Text::new(error.to_string()))?;
    match verified.order.command {
        OperatorCommand::Init { ca, .. } if ca != setup.operator_ca => {
            refused("the CA in the order is not the CA this cluster's daemons are configured with".to_owned())
        }
        // A new cluster has no past: it begins with the newest format.
        OperatorCommand::Init { .. } => Ok(Some(LEDGER_FORMAT)),
        OperatorCommand::RaiseFormat { to } => leader.may_raise_format(cx, to).map(|()| Some(to)),
        OperatorCommand::RecoverQuorum(_) => refused(
            "a quorum is recovered on the survivor's host, its daemon stopped: `rekindle recover-quorum`".to_owned(),
        ),
        OperatorCommand::Forget { host } if votes(setup, ledger, &host) => {
            refused(format!("{host} votes: give its vote to another first"))
        }
        OperatorCommand::DisarmFor { .. }
        | OperatorCommand::Enroll { .. }
        | OperatorCommand::Forget { .. }
        | OperatorCommand::Arm(_)
        | OperatorCommand::Maintenance { .. }
        | OperatorCommand::Resume { .. }
        | OperatorCommand::Release { .. }
        | OperatorCommand::ReplaceVoter { .. }
        | OperatorCommand::LiftBrake { target: LiftTarget::Incident(_) } => Ok(None),
        // Before there is an incident, only a verdict that is being held: nobody's brakes are lifted in advance.
        OperatorCommand::LiftBrake { target: LiftTarget::Host(host) } => {
            let silent = leader.suspects().any(|suspect| *suspect.host == host);
            if silent || ledger.open_incident(&host).is_some() {
                return Ok(None);
            }
            refused(format!("{host} is not silent: nothing holds a verdict on it"))
        }
        OperatorCommand::ConfirmOff { .. } | OperatorCommand::Segment(_) | OperatorCommand::Rehearse { .. } => Ok(None),
    }
}

/// Whether a host votes, as agreed, or as configured before that.
fn votes(setup: &Setup, ledger: &Ledger, host: &HostName) -> bool {
    let agreed = &ledger.voters.voters;
    if agreed.is_empty() { setup.voters.contains(host) } else { agreed.contains_key(host) }
}

pub(super) fn order_reply(result: Result<Outcome, ProposeError>) -> AdminReply {
    match result {
        Ok(Outcome::Applied { text, .. }) => AdminReply::Committed { text },
        Ok(Outcome::Refused { why }) => AdminReply::Error { kind: AdminErrorKind::Refused, text: why },
        Err(ProposeError::NotLeader) => AdminReply::Error {
            kind: AdminErrorKind::NoLeader,
            text: "leadership was lost before the order was committed; nothing was done".into(),
        },
        Err(ProposeError::Unknown) => AdminReply::Error {
            kind: AdminErrorKind::Unknown,
            text: "no answer from a quorum; the order may yet be committed: look at `rekindle status`".into(),
        },
    }
}
