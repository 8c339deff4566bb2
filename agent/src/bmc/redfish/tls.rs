//! Whose certificate is trusted.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;
use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::address::Address;

/// How long an idle connection is kept: under the shortest keep-alive in use (5 s). While a host is fenced it is read
/// every second, and a handshake costs a BMC's processor a noticeable part of that.
const IDLE_FOR: Duration = Duration::from_secs(4);

/// Whom we believe to be the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bmc) enum Trust {
    /// Who shows a certificate for the address's name, of this authority.
    Authority(PathBuf),
    /// Who shows this very certificate, whatever it says.
    Pin(Pin),
    /// Anybody: plain http.
    Nobody,
}

/// SHA-256 of a certificate (of its DER), as `openssl x509 -fingerprint -sha256` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bmc) struct Pin([u8; 32]);

impl Trust {
    /// From the keys `ca_file` and `sha256_pin`.
    ///
    /// # Errors
    /// The rule that is broken.
    pub(in crate::bmc) fn choose(
        address: &Address,
        ca_file: Option<PathBuf>,
        pin: Option<Pin>,
    ) -> Result<Self, &'static str> {
        match (address.is_https(), ca_file, pin) {
            (true, Some(path), None) => Ok(Self::Authority(path)),
            (true, None, Some(pin)) => Ok(Self::Pin(pin)),
            (true, _, _) => Err("must have either ca_file or sha256_pin: who answers there must be known"),
            (false, None, None) => Ok(Self::Nobody),
            (false, _, _) => Err("must be https for ca_file or sha256_pin to mean anything"),
        }
    }
}

impl Pin {
    /// 64 hexadecimal digits, with colons between the bytes or without.
    ///
    /// # Errors
    /// The rule that is broken.
    pub(in crate::bmc) fn parse(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must be the certificate's SHA-256 in 64 hexadecimal digits, with or without colons";
        let digits = text.replace(':', "");
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(RULE);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).map_err(|_| RULE)?;
        }
        Ok(Self(bytes))
    }

    fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The client of one device: HTTP/1.1, no redirects (an order could be sent twice, a password go to a stranger), no
/// proxy from the environment, and `ring` named explicitly.
///
/// # Errors
/// In words, with the file's name.
pub(super) fn client(trust: &Trust) -> Result<Client, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let tls = match trust {
        Trust::Authority(path) => tls.with_root_certificates(authority(path)?).with_no_client_auth(),
        Trust::Pin(pin) => {
            let verifier = Arc::new(Pinned { pin: *pin, provider });
            tls.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        // Not used; and if it were, nobody would be trusted.
        Trust::Nobody => tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
    };
    Client::builder()
        .use_preconfigured_tls(tls)
        .http1_only()
        .redirect(Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE_FOR)
        .user_agent(concat!("rekindle/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| error.to_string())
}

/// The certificates of that file, and no others: the system's authorities vouch for no BMC.
fn authority(path: &Path) -> Result<RootCertStore, String> {
    let refuse = |why: &str| format!("ca_file {}: {why}", path.display());
    let pem = std::fs::read(path).map_err(|error| refuse(&error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| refuse(&error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(&error.to_string()))?;
    }
    if roots.is_empty() { Err(refuse("holds no certificate")) } else { Ok(roots) }
}

/// Takes one certificate, and whoever proves to have its key.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = Pin::of(end_entity);
        if shown == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(format!("the certificate's SHA-256 is {shown}, and sha256_pin is {}", self.pin)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";

    #[test]
    fn a_pin_is_sixty_four_digits_as_openssl_or_anybody_writes_them() {
        let pin = Pin::parse(HEX).expect("plain");
        let colons: Vec<&str> = (0..32).map(|at| &HEX[at * 2..at * 2 + 2]).collect();
        assert_eq!(Pin::parse(&colons.join(":")), Ok(pin));
        assert_eq!(pin.to_string(), HEX.to_ascii_lowercase());
        for text in ["", "00", &HEX[1..], &format!("{HEX}0"), &HEX.replace('0', "g"), &"ä".repeat(32)] {
            assert!(Pin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn https_wants_one_trust_and_http_none() {
        let pin = Pin::parse(HEX).expect("pin");
        let https = Address::parse("bmc", false).expect("address");
        let http = Address::parse("http://bmc", true).expect("address");
        let file = || Some(PathBuf::from("/ca.pem"));
        assert_eq!(Trust::choose(&https, file(), None), Ok(Trust::Authority(PathBuf::from("/ca.pem"))));
        assert_eq!(Trust::choose(&https, None, Some(pin)), Ok(Trust::Pin(pin)));
        assert!(Trust::choose(&https, None, None).is_err());
        assert!(Trust::choose(&https, file(), Some(pin)).is_err());
        assert_eq!(Trust::choose(&http, None, None), Ok(Trust::Nobody));
        assert!(Trust::choose(&http, file(), None).is_err());
        assert!(Trust::choose(&http, None, Some(pin)).is_err());
    }

    #[test]
    fn an_authority_that_is_none_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ca.pem");
        for text in [None, Some("nothing"), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
            if let Some(text) = text {
                std::fs::write(&path, text).expect("written");
            }
            let why = client(&Trust::Authority(path.clone())).expect_err("refused");
            assert!(why.contains("ca.pem"), "{why}");
        }
    }
}
