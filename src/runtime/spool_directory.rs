//! The directory of the spool at a start: made if it is not there, locked, and known by its
//! id.

use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use spool_format::{LogId, SpoolUuid};

use crate::report::Fact;
use crate::runtime::log::report_control;
use crate::runtime::serve::ServeError;
use crate::runtime::spool_id;
use crate::runtime::storeroom::{log_path, logs};
use crate::spool::segment::Directory;

/// The directories of the logs, locked.
pub(super) type Directories = HashMap<LogId, Arc<Directory>>;

/// Opens and locks the spool directory, and the directories of all its logs.
pub(super) fn open(
    path: &Path,
    data_cores: u8,
) -> Result<(SpoolUuid, Vec<LogId>, Directories), ServeError> {
    let failed = |what: &str, error: &Error| {
        let advice = advice(error);
        ServeError(format!("{what} {} failed: {error}{advice}", path.display()))
    };
    make(path).map_err(|error| failed("making the spool directory", &error))?;
    let found = logs(path).map_err(|error| failed("reading the spool directory", &error))?;
    let mut logs: Vec<LogId> = (0..data_cores).map(LogId).chain(found).collect();
    logs.sort_unstable();
    logs.dedup();
    let mut directories = HashMap::new();
    for &log in &logs {
        let directory = Directory::open(&log_path(path, log), log)
            .map_err(|error| ServeError(error.to_string()))?;
        directories.insert(log, Arc::new(directory));
    }
    // Under the lock of the logs: nobody else makes one now.
    let identified = spool_id::identify(path, directories.values())
        .map_err(|error| failed("making the spool's id in", &error))?;
    if let Some(what) = identified.trouble {
        report_control(&Fact::Trouble { what });
    }
    Ok((identified.spool, logs, directories))
}

/// Makes a directory with all above it, durably.
fn make(path: &Path) -> std::io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match std::fs::create_dir(path) {
        Ok(()) => std::fs::File::open(parent)?.sync_all(),
        Err(error) if error.kind() == ErrorKind::NotFound && parent != path => {
            make(parent)?;
            make(path)
        }
        // Perhaps by a process that was killed before its sync. Somebody else may have made
        // it, and keep its parent from us: then it is his to be stored.
        Err(_) if path.is_dir() => {
            let _ = std::fs::File::open(parent).and_then(|parent| parent.sync_all());
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// What somebody can do who has made one of the usual mistakes.
fn advice(error: &Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            let user = rustix::process::geteuid().as_raw();
            format!(
                "\n    the server runs as the user with the number {user}, who must own the spool: \
                 `chown -R`, or name another [spool] directory"
            )
        }
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            "\n    something else has this name: remove it, or name another [spool] directory"
                .to_owned()
        }
        ErrorKind::ReadOnlyFilesystem => {
            "\n    the server may not write there (under systemd: ReadWritePaths=); name another \
             [spool] directory"
                .to_owned()
        }
        _ => String::new(),
    }
}
