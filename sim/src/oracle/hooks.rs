//! I5, I8: a hook of the site is run once for an incident, whoever leads; and few at once.

use rekindle_coordinator::hook::HookOrder;
use rekindle_coordinator::time::Moment;
use rekindle_proto::id::HostName;

use super::{HOOKS_AT_ONCE, Oracle, Violation};

impl Oracle {
    /// A leader runs a hook, which will end then.
    ///
    /// # Errors
    /// It was run before for this incident, or too many run beside it.
    pub(crate) fn hook_run(
        &mut self,
        now: Moment,
        by: (&HostName, u32),
        order: &HookOrder,
        ends: Moment,
    ) -> Result<(), Violation> {
        let (leader, start) = by;
        let document = order.document();
        let key = (document.incident, document.on, order.hook());
        if let Some(first) = self.hooks.insert(key, leader.clone()) {
            let intent = format!("the {} hook {} of incident {}", document.on, order.hook(), document.incident);
            return Err(Violation::TwoLeaders { a: first, b: leader.clone(), intent });
        }
        let running = self.hooks_running.entry((leader.clone(), start)).or_default();
        running.retain(|ends| *ends > now);
        running.push(ends);
        if running.len() > HOOKS_AT_ONCE {
            return Err(Violation::Unbounded { host: leader.clone(), what: "hooks at once", found: running.len() });
        }
        Ok(())
    }
}
