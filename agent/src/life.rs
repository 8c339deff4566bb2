//! Looks whether anything lives at a host whose daemon is silent.
//!
//! A QUIC endpoint's own socket never shows an ICMP error; a connected UDP socket does. Kernels limit how many they send
//! (Linux: `net.ipv4.icmp_ratelimit`), so three packets are sent over the given time.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rekindle_proto::fact::LifeSign;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// Packets to the gossip port.
const TRIES: u32 = 3;

/// Not a QUIC packet (its fixed bit is not set): a living daemon drops it without a word.
const NONSENSE: [u8; 1] = [0];

/// What lives at that address, within that time. Nothing is a sign of nothing: also what cannot be tried. Our own kernel
/// answers for every loopback address, whoever should be there: it is not asked.
pub async fn look(address: SocketAddr, ports: &[u16], within: Duration) -> Vec<LifeSign> {
    if address.ip().to_canonical().is_loopback() { Vec::new() } else { try_all(address, ports, within).await }
}

async fn try_all(address: SocketAddr, ports: &[u16], within: Duration) -> Vec<LifeSign> {
    let until = Instant::now() + within;
    let tcp: Vec<_> =
        ports.iter().map(|port| (*port, tokio::spawn(knock(SocketAddr::new(address.ip(), *port), within)))).collect();
    let mut signs = Vec::new();
    if port_is_unreachable(address, within).await {
        signs.push(LifeSign::PortUnreachable);
    }
    for (port, knock) in tcp {
        match timeout_at(until + TIDY, knock).await {
            Ok(Ok(Some(Knock::Banner))) => signs.push(LifeSign::Banner { port }),
            Ok(Ok(Some(Knock::Reset))) => signs.push(LifeSign::Reset { port }),
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
    }
    signs
}

/// A task that has just timed out by itself is given this long to say so.
const TIDY: Duration = Duration::from_millis(20);

enum Knock {
    Banner,
    Reset,
}

async fn knock(address: SocketAddr, within: Duration) -> Option<Knock> {
    let attempt = async {
        let mut stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) => {
                return (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(Knock::Reset);
            }
        };
        let mut first = [0; 1];
        match stream.read(&mut first).await {
            Ok(1) => Some(Knock::Banner),
            Ok(_) => None,
            Err(error) => (error.kind() == std::io::ErrorKind::ConnectionReset).then_some(Knock::Reset),
        }
    };
    timeout(within, attempt).await.ok().flatten()
}

async fn port_is_unreachable(address: SocketAddr, within: Duration) -> bool {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let Ok(socket) = UdpSocket::bind(local).await else { return false };
    if socket.connect(address).await.is_err() {
        return false;
    }
    let began = Instant::now();
    for number in 0..TRIES {
        let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        if socket.send(&NONSENSE).await.is_err_and(|error| refused(&error)) {
            return true;
        }
        let next = began + within * (number + 1) / TRIES;
        let mut bytes = [0; 64];
        match timeout_at(next, socket.recv(&mut bytes)).await {
            Ok(Err(error)) if refused(&error) => return true,
            Ok(_) => sleep_until(next).await,
            Err(_) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const WITHIN: Duration = Duration::from_secs(1);

    /// One row: who listens on UDP, what TCP does; and what is seen.
    #[tokio::test]
    async fn what_is_seen_of_a_host() {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let daemon = UdpSocket::bind(loopback).await.expect("a port");
        let gossip = daemon.local_addr().expect("bound");
        let banner = TcpListener::bind(loopback).await.expect("a port");
        let with_banner = banner.local_addr().expect("bound").port();
        let mute = TcpListener::bind(loopback).await.expect("a port");
        let without = mute.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = banner.accept().await {
                // Whoever hung up needs no greeting.
                let _ = stream.write_all(b"SSH-2.0-x\r\n").await;
            }
        });
        let closed = {
            let gone = TcpListener::bind(loopback).await.expect("a port");
            gone.local_addr().expect("bound").port()
        };
        let seen = try_all(gossip, &[with_banner, without, closed], WITHIN).await;
        assert_eq!(seen, [LifeSign::Banner { port: with_banner }, LifeSign::Reset { port: closed }], "daemon up");
        drop(daemon);
        let seen = try_all(gossip, &[without], WITHIN).await;
        assert_eq!(seen, [LifeSign::PortUnreachable], "daemon gone");
        assert!(look(gossip, &[closed], WITHIN).await.is_empty(), "loopback is ourselves");
    }
}
