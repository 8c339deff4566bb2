//! What may be written to the ledger, by whom. The submitter is the type: a member's entry can hold nothing but that
//! member's own statement, whoever forwards it.

mod leader;
mod member;
mod operator;
mod records;

use rekindle_proto::admin::SignedOrder;
use rekindle_proto::id::{BootId, HostName, Term, WallTime};
use serde::{Deserialize, Serialize};

use super::{FORMAT_WITHOUT_EXECUTORS, LEDGER_FORMAT};

pub use leader::LeaderCommand;
pub use member::MemberStatement;
pub use operator::{OperatorCommand, OperatorOrder, QuorumRecovery};
pub(in crate::ledger) use records::priority_default;
pub use records::{Fate, IntentEnd, OffReads, PlannedServer, ProofRecord, TestimonyRecord, VerdictRecord};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The ledger format it is written in, at most [`LEDGER_FORMAT`].
    pub format: u32,
    /// When it was proposed, on the then leader's wall clock. For the story and for certificates.
    pub at: WallTime,
    /// Who says it, and what.
    pub statement: Statement,
}

impl Entry {
    /// An entry in the oldest format that can say it: a voter that has not been upgraded yet reads what it knows.
    #[must_use]
    pub fn new(at: WallTime, statement: Statement) -> Self {
        let is_of_executors =
            matches!(statement, Statement::Leader { command: LeaderCommand::FenceIntentBy { .. }, .. });
        let format = if is_of_executors { LEDGER_FORMAT } else { FORMAT_WITHOUT_EXECUTORS };
        Self { format, at, statement }
    }
}

/// Who says it, and what: each submitter has its own vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statement {
    /// The leader of that term. Refused if the entry was committed in another term.
    Leader {
        /// Which host led.
        host: HostName,
        /// In which term.
        term: Term,
        /// What.
        command: LeaderCommand,
    },
    /// A member of the roster, about itself. The leader vouches that it came over that member's own connection.
    Member {
        /// Who.
        host: HostName,
        /// In which boot.
        boot: BootId,
        /// What.
        statement: MemberStatement,
    },
    /// An operator. Checked by every voter: certificate, role, cluster, signature, age, repetition.
    Operator(SignedOrder),
}
