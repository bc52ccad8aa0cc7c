//! Directories of safe copies. Runs on helper threads, and blocks there.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::SystemTime;

use crate::core::copies::Prune;
use crate::report::Fact;
use crate::report::collecting::Pruned;

/// Mail is its owner's business.
const MODE: u32 = 0o700;

/// Makes the Maildir, where it is not there.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    for part in ["cur", "new", "tmp"] {
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(MODE)
            .create(directory.join(part))?;
    }
    Ok(())
}

/// Removes what is too old. What cannot be removed is told, and tried again next time.
pub(super) fn prune(all: &[Prune], now: SystemTime) -> Vec<Fact> {
    let mut facts = Vec::new();
    for one in all {
        let mut count = 0;
        for part in ["cur", "new"] {
            if let Err(error) = prune_part(&one.directory.join(part), one, now, &mut count) {
                let what = format!(
                    "removing old copies from {}: {error}; it is tried again in an hour",
                    one.directory.display()
                );
                facts.push(Fact::Trouble { what });
            }
        }
        if count > 0 {
            facts.push(Fact::Pruned(Pruned {
                directory: one.directory.display().to_string(),
                count,
                days: one.keep.as_secs() / 86_400,
            }));
        }
    }
    facts
}

fn prune_part(part: &Path, one: &Prune, now: SystemTime, count: &mut u64) -> io::Result<()> {
    let entries = match fs::read_dir(part) {
        // Nothing was collected yet.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let facts = entry.metadata()?;
        let modified = facts.modified()?;
        // A clock that was set back must not remove early.
        let is_old = now
            .duration_since(modified)
            .is_ok_and(|age| age >= one.keep);
        if facts.is_file() && is_old {
            fs::remove_file(entry.path())?;
            *count += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_is_old_goes() {
        const DAY: Duration = Duration::from_secs(86_400);
        let base = tempfile::tempdir().expect("a directory");
        let directory = base.path().join("copies/isp");
        let prune_all = |now| {
            let keep = 7 * DAY;
            let directory = directory.clone();
            prune(&[Prune { directory, keep }], now)
        };
        let now = SystemTime::now();
        assert!(prune_all(now).is_empty(), "no directory, no complaint");
        make(&directory).expect("it is made");
        make(&directory).expect("it is there");
        for (part, name, age) in [
            ("new", "old", 8),
            ("cur", "older:2,S", 9),
            ("new", "young", 6),
        ] {
            let file = fs::File::create(directory.join(part).join(name)).expect("a file");
            file.set_modified(now - age * DAY).expect("its time is set");
        }
        fs::create_dir(directory.join("new/directory")).expect("one of somebody's");
        let facts = prune_all(now);
        let said: Vec<_> = facts.iter().map(ToString::to_string).collect();
        let expected = format!(
            "2 copies older than 7 days removed from {}",
            directory.display()
        );
        assert_eq!(said, [expected]);
        assert!(directory.join("new/young").exists());
        assert!(prune_all(now).is_empty());
        assert!(
            prune_all(now - 30 * DAY).is_empty(),
            "a clock that was set back"
        );
    }
}
