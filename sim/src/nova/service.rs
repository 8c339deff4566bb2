//! Compute services enabled and disabled (nova/api/openstack/compute/services.py), and a nova-compute that alone has died.

use rekindle_coordinator::io::NovaAnswer;
use rekindle_coordinator::order::ServiceChange;
use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;

use super::{Moment, Nova};

impl Nova {
    /// Enables or disables a service. The record is written first; then Nova asks the compute, if it holds it for up:
    /// `true` is that it waits for one that is dead.
    pub fn set_service(&mut self, host: &HostName, change: &ServiceChange, now: Moment) -> (NovaAnswer, bool) {
        let mut waits = false;
        if let Some(service) = self.services.get_mut(host) {
            let disabled = match change {
                ServiceChange::Enable => None,
                ServiceChange::Disable { reason } => Some(reason.clone()),
            };
            waits = service.disabled.is_some() != disabled.is_some() && !service.alive && Self::is_up(service, now);
            service.disabled = disabled;
        }
        (NovaAnswer::Service(self.service(host, now)), waits)
    }

    /// Why a service is disabled; `None`: it is enabled.
    #[must_use]
    pub fn disabled_reason(&self, host: &HostName) -> Option<&Text> {
        self.services.get(host).and_then(|service| service.disabled.as_ref())
    }

    /// Only its nova-compute dies, or is there again: guests run on, and what is cast to it waits.
    pub fn set_compute(&mut self, host: &HostName, alive: bool) {
        if let Some(service) = self.services.get_mut(host) {
            service.alive = alive;
        }
    }
}
