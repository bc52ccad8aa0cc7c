//! The file of users, as the configuration names it.
//!
//! Like a secret it is checked when the configuration is read, and read anew by each
//! reload. What stands in it is the business of
//! [`smtp::auth::users`](crate::smtp::auth::users).

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::surroundings::Surroundings;
use crate::smtp::auth::users::{FILE_BYTES_MAX, Users};

/// The path of a file of users.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsersFile {
    path: PathBuf,
    /// systemd makes its credentials readable by an access list, whose mask shows as
    /// group bits.
    is_credential: bool,
}

impl UsersFile {
    /// As it is written in the configuration.
    #[must_use]
    pub fn new(written: &Path, surroundings: &Surroundings) -> Self {
        let path = surroundings.secret_path(written);
        Self {
            is_credential: path != written,
            path,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everybody in it.
    ///
    /// # Errors
    /// (what, instead), as in a [`super::report::Trouble`]. No secret is in it.
    pub fn read(&self) -> Result<Users, (String, String)> {
        let path = self.path.display();
        let unreadable = |error: std::io::Error| {
            (
                format!("{path} cannot be read: {error}"),
                format!("`turnspool user add {path} NAME` makes it"),
            )
        };
        let mut file = std::fs::File::open(&self.path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.mode();
        if mode & 0o077 != 0 && !self.is_credential {
            return Err((
                format!("{path} is open to others (mode {:04o})", mode & 0o7777),
                format!("`chmod 0600 {path}`, and change the passwords if others have read it"),
            ));
        }
        let mut text = Zeroizing::new(String::new());
        (&mut file)
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            let what = format!("{path} is larger than {FILE_BYTES_MAX} octets");
            return Err((what, "is this the file of users?".to_owned()));
        }
        Users::parse(&text).map_err(|error| {
            (
                format!("{path}, {error}"),
                "mend the line, or write it anew with `turnspool user add`".to_owned(),
            )
        })
    }
}
