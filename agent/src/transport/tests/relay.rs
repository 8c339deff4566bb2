//! A network between two members that can be cut, narrowed and slowed down.

use std::collections::VecDeque;

use tokio::net::UdpSocket;
use tokio::time::sleep_until;

use super::*;

/// Bytes that wait in it, as in a small switch; beyond it packets are lost.
const QUEUE_BYTES: usize = 64 * 1024;
/// Larger than any UDP packet.
const PACKET_BYTES_MAX: usize = 65_536;

#[derive(Debug)]
struct State {
    cut: bool,
    /// Longest packet that passes, in bytes of UDP.
    passes: usize,
    /// Bytes per second towards the listener.
    rate: u64,
    queue: VecDeque<Vec<u8>>,
    dialler: Option<SocketAddr>,
    packets: usize,
    longest_seen: usize,
    too_long: usize,
    /// When the dialler sent its last packet.
    last: Instant,
    /// For how long it sent none, at most, since the cut.
    silence: Duration,
}

/// What is sent to [`Self::address`] gets to the listener, and what that answers, back.
#[derive(Debug, Clone)]
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Relay {
    pub(super) async fn to(listener: SocketAddr, rate: u64) -> Self {
        let near = Arc::new(UdpSocket::bind(loopback(0)).await.expect("binds"));
        let far = Arc::new(UdpSocket::bind(loopback(0)).await.expect("binds"));
        far.connect(listener).await.expect("connects");
        let state = State {
            cut: false,
            passes: PACKET_BYTES_MAX,
            rate,
            queue: VecDeque::new(),
            dialler: None,
            packets: 0,
            longest_seen: 0,
            too_long: 0,
            last: Instant::now(),
            silence: Duration::ZERO,
        };
        let relay = Self { address: near.local_addr().expect("bound"), state: Arc::new(Mutex::new(state)) };
        tokio::spawn(relay.clone().forth(Arc::clone(&near), Arc::clone(&far)));
        tokio::spawn(relay.clone().back(near, far));
        relay
    }

    pub(super) fn cut(&self, cut: bool) {
        let mut state = lock(&self.state);
        (state.cut, state.silence) = (cut, Duration::ZERO);
    }

    pub(super) fn narrow(&self, passes: usize) {
        lock(&self.state).passes = passes;
    }

    /// How many came, in both directions.
    pub(super) fn packets(&self) -> usize {
        lock(&self.state).packets
    }

    /// The longest packet that came, and how many did not pass for their length.
    pub(super) fn lengths(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.longest_seen, state.too_long)
    }

    /// For how long the dialler has sent nothing now, and at most since the cut.
    pub(super) fn silences(&self) -> (Duration, Duration) {
        let state = lock(&self.state);
        (state.last.elapsed(), state.silence)
    }

    fn lets_pass(&self, length: usize) -> bool {
        let mut state = lock(&self.state);
        state.packets += 1;
        state.longest_seen = state.longest_seen.max(length);
        state.too_long += usize::from(length > state.passes);
        !state.cut && length <= state.passes
    }

    async fn forth(self, near: Arc<UdpSocket>, far: Arc<UdpSocket>) {
        let mut free_at = tokio::time::Instant::now();
        let mut bytes = vec![0; PACKET_BYTES_MAX];
        loop {
            let waits = !lock(&self.state).queue.is_empty();
            tokio::select! {
                received = near.recv_from(&mut bytes) => {
                    let Ok((length, from)) = received else { return };
                    let passes = self.lets_pass(length);
                    let mut state = lock(&self.state);
                    state.silence = state.silence.max(state.last.elapsed());
                    state.last = Instant::now();
                    state.dialler = Some(from);
                    let waiting: usize = state.queue.iter().map(Vec::len).sum();
                    if passes && waiting + length <= QUEUE_BYTES {
                        state.queue.push_back(bytes[..length].to_vec());
                    }
                }
                () = sleep_until(free_at), if waits => {
                    let (packet, rate) = {
                        let mut state = lock(&self.state);
                        (state.queue.pop_front().unwrap_or_default(), state.rate)
                    };
                    // A link that was idle has saved up nothing.
                    let begins = free_at.max(tokio::time::Instant::now() - Duration::from_millis(2));
                    free_at = begins + Duration::from_micros(packet.len() as u64 * 1_000_000 / rate);
                    // Nobody listens any more: that is a loss like any other.
                    let _ = far.send(&packet).await;
                }
            }
        }
    }

    async fn back(self, near: Arc<UdpSocket>, far: Arc<UdpSocket>) {
        let mut bytes = vec![0; PACKET_BYTES_MAX];
        while let Ok(length) = far.recv(&mut bytes).await {
            let dialler = lock(&self.state).dialler;
            if let Some(dialler) = dialler.filter(|_| self.lets_pass(length)) {
                // As above.
                let _ = near.send_to(&bytes[..length], dialler).await;
            }
        }
    }
}
