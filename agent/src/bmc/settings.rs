//! What the configuration says of fence devices, parsed: whatever is here can be used as it is.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use rekindle_coordinator::policy::DeviceRule;
use rekindle_proto::id::HostName;

use super::secret::SecretSource;

/// One entry of the configuration: whose device it is, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAccess {
    /// Which hosts, which level, and by which name the device goes.
    pub rule: DeviceRule,
    /// The driver, with what it needs.
    pub settings: DeviceSettings,
}

/// What each driver needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceSettings {
    /// `ipmi-tool`.
    IpmiTool(IpmiToolSettings),
    /// `ipmi`.
    Ipmi(IpmiSettings),
    /// `redfish`.
    Redfish(RedfishSettings),
    /// `agent:NAME`.
    Agent(AgentSettings),
    /// `storage`.
    Storage(StorageSettings),
}

/// IPMI 2.0 over LAN through the program ipmitool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpmiToolSettings {
    /// The BMC.
    pub endpoint: Endpoint,
    /// The user.
    pub username: String,
    /// Its password, 1 to 20 bytes.
    pub password: SecretSource,
    /// RMCP+ cipher suite: 17 or 3.
    pub cipher_suite: u8,
}

/// IPMI 2.0 over LAN, spoken by ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpmiSettings {
    /// The BMC.
    pub endpoint: Endpoint,
    /// The user.
    pub username: String,
    /// Its password, 1 to 20 bytes.
    pub password: SecretSource,
    /// The BMC's key K_g, where it has one: 1 to 20 bytes, or 0x and their hexadecimal digits.
    pub k_g: Option<SecretSource>,
    /// RMCP+ cipher suites in the order in which they are tried, each 17 or 3. Never empty.
    pub cipher_suites: Vec<u8>,
    /// What the session is raised to.
    pub privilege: Privilege,
}

/// Privilege of an IPMI session. Chassis Control takes an operator (IPMI 2.0, appendix G).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privilege {
    /// May switch.
    Operator,
    /// May do everything: for BMCs that let no operator switch.
    Administrator,
}

/// Redfish, over HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedfishSettings {
    /// The BMC.
    pub endpoint: Endpoint,
    /// The user.
    pub username: String,
    /// Its password.
    pub password: SecretSource,
    /// Id or UUID of the system, `{host}` stands for the host's name; `None`: the only one there is.
    pub system: Option<String>,
    /// By what its certificate is known.
    pub trust: RedfishTrust,
    /// How we log in.
    pub auth: RedfishAuth,
}

/// By what a BMC's certificate is known: whoever reads the password on the wire switches hosts off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedfishTrust {
    /// It was issued, for the BMC's name, by a CA of this PEM file.
    Ca(PathBuf),
    /// It is this very one, by the SHA-256 of its DER form.
    Pin([u8; 32]),
    /// There is none: plain http, by consent.
    Nobody,
}

/// How we log in to Redfish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RedfishAuth {
    /// A session and its token.
    Session,
    /// User and password with each request.
    Basic,
}

/// A fence agent of ClusterLabs' kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// `fence_apc`, or an absolute path.
    pub name: String,
    /// What it is told: names to values. `{host}` stands for the host's name, `{address}` for the device's address.
    pub options: BTreeMap<String, String>,
    /// What it is told of secrets: names to where they lie. `password` is among them where `password_file` was given.
    pub secrets: BTreeMap<String, SecretSource>,
}

/// A command of the site that cuts a host off from its storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSettings {
    /// The program, absolute.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// Where a device listens. `{host}` in it stands for the host's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// `host`, `host:port` or `[v6]:port`.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, &'static str> {
        const RULE: &str = "must be host, host:port or [IPv6 address]:port";
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(RULE)?;
                host.parse::<Ipv6Addr>().map_err(|_| RULE)?;
                (host, port)
            }
            None => {
                let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                let name = host.replace("{host}", "h");
                let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                // What begins with '-' would be read as an option.
                if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(legal) {
                    return Err(RULE);
                }
                (host, port)
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => default_port,
            None => return Err(RULE),
            Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or("must have a port from 1 to 65535")?,
        };
        Ok(Self { host: host.to_owned(), port })
    }

    /// The one of this host. A host's name may stand wherever a part of an address may.
    #[must_use]
    pub fn of(&self, host: &HostName) -> Self {
        Self { host: self.host.replace("{host}", host.as_str()), port: self.port }
    }

    /// Name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl DeviceSettings {
    /// Whether the driver reads power, so that its device's off can be verified. A fence agent's may or may not.
    #[must_use]
    pub fn reads_power(&self) -> bool {
        match self {
            Self::IpmiTool(_) | Self::Ipmi(_) | Self::Redfish(_) | Self::Agent(_) => true,
            Self::Storage(_) => false,
        }
    }

    /// Every secret it needs, with the key that names it.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&str, &SecretSource)> {
        match self {
            Self::IpmiTool(settings) => vec![("password", &settings.password)],
            Self::Ipmi(settings) => {
                let k_g = settings.k_g.as_ref().map(|source| ("k_g", source));
                [("password", &settings.password)].into_iter().chain(k_g).collect()
            }
            Self::Redfish(settings) => vec![("password", &settings.password)],
            Self::Agent(settings) => settings.secrets.iter().map(|(name, source)| (name.as_str(), source)).collect(),
            Self::Storage(_) => Vec::new(),
        }
    }

    /// Longest secret the device takes, in bytes.
    #[must_use]
    pub fn secret_bytes_max(&self) -> usize {
        match self {
            // IPMI 2.0, section 22.30; K_g with 0x and two digits a byte.
            Self::IpmiTool(_) => IPMI_PASSWORD_BYTES_MAX,
            Self::Ipmi(_) => 2 + 2 * IPMI_PASSWORD_BYTES_MAX,
            Self::Redfish(_) | Self::Agent(_) | Self::Storage(_) => SECRET_BYTES_MAX,
        }
    }
}

/// Longest IPMI 2.0 password, and K_g (sections 22.30 and 22.25).
pub(super) const IPMI_PASSWORD_BYTES_MAX: usize = 20;

/// Longest secret of other devices: tokens have some hundreds of bytes.
pub(super) const SECRET_BYTES_MAX: usize = 2 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_hosts_and_ports() {
        let own = HostName::new("cmp-1").expect("legal");
        for (text, is) in [
            ("cmp-1-bmc", "cmp-1-bmc:623"),
            ("{host}-bmc:6230", "cmp-1-bmc:6230"),
            ("bmc.{host}.example", "bmc.cmp-1.example:623"),
            ("10.0.0.7:6230", "10.0.0.7:6230"),
            ("[fe80::1]:624", "[fe80::1]:624"),
            ("[fe80::1]", "[fe80::1]:623"),
        ] {
            assert_eq!(Endpoint::parse(text, 623).expect(text).of(&own).to_string(), is);
        }
        let illegal = ["", ":623", "[x]:1", "[::1", "[::1]1", "a b", "a:b", "a:70000", "a:0", "-x", "fe80::1", "{h}"];
        for text in illegal {
            assert!(Endpoint::parse(text, 623).is_err(), "{text}");
        }
        assert!(Endpoint::parse("fe80::1", 623).expect_err("no port").contains("a port from 1 to 65535"));
    }
}
