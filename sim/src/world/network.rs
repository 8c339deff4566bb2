//! The network: who reaches whom on which path, what is lost, late, doubled; first words between two processes.

use super::*;

/// Everything's port.
const PORT: u16 = 7946;
/// Mean length of a burst of losses, in milliseconds.
const BURST_MS: u64 = 1_000;
/// Part of a burst's datagrams that is lost, in percent.
const BURST_LOSS_PERCENT: u8 = 50;

/// Cuts, and who knows whom.
#[derive(Debug)]
pub(super) struct Net {
    size: usize,
    /// Per ordered pair, a bit a path: nothing gets through.
    blocked: Vec<u8>,
    /// Per host, a bit a path: it has lost that network.
    lost: Vec<u8>,
    /// Hosts that reach neither Nova nor the BMCs.
    pub(super) alone: Vec<bool>,
    /// Who does not reach whose BMC.
    pub(super) bmcs: BTreeSet<(Ix, Ix)>,
    /// Per ordered pair: the start of the other that it has spoken with.
    met: Vec<u32>,
    /// Per ordered pair, once there are bursts: when its state ends, in microseconds, odd while it is bad.
    bursts: Vec<u64>,
    datagrams: u64,
    datagram_bytes: u64,
    messages: u64,
    lost_datagrams: u64,
}

impl Net {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            blocked: vec![0; size * size],
            lost: vec![0; size],
            alone: vec![false; size],
            bmcs: BTreeSet::new(),
            met: vec![0; size * size],
            bursts: Vec::new(),
            datagrams: 0,
            datagram_bytes: 0,
            messages: 0,
            lost_datagrams: 0,
        }
    }

    pub(super) fn carries(&self, from: Ix, to: Ix, path: usize) -> bool {
        let bit = 1 << path;
        (self.blocked[from * self.size + to] | self.lost[from] | self.lost[to]) & bit == 0
    }

    pub(super) fn block(&mut self, from: Ix, to: Ix, paths: u8, on: bool) {
        let cell = &mut self.blocked[from * self.size + to];
        *cell = if on { *cell | paths } else { *cell & !paths };
        self.part(from, to);
    }

    pub(super) fn lose(&mut self, host: Ix, paths: u8, on: bool) {
        self.lost[host] = if on { self.lost[host] | paths } else { self.lost[host] & !paths };
        for other in 0..self.size {
            self.part(host, other);
        }
    }

    pub(super) fn mend(&mut self) {
        self.blocked.fill(0);
        self.lost.fill(0);
        self.alone.fill(false);
        self.bmcs.clear();
    }

    /// Their connection is gone: their next words are first words.
    fn part(&mut self, a: Ix, b: Ix) {
        self.met[a * self.size + b] = 0;
        self.met[b * self.size + a] = 0;
    }

    pub(super) fn forget(&mut self, host: Ix) {
        self.met[host * self.size..(host + 1) * self.size].fill(0);
    }

    /// Everybody has spoken with everybody in the life that has that number.
    pub(super) fn acquaint(&mut self, starts: &[u32]) {
        self.met = starts.iter().flat_map(|_| starts).copied().collect();
    }

    pub(super) fn counters(&self) -> [(&'static str, u64); 4] {
        [
            ("datagrams", self.datagrams),
            ("datagram bytes", self.datagram_bytes),
            ("messages", self.messages),
            ("datagrams lost", self.lost_datagrams),
        ]
    }
}

/// Where a host listens on a path.
pub(super) fn address(host: Ix, path: usize) -> SocketAddr {
    let [_, _, high, low] = u32::try_from(host).unwrap_or(0).to_be_bytes();
    SocketAddr::from(([127, 1 + u8::try_from(path).unwrap_or(0), high, low], PORT))
}

/// Who listens there, on which path.
fn listener(address: SocketAddr) -> Option<(Ix, usize)> {
    let SocketAddr::V4(address) = address else { return None };
    let [_, path, high, low] = address.ip().octets();
    Some((usize::from(high) << 8 | usize::from(low), usize::from(path.checked_sub(1)?)))
}

impl World {
    /// Whether processes of both hosts run, and the network between them carries both ways on the first path.
    pub(super) fn connected(&self, a: Ix, b: Ix) -> bool {
        self.speaks(a) && self.speaks(b) && self.net.carries(a, b, 0) && self.net.carries(b, a, 0)
    }

    pub(super) fn speaks(&self, ix: Ix) -> bool {
        let host = &self.hosts[ix];
        host.running && !host.frozen
    }

    /// Whether a host's adapters reach Nova and the BMCs.
    pub(super) fn reaches_services(&self, ix: Ix) -> bool {
        !self.net.alone[ix] && self.net.lost[ix] & 1 == 0
    }

