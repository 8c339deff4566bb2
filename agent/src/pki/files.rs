//! The CA and its certificates as files.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rekindle_proto::id::{ClusterName, OperatorName};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::{Authority, CertIdentity, CertRole, Issued, PkiError, Validity};

/// Longest key or certificate file read, in bytes: a chain of a dozen certificates.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Permission bits of a key file, and of a certificate's.
const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Where a certificate and its key were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedFiles {
    /// The certificate (PEM).
    pub certificate: PathBuf,
    /// Its key (PKCS#8 in PEM, mode 0600).
    pub key: PathBuf,
}

/// Makes a cluster's CA: `ca.pem` and `ca.key` (mode 0600) in `dir`, which is created (mode 0700) if need be.
///
/// # Errors
/// [`PkiError::Exists`] if there is one: nothing is overwritten. Else what the file system says.
pub fn init(dir: &Path, cluster: &ClusterName) -> Result<IssuedFiles, PkiError> {
    let files = IssuedFiles { certificate: dir.join("ca.pem"), key: dir.join("ca.key") };
    make_dir(dir)?;
    let (_, issued) = Authority::generate(cluster, SystemTime::now())?;
    write(&files, &issued)?;
    Ok(files)
}

/// Issues a certificate by the CA in `dir`, for the CA's cluster: `<name>.pem` and `<name>.key` (mode 0600) in `out_dir`,
/// which is created (mode 0700) if need be. `validity` is usually [`super::LEAF_VALIDITY`].
///
/// # Errors
/// [`PkiError::Exists`] if the files exist: nothing is overwritten. Else what is wrong with the CA or the name.
pub fn issue(
    dir: &Path,
    name: &str,
    role: CertRole,
    out_dir: &Path,
    validity: Duration,
) -> Result<IssuedFiles, PkiError> {
    let name =
        OperatorName::new(name).map_err(|source| PkiError::Name { uri: name.to_owned(), source: source.into() })?;
    let ca_path = dir.join("ca.pem");
    let certificate = read(&ca_path, File::open(&ca_path).map_err(io("open", &ca_path))?)?;
    let authority = Authority::from_pem(&certificate, &read_secret(&dir.join("ca.key"))?)?;
    let identity = CertIdentity { cluster: authority.cluster().clone(), role, name };
    let issued = authority.issue(&identity, Validity::beginning(SystemTime::now(), validity))?;
    make_dir(out_dir)?;
    let files = IssuedFiles {
        certificate: out_dir.join(format!("{}.pem", identity.name)),
        key: out_dir.join(format!("{}.key", identity.name)),
    };
    write(&files, &issued)?;
    Ok(files)
}

/// Reads a key file, which must not be open to group or others. The text is wiped from memory when dropped.
///
/// # Errors
/// [`PkiError::Exposed`] naming file, mode and rule; else what the file system says.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, PkiError> {
    let file = File::open(path).map_err(io("open", path))?;
    // The open file is asked, not its name: it cannot be exchanged between the question and the reading.
    let mode = file.metadata().map_err(io("examine", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PkiError::Exposed { path: path.to_owned(), mode });
    }
    read(path, file)
}

/// The certificate in a PEM file, as DER. Of several, the first.
///
/// # Errors
/// [`PkiError::Malformed`] naming the file.
pub fn certificate_der(path: &Path) -> Result<Vec<u8>, PkiError> {
    let der = CertificateDer::from_pem_file(path).map_err(|error| PkiError::Malformed {
        what: path.display().to_string(),
        why: format!("no certificate: {error}"),
    })?;
    Ok(der.to_vec())
}

fn read(path: &Path, file: File) -> Result<Zeroizing<String>, PkiError> {
    // One allocation, so that no copy of a secret is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(FILE_BYTES_MAX).unwrap_or(usize::MAX)));
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io("read", path))?;
    Ok(text)
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::Io { doing, path, source }
}

fn make_dir(dir: &Path) -> Result<(), PkiError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("create", dir))
}

/// Writes both or neither, and never over anything.
fn write(files: &IssuedFiles, issued: &Issued) -> Result<(), PkiError> {
    write_new(&files.key, issued.key_pem.as_bytes(), SECRET)?;
    let written = write_new(&files.certificate, issued.certificate_pem.as_bytes(), PUBLIC);
    if written.is_err() {
        // A key whose certificate nobody ever saw is of no use. That it stays if this fails too harms nobody.
        let _ = fs::remove_file(&files.key);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|source| {
        if source.kind() == std::io::ErrorKind::AlreadyExists {
            PkiError::Exists { path: path.to_owned() }
        } else {
            PkiError::Io { doing: "create", path: path.to_owned(), source }
        }
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io("write", path))
}
