//! Spool files of Exim: `ID-H` with the envelope and the header section, `ID-D` with the
//! body, and, where a delivery was interrupted, `ID-J` with addresses that are done.
//!
//! The `-H` file has, one behind the other: its name; who called Exim; the sender; time and
//! number of warnings; lines that begin with a hyphen; the tree of those who have got it;
//! the recipients with their number before them; an empty line; and the fields of the
//! header section, each with its length.
//!
//! Rules:
//! - A `-D` file without `-H` was never accepted.
//! - Every count and length has a limit; a file that breaks one is left, and said.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use super::{Found, Item, Left, files};
use crate::mail::{BodyKind, Envelope, Notify, Recipient, Ret, Sender};
use crate::time::WallTime;

/// Largest `-H` file that is read: a thousand recipients and a long header section.
const HEAD_BYTES_MAX: u64 = 64 << 20;

const RECIPIENTS_MAX: usize = 100_000;

/// Flags of a recipient, and values of `-dsn_ret`.
const NEVER: u32 = 0x02;
const SUCCESS: u32 = 0x04;
const FAILURE: u32 = 0x08;
const DELAY: u32 = 0x10;
const RET_FULL: &str = "1";
const RET_HEADERS: &str = "2";

/// Looks at a spool directory, or its `input`.
///
/// # Errors
/// It is none.
pub(super) fn look(directory: &Path) -> Result<Vec<Item>, String> {
    let inner = directory.join("input");
    let input = if inner.is_dir() {
        inner
    } else {
        directory.to_owned()
    };
    let all = files(&input)?;
    let name = |path: &PathBuf| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let heads: BTreeSet<_> = (all.iter().map(name))
        .filter_map(|name| name.strip_suffix("-H").map(str::to_owned))
        .collect();
    if all.is_empty() && !directory.join("db").is_dir() && !directory.join("msglog").is_dir() {
        return Err("it is no spool of Exim: there are no messages and no db in it".to_owned());
    }
    let mut items = Vec::new();
    for path in &all {
        let name = name(path);
        if name.ends_with("-H") {
            items.push(match message(path) {
                Ok(Some(found)) => Item::Found(Box::new(found)),
                Ok(None) => Item::Done,
                Err(why) => Item::Left(Left {
                    path: path.clone(),
                    why,
                }),
            });
        } else if let Some(id) = name.strip_suffix("-D")
            && !heads.contains(id)
        {
            let why = "it has no -H file, so nobody was promised it".to_owned();
            items.push(Item::Left(Left {
                path: path.clone(),
                why,
            }));
        }
    }
    Ok(items)
}

/// The other file of a message.
fn beside(path: &Path, letter: char) -> PathBuf {
    let mut name = path
        .file_name()
        .unwrap_or_default()
        .to_os_string()
        .into_encoded_bytes();
    name.pop();
    name.push(letter as u8);
    path.with_file_name(String::from_utf8_lossy(&name).into_owned())
}

/// The lines of a `-H` file.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a str, String> {
        let end = memchr::memchr(b'\n', self.rest).ok_or("it is cut")?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        std::str::from_utf8(line).map_err(|_| "a line is not UTF-8".to_owned())
    }

    /// So many octets and a line end.
    fn skip(&mut self, octets: usize) -> Result<(), String> {
        let end = octets.checked_add(1).ok_or("it is cut")?;
        self.rest = self.rest.get(end..).ok_or("it is cut")?;
        Ok(())
    }
}

/// What a `-H` file says.
struct Head {
    sender: Sender,
    /// In milliseconds since 1970.
    arrival: i64,
    held: bool,
    /// Addresses in lower case.
    done: BTreeSet<String>,
    recipients: Vec<Recipient>,
    /// Where the header section begins.
    header_at: usize,
}

/// A `-H` file in memory.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?
        .take(HEAD_BYTES_MAX)
        .read_to_end(&mut octets)?;
    Ok(octets)
}

