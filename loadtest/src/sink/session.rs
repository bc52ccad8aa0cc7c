//! The sink's side of a session, as a machine: a server that takes everything,
//! looks whether it came whole, forgets it, and misbehaves by rule.
//!
//! It is liberal about syntax (it is no test of clients' grammar), but strict
//! about order: a client that pipelines wrongly gets 503 and is counted.

use std::time::{Duration, Instant};

use memchr::{memchr, memmem};

use super::dots::{Dots, finder};
use super::rule::{Answer, Rules, Stage};
use super::tally::SinkTally;
use crate::message::Check;

/// A command line: RFC 5321 §4.5.3.1.4 says 512, extensions add a few hundred,
/// AUTH asks for 12,288 (RFC 4954 §4).
const COMMAND_BYTES_MAX: usize = 12 * 1024;
/// Recipients of a transaction that get a reply each in LMTP.
const RECIPIENTS_MAX: usize = 10_000;

/// The reply to what needs no words.
const OK: &[u8] = b"250 2.0.0 OK\r\n";

/// What kind of server the sink is.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    /// A reply for each recipient after the end of data (RFC 2033).
    pub(crate) lmtp: bool,
    pub(crate) greeting: Vec<u8>,
    pub(crate) ehlo_reply: Vec<u8>,
    pub(crate) helo_reply: Vec<u8>,
    pub(crate) chunking: bool,
    pub(crate) starttls: bool,
    pub(crate) finder: memmem::Finder<'static>,
}

impl Manner {
    /// `keywords` are those of EHLO, `name` the server's.
    pub(crate) fn new(lmtp: bool, name: &str, keywords: &[String]) -> Self {
        let protocol = if lmtp { "LMTP" } else { "ESMTP" };
        let lines = [name.to_owned()]
            .into_iter()
            .chain(keywords.iter().cloned());
        let lines: Vec<String> = lines.collect();
        let mut ehlo_reply = String::new();
        for (number, line) in lines.iter().enumerate() {
            let mark = if number + 1 == lines.len() { ' ' } else { '-' };
            ehlo_reply += &format!("250{mark}{line}\r\n");
        }
        Self {
            lmtp,
            greeting: format!("220 {name} {protocol} loadtest sink\r\n").into_bytes(),
            ehlo_reply: ehlo_reply.into_bytes(),
            helo_reply: format!("250 {name}\r\n").into_bytes(),
            chunking: keywords
                .iter()
                .any(|keyword| keyword.eq_ignore_ascii_case("CHUNKING")),
            starttls: keywords
                .iter()
                .any(|keyword| keyword.eq_ignore_ascii_case("STARTTLS")),
            finder: finder(),
        }
    }
}

/// How the connection goes on after input was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Onward {
    /// Send what is in `out`, receive more.
    Receive,
    /// Send what is in `out`, and call [`SinkSession::resume`] at this time;
    /// receive nothing until then.
    ResumeAt(Instant),
    /// Send what is in `out`, then close.
    Close,
    /// Close at once with RST.
    Reset,
    /// Send what is in `out`; what comes then is TLS.
    StartTls,
}

enum Reading {
    Commands,
    Content(Dots),
    Chunk { left: u64, last: bool },
}

pub(crate) struct SinkSession {
    reading: Reading,
    /// A command line that has not come whole.
    partial: Vec<u8>,
    transaction: Option<Transaction>,
    /// A chunk came before: DATA is out of order (RFC 3030 §2).
    check: Check,
    /// The reply that a delay holds back, and the input behind it.
    held_reply: Vec<u8>,
    held_input: Vec<u8>,
    held_end: Option<Onward>,
    silent: bool,
}

#[derive(Default)]
struct Transaction {
    recipients: usize,
    chunks: bool,
}

/// All that a session needs of its thread.
pub(crate) struct Surroundings<'a> {
    pub(crate) manner: &'a Manner,
    pub(crate) rules: &'a mut Rules,
    pub(crate) tally: &'a mut SinkTally,
}

