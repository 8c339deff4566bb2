//! A nova-compute that alone has died, and what becomes of calls that ask it.

use rekindle_coordinator::order::ServiceChange;
use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;

use super::{Cast, Moment, Nova};

impl Nova {
    /// Whether Nova, told so, asks a compute that is dead and that it holds for up, and waits for it
    /// (nova/compute/api.py, `_update_compute_provider_status`). The record is written first.
    #[must_use]
    pub fn asks_the_dead(&self, host: &HostName, change: &ServiceChange, now: Moment) -> bool {
        let Some(service) = self.services.get(host) else { return false };
        let changes = match change {
            ServiceChange::Enable => service.disabled.is_some(),
            ServiceChange::Disable { .. } => service.disabled.is_none(),
            // A forced-down service is not asked: it is not up.
            ServiceChange::LetBack => false,
        };
        changes && !service.alive && Self::is_up(service, now)
    }

    /// Why a service is disabled; `None`: it is enabled.
    #[must_use]
    pub fn disabled_reason(&self, host: &HostName) -> Option<&Text> {
        self.services.get(host).and_then(|service| service.disabled.as_ref())
    }

    /// Only its nova-compute dies: guests run on, and what is cast to it waits.
    pub fn compute_fails(&mut self, host: &HostName) {
        if let Some(service) = self.services.get_mut(host) {
            service.alive = false;
        }
    }

    /// It is there again. Gives back what it finds in its queue.
    #[must_use]
    pub fn compute_runs(&mut self, host: &HostName) -> Vec<Cast> {
        let Some(service) = self.services.get_mut(host) else { return Vec::new() };
        service.alive = true;
        std::mem::take(&mut service.queue)
    }
}
