//! Listens for crash kernels: what `fence_kdump_send` says while a dump is written.
//!
//! A packet is eight bytes, two numbers of 32 bits in the sender's own order of bytes: a magic number, and the version of the
//! message (fence-agents, `agents/kdump/message.h`). It says nothing else, and anybody can send it: whose it is is its address.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rekindle_coordinator::io::Input;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The port of `fence_kdump` and `fence_kdump_send`, by default (fence_kdump(8)).
pub const PORT: u16 = 7410;

const MAGIC: u32 = 0x1B30_2A40;
const VERSION: u32 = 1;

/// Of one address a word in this time is taken: they come every 10 s, and a flood must not fill the loop.
const WORD_EVERY: Duration = Duration::from_secs(1);

/// Addresses of which that is remembered; beyond it nothing new is taken until some are old.
const ADDRESSES_MAX: usize = 256;

/// Listens until the daemon stops.
///
/// # Errors
/// If the port cannot be had: another program waits for crash kernels here.
pub async fn listen(address: SocketAddr, inputs: mpsc::Sender<Input>) -> std::io::Result<()> {
    let socket = UdpSocket::bind(address).await?;
    tokio::spawn(async move {
        let mut heard = Heard::default();
        let mut bytes = [0; 64];
        loop {
            match socket.recv_from(&mut bytes).await {
                Ok((length, from)) if is_word(bytes.get(..length).unwrap_or_default()) => {
                    let from = from.ip().to_canonical();
                    if heard.takes(from, Instant::now()) && inputs.send(Input::KdumpWord { from }).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "words of crash kernels"),
            }
        }
    });
    Ok(())
}

/// Whether these are the eight bytes, of a machine of either order of bytes.
fn is_word(bytes: &[u8]) -> bool {
    let Ok(bytes) = <[u8; 8]>::try_from(bytes) else { return false };
    let [a, b, c, d, e, f, g, h] = bytes;
    let numbers = |read: fn([u8; 4]) -> u32| (read([a, b, c, d]), read([e, f, g, h]));
    [numbers(u32::from_le_bytes), numbers(u32::from_be_bytes)].contains(&(MAGIC, VERSION))
}

/// Who was heard a moment ago.
#[derive(Debug, Default)]
struct Heard(BTreeMap<IpAddr, Instant>);

impl Heard {
    fn takes(&mut self, from: IpAddr, now: Instant) -> bool {
        self.0.retain(|_, at| now.duration_since(*at) < WORD_EVERY);
        let is_new = self.0.len() < ADDRESSES_MAX && !self.0.contains_key(&from);
        is_new && self.0.insert(from, now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_eight_bytes() {
        let word = |magic: u32, version: u32| [magic.to_le_bytes(), version.to_le_bytes()].concat();
        let theirs = word(MAGIC, VERSION);
        let other_order: Vec<u8> = [MAGIC.to_be_bytes(), VERSION.to_be_bytes()].concat();
        for (bytes, is) in [
            (theirs.clone(), true),
            (other_order, true),
            (word(MAGIC, 2), false),
            (word(MAGIC + 1, VERSION), false),
            (theirs[..7].to_vec(), false),
            ([theirs, vec![0]].concat(), false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_word(&bytes), is, "{bytes:?}");
        }
    }

    #[test]
    fn one_word_a_second_of_each_address_and_of_few_of_them() {
        let address = |number: usize| IpAddr::from([10, 0, 0, u8::try_from(number % 256).unwrap_or(0)]);
        let begin = Instant::now();
        let mut heard = Heard::default();
        assert!(heard.takes(address(1), begin));
        assert!(!heard.takes(address(1), begin + WORD_EVERY / 2));
        assert!(heard.takes(address(1), begin + WORD_EVERY));
        let others: Vec<IpAddr> =
            (0..2 * ADDRESSES_MAX).map(|n| IpAddr::from(u128::try_from(n).unwrap_or(0).to_be_bytes())).collect();
        let taken = others.iter().filter(|from| heard.takes(**from, begin + WORD_EVERY)).count();
        assert_eq!(taken, ADDRESSES_MAX - 1);
    }

    #[tokio::test]
    async fn the_real_fence_kdump_send_is_understood() {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = socket.local_addr().expect("bound").port().to_string();
        let send = tokio::process::Command::new("/usr/libexec/fence-agents/fence_kdump_send")
            .args(["--count", "1", "--ipport", &port, "127.0.0.1"])
            .stdin(std::process::Stdio::null())
            .status();
        assert!(send.await.expect("fence_kdump_send of package fence-agents").success());
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).await.expect("its word");
        assert!(is_word(&bytes[..length]), "{:?}", &bytes[..length]);
    }

    #[tokio::test]
    async fn a_words_address_comes_through() {
        let (inputs, mut ear) = mpsc::channel(8);
        let port = {
            let free = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            free.local_addr().expect("bound")
        };
        listen(port, inputs.clone()).await.expect("listens");
        assert!(listen(port, inputs).await.is_err(), "a second one is refused");
        let sender = UdpSocket::bind("127.0.0.2:0").await.expect("an address");
        for bytes in [&b"nonsense"[..], &[0x40, 0x2A, 0x30, 0x1B, 1, 0, 0, 0]] {
            sender.send_to(bytes, port).await.expect("sent");
        }
        let Some(Input::KdumpWord { from }) = ear.recv().await else { panic!("nothing came") };
        assert_eq!(from.to_string(), "127.0.0.2");
        assert!(ear.try_recv().is_err(), "and nothing else");
    }
}