fn head(path: &Path, octets: &[u8]) -> Result<Head, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut lines = Lines { rest: octets };
    if lines.next()? != name {
        return Err("its first line is not its name".to_owned());
    }
    lines.next()?;
    let sender = lines.next()?;
    let path_text = sender.strip_prefix('<').and_then(|s| s.strip_suffix('>'));
    let parsed = path_text.ok_or("its sender has no brackets")?.parse();
    let mut sender = Sender::new(parsed.map_err(|error| format!("its sender {error}"))?);
    // Exim takes any octets, and does not say which they are.
    sender.body = BodyKind::EightBitMime;
    let time = lines.next()?;
    let seconds = time
        .split(' ')
        .next()
        .and_then(|word| word.parse::<i64>().ok());
    let mut millis = seconds.ok_or("its time is none")?.saturating_mul(1000);
    let mut held = false;
    let mut line = lines.next()?;
    // A second hyphen marks what came from outside.
    while let Some(option) = line.strip_prefix('-') {
        let option = option.strip_prefix('-').unwrap_or(option);
        let (word, value) = option.split_once(' ').unwrap_or((option, ""));
        match word {
            "received_time_usec" => {
                let micros = value.trim_start_matches('.').parse::<i64>().unwrap_or(0);
                millis = millis.saturating_add(micros / 1000);
            }
            "frozen" => held = true,
            "spool_file_wireformat" => {
                let why = "its body is stored as it came (spool_wireformat), which is not read";
                return Err(why.to_owned());
            }
            "smtputf8" => sender.smtputf8 = true,
            "dsn_envid" if !value.is_empty() => sender.envid = Some(value.into()),
            "dsn_ret" => {
                sender.ret = match value {
                    RET_FULL => Some(Ret::Full),
                    RET_HEADERS => Some(Ret::Headers),
                    _ => None,
                };
            }
            // A value of so many octets follows, which may hold line ends.
            "acl" | "aclc" | "aclm" => {
                let octets = value.rsplit(' ').next().and_then(|word| word.parse().ok());
                lines.skip(octets.ok_or("the length of a variable is none")?)?;
            }
            _ => {}
        }
        line = lines.next()?;
    }
    let done = tree(line, &mut lines)?;
    let count = lines.next()?.trim().parse::<usize>();
    let count = count.map_err(|_| "the number of its recipients is none")?;
    if count > RECIPIENTS_MAX {
        return Err("it has too many recipients".to_owned());
    }
    let mut recipients = Vec::new();
    for _ in 0..count {
        recipients.push(recipient(lines.next()?)?);
    }
    if !lines.next()?.is_empty() {
        return Err("it has more recipients than it says".to_owned());
    }
    Ok(Head {
        sender,
        arrival: millis,
        held,
        done,
        recipients,
        header_at: octets.len() - lines.rest.len(),
    })
}

