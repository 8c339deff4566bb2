//! The site's hooks. A hook's begin is committed before it is run, by the very leadership that runs it; whoever succeeds
//! finds it begun, says that its outcome is unknown, and does not run it again. A hook delays, or holds; it permits nothing:
//! whatever follows is judged as if there were no hooks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::hook::HookPoint;
use rekindle_proto::id::{CallId, IncidentId};
use rekindle_proto::status::Phase;

use super::Leader;
use super::proposals::Key;
use crate::context::Context;
use crate::hook::{HOOKS_MAX, HookOrder, HookRule, document};
use crate::io::Output;
use crate::ledger::{HookEnd, Incident, LeaderCommand};
use crate::policy::Setup;
use crate::time::Moment;

/// Hooks run at once, over all incidents: a rack's failure must not start a hundred programs on one host.
const HOOKS_AT_ONCE: usize = 4;

/// After a hook's time-out, before an adapter that has not answered is given up.
const ANSWER_GRACE: Duration = Duration::from_secs(10);

/// One hook of one incident.
type HookKey = (IncidentId, HookPoint, u8);

#[derive(Debug, Default)]
pub(super) struct HookDesk {
    running: BTreeMap<CallId, (HookKey, Moment)>,
    /// Started by this leadership: none is started twice, whatever becomes of its answer.
    started: BTreeSet<HookKey>,
    /// Ended, and not yet in the ledger.
    ended: BTreeMap<HookKey, (HookEnd, Text)>,
    /// Seen open by this leadership, or closed by another that owes hooks: only their end is told, not that of incidents
    /// long closed.
    watched: BTreeSet<IncidentId>,
}

/// Whether any hook is run once an incident is over.
pub(super) fn hooks_at_the_end(setup: &Setup) -> bool {
    setup.policy.hooks.iter().any(|rule| match rule.on {
        HookPoint::AfterEvacuate | HookPoint::Recovered => true,
        HookPoint::BeforeFence | HookPoint::AfterFence | HookPoint::BeforeEvacuate | HookPoint::Stuck => false,
    })
}

/// Where the hooks of one point stand.
enum Standing {
    Passed,
    Waits(Text),
    Holds(Text),
}

impl Leader {
    /// Everything about hooks that nothing waits for.
    pub(super) fn drive_hooks(&mut self, cx: &mut Context<'_>) {
        let owing = cx.ledger.incidents.values().filter(|incident| incident.owes_hooks).map(|incident| incident.id);
        let owing: Vec<IncidentId> = owing.collect();
        if cx.setup.policy.hooks.is_empty() {
            // The configuration that owed them is gone.
            for incident in owing {
                self.command(cx, Key::HooksOver(incident), LeaderCommand::HooksOver { incident });
            }
            return;
        }
        self.give_up_hooks(cx.now.mono);
        for ((incident, on, hook), (end, text)) in self.hooks.ended.clone() {
            let record = cx.ledger.incidents.get(&incident).map(|incident| &incident.hooks);
            let is_open = record.is_some_and(|records| {
                records.iter().any(|record| (record.on, record.hook) == (on, hook) && record.end.is_none())
            });
            if is_open {
                let command = LeaderCommand::EndHook { incident, on, hook, end, text };
                self.command(cx, Key::Hook(incident, on), command);
            } else {
                self.hooks.ended.remove(&(incident, on, hook));
            }
        }
        self.hooks.watched.extend(cx.ledger.open_incidents().map(|incident| incident.id));
        // Closed by a leader that did not come to run them.
        self.hooks.watched.extend(owing);
        self.end_orphans(cx);
        for id in self.hooks.watched.clone() {
            let Some(incident) = cx.ledger.incidents.get(&id) else {
                self.hooks.watched.remove(&id);
                continue;
            };
            let points: &[HookPoint] = match incident.phase {
                Phase::Suspect | Phase::Unclean | Phase::Fencing | Phase::Refuted => &[],
                Phase::Fenced => &[HookPoint::AfterFence],
                Phase::Evacuating if incident.servers.values().any(|server| server.fate.is_none()) => {
                    &[HookPoint::AfterFence]
                }
                Phase::Evacuating => &[HookPoint::AfterFence, HookPoint::AfterEvacuate],
                Phase::Recovered => &[HookPoint::AfterEvacuate, HookPoint::Recovered],
                Phase::Stuck => &[HookPoint::Stuck],
            };
            let mut passed = true;
            for on in points {
                passed &= matches!(self.stand(cx, incident, *on), Standing::Passed);
            }
            if passed && incident.owes_hooks {
                self.command(cx, Key::HooksOver(id), LeaderCommand::HooksOver { incident: id });
            } else if passed && !incident.is_open() {
                self.hooks.watched.remove(&id);
            }
        }
        let incidents = &cx.ledger.incidents;
        self.hooks.started.retain(|(id, ..)| incidents.contains_key(id));
    }

