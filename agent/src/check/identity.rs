//! Our certificate: whole, ours, of this cluster, for this host, and for some time yet.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rekindle_proto::fact::MemberRole;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::CheckLine;
use super::files::{Secret, secret};
use crate::config::Config;
use crate::pki::{CertRole, identity_of};

/// Renewing takes a person; a month is a holiday and a week.
const RENEW_WITHIN: Duration = Duration::from_secs(30 * 24 * 3_600);

const ISSUE: &str = "`rekindle pki issue HOST` makes one, then copy it here";

pub(super) fn certificate(config: &Config) -> Vec<CheckLine> {
    let tls = &config.cluster.tls;
    let mut lines = Vec::new();
    let ca = read(&tls.ca, "cluster CA", "copy ca.pem here from where `rekindle pki init` was run", &mut lines);
    let own = read(&tls.certificate, "certificate", ISSUE, &mut lines);
    lines.push(secret(Secret { what: "certificate key", path: &tls.key, missing: ISSUE }));
    let Some(own) = own else { return lines };
    lines.push(named(config, &own));
    if let Some(ca) = &ca {
        lines.push(issued(ca, &own));
    }
    lines.push(lasting("certificate", &own, ISSUE));
    if let Some(ca) = &ca {
        lines.push(lasting("cluster CA", ca, "plan a new CA: every certificate ends with it"));
    }
    lines.extend(key_fits(&tls.key, &own));
    lines
}

fn read(path: &Path, what: &str, mend: &str, lines: &mut Vec<CheckLine>) -> Option<CertificateDer<'static>> {
    match CertificateDer::from_pem_file(path) {
        Ok(der) => Some(der),
        Err(error) => {
            lines.push(CheckLine::fail(what, format!("{}: cannot be read: {error}", path.display()), mend));
            None
        }
    }
}

/// Whose it says it is.
fn named(config: &Config, own: &CertificateDer<'_>) -> CheckLine {
    const WHAT: &str = "certificate identity";
    let identity = match identity_of(own) {
        Ok(identity) => identity,
        Err(error) => return CheckLine::fail(WHAT, error.to_string(), ISSUE),
    };
    let wanted = match config.member.role {
        MemberRole::Member => CertRole::Member,
        MemberRole::Witness => CertRole::Witness,
    };
    if identity.cluster != config.cluster.name {
        let figure = format!("is of cluster {}, cluster.name is {}", identity.cluster, config.cluster.name);
        CheckLine::fail(WHAT, figure, "the others refuse it; issue one by this cluster's CA")
    } else if identity.name.as_str() != config.member.host.as_str() {
        let figure = format!("is of {}, member.host is {}", identity.name, config.member.host);
        CheckLine::fail(WHAT, figure, "the others refuse it; each host has its own")
    } else if identity.role != wanted {
        let figure = format!("is of a {}, member.role is {}", identity.role, config.member.role);
        CheckLine::fail(WHAT, figure, "issue it anew with --role")
    } else {
        CheckLine::fine(WHAT, format!("{} {} of {}", config.member.role, identity.name, identity.cluster))
    }
}

/// Whether the CA issued it. Its dates are checked by themselves, with better words.
fn issued(ca: &CertificateDer<'_>, own: &CertificateDer<'_>) -> CheckLine {
    const WHAT: &str = "certificate chain";
    const MEND: &str = "certificate and ca.pem must come from the same `rekindle pki init`";
    let middle = Certificate::from_der(own).map(|certificate| {
        let validity = certificate.tbs_certificate.validity;
        validity.not_before.to_unix_duration() + Duration::from_secs(1)
    });
    let checked = middle.map_err(|error| error.to_string()).and_then(|at| {
        let anchor = anchor_from_trusted_cert(ca).map_err(|error| error.to_string())?;
        let own = EndEntityCert::try_from(own).map_err(|error| error.to_string())?;
        let (usage, anchors) = (KeyUsage::client_auth(), [anchor]);
        let at = UnixTime::since_unix_epoch(at);
        own.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], at, usage, None, None)
            .map(drop)
            .map_err(|error| error.to_string())
    });
    match checked {
        Ok(()) => CheckLine::fine(WHAT, "issued by the cluster CA"),
        Err(error) => CheckLine::fail(WHAT, format!("is not issued by the cluster CA ({error})"), MEND),
    }
}

fn lasting(what: &str, der: &CertificateDer<'_>, mend: &str) -> CheckLine {
    let what = format!("{what} validity");
    let validity = match Certificate::from_der(der) {
        Ok(certificate) => certificate.tbs_certificate.validity,
        Err(error) => return CheckLine::fail(what, format!("cannot be read: {error}"), mend),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (from, until) = (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration());
    let days = until.saturating_sub(now).as_secs() / 86_400;
    if now < from {
        CheckLine::fail(what, "is not valid yet", "is this machine's clock right?")
    } else if now >= until {
        CheckLine::fail(what, format!("expired {} days ago", (now - until).as_secs() / 86_400), mend)
    } else if until - now < RENEW_WITHIN {
        CheckLine::warn(what, format!("{days} days left"), mend)
    } else {
        CheckLine::fine(what, format!("{days} days left"))
    }
}

/// Whether the key is the certificate's. Nothing is said of a key that cannot be read: that has a line already.
fn key_fits(path: &Path, own: &CertificateDer<'_>) -> Option<CheckLine> {
    const WHAT: &str = "certificate and key";
    let pem = std::fs::read(path).ok()?;
    let fits = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| error.to_string()).and_then(|key| {
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|error| error.to_string())?;
        let own = EndEntityCert::try_from(own).map_err(|error| error.to_string())?;
        Ok(key.public_key().is_some_and(|public| *public == *own.subject_public_key_info()))
    });
    Some(match fits {
        Ok(true) => CheckLine::fine(WHAT, "belong together"),
        Ok(false) => CheckLine::fail(WHAT, "do not belong together", "copy both from one `rekindle pki issue`"),
        Err(error) => CheckLine::fail(WHAT, format!("{}: {error}", path.display()), ISSUE),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn lasting_between(from_days: i64, until_days: i64) -> CheckLine {
        let mut params = rcgen::CertificateParams::default();
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now + time::Duration::days(from_days);
        params.not_after = now + time::Duration::days(until_days) + time::Duration::hours(1);
        let key = rcgen::KeyPair::generate().expect("a key");
        lasting("certificate", params.self_signed(&key).expect("signed").der(), "renew")
    }

    #[test]
    fn a_certificate_runs_out_with_a_warning_before() {
        for (from, until, verdict, says) in [
            (-1, 31, Verdict::Fine, "31 days left"),
            (-1, 29, Verdict::Warn, "29 days left"),
            (-40, -9, Verdict::Fail, "expired 8 days ago"),
            (1, 90, Verdict::Fail, "not valid yet"),
        ] {
            let line = lasting_between(from, until);
            assert_eq!(line.verdict, verdict, "{line}");
            assert!(line.figure.contains(says), "{line}");
        }
    }
}
