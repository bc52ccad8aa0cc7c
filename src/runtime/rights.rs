//! Giving up rights that the running server does not need: those of root, once the
//! ports are bound, and by Landlock those to write elsewhere and to run programs.
//!
//! What it relies on: [`leave_root`] changes all threads of the process (the C library
//! sees to that); [`confine`] changes the calling thread and those that it
//! starts afterwards, so it runs before the first data core does. Only the thread that
//! writes the log is older.
//!
//! What it does not do: a server with programs to run (pppd, `wake_command`, …) is not
//! confined. Its programs would inherit that, and pppd could no longer become root.
//! Reading is left as the file modes have it: what a reload will name is not known.

use std::fmt;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus,
};
use nix::unistd::{Gid, Uid, User};

use crate::config::addresses::NextHop;
use crate::config::{Config, Driver, LogTarget, Means};

/// What the configuration makes the server do to files and programs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Footprint {
    /// Below these it writes.
    writes: Vec<PathBuf>,
    /// It runs programs.
    programs: bool,
}

/// How far the kernel keeps the server to what it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Confinement {
    /// It writes only where it must, and runs nothing.
    Whole,
    /// An older kernel, which knows a part of that.
    Part,
    /// The kernel knows nothing of it, or we may not ask for it.
    Unknown,
    /// It has programs to run.
    Programs,
    /// The configuration does not want it.
    Off,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "confined to its own files",
            Self::Part => "confined to its own files as far as this kernel can",
            Self::Unknown => {
                "not confined (this kernel has no Landlock, or a filter of system calls forbids it)"
            }
            Self::Programs => "not confined (it has programs to run)",
            Self::Off => "not confined (process.sandbox is off)",
        })
    }
}

/// What the server may do once it runs.
#[derive(Debug)]
pub(super) struct Rights {
    /// As whom it runs.
    user: String,
    confinement: Confinement,
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "as user {}, {}",
            self.user.escape_debug(),
            self.confinement
        )?;
        if Uid::effective().is_root() {
            write!(f, "; process.user would leave root behind")?;
        }
        Ok(())
    }
}

/// Becomes the user that the configuration names, if it is another. What is not there yet
/// is made for this user: the places around it may be root's.
///
/// # Errors
/// For the operator.
pub(super) fn leave_root(config: &Config) -> Result<(), String> {
    let Some(user) = user_to_be(config.process.user.as_deref())? else {
        return Ok(());
    };
    let sockets = config.admin.socket.parent().unwrap_or(Path::new("."));
    for path in [config.spool.directory.as_path(), sockets] {
        make_directory(path, Some(&user))?;
    }
    become_user(&user)
}

/// Gives up what the server does not need, for this thread and those that it starts.
///
/// # Errors
/// For the operator: a directory of the server's cannot be opened.
pub(super) fn confine(config: &Config) -> Result<Rights, String> {
    let confinement = if config.process.sandbox {
        Footprint::of(config).confine()?
    } else {
        Confinement::Off
    };
    let uid = Uid::effective();
    let user = match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    };
    Ok(Rights { user, confinement })
}

/// Makes a directory of the server's, for the user that it is going to be.
///
/// # Errors
/// For the operator.
fn make_directory(path: &Path, user: Option<&User>) -> Result<(), String> {
    if path.is_dir() {
        return Ok(());
    }
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.and_then(|()| match user {
        Some(user) => {
            std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        }
        None => Ok(()),
    })
    .map_err(|error| format!("making the directory {} failed: {error}", path.display()))
}

/// The user that the configuration names. `None`: none, or we are that user already.
///
/// # Errors
/// For the operator: there is none of that name, or we may not become another.
fn user_to_be(name: Option<&str>) -> Result<Option<User>, String> {
    let Some(name) = name else {
        return Ok(None);
    };
    let shown = name.escape_debug();
    let user = User::from_name(name)
        .map_err(|error| format!("looking up the user {shown} failed: {error}"))?
        .ok_or_else(|| {
            format!(
                "there is no user {shown}, as process.user says; make one \
                 (`useradd --system --no-create-home {shown}`), or write another"
            )
        })?;
    if user.uid == Uid::effective() {
        return Ok(None);
    }
    if !Uid::effective().is_root() {
        return Err(format!(
            "only root can become the user {shown}, as process.user says; start as root or as \
             {shown}, or leave the option out"
        ));
    }
    Ok(Some(user))
}

