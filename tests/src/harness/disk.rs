//! A disk that is full.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::namespace::{Isolated, run};

/// What fills the disk.
const FILLER: &str = "filler";
/// Bytes written at once to fill it: then single ones, so that nothing is left.
const BLOCK: usize = 64 * 1024;

/// A small file system in memory, which is unmounted when this is dropped. Nobody but this process and its children sees
/// it, so nothing is left of it either when the process is killed.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of that many bytes on the directory, which is made if need be; it is open to us alone.
    ///
    /// # Errors
    /// If this process may not mount; the words say what it lacks.
    pub fn mount(isolated: &Isolated, path: &Path, bytes: u64) -> Result<Self> {
        if let Err(why) = &isolated.mounts {
            bail!(
                "a small disk cannot be mounted: this process has no mount namespace of its own ({why}); run the test \
                 as root, in a container with CAP_SYS_ADMIN and without an AppArmor profile that denies mounting"
            );
        }
        fs::create_dir_all(path).with_context(|| format!("no directory {}", path.display()))?;
        let options = format!("size={bytes},mode=0700");
        let target = path.to_string_lossy();
        run("mount", &["-t", "tmpfs", "-o", &options, "rekindle-test", &target], None)
            .context("a small disk cannot be mounted: is this process root, and may it mount a tmpfs?")?;
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// If something else than its end stops that.
    pub fn fill(&self) -> Result<()> {
        let path = self.path.join(FILLER);
        let full = |error: &io::Error| error.kind() == ErrorKind::StorageFull;
        let filler = OpenOptions::new().create(true).append(true).open(&path);
        let mut filler = filler.with_context(|| format!("{} cannot be made", path.display()))?;
        for block in [vec![0; BLOCK], vec![0; 1]] {
            let filled = std::iter::repeat_with(|| filler.write_all(&block)).find_map(Result::err);
            match filled {
                Some(error) if !full(&error) => return Err(error).context("the disk cannot be filled"),
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// Gives back what [`SmallDisk::fill`] took.
    ///
    /// # Errors
    /// What the system says.
    pub fn free(&self) -> Result<()> {
        let path = self.path.join(FILLER);
        fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a daemon that is being killed may hold a file yet.
        if let Err(error) = run("umount", &["-l", &self.path.to_string_lossy()], None) {
            eprintln!("harness: {error:#}");
        }
    }
}
