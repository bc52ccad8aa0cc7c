//! Queue files of Postfix, read without Postfix: a sequence of records, each an octet that
//! names its kind, a length in groups of seven bits with the lowest first, and octets.
//!
//! There are three parts: the envelope up to `M`, the text up to `X`, and what was found
//! in the text, up to `E`. Recipients stand in the first or in the last part. `p` says
//! where reading goes on, since a part that was changed is written anew at the end.
//!
//! Rules:
//! - A file without its owner's execute bit is still being written: Postfix has not said
//!   yes to it, so it is no message.
//! - Every length, jump and count has a limit; a file that breaks one is left, and said.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Found, Item, Left, files};
use crate::cli::eml;
use crate::mail::{BodyKind, Envelope, Notify, Recipient, Ret, Sender};
use crate::time::WallTime;

/// The parts of the queue that hold mail that was accepted.
const QUEUES: &[&str] = &["incoming", "active", "deferred", "hold"];

/// Longest record. Postfix cuts lines of the text at 2 KiB; an attribute is shorter.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// Most records of an envelope, and most jumps in a file.
const RECORDS_MAX: usize = 1_000_000;
const JUMPS_MAX: usize = 1000;

/// Recipients of one message.
const RECIPIENTS_MAX: usize = 100_000;

/// Bits of NOTIFY and SMTPUTF8 in a queue file, and values of RET.
const NEVER: u32 = 1;
const SUCCESS: u32 = 2;
const FAILURE: u32 = 4;
const DELAY: u32 = 8;
const SMTPUTF8_FLAGS: u32 = 15;
const RET_FULL: u32 = 1;
const RET_HEADERS: u32 = 2;

struct Records {
    file: BufReader<File>,
    jumps: usize,
}

struct Record {
    kind: u8,
    octets: Vec<u8>,
}

impl Record {
    fn text(&self) -> Result<&str, String> {
        std::str::from_utf8(&self.octets).map_err(|_| "a record is not UTF-8".to_owned())
    }

    fn number<T: std::str::FromStr>(&self) -> Result<T, String> {
        let text = self.text()?.trim();
        text.parse().map_err(|_| "a number is none".to_owned())
    }
}

