//! What the defaults take from the machine, read once and handed in, so that the
//! checks are the same in a test as in the field.

use std::path::{Path, PathBuf};

/// Facts about this machine and how we were started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Surroundings {
    /// The system's host name.
    pub host_name: String,
    /// CPUs that we may use.
    pub cpus: usize,
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub credentials_directory: Option<PathBuf>,
    /// systemd's `$STATE_DIRECTORY`: we run as a service.
    pub state_directory: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let directory = |name: &str| {
            let value = std::env::var_os(name)?;
            // systemd gives a list with colons; the first is ours.
            let first = value.to_string_lossy().split(':').next()?.to_owned();
            (!first.is_empty()).then(|| PathBuf::from(first))
        };
        Self {
            host_name: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            credentials_directory: directory("CREDENTIALS_DIRECTORY"),
            state_directory: directory("STATE_DIRECTORY"),
        }
    }

    /// Where a secret is. A name without a slash is a systemd credential, if we
    /// were given any.
    #[must_use]
    pub fn secret_path(&self, written: &Path) -> PathBuf {
        match &self.credentials_directory {
            Some(directory) if written.components().count() == 1 && written.is_relative() => {
                directory.join(written)
            }
            _ => written.to_owned(),
        }
    }
}
