//! Round trips, and every refusal of an operator's order.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::DecodePrivateKey;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};
use rekindle_coordinator::ledger::{
    AuthorityError, CertificateOf, OperatorCommand, OperatorOrder, VerifiedOrder, verify_order,
};
use rekindle_proto::admin::SignedOrder;
use rekindle_proto::id::{ClusterName, HostName, OperatorName, WallTime};

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).expect("legal")
}

fn wall(time: SystemTime) -> WallTime {
    WallTime(i64::try_from(time.duration_since(UNIX_EPOCH).expect("after 1970").as_millis()).expect("fits"))
}

fn now() -> WallTime {
    wall(SystemTime::now())
}

fn ca(name: &str) -> Authority {
    Authority::generate(&cluster(name), SystemTime::now()).expect("makes a CA").0
}

fn identity(cluster_name: &str, role: CertRole, name: &str) -> CertIdentity {
    CertIdentity { cluster: cluster(cluster_name), role, name: OperatorName::new(name).expect("legal") }
}

fn operator(authority: &Authority, validity: Duration) -> Issued {
    let identity = identity(authority.cluster().as_str(), CertRole::Operator, "ada");
    authority.issue(&identity, Validity::beginning(SystemTime::now(), validity)).expect("issues")
}

fn order(cluster_name: &str, reason: &str) -> OperatorOrder {
    OperatorOrder {
        cluster: cluster(cluster_name),
        nonce: [7; 16],
        signed_at: now(),
        reason: reason.into(),
        command: OperatorCommand::Maintenance { host: HostName::new("cmp-1").expect("legal"), on: true },
    }
}

fn signed_bytes(certificate: &[u8], key_pem: &str, bytes: Vec<u8>) -> SignedOrder {
    let key = SigningKey::from_pkcs8_pem(key_pem).expect("a key");
    let signature: DerSignature = key.sign(&bytes);
    SignedOrder { certificate: certificate.to_vec(), signature: signature.as_bytes().to_vec(), order: bytes }
}

fn signed(issued: &Issued, order: &OperatorOrder) -> SignedOrder {
    let bytes = rekindle_proto::message::encode(order, usize::MAX).expect("encodes");
    signed_bytes(&issued.certificate_der, &issued.key_pem, bytes)
}

fn verify(authority: &Authority, signed: &SignedOrder) -> Result<VerifiedOrder, AuthorityError> {
    verify_order(signed, &cluster("zrh"), authority.certificate_der(), now())
}

