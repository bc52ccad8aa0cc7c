//! What of a POP3 session is shown to the operator who looks closely.
//!
//! Rules:
//! - Commands and status lines as they are; of a login the command and the name of its
//!   mechanism, and what the server says of it in the end. User name, password, digest,
//!   challenge and response are hidden.
//! - Of a message only how many octets it had, header section and all.
//! - Of a listing the first lines: a mailbox may have tens of thousands, and what is done
//!   with the messages is to be seen too.

use crate::wire::transcript::{Spoken, Transcript, lines, shown};

/// Lines of a listing that are shown.
pub(super) const LISTED_MAX: u32 = 20;

/// In the place of a line of an exchange.
const HIDDEN: &str = "(login: hidden)";

/// The lines of a session that were not taken yet.
#[derive(Debug, Default)]
pub(super) struct Record {
    transcript: Transcript,
    /// Lines of the listing that is coming.
    listed: u32,
}

impl Record {
    /// Commands of ours that hold no secret.
    pub(super) fn commands(&mut self, octets: &[u8]) {
        for line in lines(octets) {
            self.transcript.push(true, shown(line));
        }
    }

    /// Lines of ours by which we log in.
    pub(super) fn login(&mut self, octets: &[u8]) {
        for line in lines(octets) {
            // What is no command is base64, which has no space.
            let mut words = line.splitn(3, |octet| *octet == b' ');
            let shown = match (words.next(), words.next()) {
                (Some(b"USER"), Some(_)) => "USER (hidden)".to_owned(),
                (Some(b"PASS"), Some(_)) => "PASS (hidden)".to_owned(),
                (Some(b"APOP"), Some(_)) => "APOP (hidden)".to_owned(),
                (Some(b"AUTH"), Some(mechanism)) => format!("AUTH {} (hidden)", shown(mechanism)),
                _ => HIDDEN.to_owned(),
            };
            self.transcript.push(true, shown);
        }
    }

    /// A line of the server outside of texts and listings.
    pub(super) fn reply(&mut self, line: &[u8]) {
        self.transcript.push(false, shown(line));
    }

    /// A line of the server while we log in.
    pub(super) fn login_reply(&mut self, line: &[u8]) {
        let is = |status: &str| {
            let head = line.get(..status.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(status.as_bytes()))
        };
        if is("+OK") || is("-ERR") {
            self.reply(line);
        } else {
            self.transcript.push(false, HIDDEN.to_owned());
        }
    }

    /// A line of a listing.
    pub(super) fn listed(&mut self, line: &[u8]) {
        self.listed += 1;
        if self.listed <= LISTED_MAX {
            self.reply(line);
        }
    }

    /// The listing is complete.
    pub(super) fn listing_ended(&mut self) {
        let listed = std::mem::take(&mut self.listed);
        if let Some(more) = listed.checked_sub(LISTED_MAX).filter(|&more| more > 0) {
            let more = format!("(and {more} more lines)");
            self.transcript.push(false, more);
        }
        self.reply(b".");
    }

    /// The text of a message is complete.
    pub(super) fn text(&mut self, octets: u64) {
        let text = format!("({octets} octets of message text)");
        self.transcript.push(false, text);
        self.reply(b".");
    }

    /// What was said since the last time.
    pub(super) fn take(&mut self) -> Vec<Spoken> {
        self.transcript.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(say: impl FnOnce(&mut Record), expected: &[&str]) {
        let mut record = Record::default();
        say(&mut record);
        let told: Vec<_> = (record.take().into_iter())
            .map(|said| format!("{} {}", if said.by_us { '>' } else { '<' }, said.line))
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn nothing_of_a_login_is_shown() {
        let hunter =
            |lines: &'static str| move |record: &mut Record| record.login(lines.as_bytes());
        check(
            hunter("USER anna\r\nPASS a secret of words\r\n"),
            &["> USER (hidden)", "> PASS (hidden)"],
        );
        check(
            hunter("APOP anna 0123456789abcdef\r\n"),
            &["> APOP (hidden)"],
        );
        check(hunter("AUTH CRAM-MD5\r\n"), &["> AUTH CRAM-MD5 (hidden)"]);
        check(
            hunter("AUTH PLAIN AGFubmEAc2VjcmV0\r\n"),
            &["> AUTH PLAIN (hidden)"],
        );
        // A response may look like a command.
        check(hunter("PASS\r\n"), &["> (login: hidden)"]);
        check(hunter("\r\n"), &["> (login: hidden)"]);
    }

    #[test]
    fn of_what_a_server_says_to_a_login_only_the_status() {
        let server =
            |line: &'static str| move |record: &mut Record| record.login_reply(line.as_bytes());
        check(server("+OK 3 messages"), &["< +OK 3 messages"]);
        check(server("-err [AUTH] no"), &["< -err [AUTH] no"]);
        check(server("+ PDE4OTY+"), &["< (login: hidden)"]);
        check(server("+"), &["< (login: hidden)"]);
        check(server("you are anna"), &["< (login: hidden)"]);
    }

    #[test]
    fn of_a_listing_the_beginning() {
        let list = |count: u32| {
            move |record: &mut Record| {
                (0..count).for_each(|_| record.listed(b"1 120"));
                record.listing_ended();
            }
        };
        check(list(1), &["< 1 120", "< ."]);
        let mut expected = vec!["< 1 120"; LISTED_MAX as usize];
        expected.push("< .");
        check(list(LISTED_MAX), &expected);
        expected.insert(LISTED_MAX as usize, "< (and 3 more lines)");
        check(list(LISTED_MAX + 3), &expected);
    }

    #[test]
    fn of_a_message_its_size() {
        check(
            |record| {
                record.commands(b"RETR 1\r\nDELE 1\r\n");
                record.reply(b"+OK 120 octets");
                record.text(120);
            },
            &[
                "> RETR 1",
                "> DELE 1",
                "< +OK 120 octets",
                "< (120 octets of message text)",
                "< .",
            ],
        );
    }
}
