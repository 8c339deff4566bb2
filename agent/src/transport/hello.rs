//! Acceptance: who is at the other end, and do both sides agree?
//!
//! The dialler checks the certificate, opens the first two-way stream and says hello; the listener checks certificate and
//! hello and answers with its own; the dialler checks that and ends its half of the stream. Only then has each side been
//! accepted by the other: in TLS 1.3 a dialler is "connected" before the listener has looked at its certificate.

use std::net::SocketAddr;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Incoming, ReadExactError, RecvStream, SendStream, VarInt, WriteError};
use rekindle_coordinator::io::Peer;
use rekindle_proto::id::{ClusterName, HostName, MemberId};
use rekindle_proto::message::{CodecError, Hello, decode, encode};
use rustls_pki_types::CertificateDer;

use super::close;
use super::lane::Lane;
use super::live::{Live, Wanted};
use super::shared::Shared;
use crate::pki::{CertIdentity, CertRole, PkiError, identity_of};

/// A dial that was not accepted by then has failed: twenty handshakes' time on a loaded host, and short enough that a
/// testimony's three probes see a living peer.
pub(super) const DIAL_WITHIN: Duration = Duration::from_secs(1);

/// Whoever knocks must be accepted by then: somewhat longer than any dialler waits.
pub(super) const ACCEPT_WITHIN: Duration = Duration::from_secs(2);

/// Longest encoded hello, in bytes: three names of 253 bytes, and numbers.
const HELLO_BYTES_MAX: usize = 1_024;

/// What the name in TLS would be, if we used it.
const SERVER_NAME: &str = "member.rekindle.invalid";

/// Why a peer was not accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it showed no certificate")]
    NoCertificate,
    #[error("its certificate is not fit: {0}")]
    Certificate(#[from] PkiError),
    #[error("{identity}: its certificate is for another cluster; this is {ours}")]
    Cluster { identity: String, ours: ClusterName },
    #[error("{identity}: an operator's certificate cannot join; only a member's or a witness'")]
    Operator { identity: String },
    #[error("{identity}: another member ({wanted}) was expected at this address")]
    WrongMember { identity: String, wanted: MemberId },
    #[error("{identity}: its hello names host {said}, which is not its certificate's name")]
    HelloHost { identity: String, said: HostName },
    #[error("{identity}: its hello is for cluster {said}; this is {ours}")]
    HelloCluster { identity: String, said: ClusterName, ours: ClusterName },
    #[error("{identity}: its hello cannot be understood: {source}")]
    HelloMalformed {
        identity: String,
        #[source]
        source: CodecError,
    },
    #[error("{identity}: that is our own name: two daemons run with one certificate")]
    TwoOfUs { identity: String },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unconnected {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("we reached ourselves")]
    Ourselves,
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("cannot dial: {0}")]
    Dial(#[from] quinn::ConnectError),
    #[error("no answer in time")]
    Silent,
}

impl From<WriteError> for Unconnected {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(lost) => Self::Connection(lost),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Silent,
        }
    }
}

impl From<ReadExactError> for Unconnected {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::ReadError(quinn::ReadError::ConnectionLost(lost)) => Self::Connection(lost),
            ReadExactError::ReadError(_) | ReadExactError::FinishedEarly(_) => Self::Silent,
        }
    }
}

/// Dials, and is accepted by both sides, or not.
pub(super) async fn dial(
    shared: &Shared,
    (path, lane, wanted): (usize, Lane, Wanted),
    to: SocketAddr,
) -> Result<Live, Unconnected> {
    let attempt = async {
        let connection = shared.endpoint(path).connect_with(shared.client(lane), to, SERVER_NAME)?.await?;
        let outcome = introduce(shared, path, &connection, wanted).await;
        conclude(&connection, outcome)
    };
    tokio::time::timeout(DIAL_WITHIN, attempt).await.unwrap_or(Err(Unconnected::Silent))
}

/// Answers a knock; accepted by both sides, or not.
pub(super) async fn accept(shared: &Shared, path: usize, incoming: Incoming) -> Result<Live, Unconnected> {
    let attempt = async {
        let connection = incoming.accept()?.await?;
        let outcome = answer(shared, path, &connection).await;
        conclude(&connection, outcome)
    };
    tokio::time::timeout(ACCEPT_WITHIN, attempt).await.unwrap_or(Err(Unconnected::Silent))
}

/// Tells the other side why, if it was refused.
fn conclude(connection: &Connection, outcome: Result<Live, Unconnected>) -> Result<Live, Unconnected> {
    match &outcome {
        Ok(_) => {}
        Err(Unconnected::Refused(refusal)) => connection.close(close::REFUSED, refusal.to_string().as_bytes()),
        Err(Unconnected::Ourselves) => connection.close(close::OURSELVES, b""),
        Err(Unconnected::Connection(_) | Unconnected::Dial(_) | Unconnected::Silent) => {
            connection.close(VarInt::from_u32(0), b"");
        }
    }
    outcome
}

