//! TLS 1.3 in both directions, our CA only. What a certificate must say beyond its chain is judged in [`super::hello`].

use std::path::Path;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tracing::warn;

use super::endpoint::transport_config;
use super::lane::{Lane, Protocols};
use super::{TlsFiles, TransportError, TransportSettings};
use crate::pki::{CertRole, identity_of, read_secret};

/// Handshakes under way at once on one endpoint, unauthenticated ones among them: a cluster of 128 that starts together.
const INCOMING_MAX: usize = 256;

/// Both sides of a handshake.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) server: quinn::ServerConfig,
    pub(super) clients: Clients,
}

/// How we dial for each [`Lane`].
#[derive(Debug, Clone)]
pub(super) struct Clients {
    words: quinn::ClientConfig,
    requests: quinn::ClientConfig,
}

impl Clients {
    pub(super) fn of(&self, lane: Lane) -> &quinn::ClientConfig {
        match lane {
            Lane::Words => &self.words,
            Lane::Requests => &self.requests,
        }
    }
}

/// What is in the files.
pub(super) struct Files {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Reads the files and checks that they are ours: a daemon that nobody will accept should say so at its start. Only an
/// expired certificate is let pass, with a warning: it may be the clock that is wrong, and peers refuse it anyway.
pub(super) fn load(settings: &TransportSettings) -> Result<Tls, TransportError> {
    let files = read(&settings.tls)?;
    check_own(settings, &files)?;
    configure(files, Protocols::ours())
}

pub(super) fn read(paths: &TlsFiles) -> Result<Files, TransportError> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| TransportError::TlsFile {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let certificates = |path: &Path| {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unreadable(path, &error))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&paths.ca)? {
        roots.add(certificate).map_err(|error| unreadable(&paths.ca, &error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(&paths.ca, &"the file holds no certificate"));
    }
    let chain = certificates(&paths.certificate)?;
    let key = read_secret(&paths.key).map_err(TransportError::Key)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| unreadable(&paths.key, &error))?;
    Ok(Files { roots: Arc::new(roots), chain, key })
}

pub(super) fn configure(files: Files, protocols: Protocols) -> Result<Tls, TransportError> {
    let Files { roots, chain, key } = files;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(|error| TransportError::Tls(Error::General(error.to_string())))?;
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TransportError::Tls)?
        .with_client_cert_verifier(Arc::new(ClientVerifier { inner: clients }))
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(TransportError::Tls)?;
    server.alpn_protocols = protocols.accepted;
    // No resumption in either direction: a resumed session would not look at certificates again.
    server.send_tls13_tickets = 0;
    let verifier = Arc::new(MemberVerifier::new(roots));
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TransportError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(TransportError::Tls)?;
    client.resumption = Resumption::disabled();
    client.enable_sni = false;

    let unfit = |_| TransportError::Tls(Error::General("the cipher suite that QUIC begins with is missing".to_owned()));
    let transport = transport_config();
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).map_err(unfit)?));
    server.transport_config(Arc::clone(&transport)).max_incoming(INCOMING_MAX);
    // Hosts do not move between addresses in the middle of a connection.
    server.migration(false);
    let dialler = |offers: Vec<Vec<u8>>| -> Result<quinn::ClientConfig, TransportError> {
        let mut client = client.clone();
        client.alpn_protocols = offers;
        let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).map_err(unfit)?));
        client.transport_config(Arc::clone(&transport));
        Ok(client)
    };
    let clients = Clients { words: dialler(protocols.words)?, requests: dialler(protocols.requests)? };
    Ok(Tls { server, clients })
}

fn check_own(settings: &TransportSettings, files: &Files) -> Result<(), TransportError> {
    let path = &settings.tls.certificate;
    let refuse = |why: String| TransportError::OwnCertificate { path: path.clone(), why };
    let Some((leaf, rest)) = files.chain.split_first() else {
        return Err(refuse("the file holds no certificate".to_owned()));
    };
    let identity = identity_of(leaf).map_err(|error| refuse(error.to_string()))?;
    if identity.cluster != settings.cluster {
        return Err(refuse(format!("it is for cluster {}, but this is {}", identity.cluster, settings.cluster)));
    }
    if identity.role == CertRole::Operator {
        return Err(refuse(format!("{} is an operator's; a host needs one of its own", identity.uri())));
    }
    if identity.name.as_str() != settings.host.as_str() {
        return Err(refuse(format!("it is for host {}, but this is {}", identity.name, settings.host)));
    }
    match MemberVerifier::new(Arc::clone(&files.roots)).verify_chain(leaf, rest, UnixTime::now()) {
        Ok(()) => Ok(()),
        Err(error) if is_about_time(&error) => {
            warn!(certificate = %path.display(), %error, "our own certificate is not valid now: no peer will accept it");
            Ok(())
        }
        Err(error) => Err(refuse(error.to_string())),
    }
}

fn is_about_time(error: &Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        error,
        Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
    )
}

/// Names the certificate in the refusal, which goes into our log and, as the reason of the close, into the peer's.
fn named(certificate: &CertificateDer<'_>, error: &Error) -> Error {
    let who = identity_of(certificate)
        .map_or_else(|error| format!("a certificate that is none of rekindle's ({error})"), |identity| identity.uri());
    Error::General(format!("{who}: {error}"))
}

/// Checks whom we dial: chain to our CA, dates, and use as a server. Not the DNS name: a seed's member is not known
/// beforehand, and a known member's name is checked once the handshake is done.
#[derive(Debug)]
struct MemberVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl MemberVerifier {
    fn new(roots: Arc<RootCertStore>) -> Self {
        Self { roots, algorithms: rustls::crypto::ring::default_provider().signature_verification_algorithms }
    }

    fn verify_chain(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, rest, now, self.algorithms.all)
    }
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_chain(leaf, rest, now).map_err(|error| named(leaf, &error))?;
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// rustls' own check of clients, with the certificate named in its refusals.
#[derive(Debug)]
struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.inner.verify_client_cert(leaf, rest, now).map_err(|error| named(leaf, &error))
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
