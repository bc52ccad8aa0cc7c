//! Files of Maildirs. Runs on the control core's helper threads and blocks there.
//!
//! A message is in the mailbox, for us, when `new/` was synced behind the link; the
//! core is told only then. The steps, and what a crash between them leaves:
//!
//! | step | a crash behind it leaves |
//! |---|---|
//! | `tmp/NAME` is made and written | a part of a file in `tmp/`, which the next try replaces |
//! | `tmp/NAME` is synced | the same |
//! | linked to `new/NAME` | perhaps the message; the next try finds it by its name |
//! | `tmp/NAME` is removed | the same |
//! | `new/` is synced | the message; the done record may still be missing, as above |

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::core::maildir::{Mail, MailboxFile};
use crate::maildir::Text;
use crate::runtime::storeroom::Storeroom;

/// Octets that gather before they are written.
const WRITTEN_BYTES: usize = 256 * 1024;

/// Mail is its owner's business.
const MODE: u32 = 0o600;

/// Writes a message into each of its mailboxes. One result for each, in their order;
/// an error is a sentence for the operator.
pub(super) fn write(storeroom: &Storeroom, mail: &Mail) -> Vec<Result<(), String>> {
    mail.files
        .iter()
        .map(|file| {
            deliver(storeroom, mail, file).map_err(|(step, error)| {
                let directory = file.directory.display().to_string();
                format!(
                    "{step} in the Maildir {} failed: {error}{}",
                    directory.escape_debug(),
                    advice(&error)
                )
            })
        })
        .collect()
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            "; make the directory with cur, new and tmp in it, for the user of this server"
        }
        ErrorKind::PermissionDenied => "; cur, new and tmp must be writable for this server",
        _ => "",
    }
}

/// What was being done.
type Step = &'static str;

fn deliver(
    storeroom: &Storeroom,
    mail: &Mail,
    file: &MailboxFile,
) -> Result<(), (Step, io::Error)> {
    let at = |step: Step| move |error: io::Error| (step, error);
    let new_directory = file.directory.join("new");
    let new = new_directory.join(&file.name);
    // A try before this one came as far as the link.
    if !new.try_exists().map_err(at("looking for the message"))? {
        let tmp = file.directory.join("tmp").join(&file.name);
        let made = make(storeroom, mail, file, &tmp)
            .and_then(|()| link(&tmp, &new).map_err(at("linking the message from tmp to new")));
        // Also on the way of an error: a full disk needs the room.
        let removed = fs::remove_file(&tmp);
        made?;
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(("removing the message from tmp", error));
            }
            _ => {}
        }
    }
    File::open(&new_directory)
        .and_then(|directory| directory.sync_all())
        .map_err(at("syncing new"))
}

/// Never over a file that is there. Where the file system knows no links, a rename: the
/// name is ours alone, and was just looked for.
fn link(tmp: &Path, new: &Path) -> io::Result<()> {
    match fs::hard_link(tmp, new) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::Unsupported
            ) =>
        {
            fs::rename(tmp, new)
        }
        linked => linked,
    }
}

fn make(
    storeroom: &Storeroom,
    mail: &Mail,
    file: &MailboxFile,
    tmp: &Path,
) -> Result<(), (Step, io::Error)> {
    match fs::remove_file(tmp) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(("removing what a try before this one left in tmp", error));
        }
        _ => {}
    }
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(tmp)
        .map_err(|error| ("making a file in tmp", error))?;
    let mut fill = || {
        let mut out = file.header.clone();
        let mut text = Text::new(mail.form);
        for (place, range) in &mail.extents {
            let segment = storeroom
                .segment(*place)
                .ok_or_else(|| io::Error::other(format!("segment {place} is gone")))?;
            let octets = segment
                .bytes(range.clone())
                .ok_or_else(|| io::Error::other(format!("{place} has no such octets")))?;
            for part in octets.chunks(WRITTEN_BYTES) {
                text.feed(part, &mut out);
                if out.len() >= WRITTEN_BYTES {
                    opened.write_all(&out)?;
                    out.clear();
                }
            }
        }
        text.finish(&mut out);
        opened.write_all(&out)
    };
    fill().map_err(|error| ("writing the message to tmp", error))?;
    opened
        .sync_all()
        .map_err(|error| ("syncing the message in tmp", error))
}