/// Becomes this user, with its groups and without a way back.
///
/// # Errors
/// For the operator.
fn become_user(user: &User) -> Result<(), String> {
    let failed = |error: nix::Error| format!("becoming the user {} failed: {error}", user.name);
    let name = std::ffi::CString::new(user.name.as_str())
        .map_err(|_| "the user's name has a NUL in it".to_owned())?;
    // Groups first: afterwards we may not any more.
    nix::unistd::initgroups(&name, user.gid).map_err(failed)?;
    nix::unistd::setresgid(user.gid, user.gid, user.gid).map_err(failed)?;
    nix::unistd::setresuid(user.uid, user.uid, user.uid).map_err(failed)?;
    assert_eq!((Uid::current(), Gid::current()), (user.uid, user.gid));
    Ok(())
}

impl Footprint {
    /// What this configuration needs.
    pub(super) fn of(config: &Config) -> Self {
        let mut writes = vec![config.spool.directory.clone(), parent(&config.admin.socket)];
        if let LogTarget::File(path) = &config.log.to {
            writes.push(parent(path));
        }
        for route in &config.routes {
            if let NextHop::Maildir(path) = &route.next_hop {
                writes.push(fixed_part(path));
            }
        }
        writes.sort();
        writes.dedup();
        let dials =
            |driver: &Driver| matches!(driver, Driver::Pppd { .. } | Driver::Command { .. });
        let programs = config.links.iter().any(|link| dials(&link.driver))
            || config
                .customers
                .iter()
                .any(|one| !one.wake_command.is_empty())
            || (config.collectors.iter()).any(|one| matches!(one.means, Means::Command(_)));
        Self { writes, programs }
    }

    /// Whether a server that was confined to this can do the other as well.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let below = |path: &PathBuf| self.writes.iter().any(|own| path.starts_with(own));
        (self.programs || !other.programs) && other.writes.iter().all(below)
    }

    /// Gives up everything else, for this thread and those that it will start.
    ///
    /// # Errors
    /// For the operator: a directory of the server's cannot be opened.
    fn confine(&self) -> Result<Confinement, String> {
        if self.programs {
            return Ok(Confinement::Programs);
        }
        let status = self.restrict().map_err(|error| {
            format!("giving up the rights to other files failed: {error}; process.sandbox = false leaves it out")
        })?;
        Ok(match status {
            RulesetStatus::FullyEnforced => Confinement::Whole,
            RulesetStatus::PartiallyEnforced => Confinement::Part,
            RulesetStatus::NotEnforced => Confinement::Unknown,
        })
    }

    fn restrict(&self) -> Result<RulesetStatus, Box<dyn std::error::Error>> {
        // The newest that this program was tried with; a kernel that knows less does
        // what it knows.
        let abi = ABI::V5;
        let everything = AccessFs::from_all(abi);
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(everything)?
            .create()?
            .add_rule(PathBeneath::new(PathFd::new("/")?, read))?
            .add_rule(PathBeneath::new(
                PathFd::new("/dev/null")?,
                AccessFs::from_file(abi) & !AccessFs::Execute,
            ))?;
        for path in self.writes.iter().filter_map(|path| standing(path)) {
            let rule = PathBeneath::new(PathFd::new(path)?, everything & !AccessFs::Execute);
            rules = rules.add_rule(rule)?;
        }
        Ok(rules.restrict_self()?.ruleset)
    }
}

/// The directory itself, or the nearest one above it that is there already: a Maildir may
/// be made later, and is not for us to make. Not the root: nothing would be given up.
fn standing(path: &Path) -> Option<&Path> {
    let there = path.ancestors().find(|path| path.is_dir())?;
    there.parent().map(|_| there)
}

