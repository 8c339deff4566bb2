//! The network: who reaches whom, what is lost, first words between two processes.

use super::*;

impl World {
    /// Whether processes of both hosts run and the network between them carries.
    pub(super) fn connected(&self, a: &HostName, b: &HostName) -> bool {
        let speaks = |host: &HostName| {
            self.hosts.get(host).is_some_and(|host| host.coordinator.is_some() && !host.frozen && !host.cut)
        };
        speaks(a) && speaks(b)
    }

    pub(super) fn peer(&self, name: &HostName) -> Option<Peer> {
        let host = self.hosts.get(name)?;
        let incarnation = host.incarnation;
        Some(Peer { host: name.clone(), boot: host.boot, incarnation, address: host.address })
    }

    /// First words between two processes: both learn of each other.
    pub(super) fn meet(&mut self, a: &HostName, b: &HostName) {
        let (Some(start_a), Some(start_b)) =
            (self.hosts.get(a).map(|host| host.starts), self.hosts.get(b).map(|host| host.starts))
        else {
            return;
        };
        let is_new = self.hosts.get_mut(a).is_some_and(|host| host.met.insert((b.clone(), start_b)));
        if !is_new {
            return;
        }
        if let Some(host) = self.hosts.get_mut(b) {
            host.met.insert((a.clone(), start_a));
        }
        if let (Some(peer_a), Some(peer_b)) = (self.peer(a), self.peer(b)) {
            self.later(a, Duration::from_micros(400), Input::Connected { peer: peer_b });
            self.later(b, Duration::from_micros(400), Input::Connected { peer: peer_a });
        }
    }

    pub(super) fn deliver(
        &mut self,
        from: &HostName,
        to: SocketAddr,
        member: Option<MemberId>,
        lossy: bool,
        input: impl Fn(Peer) -> Input,
    ) {
        let Some(target) = self.addresses.get(&to).cloned() else { return };
        if member.is_some_and(|member| member != MemberId::of(&target))
            || target == *from
            || self.hosts.get(from).is_some_and(|host| host.mute)
            || !self.connected(from, &target)
        {
            return;
        }
        self.meet(from, &target);
        if lossy && self.percent(self.weather.loss_percent) {
            return;
        }
        let Some(peer) = self.peer(from) else { return };
        let delay = self.millis(1, 4);
        self.later(&target, delay, input(peer));
    }
}
