//! Where secrets lie, and how they are read: anew for each use, into memory that is wiped, out of a file that is nobody
//! else's to read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rekindle_proto::id::HostName;
use secrecy::SecretString;
use zeroize::Zeroizing;

/// Most of a secret's file that is read: longer than any secret, so that a wrong file is not read whole.
const FILE_BYTES_MAX: usize = 4 * 1024;

/// By what systemd tells a service where its credentials lie (systemd.exec(5), LoadCredential=).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Where a secret lies. `{host}` in its name stands for the host whose device it opens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretSource {
    /// A file, mode 0600 or less, the daemon's or root's.
    File(PathBuf),
    /// A credential that systemd hands to the daemon's unit, by name.
    Credential(String),
}

/// Why a secret cannot be used. Never with anything of the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// systemd handed over no credentials.
    #[error("credential {name:?} is not there: this process was given none; its unit needs LoadCredential={name}:FILE")]
    NoCredentials {
        /// Its name.
        name: String,
    },
    /// It is not there, or not ours to read.
    #[error("{} cannot be read: {cause}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A directory, a device.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// Others may read it, or write it.
    #[error(
        "{} has mode {mode:04o} and must be its owner's alone (chmod 0600): it opens the power switch of a host",
        path.display()
    )]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is another user's, who can read and change it.
    #[error("{} belongs to uid {uid} and must be root's or the daemon's (uid {ours})", path.display())]
    Owner {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
        /// Who we are.
        ours: u32,
    },
    /// Empty, or longer than the device takes.
    #[error("{} must hold a secret of 1 to {max} bytes in its first line; it has {bytes}", path.display())]
    Length {
        /// Which file.
        path: PathBuf,
        /// Length of its first line.
        bytes: usize,
        /// What the device takes.
        max: usize,
    },
    /// Not text.
    #[error("{} must hold UTF-8 text without control characters", path.display())]
    NotText {
        /// Which file.
        path: PathBuf,
    },
}

impl SecretSource {
    /// Whether each host has its own.
    #[must_use]
    pub fn is_per_host(&self) -> bool {
        match self {
            Self::File(path) => path.to_string_lossy().contains("{host}"),
            Self::Credential(name) => name.contains("{host}"),
        }
    }

    /// The one of this host.
    #[must_use]
    pub fn of(&self, host: &HostName) -> Self {
        match self {
            Self::File(path) if self.is_per_host() => {
                Self::File(PathBuf::from(path.to_string_lossy().replace("{host}", host.as_str())))
            }
            Self::File(path) => Self::File(path.clone()),
            Self::Credential(name) => Self::Credential(name.replace("{host}", host.as_str())),
        }
    }

    /// The file it lies in.
    ///
    /// # Errors
    /// [`SecretError::NoCredentials`] for a credential of a process that was given none.
    pub fn path(&self) -> Result<PathBuf, SecretError> {
        self.path_in(std::env::var_os(CREDENTIALS).map(PathBuf::from).as_deref())
    }

    /// Reads its first line, of at most `max` bytes.
    ///
    /// # Errors
    /// [`SecretError`]: it is not there, not ours alone, or no secret.
    pub fn read(&self, max: usize) -> Result<SecretString, SecretError> {
        self.read_in(std::env::var_os(CREDENTIALS).map(PathBuf::from).as_deref(), max)
    }

    fn path_in(&self, credentials: Option<&Path>) -> Result<PathBuf, SecretError> {
        match (self, credentials) {
            (Self::File(path), _) => Ok(path.clone()),
            (Self::Credential(name), Some(dir)) => Ok(dir.join(name)),
            (Self::Credential(name), None) => Err(SecretError::NoCredentials { name: name.clone() }),
        }
    }