/// The directory that a file is in.
fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A Maildir's path as far as it is the same for each recipient.
fn fixed_part(path: &Path) -> PathBuf {
    let varies = |part: &std::path::Component<'_>| part.as_os_str().to_string_lossy().contains('{');
    path.components().take_while(|part| !varies(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::surroundings::Surroundings;

    fn footprint(text: &str) -> Footprint {
        let surroundings = Surroundings {
            host_name: "host.example".to_owned(),
            cpus: 1,
            credentials_directory: None,
            state_directory: None,
        };
        let config = config::parse(Path::new("t.toml"), text, &surroundings);
        Footprint::of(&config.unwrap_or_else(|report| panic!("{report}")))
    }

    const BASE: &str = "[spool]\ndirectory = \"/v/spool\"\n[admin]\nsocket = \"/r/admin.sock\"\n";

    #[test]
    fn it_writes_where_the_configuration_says() {
        let check = |more: &str, writes: &[&str], programs: bool| {
            let found = footprint(&format!("{BASE}{more}"));
            let writes = writes.iter().map(PathBuf::from).collect();
            assert_eq!(found, Footprint { writes, programs }, "{more}");
        };
        check("", &["/r", "/v/spool"], false);
        // A directory that is there: the configuration asks for one.
        check(
            "[log]\nto = \"/usr/t.log\"\n",
            &["/r", "/usr", "/v/spool"],
            false,
        );
        check(
            "[[route]]\ndomain = \"a.example\"\nnext_hop = \"maildir:/m/{domain}/{local}\"\n",
            &["/m", "/r", "/v/spool"],
            false,
        );
        check(
            "[[link]]\nname = \"isp\"\nkind = \"pppd\"\nentry = \"isp\"\n",
            &["/r", "/v/spool"],
            true,
        );
    }

    #[test]
    fn a_reload_may_need_no_more_than_was_kept() {
        let check = |old: &str, new: &str, covered: bool| {
            let (old, new) = (format!("{BASE}{old}"), format!("{BASE}{new}"));
            assert_eq!(footprint(&old).covers(&footprint(&new)), covered, "{new}");
        };
        let inner = "[[route]]\ndomain = \"a.example\"\nnext_hop = \"maildir:/m/a\"\n";
        let outer = "[[route]]\ndomain = \"a.example\"\nnext_hop = \"maildir:/m/{local}\"\n";
        let dials = "[[link]]\nname = \"isp\"\nkind = \"pppd\"\nentry = \"isp\"\n";
        check("", "", true);
        check(outer, inner, true);
        check(inner, outer, false);
        check("", inner, false);
        check("", dials, false);
        check(dials, "", true);
    }

    /// In a thread of its own: what it gives up is gone for good.
    #[test]
    fn a_confined_thread_writes_only_where_it_must_and_runs_nothing() {
        let inside = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        let own = Footprint {
            writes: vec![inside.path().join("made")],
            programs: false,
        };
        // It is made later, in the place where it is to be.
        let (mine, others) = (own.writes[0].clone(), outside.path().join("x"));
        let found = std::thread::spawn(move || {
            let confinement = own.confine().expect("the directories are there");
            let kind = |result: std::io::Result<()>| result.err().map(|error| error.kind());
            let ran = std::process::Command::new("/bin/true").status().map(|_| ());
            (
                confinement,
                kind(fs::write(mine, "x")),
                kind(fs::write(others, "x")),
                kind(fs::read("/etc/passwd").map(|_| ())),
                kind(ran),
            )
        });
        let (confinement, mine, others, read, ran) = found.join().expect("no panic");
        if confinement == Confinement::Unknown {
            eprintln!("skipped: this kernel has no Landlock");
            return;
        }
        let denied = Some(std::io::ErrorKind::PermissionDenied);
        assert_eq!((mine, others, read, ran), (None, denied, None, denied));
    }

    #[test]
    fn programs_are_a_reason_to_keep_all_rights() {
        let own = Footprint {
            writes: Vec::new(),
            programs: true,
        };
        assert_eq!(own.confine(), Ok(Confinement::Programs));
        fs::write(
            tempfile::tempdir().expect("a directory").path().join("x"),
            "x",
        )
        .expect("nothing was given up");
    }

    #[test]
    fn who_is_not_there_is_said() {
        let said = user_to_be(Some("no-such-user\u{7}")).expect_err("nobody");
        assert!(said.contains("no-such-user\\u{7}"), "{said}");
        assert_eq!(user_to_be(None).map(|user| user.is_none()), Ok(true));
    }
}
