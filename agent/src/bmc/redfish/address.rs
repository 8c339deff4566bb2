//! Where a service is, and which of the addresses it tells are followed: none that would lead anywhere else.

use std::fmt;

use reqwest::Url;

use crate::bmc::settings::Endpoint;

/// Longest path taken from a service's words, in bytes. Real ones are under 200.
const PATH_BYTES_MAX: usize = 1_024;

/// Longest id of a system, in bytes.
const ID_BYTES_MAX: usize = 128;

/// Below which everything of a Redfish service lies (DSP0266, 6.2).
const ROOT: &str = "/redfish/";

/// Scheme, host and port of a Redfish service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(Url);

impl Address {
    /// Where the service listens, and whether TLS is spoken there.
    ///
    /// # Errors
    /// In words, for a host that is none.
    pub(super) fn new(endpoint: &Endpoint, tls: bool) -> Result<Self, String> {
        let text = format!("{}://{endpoint}/", if tls { "https" } else { "http" });
        let url = Url::parse(&text).map_err(|error| format!("{endpoint} is no address: {error}"))?;
        Ok(Self(url))
    }

    /// A path that we know by heart.
    pub(super) fn at(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(path);
        url
    }

    /// A path that the service told (`@odata.id`, `target`): below its own root, and on no other host.
    ///
    /// # Errors
    /// In words: what it told, and why it is not followed.
    pub(super) fn follow(&self, told: &str) -> Result<Url, String> {
        let refused = |why: &str| Err(format!("the address {:?} {why}", excerpt(told)));
        if told.len() > PATH_BYTES_MAX {
            return refused("is too long");
        }
        // With '\', '?', '#' or blanks it could be read in more than one way.
        if !told.starts_with(ROOT) || !told.chars().all(|c| c == '/' || c == '%' || is_in_segment(c)) {
            return refused("is no path below /redfish/");
        }
        let dotted = |part: &str| matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
        if told.split('/').any(dotted) {
            return refused("has dots that lead elsewhere");
        }
        let url = self.at(told);
        let is_same = url.origin() == self.0.origin() && url.path().starts_with(ROOT);
        if is_same { Ok(url) } else { refused("leads elsewhere") }
    }

    /// What stands in a `Location`: a path, or a whole address, of which only the path is followed (a service behind a
    /// name does not know by which one it was called).
    ///
    /// # Errors
    /// As [`Self::follow`].
    pub(super) fn follow_location(&self, told: &str) -> Result<Url, String> {
        let path = match told.split_once("://") {
            Some(("http" | "https", rest)) => rest.find('/').map_or("", |at| &rest[at..]),
            _ => told,
        };
        self.follow(path)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// Whether this can be the id of a system: one part of a path, as it stands. Every UUID can.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.chars().all(is_in_segment) && !matches!(text, "." | "..")
}

/// What may stand in a part of a path as it is (RFC 3986, `pchar`).
fn is_in_segment(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(c)
}

/// As much of a text of theirs as is good to read.
pub(super) fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str, tls: bool) -> Address {
        Address::new(&Endpoint::parse(text, 443).expect("an endpoint"), tls).expect("an address")
    }

    #[test]
    fn an_address_is_where_the_endpoint_says() {
        for (text, tls, is) in [
            ("cmp-1-bmc", true, "https://cmp-1-bmc"),
            ("10.0.0.7:8443", true, "https://10.0.0.7:8443"),
            ("[fe80::1]:8443", true, "https://[fe80::1]:8443"),
            ("127.0.0.1:8000", false, "http://127.0.0.1:8000"),
        ] {
            assert_eq!(address(text, tls).to_string(), is);
        }
        let nowhere = Endpoint::parse("1.2.3.400", 443).expect("its characters are legal");
        assert!(Address::new(&nowhere, true).expect_err("no address").contains("1.2.3.400"));
    }

    #[test]
    fn no_address_of_theirs_leads_to_another_host_or_out_of_redfish() {
        let home = address("bmc:8443", true);
        for told in ["/redfish/v1/Systems/1", "/redfish/v1/Systems/System.Embedded.1/", "/redfish/v1/Systems/a%20b"] {
            let url = home.follow(told).expect(told);
            assert_eq!((url.host_str(), url.port(), url.path()), (Some("bmc"), Some(8443), told));
        }
        for told in [
            "",
            "redfish/v1",
            "//evil/redfish/v1",
            "/\\evil/redfish/v1",
            "\\\\evil/redfish/v1",
            "https://evil/redfish/v1/Systems/1",
            "https://bmc:8443/redfish/v1/Systems/1",
            "/redfish/../secret",
            "/redfish/v1/%2e%2e/%2E./secret",
            "/redfish/v1/Systems/1?x=1",
            "/redfish/v1/Systems/1#x",
            "/redfish/v1/Sys\r\nHost: evil",
            "/redfish/v1/ /x",
            "/other/v1/Systems/1",
            "javascript:alert(1)",
        ] {
            assert!(home.follow(told).is_err(), "{told:?} was followed");
        }
        assert!(home.follow(&format!("/redfish/{}", "x".repeat(PATH_BYTES_MAX))).is_err());
    }

    #[test]
    fn of_a_location_only_the_path_is_followed() {
        let home = address("bmc", true);
        for told in ["/redfish/v1/SessionService/Sessions/1", "https://evil:1/redfish/v1/SessionService/Sessions/1"] {
            let url = home.follow_location(told).expect(told);
            assert_eq!(url.as_str(), "https://bmc/redfish/v1/SessionService/Sessions/1");
        }
        for told in ["https://evil", "https://evil//evil/redfish/", "//evil/redfish/v1", "gopher://x/redfish/v1"] {
            assert!(home.follow_location(told).is_err(), "{told:?} was followed");
        }
    }

    #[test]
    fn an_id_is_one_part_of_a_path() {
        for text in ["1", "System.Embedded.1", "437XR1138R2", "blade:3"] {
            assert!(is_id(text), "{text}");
        }
        for text in ["", ".", "..", "a/b", "a%2fb", "a b", "a?b", "ä", &"x".repeat(129)] {
            assert!(!is_id(text), "{text}");
        }
    }
}
