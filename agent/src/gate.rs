//! What the boot gate leaves behind on its host: whether it is installed, and what it did in this boot. Written by
//! `rekindle gate`, read by the daemon, which tells the cluster.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rekindle_proto::fact::{GateReport, GateState, Text};
use rekindle_proto::id::BootId;
use serde::{Deserialize, Serialize};

/// Where the gate keeps its state: gone with the boot it is about, and root's.
pub const RUN_DIR: &str = "/run/rekindle-gate";
/// The gate's unit.
const UNIT: &str = "rekindle-gate.service";
/// Required by the gate for what it may leave behind, not for what Nova starts: alone it holds nothing.
const NOT_COMPUTE: &str = "libvirt-guests.service";
/// Where an enabled gate has its links.
const LINKS_DIR: &str = "/etc/systemd/system";
/// Where units lie (systemd.unit(5)).
const UNIT_DIRS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// What the gate itself noted.
const BY_ITSELF: &str = "state.json";
/// What a person noted: it wins.
const BY_HAND: &str = "opened-by-hand.json";
/// A state file is a few lines; whatever is longer is none.
const STATE_BYTES_MAX: u64 = 16 * 1024;

/// Where to look.
#[derive(Debug, Clone)]
pub struct Gate {
    run: PathBuf,
    links: PathBuf,
    units: Vec<PathBuf>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::at(Path::new(RUN_DIR))
    }
}

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    boot: BootId,
    state: GateState,
}

impl Gate {
    /// A gate that keeps its state there.
    #[must_use]
    pub fn at(run: &Path) -> Self {
        Self { run: run.to_owned(), links: LINKS_DIR.into(), units: UNIT_DIRS.iter().map(PathBuf::from).collect() }
    }

    /// What the daemon tells the cluster.
    #[must_use]
    pub fn report(&self, boot: BootId) -> GateReport {
        GateReport { installed: self.is_installed(), state: self.state(boot) }
    }

    /// What the gate did in this boot. What cannot be read counts as not run: nobody relies on it.
    #[must_use]
    pub fn state(&self, boot: BootId) -> GateState {
        let read = |name: &str| -> Option<GateState> {
            let file = fs::File::open(self.run.join(name)).ok()?;
            let note: Note = serde_json::from_reader(file.take(STATE_BYTES_MAX)).ok()?;
            (note.boot == boot).then_some(note.state)
        };
        read(BY_HAND).or_else(|| read(BY_ITSELF)).unwrap_or_default()
    }

    /// Notes what the gate does. What a person did is in a file of its own, which this does not write over.
    ///
    /// # Errors
    /// The system's.
    pub fn note(&self, boot: BootId, state: &GateState) -> io::Result<()> {
        self.write(BY_ITSELF, boot, state)
    }

    /// Opens the gate for that boot: it looks for this note.
    ///
    /// # Errors
    /// The system's, as when it is not root who asks.
    pub fn open_by_hand(&self, boot: BootId, by: Text, reason: Text) -> io::Result<()> {
        self.write(BY_HAND, boot, &GateState::OpenedByHand { by, reason })
    }

    /// The file is replaced as a whole: nobody reads half a note.
    fn write(&self, name: &str, boot: BootId, state: &GateState) -> io::Result<()> {
        fs::create_dir_all(&self.run)?;
        let fresh = self.run.join(format!("{name}.new"));
        let mut file = fs::File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(&Note { boot, state: state.clone() })?)?;
        fs::rename(&fresh, self.run.join(name))
    }

    /// Whether a compute service that exists here requires the gate.
    fn is_installed(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.links) else { return false };
        let requiring = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let unit = name.strip_suffix(".requires")?.to_owned();
            fs::symlink_metadata(entry.path().join(UNIT)).ok().map(|_| unit)
        });
        let exists = |unit: &String| self.units.iter().any(|dir| fs::symlink_metadata(dir.join(unit)).is_ok());
        requiring.filter(|unit| unit != NOT_COMPUTE).any(|unit| exists(&unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(dir: &Path) -> Gate {
        Gate { run: dir.join("run"), links: dir.join("etc"), units: vec![dir.join("lib")] }
    }

    #[test]
    fn a_note_is_of_its_boot_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let gate = gate(dir.path());
        let (this, next): (BootId, BootId) = (
            "11111111-1111-4111-8111-111111111111".parse().expect("a boot"),
            "22222222-2222-4222-8222-222222222222".parse().expect("a boot"),
        );
        assert_eq!(gate.state(this), GateState::NotRun);
        for state in [GateState::Closed { why: "incident 3".into() }, GateState::OpenedByLedger] {
            gate.note(this, &state).expect("written");
            assert_eq!(gate.state(this), state);
            assert_eq!(gate.state(next), GateState::NotRun, "opened for another boot is not opened");
        }
        gate.open_by_hand(this, "root".into(), "drill".into()).expect("written");
        gate.note(this, &GateState::Closed { why: "a moment later".into() }).expect("written");
        assert_eq!(gate.state(this), GateState::OpenedByHand { by: "root".into(), reason: "drill".into() });
        assert_eq!(gate.state(next), GateState::NotRun, "by hand, too, for one boot alone");
        fs::write(dir.path().join("run").join(BY_HAND), b"{").expect("written");
        assert_eq!(gate.state(this), GateState::Closed { why: "a moment later".into() }, "half a note opens nothing");
    }

    #[test]
    fn installed_is_what_holds_a_compute_service() {
        let dir = tempfile::tempdir().expect("a directory");
        let gate = gate(dir.path());
        fs::create_dir(dir.path().join("lib")).expect("made");
        let links = |unit: &str| {
            let requires = dir.path().join("etc").join(format!("{unit}.requires"));
            fs::create_dir_all(&requires).expect("made");
            fs::write(requires.join(UNIT), b"").expect("written");
        };
        let unit = |unit: &str| fs::write(dir.path().join("lib").join(unit), b"").expect("written");
        assert!(!gate.is_installed(), "no links at all");
        links("nova-compute.service");
        assert!(!gate.is_installed(), "links of a service that is not there");
        links("libvirt-guests.service");
        unit("libvirt-guests.service");
        assert!(!gate.is_installed(), "what Nova starts is not held");
        unit("nova-compute.service");
        assert!(gate.is_installed());
    }
}