    /// Whether the incident may go on past this point, as far as hooks are concerned.
    pub(super) fn hooks_let(&mut self, cx: &mut Context<'_>, incident: &Incident, on: HookPoint) -> bool {
        if cx.setup.policy.hooks.iter().all(|rule| rule.on != on) {
            return true;
        }
        // None is begun while anything else holds what it stands before.
        let begun = incident.hooks.iter().filter(|record| record.on == on).count();
        let all = cx.setup.policy.hooks.iter().filter(|rule| rule.on == on).count();
        if begun < all
            && let Err(hold) = self.permit(cx, &incident.host)
        {
            self.hold(cx.now.mono, incident.id, hold.to_string());
            return false;
        }
        match self.stand(cx, incident, on) {
            Standing::Passed => true,
            Standing::Waits(why) => {
                self.hold(cx.now.mono, incident.id, why);
                false
            }
            Standing::Holds(why) => {
                let why = Text::new(format!("{why}; `rekindle resume {}` goes on without it", incident.id));
                self.command(cx, Key::Incident(incident.id), LeaderCommand::Stick { incident: incident.id, why });
                false
            }
        }
    }

    /// Whether what follows a proof waits for the hooks after it.
    pub(super) fn after_fence_lets(&mut self, cx: &mut Context<'_>, incident: &Incident) -> bool {
        let holds = |rule: &HookRule| rule.on == HookPoint::AfterFence && rule.hold;
        !cx.setup.policy.hooks.iter().any(holds) || self.hooks_let(cx, incident, HookPoint::AfterFence)
    }

    pub(crate) fn hook_done(&mut self, call: CallId, result: Result<Text, Text>) {
        let Some((key, _)) = self.hooks.running.remove(&call) else { return };
        let end = match result {
            Ok(text) => (HookEnd::Done, text),
            Err(text) => (HookEnd::Failed, text),
        };
        self.hooks.ended.insert(key, end);
        self.touch();
    }

    /// The hooks of one point, one after the other in the order of the configuration.
    fn stand(&mut self, cx: &mut Context<'_>, incident: &Incident, on: HookPoint) -> Standing {
        let setup = cx.setup;
        for (position, rule) in setup.policy.hooks.iter().enumerate().filter(|(_, rule)| rule.on == on) {
            let Ok(hook) = u8::try_from(position) else { continue };
            let waits = || {
                let seconds = rule.timeout.as_secs();
                Standing::Waits(Text::new(format!("waiting for the {on} hook {} (at most {seconds} s)", rule.program)))
            };
            let key = (incident.id, on, hook);
            let Some(record) = incident.hooks.iter().find(|record| (record.on, record.hook) == (on, hook)) else {
                if incident.hooks.len() >= HOOKS_MAX {
                    // Only where the configuration changed under the incident: the ledger takes no more of its hooks.
                    if rule.hold && incident.phase != Phase::Stuck {
                        return Standing::Holds(Text::new(format!("{on} hook {} was not run", rule.program)));
                    }
                    continue;
                }
                if self.hooks_under_way(cx) < HOOKS_AT_ONCE {
                    let program = Text::new(rule.program.clone());
                    let (incident, author) = (incident.id, self.author);
                    let command = LeaderCommand::BeginHook { incident, on, hook, program, author };
                    self.command(cx, Key::Hook(incident, on), command);
                }
                return waits();
            };
            if record.end.is_none() {
                if record.author == self.author && self.hooks.started.insert(key) {
                    let call = cx.out.call();
                    let order = HookOrder::new(call, hook, rule, document(cx, incident, on));
                    let until = cx.now.mono + rule.timeout + ANSWER_GRACE;
                    self.hooks.running.insert(call, (key, until));
                    self.wake_at(until);
                    cx.out.push(Output::RunHook(order));
                }
                return waits();
            }
            if rule.hold && record.failed() {
                return Standing::Holds(record.text.clone());
            }
        }
        Standing::Passed
    }

    /// Hooks that we have begun, or are about to: also those whose begin is not committed yet.
    fn hooks_under_way(&self, cx: &Context<'_>) -> usize {
        let records = cx.ledger.incidents.values().flat_map(|incident| &incident.hooks);
        let begun = records.filter(|record| record.end.is_none() && record.author == self.author).count();
        begun + self.proposals.hooks()
    }

    /// Hooks begun by a leader that is gone.
    fn end_orphans(&mut self, cx: &mut Context<'_>) {
        let author = self.author;
        for incident in cx.ledger.incidents.values() {
            for record in incident.hooks.iter().filter(|record| record.end.is_none() && record.author != author) {
                let (incident, on, hook) = (incident.id, record.on, record.hook);
                let text = "the leader that began it is gone; it is not run again".into();
                let command = LeaderCommand::EndHook { incident, on, hook, end: HookEnd::Unknown, text };
                self.command(cx, Key::Hook(incident, on), command);
            }
        }
    }

    fn give_up_hooks(&mut self, now: Moment) {
        let overdue = |(_, (_, until)): &(&CallId, &(HookKey, Moment))| *until <= now;
        let calls: Vec<CallId> = self.hooks.running.iter().filter(overdue).map(|(call, _)| *call).collect();
        for call in calls {
            self.hook_done(call, Err("nothing was heard of it after its time-out".into()));
        }
        if let Some(next) = self.hooks.running.values().map(|(_, until)| *until).min() {
            self.wake_at(next);
        }
    }
}
