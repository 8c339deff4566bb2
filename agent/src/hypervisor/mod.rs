//! The local hypervisor: which guests run here, and what happens to them.

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HypervisorSettings {
    /// This host has no guests (a witness), or nobody is to look.
    Off,
    /// A libvirt URI: `qemu:///system`.
    Libvirt(String),
    /// A Unix socket that serves guest lists as JSON lines, for hypervisors that are not libvirt's.
    Socket(std::path::PathBuf),
}
