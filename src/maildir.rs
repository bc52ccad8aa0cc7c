//! A Maildir as a next hop: which directory, which file name, which text.
//!
//! Pure: nothing here touches a file. `runtime/maildir` does, in the order that makes a
//! message safe: written under `tmp/`, synced, linked into `new/`, the directory synced.
//!
//! Contract:
//! - *No path of a peer's.* Only a local-part of letters, digits and `. _ + - =` that
//!   does not begin with a dot becomes part of a path, as one component, in lower case;
//!   likewise a domain. All others have no mailbox.
//! - *One file for each mailbox.* Recipients of a message who share a directory share a
//!   file, with a `Delivered-To` for each: nobody reads the same message twice.
//! - *A name for each message and mailbox, the same at each try.* After a crash between
//!   the link and the done record the next try finds its own file, and no second one
//!   comes to be; unless a mail reader has moved it from `new/` meanwhile.
//! - The text has LF line ends and no doubled dots, as mail readers want it.
//!
//! What it does not do: it makes no mailbox, and knows no quota and no folder.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::mail::{Address, BodyForm, Domain, QueueId, RecipientIndex, ReversePath};
use crate::time::WallTime;

/// Stands for the local-part of a recipient in the path of a route.
pub const LOCAL_PART: &str = "{local}";
/// Stands for the domain of a recipient in the path of a route.
pub const DOMAIN: &str = "{domain}";

/// The recipient's address cannot be a part of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no mailbox can have this name")]
pub struct NoMailbox;

/// The directory for a recipient: `path` with what stands in braces filled in.
///
/// # Errors
/// The address cannot be a part of a path.
pub fn directory(path: &Path, recipient: &Address) -> Result<PathBuf, NoMailbox> {
    let Some(text) = path.to_str().filter(|text| text.contains('{')) else {
        return Ok(path.to_owned());
    };
    let mut text = text.to_owned();
    for (word, value) in [
        (LOCAL_PART, recipient.local_part()),
        (DOMAIN, recipient.domain_str()),
    ] {
        if text.contains(word) {
            text = text.replace(word, &component(value)?);
        }
    }
    Ok(text.into())
}

fn component(text: &str) -> Result<String, NoMailbox> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-=".contains(&byte);
    if text.is_empty() || text.starts_with('.') || !text.bytes().all(plain) {
        return Err(NoMailbox);
    }
    Ok(text.to_ascii_lowercase())
}

/// The name of the file: seconds, a part that is ours alone, the host. `first` is the
/// first of the recipients who share the mailbox.
#[must_use]
pub fn file_name(
    arrival: WallTime,
    queue_id: QueueId,
    first: RecipientIndex,
    host: &Domain,
) -> String {
    let millis = arrival.as_millis().max(0);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let mut name = format!("{seconds}.M{millis}Q{queue_id}R{}.", first.0);
    for c in host.as_str().chars() {
        // A slash ends a name, and a colon begins the flags of a mail reader.
        match c {
            '/' | ':' => write!(name, "\\{:03o}", u32::from(c)).expect("a String takes it"),
            c => name.push(c),
        }
    }
    name
}

/// The lines on top of the text: what the envelope said.
#[must_use]
pub fn header<'a>(
    reverse_path: &ReversePath,
    recipients: impl IntoIterator<Item = &'a Address>,
) -> Vec<u8> {
    let mut text = format!("Return-Path: {reverse_path}\n");
    for recipient in recipients {
        writeln!(text, "Delivered-To: {recipient}").expect("a String takes it");
    }
    text.into_bytes()
}

/// Where in the text the last octet left us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    LineStart,
    Inside,
    /// Behind a CR that is not yet written.
    AfterCr,
}

/// Makes of a stored body what a file of a mailbox holds, over any cut of the octets.
#[derive(Clone, Debug)]
pub struct Text {
    form: BodyForm,
    place: Place,
}

impl Text {
    /// Of a body in this form.
    #[must_use]
    pub const fn new(form: BodyForm) -> Self {
        Self {
            form,
            place: Place::LineStart,
        }
    }

    /// Appends to `out` what these octets become: at most one more than there are.
    pub fn feed(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = octets.first() {
            match self.place {
                Place::LineStart => {
                    self.place = Place::Inside;
                    if first == b'.' && self.form == BodyForm::Stuffed {
                        octets = &octets[1..];
                    }
                    continue;
                }
                Place::AfterCr if first != b'\n' => out.push(b'\r'),
                Place::AfterCr | Place::Inside => {}
            }
            let end = memchr::memchr(b'\n', octets);
            let line = &octets[..end.unwrap_or(octets.len())];
            octets = &octets[end.map_or(octets.len(), |end| end + 1)..];
            match (line.strip_suffix(b"\r"), end) {
                (Some(line), Some(_)) => out.extend_from_slice(line),
                (Some(line), None) => {
                    out.extend_from_slice(line);
                    self.place = Place::AfterCr;
                    return;
                }
                (None, _) => out.extend_from_slice(line),
            }
            self.place = Place::Inside;
            if end.is_some() {
                out.push(b'\n');
                self.place = Place::LineStart;
            }
        }
    }

