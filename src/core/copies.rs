//! Safe copies: a mailbox is emptied when its mail is here, and who wants to be able to
//! look back keeps a copy of each message that was collected, for so many days.
//!
//! A copy is one recipient more of the message, and its way leads into a Maildir of our
//! own beside the spool. So it is true together with the message before the server is told
//! to delete, a crash does not lose it, and it is tried until it is written. From there
//! any mail reader takes it, and what is too old is removed.
//!
//! Relies on: the routes lead mail for [`DOMAIN`] there, whatever else they say; the shell
//! makes the directory before each run.
//!
//! What it does not do: it makes no copy of what is not collected, of a notice for one;
//! and it removes nothing of a collector that keeps copies no longer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::collector::{Collector, Means};
use crate::mail::{Address, ForwardPath, Notify, Recipient};
use crate::maildir::LOCAL_PART;
use crate::time::Instant;

/// The domain of the recipients that are copies. Nobody has it (RFC 2606 §2).
pub const DOMAIN: &str = "copies.invalid";

/// The directory of the Maildirs, in that of the spool.
const DIRECTORY: &str = "copies";

/// How often old copies are removed: they are kept for days.
pub const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// What a local-part may hold (RFC 5321 §4.5.3.1.1).
const NAME_BYTES_MAX: usize = 64;

/// Where the Maildirs are, as a route says it.
#[must_use]
pub fn route(spool: &Path) -> PathBuf {
    spool.join(DIRECTORY).join(LOCAL_PART)
}

/// The copies of one collector, as the operator wants them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copies {
    /// Whom they are sent to.
    pub recipient: Address,
    /// The Maildir in which they come to be.
    pub directory: PathBuf,
    /// How long they are kept there.
    pub keep: Duration,
}

impl Copies {
    /// Of the collector with this name: its letters, digits and dots are those of the
    /// directory, in lower case.
    #[must_use]
    pub fn new(collector: &str, spool: &Path, keep: Duration) -> Self {
        let name = directory_name(collector);
        let recipient = format!("{name}@{DOMAIN}");
        Self {
            recipient: recipient.parse().expect("made of letters"),
            directory: spool.join(DIRECTORY).join(name),
            keep,
        }
    }

    /// One recipient more of a message. Its sender is never told of it.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient {
            notify: Notify::Never,
            ..Recipient::new(ForwardPath(self.recipient.clone()))
        }
    }
}

/// Fit for a local-part and for a path.
fn directory_name(collector: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '-' | '_') => c,
        // Not where a dot means something.
        '.' => '.',
        _ => '_',
    };
    let mut name: String = collector.chars().map(plain).collect();
    name.truncate(NAME_BYTES_MAX);
    let doubled = name.replace("..", "__");
    let name = doubled.trim_matches('.');
    if name.is_empty() {
        "_".to_owned()
    } else {
        name.to_owned()
    }
}

/// A Maildir from which what is older is removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prune {
    /// Which.
    pub directory: PathBuf,
    /// Older than what.
    pub keep: Duration,
}

/// When old copies are removed. A part of the control core.
#[derive(Debug, Default)]
pub(super) struct Pruning {
    all: Vec<Prune>,
    next: Option<Instant>,
}

impl Pruning {
    /// These collectors are configured now.
    pub(super) fn configure<'a>(
        &mut self,
        now: Instant,
        collectors: impl IntoIterator<Item = &'a Collector>,
    ) {
        let copies = collectors.into_iter().filter_map(|c| match &c.means {
            Means::Mailbox(mailbox) => mailbox.copies.as_ref(),
            Means::Provider(_) | Means::Letter(_) | Means::Command(_) => None,
        });
        let prune = copies.map(|copies| Prune {
            directory: copies.directory.clone(),
            keep: copies.keep,
        });
        self.all = prune.collect();
        self.next = (!self.all.is_empty()).then_some(now);
    }

    /// When [`Pruning::timer`] is due.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// What is to be pruned now.
    pub(super) fn timer(&mut self, now: Instant) -> Option<Vec<Prune>> {
        self.next.take_if(|next| *next <= now)?;
        self.next = Some(now + PRUNE_INTERVAL);
        Some(self.all.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_for_each_name() {
        let check = |name: &str, expected: &str| {
            let copies = Copies::new(name, Path::new("/s"), Duration::from_secs(1));
            assert_eq!(copies.directory, Path::new("/s/copies").join(expected));
            assert_eq!(copies.recipient.as_str(), format!("{expected}@{DOMAIN}"));
            let of_route = crate::maildir::directory(&route(Path::new("/s")), &copies.recipient);
            assert_eq!(of_route.as_deref(), Ok(copies.directory.as_path()));
        };
        check("isp", "isp");
        check("branch@pop.isp.example", "branch_pop.isp.example");
        check("Büro 1", "b_ro_1");
        check("../../etc", "______etc");
        check(".", "_");
        check("", "_");
        check("a..b", "a__b");
        check(&"x".repeat(300), &"x".repeat(NAME_BYTES_MAX));
    }
}
