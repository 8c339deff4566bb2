//! Takes secrets out of what a program said, in the forms in which programs say them.

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// What stands where a secret stood.
const SCRUBBED: &str = "***";

/// The beginning of a secret at the very end of a text that was cut is taken out from this many bytes on: fewer are found
/// in any text.
const BEGINNING_BYTES_MIN: usize = 4;

/// The forms of some secrets, longest first, wiped when dropped.
pub(super) struct Scrub {
    forms: Vec<Zeroizing<String>>,
}

impl Scrub {
    /// For these secrets; `user` is the user they may stand beside, as in HTTP's basic authentication.
    pub(super) fn of<'a>(secrets: impl IntoIterator<Item = &'a SecretString>, user: Option<&str>) -> Self {
        let mut forms = Vec::new();
        for secret in secrets {
            let secret = secret.expose_secret();
            forms.push(Zeroizing::new(secret.to_owned()));
            forms.extend([false, true].map(|upper| percent(secret, upper)));
            forms.push(Zeroizing::new(percent(secret, true).replace("%20", "+")));
            forms.push(escaped(secret));
            // `'` as shells and as Python's shlex write it within quotes; then as XML does.
            forms.push(Zeroizing::new(secret.replace('\'', "'\"'\"'")));
            forms.push(Zeroizing::new(secret.replace('\'', "'\\''")));
            forms.push(Zeroizing::new(secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")));
            let beside = user.map(|user| Zeroizing::new(format!("{user}:{secret}")));
            for text in [Some(secret), beside.as_ref().map(|text| text.as_str())].into_iter().flatten() {
                forms.push(base64(text, BASE64));
                forms.push(base64(text, BASE64_URL));
            }
        }
        forms.retain(|form| !form.is_empty());
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.as_str().cmp(b.as_str())));
        forms.dedup_by(|a, b| a.as_str() == b.as_str());
        Self { forms }
    }

    /// The text without them; of one that was cut, also without the beginning of one at its end.
    pub(super) fn clean(&self, text: &str, cut: bool) -> String {
        let mut clean = text.to_owned();
        for form in &self.forms {
            if clean.contains(form.as_str()) {
                clean = clean.replace(form.as_str(), SCRUBBED);
            }
        }
        if cut {
            // The character that the cut went through.
            let end = clean.trim_end_matches(char::REPLACEMENT_CHARACTER).len();
            clean.truncate(end);
            let beginnings = self.forms.iter().filter_map(|form| beginning(&clean, form)).max();
            if let Some(bytes) = beginnings {
                clean.truncate(clean.len() - bytes);
                clean.push_str(SCRUBBED);
            }
        }
        clean
    }
}

/// How many bytes at the end of the text are the beginning of the form.
fn beginning(text: &str, form: &str) -> Option<usize> {
    let longest = form.len().saturating_sub(1).min(text.len());
    (BEGINNING_BYTES_MIN..=longest)
        .rev()
        .filter(|&bytes| form.is_char_boundary(bytes))
        .find(|&bytes| text.as_bytes().ends_with(&form.as_bytes()[..bytes]))
}

/// As in a URL (RFC 3986, section 2.1).
fn percent(secret: &str, upper: bool) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(3 * secret.len()));
    for byte in secret.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ if upper => text.push_str(&format!("%{byte:02X}")),
            _ => text.push_str(&format!("%{byte:02x}")),
        }
    }
    text
}

/// As in JSON (RFC 8259, section 7), in C and in Python: secrets have no control characters.
fn escaped(secret: &str) -> Zeroizing<String> {
    Zeroizing::new(secret.replace('\\', "\\\\").replace('"', "\\\""))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// RFC 4648, without padding, so that it is found with and without.
fn base64(text: &str, alphabet: &[u8; 64]) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(text.len().div_ceil(3) * 4));
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            let index = (bits >> (18 - 6 * digit)) & 63;
            encoded.push(char::from(alphabet[index as usize]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "p4ss \"w'ord/%\\&é";

    fn scrub() -> Scrub {
        Scrub::of(&[SecretString::from(SECRET)], Some("admin"))
    }

    #[test]
    fn every_form_is_found() {
        // Written by Python's urllib, base64, json and shlex, not by us.
        for said in [
            SECRET,
            "p4ss%20%22w%27ord%2F%25%5C%26%C3%A9",
            "p4ss%20%22w%27ord%2f%25%5c%26%c3%a9",
            "p4ss+%22w%27ord%2F%25%5C%26%C3%A9",
            "cDRzcyAidydvcmQvJVwmw6k",
            "YWRtaW46cDRzcyAidydvcmQvJVwmw6k",
            "p4ss \\\"w'ord/%\\\\&é",
            "p4ss \"w'\"'\"'ord/%\\&é",
            "p4ss \"w'ord/%\\&amp;é",
        ] {
            assert_eq!(scrub().clean(&format!("a {said} b {said}"), false), "a *** b ***", "{said}");
        }
        assert_eq!(scrub().clean("nothing of it: p4ss", false), "nothing of it: p4ss");
    }

    #[test]
    fn a_secret_that_was_cut_in_two_is_found() {
        for bytes in BEGINNING_BYTES_MIN..SECRET.len() {
            let cut = String::from_utf8_lossy(&SECRET.as_bytes()[..bytes]);
            assert_eq!(scrub().clean(&format!("a {cut}"), true), "a ***", "{cut}");
        }
        assert_eq!(scrub().clean("a p4ss", false), "a p4ss", "whole texts end as they end");
    }

    #[test]
    fn base64_is_the_rfcs() {
        let vectors = [("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE")];
        for (text, is) in vectors {
            assert_eq!(*base64(text, BASE64), is);
        }
        assert_eq!((base64("??>", BASE64).as_str(), base64("??>", BASE64_URL).as_str()), ("Pz8+", "Pz8-"));
    }
}
