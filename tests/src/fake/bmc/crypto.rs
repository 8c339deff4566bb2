//! The keys of one RMCP+ session (IPMI 2.0 specification, sections 13.28 to 13.32).

use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit, block_padding::NoPadding};
use hmac::{Hmac, Mac};
use rand::Rng;
use sha1::Sha1;
use sha2::Sha256;

/// An AES block, and the initialization vector before each encrypted payload.
const BLOCK: usize = 16;
/// Length of the constants K1 and K2 are made from: 20 for both hashes (section 13.32).
const KEY_CONSTANT_BYTES: usize = 20;

/// A cipher suite we speak (table 22-20).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suite {
    /// 3: RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Sha1,
    /// 17: RAKP-HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Sha256,
}

impl Suite {
    pub(super) const ALL: [Self; 2] = [Self::Sha1, Self::Sha256];

    /// Suite id, then authentication, integrity and confidentiality algorithm numbers.
    pub(super) fn numbers(self) -> [u8; 4] {
        match self {
            Self::Sha1 => [3, 1, 1, 1],
            Self::Sha256 => [17, 3, 4, 1],
        }
    }

    /// Length of the authentication code of packets and of RAKP message 4.
    pub(super) fn code_bytes(self) -> usize {
        match self {
            Self::Sha1 => 12,
            Self::Sha256 => 16,
        }
    }

    /// The whole HMAC of `parts`, one after another.
    pub(super) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha1 => digest::<Hmac<Sha1>>(key, parts),
            Self::Sha256 => digest::<Hmac<Sha256>>(key, parts),
        }
    }
}

fn digest<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    // HMAC takes a key of any length, so the error cannot occur; an empty code would match nothing.
    let Ok(mut mac) = <M as Mac>::new_from_slice(key) else { return Vec::new() };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// The keys of an active session.
#[derive(Clone)]
pub(super) struct SessionKeys {
    suite: Suite,
    sik: Vec<u8>,
    integrity: Vec<u8>,
    cipher: [u8; BLOCK],
}

impl SessionKeys {
    /// From the user's key and the parts of RAKP messages 1 and 2 (section 13.31).
    pub(super) fn new(suite: Suite, user_key: &[u8], parts: &[&[u8]]) -> Self {
        let sik = suite.hmac(user_key, parts);
        let integrity = suite.hmac(&sik, &[&[1; KEY_CONSTANT_BYTES]]);
        let k2 = suite.hmac(&sik, &[&[2; KEY_CONSTANT_BYTES]]);
        let mut cipher = [0; BLOCK];
        cipher.iter_mut().zip(k2).for_each(|(to, from)| *to = from);
        Self { suite, sik, integrity, cipher }
    }

    /// The check value of RAKP message 4.
    pub(super) fn rakp4(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut code = self.suite.hmac(&self.sik, parts);
        code.truncate(self.suite.code_bytes());
        code
    }

    pub(super) fn code_bytes(&self) -> usize {
        self.suite.code_bytes()
    }

    /// The authentication code of a packet.
    pub(super) fn code(&self, packet: &[u8]) -> Vec<u8> {
        let mut code = self.suite.hmac(&self.integrity, &[packet]);
        code.truncate(self.suite.code_bytes());
        code
    }

    /// Decrypts a payload; `None` when it is not whole blocks or its padding is wrong (section 13.29).
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (iv, body) = sealed.split_at_checked(BLOCK)?;
        if body.is_empty() {
            return None;
        }
        let cipher = cbc::Decryptor::<aes::Aes128>::new_from_slices(&self.cipher, iv).ok()?;
        let mut plain = body.to_vec();
        cipher.decrypt_padded_mut::<NoPadding>(&mut plain).ok()?;
        let pad = usize::from(plain.pop()?);
        let keep = plain.len().checked_sub(pad)?;
        let padding_counts = plain[keep..].iter().zip(1_u8..).all(|(byte, count)| *byte == count);
        if pad >= BLOCK || !padding_counts {
            return None;
        }
        plain.truncate(keep);
        Some(plain)
    }

    /// Encrypts a payload under a fresh initialization vector.
    pub(super) fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut iv = [0; BLOCK];
        rand::rng().fill_bytes(&mut iv);
        let mut padded = plain.to_vec();
        let pad = (BLOCK - (plain.len() + 1) % BLOCK) % BLOCK;
        padded.extend((1_u8..).take(pad));
        padded.push(u8::try_from(pad).ok()?);
        let cipher = cbc::Encryptor::<aes::Aes128>::new_from_slices(&self.cipher, &iv).ok()?;
        let length = padded.len();
        cipher.encrypt_padded_mut::<NoPadding>(&mut padded, length).ok()?;
        let mut sealed = iv.to_vec();
        sealed.extend(padded);
        Some(sealed)
    }
}

/// Whether two codes are the same. Not constant in time: nobody attacks a fake.
pub(super) fn same(left: &[u8], right: &[u8]) -> bool {
    !left.is_empty() && left == right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_at_every_length() {
        for suite in Suite::ALL {
            let keys = SessionKeys::new(suite, b"secret", &[b"a", b"b"]);
            for length in 0..70_u8 {
                let plain: Vec<u8> = (0..length).collect();
                let sealed = keys.seal(&plain).expect("seals");
                assert_eq!(sealed.len() % BLOCK, 0);
                assert_eq!(keys.open(&sealed), Some(plain), "{suite:?} {length}");
            }
        }
    }
}
