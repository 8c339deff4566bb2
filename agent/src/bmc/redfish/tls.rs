//! Whose certificate is trusted.

use std::fmt::Write as _;
use std::path::Path;
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

use crate::bmc::settings::RedfishTrust;

/// How long an idle connection is kept: under the shortest keep-alive in use (5 s). While a host is fenced it is read
/// every second, and a handshake costs a BMC's processor a noticeable part of that.
const IDLE_FOR: Duration = Duration::from_secs(4);

/// The client of one device: HTTP/1.1, no redirects (an order could be sent twice, a password go to a stranger), no
/// proxy from the environment, and `ring` named explicitly.
///
/// # Errors
/// In words, with the file's name.
pub(super) fn client(trust: &RedfishTrust) -> Result<Client, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let tls = match trust {
        RedfishTrust::Ca(path) => tls.with_root_certificates(authority(path)?).with_no_client_auth(),
        RedfishTrust::Pin(pin) => {
            let verifier = Arc::new(Pinned { pin: *pin, provider });
            tls.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        // Not used; and if it were, nobody would be trusted.
        RedfishTrust::Nobody => tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
    };
    Client::builder()
        .use_preconfigured_tls(tls)
        .http1_only()
        // Some embedded servers know a header by its usual spelling only.
        .http1_title_case_headers()
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
    pin: [u8; 32],
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
        let shown = digest(&SHA256, end_entity);
        if shown.as_ref() == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let (shown, pin) = (hex(shown.as_ref()), hex(&self.pin));
        Err(rustls::Error::General(format!("the certificate's SHA-256 is {shown}, and sha256_pin is {pin}")))
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_is_none_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ca.pem");
        for text in [None, Some("nothing"), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
            if let Some(text) = text {
                std::fs::write(&path, text).expect("written");
            }
            let why = client(&RedfishTrust::Ca(path.clone())).expect_err("refused");
            assert!(why.contains("ca.pem"), "{why}");
        }
    }
}
