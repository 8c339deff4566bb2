//! Cipher suites and the keys of a session (IPMI 2.0, sections 13.28 to 13.33 and table 22-20).

use aes::Aes128;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// An AES block, and the initialization vector before each encrypted payload, in bytes.
pub(super) const BLOCK: usize = 16;

/// Length of the constants from which K1 and K2 are made: 20 bytes for both hashes (section 13.32).
const KEY_CONSTANT: usize = 20;

/// A cipher suite that authenticates, signs and encrypts. There are no others: what cannot be said cannot be agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CipherSuite {
    /// 17: RAKP-HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Sha256,
    /// 3: RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Sha1,
}

impl CipherSuite {
    /// Both, the stronger first: what is asked for where nothing is configured.
    pub const PREFERENCE: [Self; 2] = [Self::Sha256, Self::Sha1];

    /// The suite of that number.
    ///
    /// # Errors
    /// Why no session may be opened with it.
    pub fn from_number(number: u8) -> Result<Self, &'static str> {
        match number {
            17 => Ok(Self::Sha256),
            3 => Ok(Self::Sha1),
            0 => Err("checks no password: anybody on that network could switch the host"),
            1 | 6 => Err("neither signs nor encrypts what is said after the login"),
            2 | 7 => Err("does not encrypt"),
            11 => Err("authenticates with MD5"),
            _ => Err("is not one that this driver speaks: 17 (SHA-256) or 3 (SHA-1)"),
        }
    }

    /// Its number (table 22-20).
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Sha256 => 17,
            Self::Sha1 => 3,
        }
    }

    /// The numbers of its authentication, integrity and confidentiality algorithms.
    pub(super) fn algorithms(self) -> [u8; 3] {
        match self {
            Self::Sha256 => [3, 4, 1],
            Self::Sha1 => [1, 1, 1],
        }
    }

    /// Length of a whole HMAC, as RAKP messages 2 and 3 carry it, in bytes.
    pub(super) fn hmac_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha1 => 20,
        }
    }

    /// Length of the code at the end of a packet and in RAKP message 4, in bytes: the HMAC's beginning.
    pub(super) fn code_len(self) -> usize {
        match self {
            Self::Sha256 => 16,
            Self::Sha1 => 12,
        }
    }

    /// The whole HMAC of these parts, one after another.
    pub(super) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Sha256 => digest::<Hmac<Sha256>>(key, parts),
            Self::Sha1 => digest::<Hmac<Sha1>>(key, parts),
        }
    }
}

fn digest<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    // HMAC takes keys of any length, so there is no error; an empty code equals no other, see `same`.
    let Ok(mut mac) = <M as Mac>::new_from_slice(key) else { return Zeroizing::default() };
    parts.iter().for_each(|part| mac.update(part));
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// Whether two codes are the same, in a time that does not tell where they differ. Empty ones never are.
pub(super) fn same(left: &[u8], right: &[u8]) -> bool {
    !left.is_empty() && left.ct_eq(right).into()
}

/// The keys of one session, wiped when it ends.
pub(super) struct SessionKeys {
    suite: CipherSuite,
    sik: Zeroizing<Vec<u8>>,
    integrity: Zeroizing<Vec<u8>>,
    cipher: Zeroizing<[u8; BLOCK]>,
}

impl SessionKeys {
    /// From K_g (or the user's key where there is none) and what both sides chose and named: the console's and the BMC's
    /// random numbers, the role, the length of the user's name, and that name (section 13.31).
    pub(super) fn new(suite: CipherSuite, key: &[u8], parts: &[&[u8]]) -> Self {
        let sik = suite.hmac(key, parts);
        let integrity = suite.hmac(&sik, &[&[1; KEY_CONSTANT]]);
        let k2 = suite.hmac(&sik, &[&[2; KEY_CONSTANT]]);
        let mut cipher = Zeroizing::new([0; BLOCK]);
        cipher.iter_mut().zip(k2.iter()).for_each(|(to, from)| *to = *from);
        Self { suite, sik, integrity, cipher }
    }

    /// The check value of RAKP message 4 over these parts.
    pub(super) fn check_value(&self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        let mut code = self.suite.hmac(&self.sik, parts);
        code.truncate(self.suite.code_len());
        code
    }

    /// The code at the end of a packet.
    pub(super) fn code(&self, packet: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut code = self.suite.hmac(&self.integrity, &[packet]);
        code.truncate(self.suite.code_len());
        code
    }

    /// Length of that code, in bytes.
    pub(super) fn code_len(&self) -> usize {
        self.suite.code_len()
    }

    /// Encrypts a payload. `None` never happens with a key and vector of a block each.
    pub(super) fn encrypt(&self, iv: &[u8; BLOCK], plain: &[u8]) -> Option<Vec<u8>> {
        let mut padded = plain.to_vec();
        let pad = (BLOCK - (plain.len() + 1) % BLOCK) % BLOCK;
        padded.extend((1_u8..).take(pad));
        padded.push(u8::try_from(pad).ok()?);
        let length = padded.len();
        let cipher = cbc::Encryptor::<Aes128>::new_from_slices(&*self.cipher, iv).ok()?;
        cipher.encrypt_padded_mut::<NoPadding>(&mut padded, length).ok()?;
        Some([iv.as_slice(), &padded].concat())
    }

    /// Decrypts a payload whose code was right. `None`: it is not whole blocks, or its padding is not 1, 2, 3… and its
    /// length (section 13.29).
    pub(super) fn decrypt(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (iv, body) = sealed.split_at_checked(BLOCK)?;
        let cipher = cbc::Decryptor::<Aes128>::new_from_slices(&*self.cipher, iv).ok()?;
        let mut plain = body.to_vec();
        cipher.decrypt_padded_mut::<NoPadding>(&mut plain).ok()?;
        let pad = usize::from(plain.pop()?);
        let keep = plain.len().checked_sub(pad)?;
        let counts = plain[keep..].iter().zip(1_u8..).all(|(byte, count)| *byte == count);
        plain.truncate(keep);
        (pad < BLOCK && counts).then_some(plain)
    }
}
