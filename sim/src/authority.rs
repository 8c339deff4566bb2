//! The simulated operator: a certificate authority, an operator's certificate, and orders that are really signed, so that they
//! pass the very check that the daemon makes. Keys are constants and signatures deterministic (RFC 6979): they protect nobody.

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use rekindle_coordinator::ledger::{OperatorCommand, OperatorOrder};
use rekindle_proto::admin::{ORDER_BYTES_MAX, SignedOrder};
use rekindle_proto::fact::Text;
use rekindle_proto::id::{ClusterName, WallTime};
use rekindle_proto::message::encode;

/// Signs as the operator `alice`.
pub(crate) struct Authority {
    cluster: ClusterName,
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: SigningKey,
    orders: u64,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("orders", &self.orders).finish_non_exhaustive()
    }
}

impl Authority {
    pub(crate) fn new(cluster: &ClusterName) -> Self {
        let (ca_key, key) = (signing_key(7), signing_key(9));
        let ca = certificate("ca", &ca_key, &ca_key, &ca_extensions());
        let uri = format!("rekindle://{cluster}/operator/alice");
        let certificate = certificate("alice", &key, &ca_key, &operator_extensions(&uri));
        Self { cluster: cluster.clone(), ca, certificate, key, orders: 0 }
    }

    pub(crate) fn ca(&self) -> &[u8] {
        &self.ca
    }

    /// A signed order.
    pub(crate) fn sign(&mut self, signed_at: WallTime, command: OperatorCommand, reason: &str) -> SignedOrder {
        self.orders += 1;
        let nonce = (u128::from(self.orders) << 64 | 0x5eed).to_be_bytes();
        let order =
            OperatorOrder { cluster: self.cluster.clone(), nonce, signed_at, reason: Text::from(reason), command };
        let order = encode(&order, ORDER_BYTES_MAX).unwrap_or_default();
        let signature: DerSignature = self.key.sign(&order);
        SignedOrder { certificate: self.certificate.clone(), order, signature: signature.as_bytes().to_vec() }
    }
}

fn signing_key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32].into()).expect("a scalar of the curve")
}

const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const BITS: u8 = 0x03;

/// One element of DER (X.690): tag, length, content.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag];
    match content.len() {
        length @ 0..0x80 => bytes.push(length as u8),
        length @ 0x80..0x100 => bytes.extend([0x81, length as u8]),
        length => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    bytes.extend(content);
    bytes
}

fn name(text: &str) -> Vec<u8> {
    let attribute = element(SEQUENCE, &[&element(OID, &[COMMON_NAME]), &element(0x0c, &[text.as_bytes()])]);
    element(SEQUENCE, &[&element(0x31, &[&attribute])])
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    element(SEQUENCE, &[&element(OID, &[oid]), critical, &element(OCTETS, &[value])])
}

fn ca_extensions() -> Vec<u8> {
    let constraints = element(SEQUENCE, &[&[0x01, 0x01, 0xff]]);
    // keyCertSign is bit 5.
    let usage = element(BITS, &[&[2, 0x04]]);
    [extension(BASIC_CONSTRAINTS, true, &constraints), extension(KEY_USAGE, true, &usage)].concat()
}

fn operator_extensions(uri: &str) -> Vec<u8> {
    // digitalSignature is bit 0.
    let usage = element(BITS, &[&[7, 0x80]]);
    let extended = element(SEQUENCE, &[&element(OID, &[CLIENT_AUTH])]);
    let names = element(SEQUENCE, &[&element(0x86, &[uri.as_bytes()])]);
    [
        extension(KEY_USAGE, true, &usage),
        extension(EXTENDED_KEY_USAGE, false, &extended),
        extension(ALTERNATIVE_NAME, false, &names),
    ]
    .concat()
}

/// A certificate of version 3, valid from 2020 to 2049 (RFC 5280, section 4.1).
fn certificate(subject: &str, key: &SigningKey, issuer: &SigningKey, extensions: &[u8]) -> Vec<u8> {
    let algorithm = element(SEQUENCE, &[&element(OID, &[ECDSA_SHA256])]);
    let point = key.verifying_key().to_encoded_point(false);
    let public = element(
        SEQUENCE,
        &[
            &element(SEQUENCE, &[&element(OID, &[EC_PUBLIC_KEY]), &element(OID, &[P256])]),
            &element(BITS, &[&[0], point.as_bytes()]),
        ],
    );
    let validity = element(SEQUENCE, &[&element(0x17, &[b"200101000000Z"]), &element(0x17, &[b"491231235959Z"])]);
    let version = element(0xa0, &[&[0x02, 0x01, 0x02]]);
    let extensions = element(0xa3, &[&element(SEQUENCE, &[extensions])]);
    let parts: [&[u8]; 8] =
        [&version, &[0x02, 0x01, 0x01], &algorithm, &name("ca"), &validity, &name(subject), &public, &extensions];
    let tbs = element(SEQUENCE, &parts);
    let signature: DerSignature = issuer.sign(&tbs);
    element(SEQUENCE, &[&tbs, &algorithm, &element(BITS, &[&[0], signature.as_bytes()])])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rekindle_coordinator::ledger::verify_order;

    #[test]
    fn its_orders_pass_the_daemons_own_check() {
        let cluster = ClusterName::new("sim").expect("legal");
        let mut authority = Authority::new(&cluster);
        let at = WallTime(1_800_000_000_000);
        let signed = authority.sign(at, OperatorCommand::Arm(true), "tested");
        let verified = verify_order(&signed, &cluster, authority.ca(), at).expect("it is signed");
        assert_eq!(verified.operator.as_str(), "alice");
        let mut other = signed;
        other.order[20] ^= 1;
        assert!(verify_order(&other, &cluster, authority.ca(), at).is_err());
    }
}
