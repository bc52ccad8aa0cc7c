//! Files that hold a secret.
//!
//! A secret is never in the configuration and never in a log. The file is checked
//! when the configuration is read; its content is read where it is used, each
//! time anew, so that changing a password needs no restart.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::surroundings::Surroundings;

/// Longest secret. A SASL response line holds 12,288 octets (RFC 4954 §4); a
/// password for it is far shorter.
pub const SECRET_BYTES_MAX: usize = 1024;

/// The path of a file with a secret on its first line.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SecretFile {
    path: PathBuf,
}

/// A secret. Shows nothing of itself.
pub struct Secret(String);

impl Secret {
    /// The text, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl SecretFile {
    /// A file as it is named in the configuration, after [`check`].
    #[must_use]
    pub fn new(written: &Path, surroundings: &Surroundings) -> Self {
        Self {
            path: surroundings.secret_path(written),
        }
    }

    /// A file whose path is known.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first line of the file, without its end.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(&self) -> std::io::Result<Secret> {
        let mut text = String::new();
        std::fs::File::open(&self.path)?
            .take(SECRET_BYTES_MAX as u64 + 1)
            .read_to_string(&mut text)?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() || line.len() > SECRET_BYTES_MAX {
            let what = format!("its first line must have 1 to {SECRET_BYTES_MAX} octets");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
        }
        Ok(Secret(line.to_owned()))
    }
}

/// What is wrong with a file that should hold a secret, and what to do.
///
/// # Errors
/// (what, instead), as in a [`super::report::Trouble`].
pub fn check(written: &Path, surroundings: &Surroundings) -> Result<(), (String, String)> {
    let file = SecretFile::new(written, surroundings);
    let path = file.path.display();
    let metadata = std::fs::metadata(&file.path).map_err(|error| {
        (
            format!("{path} cannot be read: {error}"),
            format!("write the password into it: `install -m 0600 /dev/stdin {path}`"),
        )
    })?;
    let others = metadata.mode() & 0o077;
    // systemd makes its credentials readable by an access list, whose mask shows
    // as group bits.
    if others != 0 && file.path == written {
        return Err((
            format!(
                "{path} is open to others (mode {:04o})",
                metadata.mode() & 0o7777
            ),
            format!("`chmod 0600 {path}`, and change the password if others have read it"),
        ));
    }
    file.read().map(|_| ()).map_err(|error| {
        (
            format!("{path} cannot be read: {error}"),
            "put the secret on its first line, and let the server's user read it".to_owned(),
        )
    })
}
