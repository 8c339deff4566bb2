//! What lives at a host whose daemon is silent, by ground truth.

use rekindle_proto::fact::LifeSign;

use super::*;

/// What lives, or seems to, other than it should.
#[derive(Debug, Default)]
pub(super) struct LifeFaults {
    hung: BTreeSet<Ix>,
    answers_for_the_dead: bool,
    /// Whose crash kernel runs: from when on it speaks, and until when.
    pub(super) dumps: BTreeMap<Ix, (Moment, Moment)>,
}

impl LifeFaults {
    pub(super) fn is_hung(&self, host: Ix) -> bool {
        self.hung.contains(&host)
    }
}

impl World {
    /// All processes of a host hang (no disk answers): its kernel goes on, its guests and its daemon do not. Or they go on.
    pub fn hang(&mut self, host: &HostName, on: bool) {
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("the processes of {host} {}", if on { "hang" } else { "go on" }));
        self.count(if on { "hung" } else { "unhung" });
        if on {
            self.crash_daemon(host);
            self.oracle.cause(host, "its processes hung");
            self.life.hung.insert(ix);
        } else {
            self.life.hung.remove(&ix);
        }
    }

    /// From now on a firewall answers for every host, dead or alive: port unreachable, reset.
    pub fn answer_for_the_dead(&mut self, on: bool) {
        self.tell(if on { "something answers for the dead" } else { "nothing answers for the dead any more" });
        self.life.answers_for_the_dead = on;
        self.oracle.causes_of_all.insert("something answered for the dead");
    }

    /// What a member sees there within its time.
    pub(super) fn look_for_life(
        &mut self,
        from: Ix,
        host: &HostName,
        address: SocketAddr,
        ports: &[u16],
        within: Duration,
    ) -> (Duration, Vec<LifeSign>) {
        let Some(target) = self.ix(host).filter(|target| self.hosts[*target].addresses.contains(&address)) else {
            return (within, Vec::new());
        };
        let carries = self.net.carries(from, target, 0) && self.net.carries(target, from, 0);
        let own_network = self.net.carries(from, from, 0);
        let there = &self.hosts[target];
        let mut signs = Vec::new();
        if carries && there.has_kernel() {
            if !there.running {
                signs.push(LifeSign::PortUnreachable);
            }
            if !self.life.is_hung(target) {
                signs.extend(ports.iter().map(|port| LifeSign::Banner { port: *port }));
            }
        } else if carries && self.dumps(target) {
            signs.push(LifeSign::PortUnreachable);
        } else if self.life.answers_for_the_dead && own_network {
            signs.push(LifeSign::PortUnreachable);
            signs.extend(ports.iter().map(|port| LifeSign::Reset { port: *port }));
        }
        // A refusal comes at once; silence is waited out.
        (if signs.is_empty() { within } else { self.millis(1, 4) }, signs)
    }
}