impl SinkSession {
    /// A new connection; its greeting goes to `out`.
    pub(crate) fn new(
        now: Instant,
        around: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> (Self, Onward) {
        let mut session = Self {
            reading: Reading::Commands,
            partial: Vec::new(),
            transaction: None,
            check: Check::default(),
            held_reply: Vec::new(),
            held_input: Vec::new(),
            held_end: None,
            silent: false,
        };
        around.tally.connections += 1;
        let greeting = &around.manner.greeting;
        let onward = session.answer(now, Stage::Connect, b"", greeting, around, out);
        (session, onward.unwrap_or(Onward::Receive))
    }

    /// Octets from the client.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        input: &[u8],
        around: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Onward {
        around.tally.receives += 1;
        around.tally.received_bytes += input.len() as u64;
        if self.silent {
            return Onward::Receive;
        }
        self.take(now, input, around, out)
    }

    /// The time of [`Onward::ResumeAt`] has come.
    pub(crate) fn resume(
        &mut self,
        now: Instant,
        around: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Onward {
        out.append(&mut self.held_reply);
        if let Some(end) = self.held_end.take() {
            return end;
        }
        let input = std::mem::take(&mut self.held_input);
        self.take(now, &input, around, out)
    }

    fn take(
        &mut self,
        now: Instant,
        mut input: &[u8],
        around: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Onward {
        while !input.is_empty() && !self.silent {
            let onward = match &mut self.reading {
                Reading::Commands => {
                    let Some(at) = memchr(b'\n', input) else {
                        self.partial.extend_from_slice(input);
                        if self.partial.len() > COMMAND_BYTES_MAX {
                            out.extend_from_slice(b"500 5.5.2 Line too long\r\n");
                            return Onward::Close;
                        }
                        return Onward::Receive;
                    };
                    let (line, rest) = input.split_at(at + 1);
                    input = rest;
                    if self.partial.is_empty() {
                        self.command(now, line, around, out)
                    } else {
                        let mut whole = std::mem::take(&mut self.partial);
                        whole.extend_from_slice(line);
                        let onward = self.command(now, &whole, around, out);
                        whole.clear();
                        self.partial = whole;
                        onward
                    }
                }
                Reading::Content(dots) => {
                    let check = &mut self.check;
                    let end = dots.feed(input, &around.manner.finder, |piece| check.feed(piece));
                    let Some(consumed) = end else {
                        return Onward::Receive;
                    };
                    input = &input[consumed..];
                    self.end_of_content(now, around, out)
                }
                Reading::Chunk { left, last } => {
                    let taken = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(input.len());
                    if self.transaction.is_some() {
                        self.check.feed(&input[..taken]);
                    }
                    input = &input[taken..];
                    *left -= taken as u64;
                    if *left > 0 {
                        return Onward::Receive;
                    }
                    let last = *last;
                    self.end_of_chunk(now, last, around, out)
                }
            };
            match onward {
                None | Some(Onward::Receive) => {}
                Some(onward) => {
                    self.held_input.extend_from_slice(input);
                    return onward;
                }
            }
        }
        Onward::Receive
    }

    fn command(
        &mut self,
        now: Instant,
        line: &[u8],
        around: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Onward> {
        let line = line.trim_ascii();
        let split = memchr(b' ', line).unwrap_or(line.len());
        let (verb, argument) = (&line[..split], line[split..].trim_ascii());
        around.tally.commands += 1;
        let is = |name: &[u8]| verb.eq_ignore_ascii_case(name);
        if is(b"MAIL") {
            let path = path(argument);
            if self.transaction.is_some() {
                return self.out_of_order(around, out);
            }
            let answer = self.answer(now, Stage::Mail, path, b"250 2.1.0 OK\r\n", around, out);
            if self.last_reply_positive(out) {
                self.transaction = Some(Transaction::default());
            }
            answer
        } else if is(b"RCPT") {
            let path = path(argument);
            match &self.transaction {
                None => return self.out_of_order(around, out),
                Some(transaction) if transaction.recipients >= RECIPIENTS_MAX => {
                    out.extend_from_slice(b"452 4.5.3 Too many recipients\r\n");
                    return None;
                }
                Some(_) => {}
            }
            let answer = self.answer(now, Stage::Rcpt, path, b"250 2.1.5 OK\r\n", around, out);
            if self.last_reply_positive(out)
                && let Some(transaction) = &mut self.transaction
            {
                transaction.recipients += 1;
            }
            answer
        } else if is(b"DATA") {
            match &self.transaction {
                Some(transaction) if transaction.recipients > 0 && !transaction.chunks => {}
                _ => return self.out_of_order(around, out),
            }
            let before = out.len();
            let answer = self.answer(now, Stage::Data, b"", b"354 Go on\r\n", around, out);
            if out[before..].starts_with(b"354") || self.held_reply.starts_with(b"354") {
                self.reading = Reading::Content(Dots::default());
            }
            answer
        } else if is(b"BDAT") && around.manner.chunking {
            self.chunk(now, argument, around, out)
        } else if is(b"EHLO") || is(b"LHLO") {
            self.transaction = None;
            let reply = &around.manner.ehlo_reply;
            self.answer(now, Stage::Ehlo, argument, reply, around, out)
        } else if is(b"HELO") {
            self.transaction = None;
            let reply = &around.manner.helo_reply;
            self.answer(now, Stage::Ehlo, argument, reply, around, out)
        } else if is(b"RSET") {
            self.transaction = None;
            self.check = Check::default();
            out.extend_from_slice(OK);
            None
        } else if is(b"STARTTLS") && around.manner.starttls {
            self.transaction = None;
            out.extend_from_slice(b"220 2.0.0 Go ahead\r\n");
            Some(Onward::StartTls)
        } else if is(b"NOOP") {
            out.extend_from_slice(OK);
            None
        } else if is(b"ETRN") {
            self.answer(
                now,
                Stage::Etrn,
                argument,
                b"251 2.0.0 Nothing waits\r\n",
                around,
                out,
            )
        } else if is(b"QUIT") {
            let reply = b"221 2.0.0 Bye\r\n";
            match self.answer(now, Stage::Quit, b"", reply, around, out) {
                None => Some(Onward::Close),
                Some(Onward::ResumeAt(time)) => {
                    self.held_end = Some(Onward::Close);
                    Some(Onward::ResumeAt(time))
                }
                other => other,
            }
        } else {
            around.tally.unknown_commands += 1;
            out.extend_from_slice(b"500 5.5.1 Unknown command\r\n");
            None
        }
    }

    fn chunk(
        &mut self,
        now: Instant,
        argument: &[u8],
        around: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Onward> {
        let mut words = argument
            .split(|octet| *octet == b' ')
            .filter(|word| !word.is_empty());
        let size = words
            .next()
            .and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
        let last = words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case(b"LAST"));
        let Some(left) = size else {
            // Where the next command begins is unknown now.
            out.extend_from_slice(b"501 5.5.4 BDAT size [LAST]\r\n");
            return Some(Onward::Close);
        };
        // Without a recipient the octets come all the same (RFC 3030 §2).
        if self
            .transaction
            .as_ref()
            .is_some_and(|transaction| transaction.recipients == 0)
        {
            self.transaction = None;
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.chunks = true;
        }
        self.reading = Reading::Chunk { left, last };
        if left == 0 {
            self.end_of_chunk(now, last, around, out)
        } else {
            None
        }
    }

    fn end_of_chunk(
        &mut self,
        now: Instant,
        last: bool,
        around: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Onward> {
        self.reading = Reading::Commands;
        if self.transaction.is_none() {
            return self.out_of_order(around, out);
        }
        if last {
            return self.end_of_content(now, around, out);
        }
        out.extend_from_slice(OK);
        None
    }

    fn end_of_content(
        &mut self,
        now: Instant,
        around: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Onward> {
        self.reading = Reading::Commands;
        let verdict = self.check.end();
        let recipients = self
            .transaction
            .take()
            .map_or(0, |transaction| transaction.recipients);
        let replies = if around.manner.lmtp { recipients } else { 1 };
        let several;
        let reply: &[u8] = if replies == 1 {
            OK
        } else {
            several = OK.repeat(replies);
            &several
        };
        let ruling = around.rules.at(Stage::Content, b"");
        let accepted = match &ruling.answer {
            None => true,
            Some(Answer::Reply(reply)) => reply.starts_with('2'),
            // Taken, but the client never learns it: it has to send it again.
            Some(Answer::Close | Answer::Reset | Answer::Silent) => false,
        };
        if accepted {
            around.tally.delivered(now, verdict, recipients);
        } else {
            around.tally.refused_by_rule += 1;
        }
        self.rule(now, ruling, reply, replies, around, out)
    }

    /// The usual `reply`, or what the rules say.
    fn answer(
        &mut self,
        now: Instant,
        stage: Stage,
        argument: &[u8],
        reply: &[u8],
        around: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Onward> {
        let ruling = around.rules.at(stage, argument);
        self.rule(now, ruling, reply, 1, around, out)
    }

    fn rule(
        &mut self,
        now: Instant,
        ruling: super::rule::Ruling,
        reply: &[u8],
        replies: usize,
        around: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Onward> {
        let mut end = None;
        let target = if ruling.delay > Duration::ZERO {
            &mut self.held_reply
        } else {
            out
        };
        match ruling.answer {
            None => target.extend_from_slice(reply),
            Some(answer) => {
                around.tally.rules_applied += 1;
                match answer {
                    Answer::Reply(line) => {
                        for _ in 0..replies {
                            target.extend_from_slice(line.as_bytes());
                        }
                        if line.starts_with("421") {
                            end = Some(Onward::Close);
                        }
                    }
                    Answer::Close => end = Some(Onward::Close),
                    Answer::Reset => end = Some(Onward::Reset),
                    Answer::Silent => self.silent = true,
                }
            }
        }
        if ruling.delay > Duration::ZERO {
            self.held_end = end;
            return Some(Onward::ResumeAt(now + ruling.delay));
        }
        end
    }

    fn out_of_order(&mut self, around: &mut Surroundings<'_>, out: &mut Vec<u8>) -> Option<Onward> {
        around.tally.out_of_order += 1;
        out.extend_from_slice(b"503 5.5.1 Out of order\r\n");
        None
    }

    /// Whether the reply just made, held back or not, is a 2xx.
    fn last_reply_positive(&self, out: &[u8]) -> bool {
        let replies = if self.held_reply.is_empty() {
            out
        } else {
            &self.held_reply
        };
        let Some(text) = replies.strip_suffix(b"\r\n") else {
            return false;
        };
        let line = memmem::rfind(text, b"\r\n").map_or(text, |at| &text[at + 2..]);
        line.starts_with(b"2")
    }
}

/// What is between the angle brackets of `FROM:<path>` and `TO:<path>`.
fn path(argument: &[u8]) -> &[u8] {
    let from = memchr(b'<', argument).map_or(0, |at| at + 1);
    let to = memchr(b'>', argument).unwrap_or(argument.len());
    argument.get(from..to).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::MessageClock;
    use crate::sink::rule::Rule;

    /// Plays inputs, whole and octet by octet; `!` marks a closed connection,
    /// `~` a delay.
    fn check(rules: &[&str], lmtp: bool, script: &[(&str, &str)]) {
        for whole in [true, false] {
            let now = Instant::now();
            let manner = Manner::new(lmtp, "s", &["CHUNKING".to_owned(), "SIZE".to_owned()]);
            let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
            let mut rules = Rules::new(&rules, 1);
            let mut tally = SinkTally::new(now, MessageClock::new(now, 0));
            let mut around = Surroundings {
                manner: &manner,
                rules: &mut rules,
                tally: &mut tally,
            };
            let mut out = Vec::new();
            let (mut session, _) = SinkSession::new(now, &mut around, &mut out);
            for (input, expected) in script {
                let mut said = String::new();
                let pieces: Vec<&[u8]> = if whole {
                    vec![input.as_bytes()]
                } else {
                    input.as_bytes().chunks(1).collect()
                };
                for piece in pieces {
                    let mut onward = session.receive(now, piece, &mut around, &mut out);
                    while let Onward::ResumeAt(_) = onward {
                        said += &codes(&std::mem::take(&mut out));
                        said += " ~";
                        onward = session.resume(now, &mut around, &mut out);
                    }
                    said += &codes(&std::mem::take(&mut out));
                    if matches!(onward, Onward::Close | Onward::Reset) {
                        said += " !";
                        break;
                    }
                }
                let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
                assert_eq!(said, *expected, "to {input:?}, whole {whole}");
            }
        }
    }

    /// Only the codes of replies.
    fn codes(replies: &[u8]) -> String {
        let lines = std::str::from_utf8(replies).unwrap().lines();
        lines
            .map(|line| format!(" {}", &line[..4.min(line.len())]))
            .collect()
    }

    #[test]
    fn transactions() {
        check(
            &[],
            false,
            &[
                ("EHLO x\r\n", "220 250- 250- 250"),
                ("RCPT TO:<a>\r\nDATA\r\n", "503 503"),
                ("MAIL FROM:<>\r\nMAIL FROM:<>\r\n", "250 503"),
                ("DATA\r\nRCPT TO:<a>\r\nDATA\r\n", "503 250 354"),
                ("x\r\n..y\r\n.\r\nNOOP\r\n", "250 250"),
                ("MAIL FROM:<>\r\nRSET\r\nRCPT TO:<a>\r\n", "250 250 503"),
                ("WHAT\r\nQUIT\r\n", "500 221 !"),
            ],
        );
    }

    #[test]
    fn chunks() {
        check(
            &[],
            false,
            &[
                ("BDAT 2\r\nab", "220 503"),
                ("MAIL FROM:<>\r\nBDAT 3 LAST\r\nabc", "250 503"),
                (
                    "MAIL FROM:<>\r\nRCPT TO:<a>\r\nBDAT 2\r\na\r",
                    "250 250 250",
                ),
                ("DATA\r\nBDAT 0 LAST\r\nBDAT x\r\n", "503 250 501 !"),
            ],
        );
    }

    #[test]
    fn lmtp_replies_for_each_recipient() {
        check(
            &["rcpt ~ b* 550", "content after 1 452"],
            true,
            &[
                ("LHLO x\r\nMAIL FROM:<>\r\n", "220 250- 250- 250 250"),
                (
                    "RCPT TO:<a>\r\nRCPT TO:<b>\r\nRCPT TO:<c>\r\n",
                    "250 550 250",
                ),
                ("DATA\r\n.\r\n", "354 250 250"),
                (
                    "MAIL FROM:<>\r\nRCPT TO:<a>\r\nRCPT TO:<c>\r\nDATA\r\n.\r\n",
                    "250 250 250 354 452 452",
                ),
            ],
        );
    }

    #[test]
    fn delays_keep_the_order() {
        check(
            &[
                "mail delay 1s",
                "data delay 1s",
                "quit delay 1s",
                "rcpt ~ x delay 1s",
                "rcpt ~ x 421",
            ],
            false,
            &[
                (
                    "MAIL FROM:<>\r\nRCPT TO:<a>\r\nDATA\r\n.\r\nNOOP\r\n",
                    "220 ~ 250 250 ~ 354 250 250",
                ),
                ("NOOP\r\nQUIT\r\n", "250 ~ 221 !"),
            ],
        );
        check(
            &[
                "mail delay 1s",
                "rcpt ~ x delay 1s",
                "rcpt ~ x 421",
                "rcpt ~ y close",
            ],
            false,
            &[(
                "MAIL FROM:<>\r\nRCPT TO:<x>\r\nNOOP\r\n",
                "220 ~ 250 ~ 421 !",
            )],
        );
        check(
            &["rcpt ~ y close"],
            false,
            &[("MAIL FROM:<>\r\nRCPT TO:<y>\r\nNOOP\r\n", "220 250 !")],
        );
    }
}
