//! How to enter a BMC: as whom, and with which keys.

use std::fmt;

use secrecy::{ExposeSecret, SecretSlice, SecretString};
use zeroize::Zeroizing;

use super::super::settings::{IPMI_PASSWORD_BYTES_MAX, IpmiSettings, Privilege};
use super::error::IpmiError;
use super::suite::CipherSuite;

/// Longest user name, in bytes (section 13.20).
const USERNAME_BYTES_MAX: usize = 16;

/// Longest password and longest K_g, in bytes (sections 22.30 and 22.25).
const KEY_BYTES_MAX: usize = IPMI_PASSWORD_BYTES_MAX;

/// The longest K_g as it is written: 0x and two digits a byte.
const KEY_TEXT_MAX: usize = 2 + 2 * KEY_BYTES_MAX;

/// Who we are, while sessions are opened.
pub struct Login {
    name: String,
    name_len: u8,
    password: SecretSlice<u8>,
    kg: Option<SecretSlice<u8>>,
    suites: Vec<CipherSuite>,
    privilege: Privilege,
}

impl Login {
    /// From words at hand.
    ///
    /// # Errors
    /// What IPMI does not allow, without saying a secret.
    pub fn new(
        name: &str,
        password: Vec<u8>,
        kg: Option<Vec<u8>>,
        suites: &[CipherSuite],
        privilege: Privilege,
    ) -> Result<Self, IpmiError> {
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
        Ok(Self { name: name.to_owned(), name_len, password, kg, suites: suites.to_vec(), privilege })
    }

    /// Reads the secrets of a BMC.
    ///
    /// # Errors
    /// Which of them cannot be read or is no key.
    pub fn read(settings: &IpmiSettings) -> Result<Self, IpmiError> {
        let unusable = |what: &str, error: &dyn fmt::Display| IpmiError::Unusable(format!("{what}: {error}"));
        let bytes = |secret: SecretString| secret.expose_secret().as_bytes().to_vec();
        let password = settings.password.read(KEY_BYTES_MAX).map_err(|error| unusable("password", &error))?;
        let kg = match &settings.k_g {
            Some(source) => {
                let text = source.read(KEY_TEXT_MAX).map_err(|error| unusable("k_g", &error))?;
                let key = binary(bytes(text));
                Some(key.ok_or_else(|| unusable("k_g", &"after 0x an even number of hexadecimal digits must follow"))?)
            }
            None => None,
        };
        let suites: Result<Vec<CipherSuite>, IpmiError> = settings
            .cipher_suites
            .iter()
            .map(|&number| {
                CipherSuite::from_number(number).map_err(|why| unusable("cipher suite", &format!("{number} {why}")))
            })
            .collect();
        Self::new(&settings.username, bytes(password), kg, &suites?, settings.privilege)
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
    /// The level a session is raised to (table 6-2).
    pub(super) fn level(&self) -> u8 {
        match self.privilege {
            Privilege::Operator => 3,
            Privilege::Administrator => 4,
        }
    }
    pub(super) fn suites(&self) -> &[CipherSuite] {
        &self.suites
    }
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
