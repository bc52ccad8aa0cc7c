//! `turnspool user`: the file of users, changed by hand.
//!
//! A password is read from standard input, from a terminal without echo, and never from
//! the command line, which everybody on the machine can read. The file is written anew
//! and put in the place of the old one, so that a reader sees the one or the other. It
//! keeps its owner, where the system lets us; its mode is always 0600.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::{Exit, Failure, shown, text};
use crate::sasl;
use crate::smtp::auth::Password;
use crate::smtp::auth::stored::{Keep, Salts, Stored};
use crate::smtp::auth::users::{FILE_BYTES_MAX, Users};
use crate::user::UserName;

/// See the module.
#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Adds a user, or gives one another password, which is read from standard input
    Add(Add),
    /// Removes a user
    Remove(Remove),
    /// Prints the users, and the mechanisms that each can use
    List(List),
}

/// See [`User::Add`].
#[derive(Debug, Args)]
pub(super) struct Add {
    /// The file of users (relay.users_file); made if it is not there
    file: PathBuf,
    /// The user's name
    user: String,
    /// Keeps the password itself too, as CRAM-MD5 needs it
    #[arg(long)]
    cram_md5: bool,
}

/// See [`User::Remove`].
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// The file of users (relay.users_file)
    file: PathBuf,
    /// The user's name
    user: String,
}

/// See [`User::List`].
#[derive(Debug, Args)]
pub(super) struct List {
    /// The file of users (relay.users_file)
    file: PathBuf,
}

/// What to do after a change.
const RELOAD: &str = "a running server takes it over at `systemctl reload` or SIGHUP";

impl User {
    pub(super) fn run(&self, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
        match self {
            Self::Add(add) => add.run(out),
            Self::Remove(remove) => remove.run(out),
            Self::List(list) => list.run(json, out),
        }
    }
}

impl Add {
    fn run(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let user = name(&self.user)?;
        preparable("the user name", sasl::is_prepared(user.as_str()))?;
        let lock = Lock::take(&self.file)?;
        // What is wrong with the file is told before anybody types a password.
        let mut users = read(&self.file)?.unwrap_or_default();
        let password = read_password()?;
        preparable("the password", password.prepared().is_some())?;
        let keep = if self.cram_md5 {
            Keep::Password
        } else {
            Keep::Hashes
        };
        let stored = Stored::new(&password, keep, &salts()?);
        let was_known = users.set(user.clone(), stored);
        lock.replace(&self.file, &users)?;
        let what = if was_known {
            "has a new password"
        } else {
            "was added"
        };
        writeln!(out, "{} {what}; {RELOAD}", text::escaped(user.as_str()))?;
        Ok(Exit::Done)
    }
}

impl Remove {
    fn run(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let user = name(&self.user)?;
        let lock = Lock::take(&self.file)?;
        let mut users = existing(&self.file)?;
        if !users.remove(&user) {
            let what = format!(
                "there is no user {} in {}",
                text::escaped(user.as_str()),
                shown(&self.file)
            );
            return Err(Failure::new(Exit::Failed, what));
        }
        lock.replace(&self.file, &users)?;
        writeln!(
            out,
            "{} was removed; {RELOAD}",
            text::escaped(user.as_str())
        )?;
        Ok(Exit::Done)
    }
}

impl List {
    fn run(&self, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
        let users = existing(&self.file)?;
        let mechanisms = |stored: &Stored| -> Vec<&str> {
            stored.mechanisms().iter().map(|m| m.name()).collect()
        };
        if json {
            let all: Vec<_> = users
                .iter()
                .map(|(user, stored)| {
                    serde_json::json!({ "user": user.as_str(), "mechanisms": mechanisms(stored) })
                })
                .collect();
            super::print_json(out, &serde_json::json!({ "users": all }))?;
        } else {
            for (user, stored) in users.iter() {
                let user = text::escaped(user.as_str());
                writeln!(out, "{user}  {}", mechanisms(stored).join(" "))?;
            }
        }
        Ok(Exit::Done)
    }
}

fn name(text: &str) -> Result<UserName, Failure> {
    text.parse()
        .map_err(|error| Failure::new(Exit::Usage, format!("the user name: {error}")))
}

/// SCRAM wants names and passwords prepared (RFC 4013). What has no such form would be
/// refused by a client before it comes here.
fn preparable(what: &str, it_is: bool) -> Result<(), Failure> {
    if it_is {
        return Ok(());
    }
    let what = format!("{what}: {}; choose another one", sasl::NotPreparable);
    Err(Failure::new(Exit::Usage, what))
}

fn existing(path: &Path) -> Result<Users, Failure> {
    read(path)?.ok_or_else(|| {
        let what = format!("there is no file {}", shown(path));
        Failure::new(Exit::Failed, what)
    })
}