    fn read_in(&self, credentials: Option<&Path>, max: usize) -> Result<SecretString, SecretError> {
        let path = self.path_in(credentials)?;
        let failed = |cause| SecretError::Read { path: path.clone(), cause };
        // What is looked at is what is read: the open file, not its name.
        let file = File::open(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        let (mode, ours) = (found.permissions().mode() & 0o7777, nix::unistd::geteuid().as_raw());
        if !found.is_file() {
            return Err(SecretError::NotAFile { path });
        }
        // systemd lets a unit's user at its credentials by an access list, which shows as rights of the group.
        let others = if matches!(self, Self::Credential(_)) { 0o027 } else { 0o077 };
        if mode & others != 0 {
            return Err(SecretError::Mode { path, mode });
        }
        if found.uid() != 0 && found.uid() != ours {
            return Err(SecretError::Owner { path, uid: found.uid(), ours });
        }
        // Of its full size from the beginning: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
        file.take(FILE_BYTES_MAX as u64 - 1).read_to_end(&mut bytes).map_err(failed)?;
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !(1..=max).contains(&line.len()) {
            return Err(SecretError::Length { path, bytes: line.len(), max });
        }
        match std::str::from_utf8(line) {
            Ok(text) if !text.contains(char::is_control) => Ok(SecretString::from(text)),
            Ok(_) | Err(_) => Err(SecretError::NotText { path }),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn write(path: &Path, text: &[u8], mode: u32) {
        std::fs::write(path, text).expect("written");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
    }

    #[test]
    fn the_first_line_is_the_secret_and_only_ours_is_taken() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("secret");
        let source = SecretSource::File(file.clone());
        for (text, mode, is) in [
            (&b"hunter2\nmore"[..], 0o600, Ok("hunter2")),
            (b"hunter2\r\n", 0o400, Ok("hunter2")),
            (b"h\xc3\xbcnter 2", 0o600, Ok("h\u{fc}nter 2")),
            (b"hunter2", 0o640, Err("has mode 0640")),
            (b"hunter2", 0o604, Err("has mode 0604")),
            (b"", 0o600, Err("it has 0")),
            (b"\nhunter2", 0o600, Err("it has 0")),
            (b"hunter2hunter2hunter2", 0o600, Err("it has 21")),
            (b"hunter\xff", 0o600, Err("must hold UTF-8")),
            (b"hun\tter", 0o600, Err("control characters")),
        ] {
            write(&file, text, mode);
            let read = source.read(20);
            match is {
                Ok(is) => assert_eq!(read.expect(is).expose_secret(), is),
                Err(says) => {
                    let error = read.expect_err(says);
                    assert!(error.to_string().contains(says) && !format!("{error:?}").contains("hunter"), "{error:?}");
                }
            }
            std::fs::remove_file(&file).expect("removed");
        }
        assert!(matches!(source.read(20), Err(SecretError::Read { .. })));
        assert!(matches!(SecretSource::File("/dev/null".into()).read(20), Err(SecretError::NotAFile { .. })));
    }

    #[test]
    fn another_users_file_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("secret");
        write(&file, b"hunter2", 0o600);
        if std::os::unix::fs::chown(&file, Some(4_711), None).is_err() {
            // Only root gives files away; as anybody else we could not even open it.
            return;
        }
        let error = SecretSource::File(file).read(20).expect_err("another's");
        assert!(matches!(error, SecretError::Owner { uid: 4_711, .. }), "{error}");
    }

    #[test]
    fn credentials_come_from_systemds_directory_and_hosts_may_have_their_own() {
        let dir = tempfile::tempdir().expect("dir");
        let host = HostName::new("cmp-1").expect("legal");
        let source = SecretSource::Credential("bmc-{host}".to_owned());
        assert!(source.is_per_host());
        let own = source.of(&host);
        // As systemd leaves it where file systems have access lists: root's, mode 0440, the list shown as group.
        write(&dir.path().join("bmc-cmp-1"), b"hunter2\n", 0o440);
        assert_eq!(own.read_in(Some(dir.path()), 20).expect("read").expose_secret(), "hunter2");
        assert!(matches!(own.read_in(None, 20), Err(SecretError::NoCredentials { .. })));
        write(&dir.path().join("bmc-cmp-1"), b"hunter2\n", 0o444);
        assert!(matches!(own.read_in(Some(dir.path()), 20), Err(SecretError::Mode { .. })));
        let file = SecretSource::File(dir.path().join("{host}.password"));
        assert_eq!(file.of(&host).path().expect("a path"), dir.path().join("cmp-1.password"));
        assert!(!SecretSource::File(dir.path().join("password")).is_per_host());
    }
}