    /// First words between two processes: both learn of each other.
    pub(super) fn meet(&mut self, a: Ix, b: Ix) {
        let (start_a, start_b) = (self.hosts[a].start, self.hosts[b].start);
        let size = self.net.size;
        if self.net.met[a * size + b] == start_b && self.net.met[b * size + a] == start_a {
            return;
        }
        if !self.connected(a, b) {
            return;
        }
        self.net.met[a * size + b] = start_b;
        self.net.met[b * size + a] = start_a;
        let (peer_a, peer_b) = (self.peer(a), self.peer(b));
        let after = Duration::from_micros(400);
        self.later(a, start_a, after, Input::Connected { peer: (*peer_b).clone(), path: self.paths[0].clone() });
        self.later(b, start_b, after, Input::Connected { peer: (*peer_a).clone(), path: self.paths[0].clone() });
    }

    /// As it introduces itself now.
    pub(super) fn peer(&self, ix: Ix) -> Arc<Peer> {
        self.hosts[ix].card.clone()
    }

    /// To whom an address leads from here, and on which path; `None`: to nobody.
    fn route(&self, from: Ix, to: SocketAddr, member: Option<MemberId>) -> Option<(Ix, usize)> {
        let (target, path) = listener(to)?;
        let host = self.hosts.get(target)?;
        let is_meant = member.is_none_or(|member| member == host.member);
        (is_meant && target != from && host.running && self.net.carries(from, target, path)).then_some((target, path))
    }

    pub(super) fn send_datagram(&mut self, from: Ix, to: SocketAddr, member: MemberId, bytes: Vec<u8>) {
        self.net.datagrams += 1;
        self.net.datagram_bytes += bytes.len() as u64;
        let Some((target, path)) = self.route(from, to, Some(member)) else { return };
        self.meet(from, target);
        let Weather { loss_percent, burst_percent, duplicate_percent, reorder_percent, .. } = self.weather;
        if self.percent(loss_percent)
            || (burst_percent > 0 && self.in_burst(from, target) && self.percent(BURST_LOSS_PERCENT))
        {
            self.net.lost_datagrams += 1;
            return;
        }
        if self.percent(duplicate_percent) {
            self.datagram_arrives(from, target, path, bytes.clone());
        }
        if self.percent(reorder_percent) {
            let late = self.millis(5, 50);
            self.datagram_after(from, target, path, bytes, late);
        } else {
            self.datagram_arrives(from, target, path, bytes);
        }
    }

    fn datagram_arrives(&mut self, from: Ix, to: Ix, path: usize, bytes: Vec<u8>) {
        let delay = self.delay();
        self.datagram_after(from, to, path, bytes, delay);
    }

    fn datagram_after(&mut self, from: Ix, to: Ix, path: usize, bytes: Vec<u8>, delay: Duration) {
        let (start, from) = (self.hosts[to].start, self.peer(from));
        let path = u8::try_from(path).unwrap_or(0);
        self.schedule(delay, Happening::Datagram { to: to as u32, start, path, from, bytes });
    }

    /// A stream's bytes are sent again until they arrive; a cut ends the connection, and what was on it.
    pub(super) fn send_message(&mut self, from: Ix, to: SocketAddr, member: Option<MemberId>, message: Message) {
        self.net.messages += 1;
        if let Message::Executor(word) = &message {
            self.note_executor(from, word);
        }
        let Some((target, path)) = self.route(from, to, member) else { return };
        self.meet(from, target);
        let mut delay = self.delay();
        let mut losses = 0;
        while losses < 8
            && (self.percent(self.weather.loss_percent)
                || (self.weather.burst_percent > 0 && losses == 0 && self.in_burst(from, target)))
        {
            losses += 1;
            delay += self.millis(30, 120);
        }
        let (start, from) = (self.hosts[target].start, self.peer(from));
        let (to, path, message) = (target as u32, u8::try_from(path).unwrap_or(0), Box::new(message));
        self.schedule(delay, Happening::Message { to, start, path, from, message });
    }

    pub(super) fn delay(&mut self) -> Duration {
        self.millis(1, 4 + u64::from(self.weather.delay_ms))
    }

    pub(super) fn dial(&mut self, from: Ix, seed: &str) {
        let target = seed.parse().ok().and_then(listener).map(|(target, _)| target);
        if let Some(target) = target.filter(|target| *target != from && *target < self.hosts.len()) {
            self.meet(from, target);
        }
    }

    /// Gilbert-Elliott: each ordered pair is in a good state or in a bad one, for times that are known only when asked for.
    fn in_burst(&mut self, from: Ix, to: Ix) -> bool {
        if self.net.bursts.is_empty() {
            self.net.bursts = vec![0; self.net.size * self.net.size];
        }
        let place = from * self.net.size + to;
        let (now, percent) = (self.now.as_micros(), u64::from(self.weather.burst_percent.clamp(1, 99)));
        let known = self.net.bursts[place];
        if known > now {
            return known % 2 == 1;
        }
        let was_bad = known % 2 == 1;
        // Long unasked: as likely bad as it is on the whole. Else the states take turns.
        let is_bad = if known + 4_000_000 < now { self.percent(self.weather.burst_percent) } else { !was_bad };
        let mean_ms = if is_bad { BURST_MS } else { BURST_MS * (100 - percent) / percent };
        let lasts = u64::try_from(self.millis(1, 2 * mean_ms).as_micros()).unwrap_or(0);
        self.net.bursts[place] = (now + lasts) / 2 * 2 + u64::from(is_bad);
        is_bad
    }
}
