//! Fence attempts that a voter executes for the leader: which of us takes which word.

use rekindle_proto::executor::ExecutorWord;
use rekindle_proto::fact::{DeviceReading, OrderError};
use rekindle_proto::id::{CallId, HostName};

use super::{Coordinator, context};
use crate::context::Context;
use crate::executor::{Executor, Hint};
use crate::time::Now;

impl Coordinator {
    pub(super) fn executor_word(&mut self, now: Now, from: &HostName, word: ExecutorWord) {
        match &word {
            ExecutorWord::Task { .. } | ExecutorWord::Go { .. } | ExecutorWord::Read { .. } => {
                self.with_executor(now, |executor, cx, hint| executor.word(cx, hint, from, word));
            }
            ExecutorWord::MayI { .. }
            | ExecutorWord::Refused { .. }
            | ExecutorWord::Done { .. }
            | ExecutorWord::Reading { .. } => {
                self.with_leader(now, |leader, cx| leader.executor_word(cx, from, word));
            }
        }
    }

    pub(super) fn executed_reading(&mut self, now: Now, call: CallId, reading: &DeviceReading) -> bool {
        self.with_executor(now, |executor, cx, _| executor.read(cx, call, reading))
    }

    pub(super) fn executed_order(&mut self, now: Now, call: CallId, result: &Result<(), OrderError>) -> bool {
        self.with_executor(now, |executor, cx, _| executor.ordered(cx, call, result))
    }

    fn with_executor<T>(&mut self, now: Now, act: impl FnOnce(&mut Executor, &mut Context<'_>, Hint<'_>) -> T) -> T {
        let Self { setup, ledger, membership, further, heard, out, executor, voter, .. } = self;
        act(executor, &mut context(setup, ledger, (membership, further), heard, out, now), voter.hint())
    }
}
