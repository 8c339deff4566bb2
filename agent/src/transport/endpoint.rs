//! One UDP socket and QUIC endpoint per path.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use rekindle_proto::id::PathName;
use ring::hmac;
use socket2::{Domain, Protocol, Socket, Type};

use super::{TransportError, TransportSettings};

/// A connection on which nothing came back for this long after we sent something is dead, in milliseconds. Nothing keeps an
/// idle one alive: a handshake costs a millisecond, and SWIM does not return to the same peer for a minute in a large
/// cluster anyway. Short, because QUIC doubles its retransmission time: after a cut of 5 s it waits 2–3 s more before it
/// tries again, and a suspect host must be heard as soon as the cut heals.
const IDLE_TIMEOUT_MS: u32 = 5_000;

/// What the round-trip time is taken for before it is measured: the first packet of a handshake is repeated after three
/// times this, well within the dial time-out. (RFC 9002's 333 ms is made for the Internet, and would repeat after 1 s.)
const INITIAL_RTT: Duration = Duration::from_millis(50);

/// One-way streams a peer may have open at once. Its further messages wait on its side.
pub(super) const MESSAGES_AT_ONCE: u32 = 32;

/// Two-way streams a peer may have open at once: Raft's, and operators' requests in passing.
pub(super) const REQUESTS_AT_ONCE: u32 = 16;

/// Bytes of one stream a peer may send before we read them. Each part that we read lets as much more come.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Bytes of all streams of a connection a peer may send before we read them: bounds what a stuck shell makes us hold.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Requests that wait to be read must not take up the room of the one that is.
const _: () = assert!(REQUESTS_AT_ONCE * STREAM_WINDOW <= CONNECTION_WINDOW);

/// Bytes of datagrams kept on a connection until read; then the oldest go. About sixty SWIM packets.
const DATAGRAM_RECEIVE_BYTES: usize = 64 * 1024;

/// Bytes of datagrams kept on a connection until sent; then the oldest go. A SWIM packet is useless after a second.
pub(super) const DATAGRAM_SEND_BYTES: usize = 16 * 1024;

/// Asked of the kernel, which may give less (`net.core.rmem_max`): a burst of 500 datagrams overflowed the default.
const SOCKET_RECEIVE_BYTES: usize = 4 * 1024 * 1024;
const SOCKET_SEND_BYTES: usize = 1024 * 1024;

/// At most one stateless reset per this time (RFC 9000, section 10.3.3, asks for a limit). Short: after a restart every
/// peer of a large cluster is owed one.
const RESET_INTERVAL: Duration = Duration::from_millis(2);

/// A path's endpoint.
#[derive(Debug, Clone)]
pub(super) struct PathEndpoint {
    pub(super) path: PathName,
    pub(super) endpoint: Endpoint,
    pub(super) address: SocketAddr,
}

pub(super) fn transport_config() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(None)
        .initial_rtt(INITIAL_RTT)
        // No packet is longer than what every network that carries QUIC carries: 1,200 bytes (RFC 9000, section 14). Longer ones
        // would be lost on a path that becomes narrower, with the gossip in them, until quinn has noticed.
        .mtu_discovery_config(None)
        .max_concurrent_uni_streams(VarInt::from_u32(MESSAGES_AT_ONCE))
        .max_concurrent_bidi_streams(VarInt::from_u32(REQUESTS_AT_ONCE))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        .datagram_send_buffer_size(DATAGRAM_SEND_BYTES);
    Arc::new(config)
}

/// Binds every path.
pub(super) fn bind(
    settings: &TransportSettings,
    server: &quinn::ServerConfig,
) -> Result<Vec<PathEndpoint>, TransportError> {
    let bind_one = |(index, (path, address)): (usize, &(PathName, SocketAddr))| {
        let failed = |source| TransportError::Bind { path: path.clone(), address: *address, source };
        let socket = open_socket(*address, index > 0).map_err(failed)?;
        let config = endpoint_config(&settings.reset_key);
        let endpoint = Endpoint::new(config, Some(server.clone()), socket, Arc::new(TokioRuntime)).map_err(failed)?;
        let address = endpoint.local_addr().map_err(failed)?;
        Ok(PathEndpoint { path: path.clone(), endpoint, address })
    };
    settings.listen.iter().enumerate().map(bind_one).collect()
}

/// `early`: also while the address is not there yet (ip(7), `IP_FREEBIND`). A host whose storage card is broken, or is set up
/// after us, is to be watched on its other networks; what is sent there meanwhile is lost, as on a cut network.
fn open_socket(address: SocketAddr, early: bool) -> std::io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(early)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(early)?,
    }
    socket.set_recv_buffer_size(SOCKET_RECEIVE_BYTES)?;
    socket.set_send_buffer_size(SOCKET_SEND_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A restarted daemon must recognise the connections of its former life to reset them: both the key of its connection ids
/// and that of the reset tokens must outlive it.
fn endpoint_config(reset_key: &[u8; 64]) -> EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, reset_key);
    let derived = hmac::sign(&key, b"rekindle connection ids");
    let ids = derived.as_ref().iter().take(8).fold(0, |ids: u64, byte| ids << 8 | u64::from(*byte));
    let mut config = EndpointConfig::new(Arc::new(key));
    config.min_reset_interval(RESET_INTERVAL);
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}