async fn introduce(shared: &Shared, path: usize, connection: &Connection, wanted: Wanted) -> Result<Live, Unconnected> {
    let who = identify(shared, connection)?;
    if let Wanted::Member(wanted) = wanted
        && MemberId::of(&who.host) != wanted
    {
        return Err(Refusal::WrongMember { identity: who.identity, wanted }.into());
    }
    let (mut send, mut receive) = connection.open_bi().await?;
    say_hello(shared, path, &mut send).await?;
    let hello = hear_hello(&who, &mut receive).await?;
    let live = judge(shared, connection, who, hello, true)?;
    // The end of our half says that we have accepted the answer.
    send.finish().map_err(|_| Unconnected::Silent)?;
    Ok(live)
}

async fn answer(shared: &Shared, path: usize, connection: &Connection) -> Result<Live, Unconnected> {
    let who = identify(shared, connection)?;
    let (mut send, mut receive) = connection.accept_bi().await?;
    let hello = hear_hello(&who, &mut receive).await?;
    let live = judge(shared, connection, who, hello, false)?;
    say_hello(shared, path, &mut send).await?;
    send.finish().map_err(|_| Unconnected::Silent)?;
    match receive.read(&mut [0]).await {
        Ok(None) => Ok(live),
        Err(quinn::ReadError::ConnectionLost(lost)) => Err(lost.into()),
        Ok(Some(_)) | Err(_) => Err(Unconnected::Silent),
    }
}

/// A peer by its certificate.
struct Certified {
    host: HostName,
    identity: String,
}

fn identify(shared: &Shared, connection: &Connection) -> Result<Certified, Refusal> {
    let chain = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let leaf = chain.as_ref().and_then(|chain| chain.first()).ok_or(Refusal::NoCertificate)?;
    let CertIdentity { cluster, role, name } = identity_of(leaf)?;
    let identity = CertIdentity { cluster: cluster.clone(), role, name: name.clone() }.uri();
    if cluster != shared.settings.cluster {
        return Err(Refusal::Cluster { identity, ours: shared.settings.cluster.clone() });
    }
    match role {
        CertRole::Member | CertRole::Witness => {}
        CertRole::Operator => return Err(Refusal::Operator { identity }),
    }
    let host = HostName::new(name.as_str()).map_err(|_| Refusal::NoCertificate)?;
    Ok(Certified { host, identity })
}

fn judge(
    shared: &Shared,
    connection: &Connection,
    who: Certified,
    hello: Hello,
    dialled: bool,
) -> Result<Live, Unconnected> {
    let identity = who.identity;
    if hello.cluster != shared.settings.cluster {
        let ours = shared.settings.cluster.clone();
        return Err(Refusal::HelloCluster { identity, said: hello.cluster, ours }.into());
    }
    if hello.host != who.host {
        return Err(Refusal::HelloHost { identity, said: hello.host }.into());
    }
    if hello.host == shared.settings.host {
        let same_life = hello.boot == shared.settings.boot && hello.incarnation == shared.incarnation();
        return Err(if same_life { Unconnected::Ourselves } else { Refusal::TwoOfUs { identity }.into() });
    }
    let mut address = hello.listen;
    if address.ip().is_unspecified() {
        address.set_ip(connection.remote_address().ip());
    }
    let peer = Peer { host: hello.host, boot: hello.boot, incarnation: hello.incarnation, address };
    Ok(Live::new(connection.clone(), peer, dialled))
}

async fn say_hello(shared: &Shared, path: usize, send: &mut SendStream) -> Result<(), Unconnected> {
    let hello = Hello {
        cluster: shared.settings.cluster.clone(),
        host: shared.settings.host.clone(),
        boot: shared.settings.boot,
        incarnation: shared.incarnation(),
        listen: shared.address(path),
    };
    let bytes = encode(&hello, HELLO_BYTES_MAX)
        .map_err(|source| Refusal::HelloMalformed { identity: shared.settings.host.to_string(), source })?;
    // A length first: the dialler's half stays open until it has accepted the answer.
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    send.write_all(&length).await?;
    Ok(send.write_all(&bytes).await?)
}

async fn hear_hello(who: &Certified, receive: &mut RecvStream) -> Result<Hello, Unconnected> {
    let mut length = [0; 2];
    receive.read_exact(&mut length).await?;
    let length = usize::from(u16::from_be_bytes(length));
    let refuse = |source| Refusal::HelloMalformed { identity: who.identity.clone(), source };
    if length > HELLO_BYTES_MAX {
        return Err(refuse(CodecError::TooLong { bytes: length, bound: HELLO_BYTES_MAX }).into());
    }
    let mut bytes = vec![0; length];
    receive.read_exact(&mut bytes).await?;
    Ok(decode(&bytes, HELLO_BYTES_MAX).map_err(refuse)?)
}
