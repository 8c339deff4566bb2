//! What would become of a host's servers if it died now: `rekindle why` reads Nova's list before it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::admin::AdminReply;
use rekindle_proto::fact::{NovaError, NovaServer, Text};
use rekindle_proto::id::{CallId, HostName};

use super::{Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::time::Moment;
use crate::view;

/// How long Nova's list is waited for: a person waits for the answer, and it is worth having without it.
const WITHIN: Duration = Duration::from_secs(5);

/// Questions waiting for a list at once; further ones are answered without one.
const ASKING_MAX: usize = 16;

/// Questions by their numbers: about which host, and until when Nova's list is waited for.
pub(super) type Forecasts = BTreeMap<CallId, (HostName, Moment)>;

impl Leader {
    /// An operator asks. A host for which nothing would be done is answered at once.
    pub(crate) fn forecast(&mut self, cx: &mut Context<'_>, query: CallId, host: HostName) {
        let reply = view::why(cx, self, &host, Err("Nova was not asked"));
        let is_protected = matches!(&reply, AdminReply::Why { why } if why.protected);
        if !is_protected || self.forecasts.len() >= ASKING_MAX {
            cx.out.push(Output::Answer { call: query, reply: Box::new(reply) });
            return;
        }
        let call = cx.out.call();
        cx.out.push(Output::Nova { call, request: NovaRead::Servers(host.clone()) });
        self.nova.insert(call, NovaCall::Forecast(query));
        let until = cx.now.mono + WITHIN;
        self.forecasts.insert(query, (host, until));
        self.wake_at(until);
    }

    pub(super) fn take_forecast(&mut self, cx: &mut Context<'_>, query: CallId, result: Result<NovaAnswer, NovaError>) {
        match result {
            Ok(NovaAnswer::Servers(servers)) => self.answer_forecast(cx, query, Ok(&servers)),
            Ok(_) => self.answer_forecast(cx, query, Err("Nova answered another question")),
            Err(error) => self.answer_forecast(cx, query, Err(Text::new(error.to_string()).as_str())),
        }
    }

    /// Those that Nova has kept waiting too long.
    pub(super) fn drive_forecasts(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let late: Vec<CallId> =
            self.forecasts.iter().filter(|(_, (_, until))| *until <= now).map(|(query, _)| *query).collect();
        for query in late {
            self.answer_forecast(cx, query, Err("Nova does not answer"));
        }
        if let Some(next) = self.forecasts.values().map(|(_, until)| *until).min() {
            self.wake_at(next);
        }
    }

    fn answer_forecast(&mut self, cx: &mut Context<'_>, query: CallId, servers: Result<&[NovaServer], &str>) {
        let Some((host, _)) = self.forecasts.remove(&query) else { return };
        let reply = Box::new(view::why(cx, self, &host, servers));
        cx.out.push(Output::Answer { call: query, reply });
    }
}