/// `None`: everybody has got it.
fn message(path: &Path) -> Result<Option<Found>, String> {
    let octets = read(path).map_err(|error| error.to_string())?;
    let mut head = head(path, &octets)?;
    let journal = beside(path, 'J');
    if journal.exists() {
        let text = fs::read_to_string(&journal).map_err(|error| error.to_string())?;
        let lines = text.lines().map(|line| line.trim().to_ascii_lowercase());
        head.done.extend(lines);
    }
    let all = head.recipients.len();
    let done = &head.done;
    head.recipients.retain(|recipient| {
        let address = recipient.forward_path.as_str().to_ascii_lowercase();
        !done.contains(&address)
    });
    if head.recipients.is_empty() {
        return Ok(None);
    }
    // That it can be read is known before anything is sent.
    open_text(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let id = name.strip_suffix("-H").unwrap_or(&name);
    Ok(Some(Found {
        path: path.to_owned(),
        key: format!("exim {id} {}", head.arrival),
        arrival: Some(WallTime::from_millis(head.arrival)),
        done: (all - head.recipients.len()) as u64,
        envelope: Envelope {
            sender: head.sender,
            recipients: head.recipients,
        },
        held: head.held,
        open: open_text,
    }))
}

/// Who has got it: a node a line, before it whether there is more to its left and right.
fn tree(first: &str, lines: &mut Lines<'_>) -> Result<BTreeSet<String>, String> {
    let mut done = BTreeSet::new();
    if first == "XX" {
        return Ok(done);
    }
    let mut line = first;
    let mut to_come = 1_usize;
    loop {
        let (flags, address) = line
            .split_once(' ')
            .ok_or("its tree has a node without a name")?;
        if flags.len() != 2 || flags.bytes().any(|b| !matches!(b, b'Y' | b'N')) {
            return Err("its tree has a node without flags".to_owned());
        }
        if done.len() > RECIPIENTS_MAX {
            return Err("its tree is too large".to_owned());
        }
        done.insert(address.to_ascii_lowercase());
        to_come = to_come - 1 + flags.bytes().filter(|b| *b == b'Y').count();
        if to_come == 0 {
            return Ok(done);
        }
        line = lines.next()?;
    }
}

/// An address, and behind it, if its end says so, where errors go and what DSN said:
/// `ADDRESS ORCPT LENGTH,FLAGS ERRORS-TO LENGTH,NUMBER#3`.
fn recipient(line: &str) -> Result<Recipient, String> {
    let whole = |address: &str| {
        let parsed = address.parse();
        parsed
            .map(Recipient::new)
            .map_err(|error| format!("a recipient {error}"))
    };
    let Some((rest, kinds)) = line.rsplit_once('#') else {
        return whole(line);
    };
    let Ok(kinds) = kinds.parse::<u32>() else {
        return whole(line);
    };
    let odd = || "a recipient's line is odd".to_owned();
    // "LENGTH,X" at the end, and a text of that length before it.
    let part = |text: &str| -> Option<(String, String, u32)> {
        let (text, last) = text.rsplit_once(' ')?;
        let (length, flags) = last.split_once(',')?;
        let at = text.len().checked_sub(length.parse().ok()?)?;
        let (before, value) = (text.get(..at)?, text.get(at..)?);
        // A parent's number may be less than nought.
        let flags = flags.parse().unwrap_or(0);
        Some((before.trim_end().to_owned(), value.to_owned(), flags))
    };
    let mut rest = rest.to_owned();
    if kinds & 1 != 0 {
        (rest, _, _) = part(&rest).ok_or_else(odd)?;
    }
    let mut dsn = None;
    if kinds & 2 != 0 {
        let (before, orcpt, flags) = part(&rest).ok_or_else(odd)?;
        rest = before;
        dsn = Some((orcpt, flags));
    }
    let mut recipient = whole(&rest)?;
    if let Some((orcpt, flags)) = dsn {
        recipient.orcpt = Some(orcpt.into_boxed_str()).filter(|orcpt| !orcpt.is_empty());
        recipient.notify = if flags & NEVER != 0 {
            Notify::Never
        } else if flags & (SUCCESS | FAILURE | DELAY) != 0 {
            Notify::On {
                success: flags & SUCCESS != 0,
                failure: flags & FAILURE != 0,
                delay: flags & DELAY != 0,
            }
        } else {
            Notify::Unspecified
        };
    }
    Ok(recipient)
}

/// The header section out of the `-H` file, and then the body out of the `-D` file.
fn open_text(path: &Path) -> Result<Box<dyn Read>, String> {
    let octets = read(path).map_err(|error| error.to_string())?;
    let header_at = head(path, &octets)?.header_at;
    let text = || -> io::Result<Box<dyn Read>> {
        let cut = || io::Error::other("its header section is cut");
        let mut rest = &octets[header_at..];
        let mut header = Vec::new();
        while let Some(&first) = rest.first() {
            if !first.is_ascii_digit() {
                return Err(io::Error::other("a field has no length"));
            }
            let digits = rest
                .iter()
                .take_while(|octet| octet.is_ascii_digit())
                .count();
            let length = std::str::from_utf8(&rest[..digits])
                .ok()
                .and_then(|d| d.parse().ok());
            let length: usize = length.ok_or_else(cut)?;
            let flag = *rest.get(digits).ok_or_else(cut)?;
            let begin = digits + 2;
            let end = begin.checked_add(length).ok_or_else(cut)?;
            let field = rest.get(begin..end).ok_or_else(cut)?;
            // A star: it was taken out, or replaced.
            if flag != b'*' {
                header.extend_from_slice(field);
            }
            rest = &rest[end..];
        }
        header.push(b'\n');
        let mut body = BufReader::new(File::open(beside(path, 'D'))?);
        // Its name.
        let mut name = Vec::new();
        Read::take(&mut body, 200).read_until(b'\n', &mut name)?;
        Ok(Box::new(Cursor::new(header).chain(body)))
    };
    text().map_err(|error| format!("its text cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients() {
        let check = |line: &str, address: &str, orcpt: Option<&str>, notify: Notify| {
            let got = recipient(line).unwrap();
            assert_eq!(got.forward_path.as_str(), address, "{line}");
            assert_eq!(got.orcpt.as_deref(), orcpt, "{line}");
            assert_eq!(got.notify, notify, "{line}");
        };
        let none = Notify::Unspecified;
        check("a@b.example", "a@b.example", None, none);
        check("a@b.example  0,-1#1", "a@b.example", None, none);
        check("a@b.example e@f.example 11,0#1", "a@b.example", None, none);
        check(
            "a@b.example  0,2  0,-1#3",
            "a@b.example",
            None,
            Notify::Never,
        );
        check(
            "a@b.example rfc822;a@b.example 18,24  0,-1#3",
            "a@b.example",
            Some("rfc822;a@b.example"),
            Notify::On {
                success: false,
                failure: true,
                delay: true,
            },
        );
        assert!(recipient("a@b.example 99,1#1").is_err());
        assert!(recipient("a b").is_err());
    }

    #[test]
    fn trees() {
        let check = |text: &str, expected: &[&str], rest: &str| {
            let mut lines = Lines {
                rest: text.as_bytes(),
            };
            let first = lines.next().unwrap();
            let done = tree(first, &mut lines).unwrap();
            assert_eq!(
                done.iter().map(String::as_str).collect::<Vec<_>>(),
                expected
            );
            assert_eq!(lines.rest, rest.as_bytes());
        };
        check("XX\n1\n", &[], "1\n");
        check("NN A@b.example\n1\n", &["a@b.example"], "1\n");
        check("YY b\nNN a\nNY c\nNN d\n1\n", &["a", "b", "c", "d"], "1\n");
        let mut lines = Lines { rest: b"" };
        assert!(tree("YN a", &mut lines).is_err());
        assert!(tree("ZZ a", &mut lines).is_err());
    }
}
