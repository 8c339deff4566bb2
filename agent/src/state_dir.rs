//! What must survive a restart of the daemon, and is nobody else's business.
//!
//! Everything is written to a temporary file, synchronised, renamed, and the directory synchronised: after a crash there is
//! the old content or the new, never half of one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rekindle_coordinator::ledger::ROSTER_MAX;
use rekindle_proto::admin::SignedOrder;
use rekindle_proto::id::{HostName, Incarnation, WallTime};
use ring::rand::{SecureRandom, SystemRandom};
use tracing::warn;

/// Bytes of the key of stateless resets: the block of HMAC-SHA-256 (RFC 2104, section 3).
pub const RESET_KEY_BYTES: usize = 64;

/// Longest file read, in bytes: an address book of [`ROSTER_MAX`] hosts with the longest names.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

const LOCK: &str = "lock";
const INCARNATION: &str = "incarnation";
const RESET_KEY: &str = "reset.key";
const PEERS: &str = "peers.json";
const GENERATION: &str = "generation";

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// The file system refused.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A link or a file where the directory should be.
    #[error("{path} is not a directory; the state directory must be one, not a link to one")]
    NotADirectory {
        /// Which.
        path: PathBuf,
    },
    /// Somebody else's.
    #[error("{path} belongs to user {owner}, but this daemon runs as user {ours}: chown {ours} {path}")]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        ours: u32,
    },
    /// Others can read or write it.
    #[error("{path} has mode {mode:04o}, but it holds a key: it must not be open to group or others: chmod go= {path}")]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Two daemons with one identity would refute each other for ever.
    #[error("{path} is in use by another daemon (see `fuser {path}/lock`); each needs a state directory of its own")]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// Cut short or altered.
    #[error("{path} has {bytes} bytes instead of {RESET_KEY_BYTES}; remove it and a new one is made")]
    ResetKey {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
    },
    /// The kernel gives no random bytes.
    #[error("the kernel gives no random bytes for the key of stateless resets")]
    NoRandom,
}