impl Records {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufReader::new(File::open(path)?),
            jumps: 0,
        })
    }

    /// The next one that says something. An end of the file is a file that is cut.
    fn next(&mut self) -> Result<Record, String> {
        loop {
            let kind = self.octet()?;
            let mut length: usize = 0;
            for shift in (0..).step_by(7) {
                let octet = self.octet()?;
                if shift > 21 {
                    return Err("a record is too long".to_owned());
                }
                length |= usize::from(octet & 0x7f) << shift;
                if octet & 0x80 == 0 {
                    break;
                }
            }
            if length > RECORD_BYTES_MAX {
                return Err("a record is too long".to_owned());
            }
            let mut octets = vec![0; length];
            self.file
                .read_exact(&mut octets)
                .map_err(|_| "it is cut".to_owned())?;
            let record = Record { kind, octets };
            match kind {
                b'p' => self.jump(record.number()?)?,
                // Room for what may be changed later.
                b'w' => {}
                _ => return Ok(record),
            }
        }
    }

    /// Nought: not set, so read on.
    fn jump(&mut self, to: u64) -> Result<(), String> {
        self.jumps += 1;
        if self.jumps > JUMPS_MAX {
            return Err("it leads in circles".to_owned());
        }
        if to > 0 {
            let sought = self.file.seek(SeekFrom::Start(to));
            sought.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn octet(&mut self) -> Result<u8, String> {
        let mut octet = [0];
        let read = self.file.read_exact(&mut octet);
        read.map_err(|_| "it is cut".to_owned()).map(|()| octet[0])
    }
}

/// The text of a message, line by line.
struct Text {
    records: Records,
    line: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for Text {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.line.len() && !self.ended {
            let record = self.records.next().map_err(io::Error::other)?;
            self.at = 0;
            self.line = record.octets;
            match record.kind {
                b'N' => self.line.push(b'\n'),
                b'L' => {}
                b'X' => {
                    self.line.clear();
                    self.ended = true;
                }
                kind => {
                    let kind = char::from(kind);
                    return Err(io::Error::other(format!("{kind:?} stands among the text")));
                }
            }
        }
        let octets = out.len().min(self.line.len() - self.at);
        out[..octets].copy_from_slice(&self.line[self.at..self.at + octets]);
        self.at += octets;
        Ok(octets)
    }
}

/// What the records before and behind the text say.
#[derive(Default)]
struct Head {
    arrival: Option<(i64, i64)>,
    sender: Option<Sender>,
    eight_bit: bool,
    smtputf8: bool,
    ret: Option<Ret>,
    envid: Option<Box<str>>,
    recipients: Vec<Recipient>,
    done: u64,
    /// Of the recipient that comes next.
    orcpt: Option<Box<str>>,
    notify: Option<Notify>,
}

impl Head {
    fn record(&mut self, record: &Record) -> Result<(), String> {
        match record.kind {
            b'T' => {
                let text = record.text()?;
                let mut words = text.split_ascii_whitespace();
                let mut number = || words.next().and_then(|word| word.parse().ok());
                let seconds = number().ok_or("its time is none")?;
                self.arrival = Some((seconds, number().unwrap_or(0)));
            }
            b'S' => {
                let path = record.text()?.parse();
                let path = path.map_err(|error| format!("its sender {error}"))?;
                self.sender = Some(Sender::new(path));
            }
            b'A' => self.attribute(record.text()?)?,
            // The sixth number: who needs SMTPUTF8, a bit for each.
            b'C' => {
                let flags = record.text()?.split_ascii_whitespace().nth(5);
                let flags: u32 = flags.and_then(|word| word.parse().ok()).unwrap_or(0);
                self.smtputf8 |= flags & SMTPUTF8_FLAGS != 0;
            }
            b'R' => {
                let path = record.text()?.parse();
                let path = path.map_err(|error| format!("a recipient {error}"))?;
                if self.recipients.len() >= RECIPIENTS_MAX {
                    return Err("it has too many recipients".to_owned());
                }
                let mut recipient = Recipient::new(path);
                recipient.notify = self.notify.take().unwrap_or(Notify::Unspecified);
                recipient.orcpt = self.orcpt.take();
                self.recipients.push(recipient);
            }
            b'D' | b'/' => {
                self.done += 1;
                (self.notify, self.orcpt) = (None, None);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Head {
    /// `name=value`. ENVID and ORCPT are kept without the code in which they came.
    fn attribute(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once('=').unwrap_or_default();
        let number = || {
            value
                .parse::<u32>()
                .map_err(|_| format!("{name} is no number"))
        };
        match name {
            "encoding" => self.eight_bit |= value == "8bit",
            "envelope_id" => self.envid = Some(eml::xtext(value).into()),
            "ret_flags" => {
                self.ret = match number()? {
                    RET_FULL => Some(Ret::Full),
                    RET_HEADERS => Some(Ret::Headers),
                    _ => None,
                };
            }
            "notify_flags" => self.notify = notify(number()?),
            "dsn_orig_rcpt" => {
                let (kind, address) = value.split_once(';').unwrap_or_default();
                let orcpt = format!("{kind};{}", eml::xtext(address));
                self.orcpt = (!kind.is_empty()).then(|| orcpt.into());
            }
            _ => {}
        }
        Ok(())
    }
}

fn notify(bits: u32) -> Option<Notify> {
    match bits {
        0 => None,
        bits if bits & NEVER != 0 => Some(Notify::Never),
        bits => Some(Notify::On {
            success: bits & SUCCESS != 0,
            failure: bits & FAILURE != 0,
            delay: bits & DELAY != 0,
        }),
    }
}

/// Looks at a queue directory.
///
/// # Errors
/// It is none, or Postfix runs on it.
pub(super) fn look(directory: &Path) -> Result<Vec<Item>, String> {
    if !directory.join("deferred").is_dir() || !directory.join("active").is_dir() {
        return Err(
            "it is no queue directory of Postfix: there is no deferred and no active in it"
                .to_owned(),
        );
    }
    if is_running(directory) {
        return Err("Postfix runs on it: stop it, or name a copy".to_owned());
    }
    let mut items = Vec::new();
    for queue in QUEUES {
        for path in files(&directory.join(queue))? {
            items.push(item(&path, *queue == "hold"));
        }
    }
    // Accepted from local programs, and not yet looked at by Postfix itself.
    for path in files(&directory.join("maildrop"))? {
        let why = "it was not picked up by Postfix yet: start and stop Postfix once".to_owned();
        items.push(Item::Left(Left { path, why }));
    }
    Ok(items)
}

/// Its master holds a lock for as long as it lives.
fn is_running(directory: &Path) -> bool {
    let Ok(file) = File::open(directory.join("pid/master.pid")) else {
        return false;
    };
    let tried = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared);
    tried == Err(rustix::io::Errno::WOULDBLOCK)
}

fn item(path: &Path, held: bool) -> Item {
    match message(path, held) {
        Ok(Some(found)) => Item::Found(Box::new(found)),
        Ok(None) => Item::Done,
        Err(why) => Item::Left(Left {
            path: path.to_owned(),
            why,
        }),
    }
}

/// `None`: everybody has got it.
fn message(path: &Path, held: bool) -> Result<Option<Found>, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.permissions().mode() & 0o100 == 0 {
        return Err("it is still being written, so nobody was promised it".to_owned());
    }
    let mut records = Records::open(path).map_err(|error| error.to_string())?;
    let mut head = Head::default();
    let mut in_text = false;
    for _ in 0..RECORDS_MAX {
        let record = records.next()?;
        match record.kind {
            b'M' => in_text = true,
            b'X' => in_text = false,
            b'E' => {
                let name = path.file_name().unwrap_or_default();
                return found(head, path, &name.to_string_lossy(), held);
            }
            _ if in_text => {}
            _ => head.record(&record)?,
        }
    }
    Err("it has too many records".to_owned())
}

fn found(head: Head, path: &Path, name: &str, held: bool) -> Result<Option<Found>, String> {
    let mut sender = head.sender.ok_or("it names no sender")?;
    let (seconds, micros) = head.arrival.ok_or("it names no time")?;
    if head.recipients.is_empty() {
        return Ok(None);
    }
    if head.eight_bit {
        sender.body = BodyKind::EightBitMime;
    }
    sender.smtputf8 = head.smtputf8;
    sender.ret = head.ret;
    sender.envid = head.envid.filter(|envid| !envid.is_empty());
    let millis = seconds.saturating_mul(1000).saturating_add(micros / 1000);
    Ok(Some(Found {
        path: path.to_owned(),
        key: format!("postfix {name} {seconds}.{micros}"),
        arrival: Some(WallTime::from_millis(millis)),
        envelope: Envelope {
            sender,
            recipients: head.recipients,
        },
        done: head.done,
        held,
        open: open_text,
    }))
}

fn open_text(path: &Path) -> Result<Box<dyn Read>, String> {
    let mut records = Records::open(path).map_err(|error| error.to_string())?;
    for _ in 0..RECORDS_MAX {
        if records.next()?.kind == b'M' {
            return Ok(Box::new(Text {
                records,
                line: Vec::new(),
                at: 0,
                ended: false,
            }));
        }
    }
    Err("it has no text".to_owned())
}
