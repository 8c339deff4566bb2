//! Where a service is, and which of the addresses it tells are followed: none that would lead anywhere else.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

/// Longest path taken from a service's words, in bytes. Real ones are under 200.
const PATH_BYTES_MAX: usize = 1_024;

/// Longest id of a system, in bytes.
const ID_BYTES_MAX: usize = 128;

/// Below which everything of a Redfish service lies (DSP0266, 6.2).
const ROOT: &str = "/redfish/";

/// Scheme, host and port of a Redfish service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bmc) struct Address(Url);

impl Address {
    /// `host`, `host:port` or `[IPv6 address]:port`, with `https://` before it or not. `http://` only to this machine
    /// itself, or with the consent `insecure_http`.
    ///
    /// # Errors
    /// The rule that is broken.
    pub(in crate::bmc) fn parse(text: &str, insecure_http: bool) -> Result<Self, &'static str> {
        const RULE: &str = "must be host, host:port or [IPv6 address]:port, perhaps with https:// before it";
        let (scheme, place) = match text.split_once("://") {
            None => ("https", text),
            Some((scheme @ ("https" | "http"), place)) => (scheme, place),
            Some(_) => return Err(RULE),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '[' | ']');
        // No path, user or query: what they would mean is ours to know, not the operator's to say.
        if !place.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') || !place.chars().all(legal) {
            return Err(RULE);
        }
        let url = Url::parse(&format!("{scheme}://{place}/")).map_err(|_| RULE)?;
        if url.port() == Some(0) || place.ends_with(':') {
            return Err("must have a port from 1 to 65535");
        }
        let address = Self(url);
        if scheme == "http" && !insecure_http && !address.is_loopback() {
            return Err("must be https: by http the password crosses the network in clear (insecure_http = true allows it)");
        }
        Ok(address)
    }

    /// Whether it is encrypted, so that whose certificate is trusted must be said.
    pub(in crate::bmc) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
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
        // RFC 3986, `pchar` and '/': with '\', '?', '#', '@' or blanks it could be read in more than one way.
        let legal = |c: char| c.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:%".contains(c);
        if !told.starts_with(ROOT) || !told.chars().all(legal) {
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

    fn is_loopback(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// Whether this can be the id of a system: one part of a path, as it stands.
pub(super) fn is_id(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~:".contains(c);
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.chars().all(legal) && !matches!(text, "." | "..")
}

/// As much of a text of theirs as is good to read.
pub(super) fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports_and_https() {
        for (text, is) in [
            ("cmp-1-bmc", "https://cmp-1-bmc"),
            ("10.0.0.7:8443", "https://10.0.0.7:8443"),
            ("https://10.0.0.7:443", "https://10.0.0.7"),
            ("https://bmc/", "https://bmc"),
            ("[fe80::1]:8443", "https://[fe80::1]:8443"),
            ("http://127.0.0.9:8000", "http://127.0.0.9:8000"),
            ("http://localhost:8000", "http://localhost:8000"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(Address::parse(text, false).expect(text).to_string(), is, "{text}");
        }
        for text in [
            "",
            "https://",
            "ftp://bmc",
            "bmc/redfish",
            "user@bmc",
            "https://user:password@bmc",
            "bmc?x",
            "bmc#1",
            "b mc",
            "bmc:0",
            "bmc:",
            "bmc:70000",
            "-x",
            "[::1",
            "http://10.0.0.7",
            "http://bmc",
            "http://127.0.0.1.example",
            "http://localhost.example",
        ] {
            assert!(Address::parse(text, false).is_err(), "{text}");
        }
        assert!(!Address::parse("http://bmc:8000", true).expect("consent").is_https());
    }

    #[test]
    fn no_address_of_theirs_leads_to_another_host_or_out_of_redfish() {
        let home = Address::parse("https://bmc:8443", false).expect("address");
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
            "/redfish/v1/@evil",
            "/other/v1/Systems/1",
            "javascript:alert(1)",
        ] {
            assert!(home.follow(told).is_err(), "{told:?} was followed");
        }
        assert!(home.follow(&format!("/redfish/{}", "x".repeat(PATH_BYTES_MAX))).is_err());
    }

    #[test]
    fn of_a_location_only_the_path_is_followed() {
        let home = Address::parse("bmc", false).expect("address");
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