/// What is in the file; `None` if it is not there.
fn read(path: &Path) -> Result<Option<Users>, Failure> {
    let failed = |error: io::Error| {
        let what = format!("reading {} failed: {error}", shown(path));
        Failure::new(Exit::Failed, what)
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut content = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut content)
        .map_err(failed)?;
    Users::parse(&content).map(Some).map_err(|error| {
        let what = format!("{}, {error}; mend the line first", shown(path));
        Failure::new(Exit::Failed, what)
    })
}

/// The file beside the file of users that holds the next one.
fn beside(path: &Path) -> Result<PathBuf, Failure> {
    let Some(file_name) = path.file_name() else {
        let what = format!("{} is no name of a file", shown(path));
        return Err(Failure::new(Exit::Usage, what));
    };
    let mut name = std::ffi::OsString::from(".");
    name.push(file_name);
    name.push(".new");
    Ok(path.with_file_name(name))
}

/// Two changes at once would lose one of them: the next file is made by one only. It is
/// removed when the change is given up.
struct Lock {
    /// `None` when it has taken the place of the file.
    next: Option<PathBuf>,
}

impl Lock {
    fn take(path: &Path) -> Result<Self, Failure> {
        let next = beside(path)?;
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&next);
        match made {
            Ok(_) => Ok(Self { next: Some(next) }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::new(
                Exit::TryLater,
                format!(
                    "another `turnspool user` is at work; if there is none, remove {}",
                    shown(&next)
                ),
            )),
            Err(error) => Err(Failure::new(
                Exit::Failed,
                format!("making {} failed: {error}", shown(&next)),
            )),
        }
    }

    /// Writes the file anew, durably, at mode 0600.
    fn replace(mut self, path: &Path, users: &Users) -> Result<(), Failure> {
        let next = self.next.as_ref().expect("it is replaced once");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).truncate(true).open(next)?;
            if let Ok(old) = fs::metadata(path) {
                // Root adds users to a file that the server's own user reads.
                let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
            }
            file.write_all(users.to_text().as_bytes())?;
            file.sync_all()?;
            fs::rename(next, path)
        };
        write().map_err(|error| {
            let what = format!("writing {} failed: {error}; it is as before", shown(path));
            Failure::new(Exit::Failed, what)
        })?;
        self.next = None;
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))
            .and_then(|directory| directory.sync_all())
            .map_err(|error| {
                let what = format!(
                    "{} is written, but may be the old one after a crash: {error}",
                    shown(path)
                );
                Failure::new(Exit::Failed, what)
            })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(next) = &self.next {
            let _ = fs::remove_file(next);
        }
    }
}

fn salts() -> Result<Salts, Failure> {
    let mut salts = Salts {
        argon2: [0; 16],
        scram: [0; crate::smtp::auth::scram::SALT_BYTES],
    };
    for salt in [&mut salts.argon2[..], &mut salts.scram[..]] {
        // Sixteen octets come whole.
        if getrandom(&mut *salt, GetRandomFlags::empty()) != Ok(salt.len()) {
            let what = "the system gives no random octets";
            return Err(Failure::new(Exit::Failed, what));
        }
    }
    Ok(salts)
}

/// Twice from a terminal, once from a pipe.
fn read_password() -> Result<Password, Failure> {
    let input = io::stdin();
    let typed = input.is_terminal();
    let first = if typed {
        ask("Password: ")?
    } else {
        read_line()?
    };
    if typed && *ask("Again: ")? != *first {
        let what = "the two passwords differ; nothing was changed";
        return Err(Failure::new(Exit::Failed, what));
    }
    Password::new((*first).clone())
        .map_err(|error| Failure::new(Exit::Usage, format!("the password: {error}")))
}

/// The first line of standard input.
fn read_line() -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::new());
    io::stdin()
        .lock()
        .take(2 * crate::smtp::auth::PASSWORD_BYTES_MAX as u64)
        .read_line(&mut line)
        .map_err(|error| Failure::new(Exit::Failed, format!("reading the password: {error}")))?;
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(line)
}

/// A line from the terminal, which does not show it.
fn ask(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let mut errors = io::stderr();
    write!(errors, "{prompt}")?;
    errors.flush()?;
    let silence = Silence::begin();
    let line = read_line();
    drop(silence);
    writeln!(errors)?;
    line
}

/// A terminal that does not show what is typed, until it is dropped.
struct Silence(Option<Termios>);

impl Silence {
    fn begin() -> Self {
        let Ok(before) = tcgetattr(io::stdin()) else {
            return Self(None);
        };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        let set = tcsetattr(io::stdin(), OptionalActions::Flush, &silent);
        Self(set.is_ok().then_some(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
