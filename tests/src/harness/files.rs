//! The files of a cluster: certificates, secrets, one configuration per host.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rekindle_agent::pki::{self, CertRole, LEAF_VALIDITY};
use rekindle_proto::id::{ClusterName, HostName};
use uuid::Uuid;

use crate::fake::cloud::CLOUD_NAME;

/// The BMCs' user.
pub(super) const BMC_USER: &str = "rekindle";
/// The operator that gives the harness' orders.
const OPERATOR: &str = "demo";

/// A host to be.
pub(super) struct Place {
    pub(super) name: HostName,
    pub(super) listen: SocketAddr,
    pub(super) storage: Option<SocketAddr>,
    pub(super) bmc: IpAddr,
    pub(super) system_uuid: Uuid,
}

/// Where the files of a cluster lie.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.pki().join("ca.pem")
    }

    pub(super) fn operator_cert(&self) -> PathBuf {
        self.pki().join(format!("{OPERATOR}.pem"))
    }

    pub(super) fn operator_key(&self) -> PathBuf {
        self.pki().join(format!("{OPERATOR}.key"))
    }

    pub(super) fn roster(&self) -> PathBuf {
        self.root.join("roster.toml")
    }

    pub(super) fn host_dir(&self, host: &HostName) -> PathBuf {
        self.root.join(host.as_str())
    }

    pub(super) fn guests_socket(&self, host: &HostName) -> PathBuf {
        self.host_dir(host).join("guests.sock")
    }

    fn bmc_password(&self) -> PathBuf {
        self.root.join("bmc.password")
    }

    fn clouds(&self) -> PathBuf {
        self.root.join("clouds.yaml")
    }

    /// The CA, a certificate for each host, and one for the operator.
    pub(super) fn write_certificates(&self, cluster: &ClusterName, places: &[Place]) -> Result<()> {
        let dir = self.pki();
        pki::init(&dir, cluster).context("no CA")?;
        for place in places {
            pki::issue(&dir, place.name.as_str(), CertRole::Member, &dir, LEAF_VALIDITY)
                .with_context(|| format!("no certificate for {}", place.name))?;
        }
        pki::issue(&dir, OPERATOR, CertRole::Operator, &dir, LEAF_VALIDITY).context("no operator's certificate")?;
        Ok(())
    }

    pub(super) fn write_secrets(&self, bmc_password: &str, clouds: &str) -> Result<()> {
        write_secret(&self.bmc_password(), bmc_password)?;
        write_secret(&self.clouds(), clouds)
    }

    pub(super) fn write_roster(&self, places: &[Place]) -> Result<()> {
        let entry = |place: &Place| format!("[[host]]\nhost = \"{}\"\n", place.name);
        let text: Vec<String> = places.iter().map(entry).collect();
        fs::write(self.roster(), text.join("\n")).context("no roster")
    }

    /// One host's directory and configuration; `change` may alter the latter.
    pub(super) fn write_host(
        &self,
        cluster: &ClusterName,
        places: &[Place],
        voters: &[HostName],
        place: &Place,
        change: &dyn Fn(&HostName, &mut toml::Table),
    ) -> Result<()> {
        let dir = self.host_dir(&place.name);
        // Keys lie in it.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir.join("state"));
        made.with_context(|| format!("no directory {}", dir.display()))?;
        let mut table: toml::Table = self.config(cluster, places, voters, place).parse().context("no configuration")?;
        change(&place.name, &mut table);
        fs::write(dir.join("rekindle.toml"), toml::to_string(&table)?).context("no configuration")
    }

    fn config(&self, cluster: &ClusterName, places: &[Place], voters: &[HostName], place: &Place) -> String {
        let seeds: Vec<String> = places.iter().map(|place| place.listen.to_string()).collect();
        let voters: Vec<&str> = voters.iter().map(HostName::as_str).collect();
        let dir = self.host_dir(&place.name);
        let (paths, own) = match place.storage {
            Some(address) => ("[\"storage\"]", format!("{{ storage = \"{address}\" }}")),
            None => ("[]", "{}".to_owned()),
        };
        let mut text = format!(
            "[member]\nhost = \"{host}\"\nlisten = \"{listen}\"\nstate_dir = {state:?}\nadmin_socket = {admin:?}\n\
             system_uuid = \"{uuid}\"\npaths = {own}\n\
             [cluster]\nname = \"{cluster}\"\nvoters = {voters:?}\nseeds = {seeds:?}\npaths = {paths}\n\
             tls = {{ ca = {ca:?}, cert = {cert:?}, key = {key:?} }}\n\
             [nova]\ncloud = \"{CLOUD_NAME}\"\nclouds_file = {clouds:?}\n\
             [libvirt]\nuri = \"guests+unix://{guests}\"\n\
             [log]\ntarget = \"stderr\"\nformat = \"json\"\n",
            host = place.name,
            listen = place.listen,
            state = dir.join("state"),
            admin = dir.join("admin.sock"),
            uuid = place.system_uuid,
            ca = self.ca(),
            cert = self.pki().join(format!("{}.pem", place.name)),
            key = self.pki().join(format!("{}.key", place.name)),
            clouds = self.clouds(),
            guests = self.guests_socket(&place.name).display(),
        );
        for place in places {
            text.push_str(&format!(
                "[[fence_device]]\nhosts = \"{host}\"\ndriver = \"ipmi-tool\"\naddress = \"{bmc}\"\n\
                 username = \"{BMC_USER}\"\npassword_file = {password:?}\ncipher_suite = 17\n",
                host = place.name,
                bmc = place.bmc,
                password = self.bmc_password(),
            ));
        }
        text
    }
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} cannot be made", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))
}
