//! How to enter a BMC: where it is, as whom, and with which keys.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretSlice};
use zeroize::Zeroizing;

use super::error::IpmiError;
use super::suite::CipherSuite;

/// Longest user name, in bytes (section 13.20).
pub const USERNAME_BYTES_MAX: usize = 16;

/// Longest password and longest K_g, in bytes (sections 13.31 and 22.25).
pub const KEY_BYTES_MAX: usize = 20;

/// Most of a file that is read: longer than any key, so that a wrong file is not read whole.
const FILE_BYTES_MAX: usize = 4096;

/// One BMC and how to enter it.
#[derive(Debug, Clone)]
pub struct IpmiTarget {
    /// Name or address.
    pub address: String,
    /// UDP port; IPMI's own is 623.
    pub port: u16,
    /// The user, 1 to 16 bytes. It needs to be operator, and nothing more.
    pub username: String,
    /// A file whose first line is its password, 1 to 20 bytes. Read whenever a session is opened.
    pub password_file: PathBuf,
    /// A file whose first line is K_g, the BMC's own key: 1 to 20 bytes, or `0x` and their hexadecimal digits. `None`:
    /// the BMC has none, as most.
    pub kg_file: Option<PathBuf>,
    /// Which cipher suites may be used, the first one first.
    pub suites: Vec<CipherSuite>,
}

/// Who we are, while sessions are opened.
pub struct Login {
    name: String,
    name_len: u8,
    password: SecretSlice<u8>,
    kg: Option<SecretSlice<u8>>,
    suites: Vec<CipherSuite>,
}

impl Login {
    /// From words at hand.
    ///
    /// # Errors
    /// What IPMI does not allow, without saying a secret.
    pub fn new(name: &str, password: Vec<u8>, kg: Option<Vec<u8>>, suites: &[CipherSuite]) -> Result<Self, IpmiError> {
        let unusable = |what: &str| Err(IpmiError::Unusable(what.to_owned()));
        let name_len = u8::try_from(name.len()).ok().filter(|_| (1..=USERNAME_BYTES_MAX).contains(&name.len()));
        let Some(name_len) = name_len else { return unusable("the user name must have 1 to 16 bytes (IPMI 2.0)") };
        let (password, kg) = (SecretSlice::from(password), kg.map(SecretSlice::from));
        let is_key = |key: &SecretSlice<u8>| (1..=KEY_BYTES_MAX).contains(&key.expose_secret().len());
        if !is_key(&password) {
            return unusable("the password must have 1 to 20 bytes (IPMI 2.0)");
        }
        if !kg.as_ref().is_none_or(is_key) {
            return unusable("K_g must have 1 to 20 bytes (IPMI 2.0)");
        }
        if suites.is_empty() {
            return unusable("no cipher suite is allowed");
        }
        Ok(Self { name: name.to_owned(), name_len, password, kg, suites: suites.to_vec() })
    }

    /// Reads the files of a target.
    ///
    /// # Errors
    /// Which file cannot be read or holds no key.
    pub fn read(target: &IpmiTarget) -> Result<Self, IpmiError> {
        let read = |path: &Path| {
            let failed = |error| IpmiError::Unusable(format!("{} cannot be read: {error}", path.display()));
            first_line(path).map_err(failed)
        };
        let password = read(&target.password_file)?;
        let kg = match &target.kg_file {
            Some(path) => Some(binary(read(path)?).ok_or_else(|| {
                IpmiError::Unusable(format!(
                    "{}: after 0x an even number of hexadecimal digits must follow",
                    path.display()
                ))
            })?),
            None => None,
        };
        Self::new(&target.username, password, kg, &target.suites)
    }

    pub(super) fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }
    pub(super) fn name_len(&self) -> u8 {
        self.name_len
    }
    /// K_UID: what proves the user.
    pub(super) fn user_key(&self) -> &[u8] {
        self.password.expose_secret()
    }
    /// What the session's keys are made with: K_g, or the user's key where there is none (section 13.31).
    pub(super) fn session_key(&self) -> &[u8] {
        self.kg.as_ref().unwrap_or(&self.password).expose_secret()
    }
    pub(super) fn suites(&self) -> &[CipherSuite] {
        &self.suites
    }
}

fn first_line(path: &Path) -> io::Result<Vec<u8>> {
    // As large as it can get, so that it is not moved while it grows: every copy would have to be wiped.
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
    std::fs::File::open(path)?.take(FILE_BYTES_MAX as u64).read_to_end(&mut text)?;
    let line = text.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    Ok(line.to_vec())
}

/// `0x` and digits as the bytes they mean, anything else as it stands.
fn binary(line: Vec<u8>) -> Option<Vec<u8>> {
    let line = Zeroizing::new(line);
    let Some(digits) = line.strip_prefix(b"0x") else { return Some(line.to_vec()) };
    let pairs = digits.chunks(2).map(|pair| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
        text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u8::from_str_radix(text, 16).ok())?
    });
    pairs.collect()
}
