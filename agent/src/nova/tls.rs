//! The HTTP clients: whom they trust, and how long they wait.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::clouds::NovaSetupError;

/// Longest a connection may take to come about, TLS included. A healthy control plane answers in milliseconds; two lost
/// SYNs cost three seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections kept per host for reading.
const IDLE_PER_HOST: usize = 4;

/// How long an idle connection is kept: under the shortest keep-alive in use at API servers (Apache's 5 s).
const IDLE_FOR: Duration = Duration::from_secs(4);

/// The two clients.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    /// For Keystone and for everything that changes nothing: reuses connections.
    pub(super) reading: Client,
    /// For acts: a fresh connection each. One that the server is just closing would leave the outcome unknown, and an
    /// unknown evacuation holds its server up for two minutes.
    pub(super) acting: Client,
}

/// A client for acts alone, for others than Nova.
pub(crate) fn acting_client(ca_file: Option<&Path>, timeout: Duration) -> Result<Client, NovaSetupError> {
    clients(ca_file, timeout).map(|clients| clients.acting)
}

/// Builds the clients. HTTP/1.1 only, no redirects (a redirected act could be sent twice, a token go to a stranger), no
/// proxy from the environment (its time-outs and answers would pass for Nova's), and `ring` named explicitly.
pub(super) fn clients(ca_file: Option<&Path>, timeout: Duration) -> Result<Clients, NovaSetupError> {
    let roots = roots(ca_file)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| NovaSetupError::Client(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = || {
        Client::builder()
            .use_preconfigured_tls(tls.clone())
            .http1_only()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout)
            .tcp_nodelay(true)
            .user_agent(concat!("rekindle/", env!("CARGO_PKG_VERSION")))
    };
    let failed = |error: reqwest::Error| NovaSetupError::Client(error.to_string());
    Ok(Clients {
        reading: builder().pool_max_idle_per_host(IDLE_PER_HOST).pool_idle_timeout(IDLE_FOR).build().map_err(failed)?,
        acting: builder().pool_max_idle_per_host(0).build().map_err(failed)?,
    })
}

/// The system's roots, and every certificate of the configured bundle.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, NovaSetupError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (mut trusted, _) = roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        trusted += add_bundle(&mut roots, path)?;
    }
    if trusted == 0 {
        let why: Vec<String> = system.errors.iter().map(ToString::to_string).collect();
        return Err(NovaSetupError::NoRoots(why.join("; ")));
    }
    tracing::debug!(trusted, "certificates trusted for Keystone and Nova");
    Ok(roots)
}

fn add_bundle(roots: &mut RootCertStore, path: &Path) -> Result<usize, NovaSetupError> {
    let pem = std::fs::read(path).map_err(|source| NovaSetupError::File { path: path.to_owned(), source })?;
    let refuse = |why: String| NovaSetupError::CaBundle { path: path.to_owned(), why };
    let mut added = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        let number = added + 1;
        roots.add(certificate).map_err(|error| refuse(format!("certificate {number}: {error}")))?;
        added += 1;
    }
    if added == 0 { Err(refuse("it holds none".to_owned())) } else { Ok(added) }
}

#[cfg(test)]
mod tests {
    use rekindle_proto::fact::NovaError;

    use super::super::{Nova, NovaSettings};
    use super::*;

    fn certificate(name: &str) -> String {
        let key = rcgen::KeyPair::generate().expect("key");
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("params");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).expect("signed").pem()
    }

    #[test]
    fn every_certificate_of_a_bundle_is_trusted() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, format!("# two\n{}\n{}", certificate("one"), certificate("two"))).expect("written");
        let mut roots = RootCertStore::empty();
        assert_eq!(add_bundle(&mut roots, &path).expect("bundle"), 2);
        assert_eq!(roots.len(), 2);
        clients(Some(&path), Duration::from_secs(1)).expect("clients");
    }

    #[test]
    fn an_empty_bundle_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "nothing").expect("written");
        let said = clients(Some(&path), Duration::from_secs(1)).expect_err("refused").to_string();
        assert!(said.contains("ca.pem") && said.contains("no usable certificate"), "{said}");
    }

    /// A Keystone that only speaks TLS: answers every connection with a token.
    fn keystone(ca: &rcgen::Issuer<'_, rcgen::KeyPair>) -> std::net::SocketAddr {
        let key = rcgen::KeyPair::generate().expect("key");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
        let certificate = params.signed_by(&key, ca).expect("signed").der().clone();
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("key");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("config");
        let config = Arc::new(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("socket");
        let address = listener.local_addr().expect("address");
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("connection");
                // A client that does not trust us goes away in the middle.
                let _ = serve(&mut rustls::StreamOwned::new(connection, stream));
            }
        });
        address
    }

    fn serve(stream: &mut (impl std::io::Read + std::io::Write)) -> std::io::Result<()> {
        let mut request = [0; 4096];
        // The request is small, but head and body may come apart.
        let mut length = 0;
        while !request[..length].ends_with(b"}") {
            length += stream.read(&mut request[length..])?;
        }
        let body = r#"{"token": {"catalog": [{"type": "compute", "endpoints": [{"interface": "public", "region": "r", "url": "http://127.0.0.1:1/v2.1"}]}]}}"#;
        write!(
            stream,
            "HTTP/1.1 201 Created\r\nX-Subject-Token: t\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        stream.flush()
    }

    #[tokio::test]
    async fn a_private_ca_is_trusted_only_if_it_is_named() {
        let key = rcgen::KeyPair::generate().expect("key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).expect("signed").pem();
        let address = keystone(&rcgen::Issuer::new(params, key));
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(dir.path().join("ca.pem"), format!("{}{ca}", certificate("another"))).expect("written");
        std::fs::write(dir.path().join("other.pem"), certificate("another")).expect("written");
        let introduction = async |ca: &str| {
            let text = format!(
                "clouds:\n  c:\n    cacert: {ca}\n    auth:\n      auth_url: https://localhost:{}\n      application_credential_id: a\n      application_credential_secret: s\n",
                address.port()
            );
            let clouds_file = dir.path().join("clouds.yaml");
            std::fs::write(&clouds_file, text).expect("written");
            let keys = Default::default();
            let settings = NovaSettings { clouds_file, cloud: "c".to_owned(), timeout: Duration::from_secs(10), keys };
            Nova::open(settings).expect("opens").wire.introduction().await
        };
        let words = introduction("ca.pem").await.expect("trusted");
        assert!(words.contains("http://127.0.0.1:1/v2.1"), "{words}");
        let refused = introduction("other.pem").await.expect_err("not trusted");
        assert!(
            matches!(refused, NovaError::NotSent(_)) && refused.to_string().contains("invalid peer certificate"),
            "{refused}"
        );
    }
}