/// A certificate such as no honest CA issues.
fn odd(authority: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Issued {
    odd_with_key(authority, &KeyPair::generate().expect("a key"), change)
}

fn odd_with_key(authority: &Ca, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Issued {
    let mut params = CertificateParams::default();
    params.not_before = (SystemTime::now() - HOUR).into();
    params.not_after = (SystemTime::now() + HOUR).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![uri("rekindle://zrh/operator/ada")];
    change(&mut params);
    let certificate = params.signed_by(key, &authority.issuer).expect("issues");
    Issued {
        certificate_pem: certificate.pem(),
        certificate_der: certificate.der().to_vec(),
        key_pem: key.serialize_pem().into(),
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

/// A CA with any parameters.
struct Ca {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn with_key(key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        change(&mut params);
        let der = params.self_signed(&key).expect("signs").der().to_vec();
        Self { der, issuer: Issuer::new(params, key) }
    }
    fn new(change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::with_key(KeyPair::generate().expect("a key"), change)
    }
    fn verify(&self, issued: &Issued) -> Result<VerifiedOrder, AuthorityError> {
        let order = signed(issued, &order("zrh", "a new fan"));
        verify_order(&order, &cluster("zrh"), &self.der, now())
    }
}

#[test]
fn files_are_made_once_and_read_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca_dir = dir.path().join("ca");
    let files = init(&ca_dir, &cluster("zrh")).expect("makes a CA");
    let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o7777;
    assert_eq!((mode(&ca_dir), mode(&files.key), mode(&files.certificate)), (0o700, 0o600, 0o644));
    let before = fs::read(&files.certificate).expect("reads");
    assert!(matches!(init(&ca_dir, &cluster("zrh")), Err(PkiError::Exists { .. })));
    assert_eq!(fs::read(&files.certificate).expect("reads"), before, "nothing was overwritten");

    let out = dir.path().join("out");
    let host = issue(&ca_dir, "cmp-01.zrh1.example", CertRole::Member, &out, LEAF_VALIDITY).expect("issues");
    assert_eq!(mode(&host.key), 0o600);
    let again = issue(&ca_dir, "cmp-01.zrh1.example", CertRole::Member, &out, LEAF_VALIDITY);
    assert!(matches!(again, Err(PkiError::Exists { .. })));
    let der = rustls_pki_types::pem::PemObject::from_pem_file(&host.certificate).expect("PEM");
    let der: rustls_pki_types::CertificateDer<'_> = der;
    assert_eq!(identity_of(&der).expect("has a name"), identity("zrh", CertRole::Member, "cmp-01.zrh1.example"));
}

#[test]
fn an_order_signed_with_files_is_accepted_and_one_signed_with_the_wrong_files_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca_files = init(dir.path(), &cluster("zrh")).expect("makes a CA");
    let ada = issue(dir.path(), "ada", CertRole::Operator, dir.path(), LEAF_VALIDITY).expect("issues");
    let bob = issue(dir.path(), "bob", CertRole::Operator, dir.path(), LEAF_VALIDITY).expect("issues");
    let host = issue(dir.path(), "cmp-1", CertRole::Member, dir.path(), LEAF_VALIDITY).expect("issues");
    let order = order("zrh", "a new fan");
    let signed = sign_order(&ada.certificate, &ada.key, &order).expect("signs");
    let pem = fs::read_to_string(&ca_files.certificate).expect("reads");
    let key = fs::read_to_string(&ca_files.key).expect("reads");
    let authority = Authority::from_pem(&pem, &key).expect("a CA");
    let verified = verify(&authority, &signed).expect("is accepted");
    assert_eq!((verified.operator.as_str(), verified.order), ("ada", order.clone()));

    let wrong = sign_order(&ada.certificate, &bob.key, &order).expect_err("another's key");
    assert!(matches!(wrong, PkiError::KeyMismatch { .. }), "{wrong}");
    let wrong = sign_order(&host.certificate, &host.key, &order).expect_err("a host's");
    assert!(matches!(wrong, PkiError::Role { role: CertRole::Member, .. }), "{wrong}");
    fs::set_permissions(&ada.key, fs::Permissions::from_mode(0o640)).expect("changes the mode");
    let wrong = sign_order(&ada.certificate, &ada.key, &order).expect_err("open to the group").to_string();
    for part in ["ada.key", "0640", "must not be open to group or others", "chmod 0600"] {
        assert!(wrong.contains(part), "{wrong}");
    }
}

#[test]
fn a_certificate_never_outlives_its_ca() {
    let authority = ca("zrh");
    let issued = operator(&authority, LEAF_VALIDITY * 100);
    let at = wall(SystemTime::now() + LEAF_VALIDITY * 11);
    let refusal = verify_order(&signed(&issued, &order("zrh", "x")), &cluster("zrh"), authority.certificate_der(), at);
    assert!(matches!(refusal, Err(AuthorityError::Expired { .. })), "{refusal:?}");
}

#[test]
fn before_the_first_roster_only_that_roster_is_accepted_on_its_own_cas_word() {
    let authority = ca("zrh");
    let issued = operator(&authority, HOUR);
    let none = |signed: &SignedOrder| verify_order(signed, &cluster("zrh"), &[], now());
    assert_eq!(none(&signed(&issued, &order("zrh", "x"))), Err(AuthorityError::NoRoster));
    let init = |ca: &Authority| OperatorOrder {
        command: OperatorCommand::Init { roster: Vec::new(), ca: ca.certificate_der().to_vec() },
        ..order("zrh", "begin")
    };
    assert!(none(&signed(&issued, &init(&authority))).is_ok());
    let refusal = none(&signed(&issued, &init(&ca("zrh"))));
    assert_eq!(refusal, Err(AuthorityError::CertificateSignature));
}

#[test]
fn strangers_other_clusters_and_hosts_are_refused() {
    let authority = ca("zrh");
    let stranger = operator(&ca("zrh"), HOUR);
    let refusal = verify(&authority, &signed(&stranger, &order("zrh", "x")));
    assert_eq!(refusal, Err(AuthorityError::CertificateSignature));
    let other = operator(&ca("gva"), HOUR);
    let refusal = verify(&authority, &signed(&other, &order("zrh", "x")));
    assert!(matches!(refusal, Err(AuthorityError::Issuer { .. })), "{refusal:?}");

    let validity = Validity::beginning(SystemTime::now(), HOUR);
    let foreign = authority.issue(&identity("gva", CertRole::Operator, "ada"), validity).expect("issues");
    let refusal = verify(&authority, &signed(&foreign, &order("zrh", "x")));
    assert!(matches!(refusal, Err(AuthorityError::ForeignCertificate { .. })), "{refusal:?}");
    for role in [CertRole::Member, CertRole::Witness] {
        let host = authority.issue(&identity("zrh", role, "cmp-1"), validity).expect("issues");
        let refusal = verify(&authority, &signed(&host, &order("zrh", "x")));
        assert!(matches!(&refusal, Err(AuthorityError::Role { role: found, .. }) if *found == role), "{refusal:?}");
    }
}

#[test]
fn dates_are_kept() {
    let authority = ca("zrh");
    let order = signed(&operator(&authority, HOUR), &order("zrh", "x"));
    let at = |at| verify_order(&order, &cluster("zrh"), authority.certificate_der(), at);
    let late = at(wall(SystemTime::now() + HOUR + Duration::from_secs(2)));
    assert!(matches!(late, Err(AuthorityError::Expired { .. })), "{late:?}");
    let early = at(wall(SystemTime::now() - HOUR));
    assert!(matches!(early, Err(AuthorityError::NotYetValid { .. })), "{early:?}");
    let never = at(WallTime(-1));
    assert!(matches!(never, Err(AuthorityError::NotYetValid { .. })), "{never:?}");
}

#[test]
fn alterations_are_refused() {
    let authority = ca("zrh");
    let ada = operator(&authority, HOUR);
    let good = signed(&ada, &order("zrh", "a new fan"));
    verify(&authority, &good).expect("is accepted");
    let altered = SignedOrder { order: signed(&ada, &order("zrh", "a new fin")).order, ..good.clone() };
    assert!(matches!(verify(&authority, &altered), Err(AuthorityError::Signature { .. })));
    let cut = SignedOrder { signature: good.signature[1..].to_vec(), ..good.clone() };
    assert!(matches!(verify(&authority, &cut), Err(AuthorityError::SignatureMalformed { .. })));
    let other = SignedOrder { certificate: operator(&authority, HOUR).certificate_der, ..good.clone() };
    assert!(matches!(verify(&authority, &other), Err(AuthorityError::Signature { .. })));
    let mut longer = good.order.clone();
    longer.push(0);
    let longer = signed_bytes(&ada.certificate_der, &ada.key_pem, longer);
    assert!(matches!(verify(&authority, &longer), Err(AuthorityError::Order(_))));
    let huge = signed_bytes(&ada.certificate_der, &ada.key_pem, vec![0; rekindle_proto::admin::ORDER_BYTES_MAX + 1]);
    assert!(matches!(verify(&authority, &huge), Err(AuthorityError::Order(_))));
    let foreign = verify(&authority, &signed(&ada, &order("gva", "x")));
    assert!(matches!(foreign, Err(AuthorityError::ForeignOrder { .. })), "{foreign:?}");
    let silent = verify(&authority, &signed(&ada, &order("zrh", " \t")));
    assert!(matches!(silent, Err(AuthorityError::NoReason { .. })), "{silent:?}");
}

#[test]
fn a_certificate_with_any_bit_turned_is_refused() {
    let authority = ca("zrh");
    let good = signed(&operator(&authority, HOUR), &order("zrh", "a new fan"));
    for byte in 0..good.certificate.len() {
        let mut bad = good.clone();
        bad.certificate[byte] ^= 1 << (byte % 8);
        assert!(verify(&authority, &bad).is_err(), "bit {} of byte {byte}", byte % 8);
    }
    let mut bad = good.clone();
    bad.certificate.push(0);
    assert!(matches!(verify(&authority, &bad), Err(AuthorityError::CertificateMalformed { .. })));
    bad.certificate.resize(10_000, 0);
    assert!(matches!(verify(&authority, &bad), Err(AuthorityError::CertificateTooLong { .. })));
}

#[test]
fn a_ca_that_may_not_issue_is_refused() {
    let good = Ca::new(|_| ());
    good.verify(&odd(&good, |_| ())).expect("the helper's own certificates are accepted");
    let refusal = |ca: Ca| ca.verify(&odd(&ca, |_| ())).expect_err("is refused");
    let no_ca = refusal(Ca::new(|params| params.is_ca = IsCa::ExplicitNoCa));
    assert!(matches!(no_ca, AuthorityError::CaIsNoCa { .. }), "{no_ca}");
    let no_sign = refusal(Ca::new(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]));
    assert!(matches!(no_sign, AuthorityError::CaIsNoCa { .. }), "{no_sign}");
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    let p384 = refusal(Ca::with_key(p384, |_| ()));
    assert!(matches!(p384, AuthorityError::Key { which: CertificateOf::Ca, .. }), "{p384}");
}

#[test]
fn an_operators_certificate_must_be_one() {
    let ca = Ca::new(|_| ());
    let refusal = |change: fn(&mut CertificateParams)| ca.verify(&odd(&ca, change)).expect_err("is refused");
    let is_ca = refusal(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(matches!(is_ca, AuthorityError::OperatorIsCa), "{is_ca}");
    let usage = refusal(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    assert!(matches!(usage, AuthorityError::Usage { .. }), "{usage}");
    let extended = refusal(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert!(matches!(extended, AuthorityError::Usage { .. }), "{extended}");
    let none = refusal(|params| params.subject_alt_names.clear());
    assert!(matches!(none, AuthorityError::Names { found: 0 }), "{none}");
    let two = refusal(|params| params.subject_alt_names.push(uri("REKINDLE://zrh/member/cmp-1")));
    assert!(matches!(two, AuthorityError::Names { found: 2 }), "{two}");
    let bad = refusal(|params| params.subject_alt_names = vec![uri("rekindle://zrh/operator/a/b")]);
    assert!(matches!(bad, AuthorityError::Name { .. }), "{bad}");
    let critical = refusal(|params| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    });
    assert!(matches!(critical, AuthorityError::UnknownCriticalExtension { .. }), "{critical}");

    let good = odd(&ca, |_| ());
    let edwards = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let certificate = odd_with_key(&ca, &edwards, |_| ()).certificate_der;
    let edwards = ca.verify(&Issued { certificate_der: certificate, ..good }).expect_err("another algorithm");
    assert!(matches!(edwards, AuthorityError::Key { which: CertificateOf::Operator, .. }), "{edwards}");
}

#[test]
fn a_certificate_signed_in_another_way_is_refused() {
    let authority = Ca::new(|_| ());
    let p384 = Ca::with_key(KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key"), |_| ());
    let refusal = authority.verify(&odd(&p384, |_| ())).expect_err("SHA-384");
    assert!(matches!(refusal, AuthorityError::CertificateAlgorithm { .. }), "{refusal}");
}

#[test]
fn a_certificates_two_names_must_agree() {
    let ca = Ca::new(|_| ());
    let dns = |name: &str| SanType::DnsName(name.try_into().expect("ASCII"));
    let named = |names: Vec<SanType>| identity_of(&odd(&ca, |params| params.subject_alt_names = names).certificate_der);
    let host = "rekindle://zrh/member/cmp-1";
    assert!(named(vec![uri(host), dns("cmp-1")]).is_ok());
    assert!(named(vec![uri(host), dns("cmp-1"), uri("spiffe://zrh/x")]).is_ok(), "another scheme is not ours to judge");
    for names in [vec![uri(host)], vec![uri(host), dns("cmp-2")], vec![uri(host), dns("cmp-1"), dns("cmp-2")]] {
        assert!(matches!(named(names), Err(PkiError::DnsNames { .. })));
    }
    let two = named(vec![uri(host), dns("cmp-1"), uri("rekindle://zrh/member/cmp-2")]);
    assert!(matches!(two, Err(PkiError::Names { found: 2 })));
    let operator = "rekindle://zrh/operator/ada";
    assert!(matches!(named(vec![uri(operator), dns("ada")]), Err(PkiError::DnsNames { .. })));
    assert!(identity_of(b"no certificate").is_err());
    let not_dns = ca_issue("host-");
    assert!(matches!(not_dns, Err(PkiError::NotDns { .. })), "{not_dns:?}");
}

fn ca_issue(host: &str) -> Result<Issued, PkiError> {
    ca("zrh").issue(&identity("zrh", CertRole::Member, host), Validity::beginning(SystemTime::now(), HOUR))
}

#[test]
fn secrets_are_not_shown() {
    let issued = operator(&ca("zrh"), HOUR);
    assert!(!format!("{issued:?} {:?}", ca("zrh")).contains("PRIVATE"));
}