    /// Ends the last line, if it is not.
    pub fn finish(self, out: &mut Vec<u8>) {
        match self.place {
            Place::LineStart => {}
            Place::Inside => out.push(b'\n'),
            Place::AfterCr => out.extend_from_slice(b"\r\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories() {
        let check = |path: &str, recipient: &str, expected: Option<&str>| {
            let got = directory(Path::new(path), &recipient.parse().expect("an address"));
            let expected = expected.map(PathBuf::from).ok_or(NoMailbox);
            assert_eq!(got, expected, "{path} {recipient}");
        };
        check("/m", "\"../x\"@b.example", Some("/m"));
        check("/m/{local}", "Joe@b.example", Some("/m/joe"));
        check(
            "/m/{local}",
            "joe+x=y-z_1@b.example",
            Some("/m/joe+x=y-z_1"),
        );
        check(
            "/m/{domain}/{local}/d",
            "a.b@B.example",
            Some("/m/b.example/a.b/d"),
        );
        check("/m/{domain}", "\"../x\"@b.example", Some("/m/b.example"));
        for local in [
            "..", ".a", "a/b", "\"a b\"", "\"..\"", "~a", "a*", "ä", "{domain}",
        ] {
            check("/m/{local}/{domain}", &format!("{local}@b.example"), None);
        }
        check("/m/{domain}", "a@[192.0.2.1]", None);
        check("/m/{domain}", "a@[IPv6:::1]", None);
    }

    #[test]
    fn names_and_headers() {
        let arrival = WallTime::from_millis(1_795_305_600_042);
        let host = |text: &str| text.parse::<Domain>().expect("a domain");
        let name = |host_text| {
            file_name(
                arrival,
                QueueId::new(0, 7),
                RecipientIndex(3),
                &host(host_text),
            )
        };
        assert_eq!(
            name("mx.example"),
            "1795305600.M42Q0000000000007R3.mx.example"
        );
        assert!(name("[IPv6:::1]").ends_with(".[ipv6\\072\\072\\0721]"));
        let addresses: Vec<Address> = ["a@b.example", "c@b.example"]
            .map(|text| text.parse().expect("an address"))
            .into();
        assert_eq!(
            header(&ReversePath::Null, &addresses),
            b"Return-Path: <>\nDelivered-To: a@b.example\nDelivered-To: c@b.example\n"
        );
    }

    /// Everything over {CR, LF, '.', 'a'} to length six, in all cuts in two, against
    /// what is obvious on the whole text.
    #[test]
    fn text_is_the_same_in_all_cuts() {
        let obvious = |text: &[u8], form: BodyForm| {
            let text = String::from_utf8(text.to_vec()).expect("ASCII");
            let mut out = String::new();
            for line in text.split_inclusive('\n') {
                let line = match form {
                    BodyForm::Stuffed => line.strip_prefix('.').unwrap_or(line),
                    BodyForm::Plain | BodyForm::Raw => line,
                };
                match (line.strip_suffix("\r\n"), line.ends_with('\n')) {
                    (Some(line), _) => out.extend([line, "\n"]),
                    (None, true) => out.push_str(line),
                    (None, false) => out.extend([line, if line.is_empty() { "" } else { "\n" }]),
                }
            }
            // A dot alone was a line, if an unended one.
            if form == BodyForm::Stuffed && text.rsplit('\n').next() == Some(".") {
                out.push('\n');
            }
            out.into_bytes()
        };
        let alphabet = b"\r\n.a";
        for form in [BodyForm::Stuffed, BodyForm::Raw] {
            for length in 0..=6u32 {
                for mut number in 0..4usize.pow(length) {
                    let mut text = Vec::new();
                    for _ in 0..length {
                        text.push(alphabet[number % 4]);
                        number /= 4;
                    }
                    let expected = obvious(&text, form);
                    for cut in 0..=text.len() {
                        let (mut file, mut out) = (Text::new(form), Vec::new());
                        file.feed(&text[..cut], &mut out);
                        file.feed(&text[cut..], &mut out);
                        file.finish(&mut out);
                        assert_eq!(out, expected, "{text:?} cut at {cut}");
                    }
                }
            }
        }
    }
}