/// The daemon's own directory, locked for as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl StateDir {
    /// Opens the directory, creating it (mode 0700) if need be, and locks it against a second daemon.
    ///
    /// # Errors
    /// [`StateDirError`] if it is not ours alone, or in use.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("create", path))?;
        let metadata = fs::symlink_metadata(path).map_err(io_error("examine", path))?;
        if !metadata.is_dir() {
            return Err(StateDirError::NotADirectory { path: path.to_owned() });
        }
        check_private(path, &metadata)?;
        let lock_path = path.join(LOCK);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error("open", &lock_path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            if errno == Errno::EWOULDBLOCK {
                StateDirError::Locked { path: path.to_owned() }
            } else {
                StateDirError::Io { doing: "lock", path: lock_path, source: errno.into() }
            }
        })?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The life number of a life that begins now: greater than any before, also if the directory was lost, as long as the
    /// wall clock was not set back meanwhile. It is on disk when this returns.
    ///
    /// # Errors
    /// [`StateDirError::Io`] if it could not be written.
    pub fn next_incarnation(&self, now: WallTime) -> Result<Incarnation, StateDirError> {
        let wall = u64::try_from(now.0).unwrap_or(0);
        let next = match self.persisted_incarnation()? {
            Some(last) => wall.max(last.saturating_add(1)),
            None => wall,
        };
        self.persist_incarnation(Incarnation(next))?;
        Ok(Incarnation(next))
    }

    /// Puts a life number on disk. It is there when this returns.
    ///
    /// # Errors
    /// [`StateDirError::Io`] if it could not be written.
    pub fn persist_incarnation(&self, incarnation: Incarnation) -> Result<(), StateDirError> {
        self.write(INCARNATION, format!("{incarnation}\n").as_bytes())
    }

    /// The key of stateless resets (RFC 9000, section 10.3), made at the first call.
    ///
    /// # Errors
    /// [`StateDirError`] if it cannot be read or made, or is not what we wrote.
    pub fn reset_key(&self) -> Result<[u8; RESET_KEY_BYTES], StateDirError> {
        if let Some(bytes) = self.read(RESET_KEY)? {
            let wrong = |_| StateDirError::ResetKey { path: self.path.join(RESET_KEY), bytes: bytes.len() };
            return bytes.as_slice().try_into().map_err(wrong);
        }
        let mut key = [0; RESET_KEY_BYTES];
        SystemRandom::new().fill(&mut key).map_err(|_| StateDirError::NoRandom)?;
        self.write(RESET_KEY, &key)?;
        Ok(key)
    }

    /// The address book: where peers were last heard. Empty at first, and, with a warning, if it cannot be understood:
    /// there are seeds too.
    ///
    /// # Errors
    /// [`StateDirError::Io`] if it cannot be read.
    pub fn load_peers(&self) -> Result<Vec<(HostName, SocketAddr)>, StateDirError> {
        let Some(bytes) = self.read(PEERS)? else { return Ok(Vec::new()) };
        match serde_json::from_slice::<Vec<(HostName, SocketAddr)>>(&bytes) {
            Ok(mut peers) => {
                peers.truncate(ROSTER_MAX);
                Ok(peers)
            }
            Err(error) => {
                warn!(path = %self.path.join(PEERS).display(), %error, "the address book is unreadable and is ignored");
                Ok(Vec::new())
            }
        }
    }

    /// Puts the address book on disk; at most [`ROSTER_MAX`] peers.
    ///
    /// # Errors
    /// [`StateDirError::Io`] if it could not be written.
    pub fn store_peers(&self, peers: &[(HostName, SocketAddr)]) -> Result<(), StateDirError> {
        let kept = peers.get(..ROSTER_MAX).unwrap_or(peers);
        let text = serde_json::to_vec(kept).map_err(|error| StateDirError::Io {
            doing: "encode",
            path: self.path.join(PEERS),
            source: error.into(),
        })?;
        self.write(PEERS, &text)
    }

    /// The operator's order that began the latest generation of voters this member knows of, if there ever was one.
    ///
    /// # Errors
    /// [`StateDirError::Io`] if it cannot be read or understood: to forget it would be to hear voters of the past.
    pub fn generation(&self) -> Result<Option<SignedOrder>, StateDirError> {
        let Some(bytes) = self.read(GENERATION)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| StateDirError::Io {
            doing: "understand",
            path: self.path.join(GENERATION),
            source: error.into(),
        })
    }

    /// Puts such an order on disk. It is there when this returns.
    ///
    /// # Errors
    /// [`StateDirError::Io`] if it could not be written.
    pub fn persist_generation(&self, order: &SignedOrder) -> Result<(), StateDirError> {
        let text = serde_json::to_vec(order).map_err(|error| StateDirError::Io {
            doing: "encode",
            path: self.path.join(GENERATION),
            source: error.into(),
        })?;
        self.write(GENERATION, &text)
    }

    fn persisted_incarnation(&self) -> Result<Option<u64>, StateDirError> {
        let Some(bytes) = self.read(INCARNATION)? else { return Ok(None) };
        let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
        if number.is_none() {
            let path = self.path.join(INCARNATION);
            warn!(path = %path.display(), "the life number is unreadable; the wall clock serves instead");
        }
        Ok(number)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateDirError> {
        let path = self.path.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateDirError::Io { doing: "open", path, source }),
        };
        check_private(&path, &file.metadata().map_err(io_error("examine", &path))?)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateDirError> {
        let (path, temporary) = (self.path.join(name), self.path.join(format!(".{name}.new")));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options
            .open(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .map_err(io_error("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(io_error("replace", &path))?;
        // The rename itself is durable only when the directory is.
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(io_error("synchronise", &self.path))
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateDirError {
    let path = path.to_owned();
    move |source| StateDirError::Io { doing, path, source }
}

fn check_private(path: &Path, metadata: &fs::Metadata) -> Result<(), StateDirError> {
    let ours = nix::unistd::geteuid().as_raw();
    if metadata.uid() != ours {
        return Err(StateDirError::Owner { path: path.to_owned(), owner: metadata.uid(), ours });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(StateDirError::Mode { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fresh() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("state");
        (parent, path)
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changes the mode");
    }

    #[test]
    fn it_is_made_private_and_refused_when_it_is_not() {
        let (_parent, path) = fresh();
        drop(StateDir::open(&path).expect("is made"));
        assert_eq!(fs::metadata(&path).expect("exists").mode() & 0o7777, 0o700);
        set_mode(&path, 0o750);
        let refusal = StateDir::open(&path).expect_err("open to the group").to_string();
        assert!(refusal.contains("0750") && refusal.contains("chmod go="), "{refusal}");
        set_mode(&path, 0o700);
        let link = path.with_file_name("link");
        std::os::unix::fs::symlink(&path, &link).expect("links");
        assert!(matches!(StateDir::open(&link), Err(StateDirError::NotADirectory { .. })));
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(12_345), None).expect("root may");
            let refusal = StateDir::open(&path).expect_err("another's").to_string();
            assert!(refusal.contains("user 12345"), "{refusal}");
        }
    }

    #[test]
    fn two_daemons_cannot_share_it() {
        let (_parent, path) = fresh();
        let first = StateDir::open(&path).expect("opens");
        assert!(matches!(StateDir::open(&path), Err(StateDirError::Locked { .. })));
        drop(first);
        StateDir::open(&path).expect("opens once the first is gone");
    }

    #[test]
    fn each_life_has_a_greater_number() {
        let (_parent, path) = fresh();
        let open = || StateDir::open(&path).expect("opens");
        assert_eq!(open().next_incarnation(WallTime(1_000)).expect("writes"), Incarnation(1_000));
        assert_eq!(open().next_incarnation(WallTime(400)).expect("writes"), Incarnation(1_001), "clock set back");
        assert_eq!(open().next_incarnation(WallTime(5_000)).expect("writes"), Incarnation(5_000));
        open().persist_incarnation(Incarnation(9_000)).expect("writes");
        assert_eq!(open().next_incarnation(WallTime(5_001)).expect("writes"), Incarnation(9_001));
        fs::write(path.join(INCARNATION), "\0\0\0").expect("writes");
        assert_eq!(open().next_incarnation(WallTime(9_500)).expect("writes"), Incarnation(9_500));
        fs::remove_file(path.join(INCARNATION)).expect("removes");
        assert_eq!(open().next_incarnation(WallTime(-5)).expect("writes"), Incarnation(0));
    }

    #[test]
    fn the_reset_key_stays_and_is_guarded() {
        let (_parent, path) = fresh();
        let state = StateDir::open(&path).expect("opens");
        let key = state.reset_key().expect("is made");
        assert_ne!(key, [0; RESET_KEY_BYTES]);
        assert_eq!(state.reset_key().expect("is read"), key);
        let file = path.join(RESET_KEY);
        assert_eq!(fs::metadata(&file).expect("exists").mode() & 0o7777, 0o600);
        set_mode(&file, 0o644);
        assert!(matches!(state.reset_key(), Err(StateDirError::Mode { .. })));
        set_mode(&file, 0o600);
        fs::write(&file, [1; 10]).expect("writes");
        assert!(matches!(state.reset_key(), Err(StateDirError::ResetKey { bytes: 10, .. })));
    }

    #[test]
    fn the_address_book_is_kept_and_its_loss_is_survived() {
        let (_parent, path) = fresh();
        let state = StateDir::open(&path).expect("opens");
        assert_eq!(state.load_peers().expect("reads"), Vec::new());
        let peer = |n: usize| {
            let address = SocketAddr::from(([10, 0, 0, 1], u16::try_from(n).expect("fits")));
            (HostName::new(&format!("cmp-{n}")).expect("legal"), address)
        };
        let many: Vec<_> = (0..ROSTER_MAX + 5).map(peer).collect();
        state.store_peers(&many).expect("writes");
        assert_eq!(state.load_peers().expect("reads"), many[..ROSTER_MAX]);
        fs::write(path.join(PEERS), "[[\"a b\", 3]]").expect("writes");
        assert_eq!(state.load_peers().expect("reads"), Vec::new());
    }
}
