//! The generator's side of a session, as a machine: replies go in, commands and
//! messages come out. It relies on its owner for time, octets and work.
//!
//! Invariant: `expected` holds exactly the replies that are under way, in the
//! order in which the server must give them (RFC 2920 §3.2). A reply that
//! nothing waits for is the server's violation and ends the session.
//!
//! Latencies are taken from the moment a command was handed to the socket. In a
//! pipelined group that includes what stands before it in the group.

use std::collections::VecDeque;
use std::time::Instant;

use memchr::memchr;

use crate::dialogue::{Dialogue, Job, Next, Pipelining, Purpose, Work};
use crate::message::Transfer;
use crate::tally::Tally;
use crate::tls::Tls;

/// Reply lines have at most 512 octets (RFC 5321 §4.5.3.1.5); some servers know
/// no measure.
const REPLY_LINE_BYTES_MAX: usize = 8 * 1024;

/// What a session stands still for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// A reply is under way.
    Waits,
    /// Nothing to do, but there may be.
    Idle,
    /// The session is over, in order or not.
    Over,
}

enum Expected {
    Greeting,
    Ehlo,
    StartTls,
    Reset,
    Mail {
        sent: Instant,
    },
    Recipient,
    Data,
    Content {
        job: Job,
        sent: Instant,
    },
    /// To a message that nobody was to receive.
    Void,
    Etrn {
        job: Job,
        sent: Instant,
    },
    Quit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Greeting and EHLO.
    Opening,
    /// Transactions.
    Ready,
    /// QUIT is sent.
    Ending,
}

/// What lies between the session and the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Channel {
    Clear,
    /// STARTTLS was answered by 220: the owner is to begin the handshake.
    Ready,
    Tls,
}

/// A transaction whose content is not sent yet.
struct Opening {
    job: Job,
    /// RCPT commands sent.
    asked: usize,
    recipients_accepted: usize,
    /// The code of the reply that ended its hopes.
    failed: Option<u16>,
}

pub(crate) struct Client {
    purpose: Purpose,
    expected: VecDeque<Expected>,
    opening: Option<Opening>,
    /// The server may still have a transaction that failed: RSET first.
    stale_transaction: bool,
    stage: Stage,
    over: bool,
    /// Transactions begun.
    messages: u64,
    /// Contents sent whose reply is awaited.
    contents_under_way: u64,
    partial: Vec<u8>,
    pipelining_offered: bool,
    chunking_offered: bool,
    etrn_offered: bool,
    starttls_offered: bool,
    channel: Channel,
}

impl Client {
    /// A session on a connection that was just made.
    pub(crate) fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            expected: VecDeque::from([Expected::Greeting]),
            opening: None,
            stale_transaction: false,
            stage: Stage::Opening,
            over: false,
            messages: 0,
            contents_under_way: 0,
            partial: Vec::new(),
            pipelining_offered: false,
            chunking_offered: false,
            etrn_offered: false,
            starttls_offered: false,
            channel: Channel::Clear,
        }
    }

    /// Octets from the server.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        mut bytes: &[u8],
        dialogue: &Dialogue,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) {
        while let Some(at) = memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(at + 1);
            bytes = rest;
            if self.partial.is_empty() {
                self.line(now, line, dialogue, tally, out);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(now, &whole, dialogue, tally, out);
                whole.clear();
                self.partial = whole;
            }
            if self.over {
                return;
            }
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() > REPLY_LINE_BYTES_MAX {
            self.fail(tally, || "a reply line without end".to_owned());
        }
    }

    /// Sends what can be sent now.
    pub(crate) fn pump(
        &mut self,
        now: Instant,
        dialogue: &Dialogue,
        work: &mut impl Work,
        out: &mut Vec<u8>,
    ) -> Standing {
        while self.stage == Stage::Ready && !self.over && self.may_begin(dialogue) {
            let all_sent = dialogue
                .messages_per_session
                .is_some_and(|messages| self.messages >= messages);
            let next = if all_sent {
                Next::Never
            } else {
                work.next(now)
            };
            match next {
                Next::Job(job) => self.begin(now, job, dialogue, out),
                Next::Later => break,
                Next::Never => {
                    self.stage = Stage::Ending;
                    self.expected.push_back(Expected::Quit);
                    out.extend_from_slice(b"QUIT\r\n");
                }
            }
        }
        match (self.over, self.expected.is_empty()) {
            (true, _) => Standing::Over,
            (false, true) => Standing::Idle,
            (false, false) => Standing::Waits,
        }
    }

    /// The connection ended. Counts what it took along.
    pub(crate) fn lost(&mut self, tally: &mut Tally) {
        tally.unanswered += std::mem::take(&mut self.contents_under_way);
        // A server may close instead of answering QUIT; that takes nothing along.
        let only_quit = matches!(self.expected.front(), Some(Expected::Quit));
        if !self.over && self.is_established() && !only_quit {
            tally.connections_lost += 1;
        }
        self.over = true;
    }

    /// Whether the owner is to begin TLS now: true once.
    pub(crate) fn take_start_of_tls(&mut self) -> bool {
        let begins = self.channel == Channel::Ready;
        if begins {
            self.channel = Channel::Tls;
        }
        begins
    }

    /// TLS was begun: what was offered in clear is forgotten (RFC 3207 §4.2).
    pub(crate) fn secured(&mut self, dialogue: &Dialogue, out: &mut Vec<u8>) {
        self.pipelining_offered = false;
        self.chunking_offered = false;
        self.etrn_offered = false;
        out.extend_from_slice(&dialogue.ehlo);
        self.expected.push_back(Expected::Ehlo);
    }

    /// Whether the session got as far as EHLO's reply.
    pub(crate) fn is_established(&self) -> bool {
        self.stage != Stage::Opening
    }

    fn may_begin(&self, dialogue: &Dialogue) -> bool {
        match (self.purpose, dialogue.pipelining, dialogue.transfer) {
            (Purpose::Hold, ..) => false,
            (Purpose::Etrn, ..) | (_, Pipelining::None | Pipelining::Transaction, _) => {
                self.expected.is_empty() && self.opening.is_none()
            }
            (_, Pipelining::Group | Pipelining::Flight(_), Transfer::Data) => {
                self.opening.is_none()
            }
            (_, Pipelining::Group, Transfer::Bdat) => self.contents_under_way < 2,
            (_, Pipelining::Flight(ahead), Transfer::Bdat) => {
                self.contents_under_way < u64::from(ahead)
            }
        }
    }

    fn begin(&mut self, now: Instant, job: Job, dialogue: &Dialogue, out: &mut Vec<u8>) {
        self.messages += 1;
        if self.purpose == Purpose::Etrn {
            let command = &dialogue.etrn[job.id.number as usize % dialogue.etrn.len()];
            out.extend_from_slice(command);
            self.expected.push_back(Expected::Etrn { job, sent: now });
            return;
        }
        if self.stale_transaction {
            self.stale_transaction = false;
            out.extend_from_slice(b"RSET\r\n");
            self.expected.push_back(Expected::Reset);
        }
        out.extend_from_slice(&dialogue.mail[job.template]);
        self.expected.push_back(Expected::Mail { sent: now });
        let mut opening = Opening {
            job,
            asked: 0,
            recipients_accepted: 0,
            failed: None,
        };
        if dialogue.pipelining == Pipelining::None {
            self.opening = Some(opening);
            return;
        }
        while opening.asked < dialogue.recipients {
            self.recipient(&mut opening, dialogue, out);
        }
        match dialogue.transfer {
            Transfer::Data => {
                out.extend_from_slice(b"DATA\r\n");
                self.expected.push_back(Expected::Data);
                self.opening = Some(opening);
            }
            Transfer::Bdat => self.content(now, job, dialogue, out),
        }
    }

    fn recipient(&mut self, opening: &mut Opening, dialogue: &Dialogue, out: &mut Vec<u8>) {
        let first = opening.job.id.number as usize * dialogue.recipients;
        let which = first.wrapping_add(opening.asked) % dialogue.rcpt.len();
        out.extend_from_slice(&dialogue.rcpt[which]);
        self.expected.push_back(Expected::Recipient);
        opening.asked += 1;
    }

    fn content(&mut self, now: Instant, job: Job, dialogue: &Dialogue, out: &mut Vec<u8>) {
        let nanoseconds = dialogue.clock.nanoseconds(now);
        dialogue.templates[job.template].write(out, job.id, nanoseconds);
        self.expected
            .push_back(Expected::Content { job, sent: now });
        self.contents_under_way += 1;
    }

    fn line(
        &mut self,
        now: Instant,
        line: &[u8],
        dialogue: &Dialogue,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) {
        let Some((code, last)) = parse_reply_line(line) else {
            let line = line.escape_ascii().to_string();
            return self.fail(tally, || format!("this is no reply: {line}"));
        };
        if matches!(self.expected.front(), Some(Expected::Ehlo)) {
            self.keyword(&line[4.min(line.len())..]);
        }
        if !last {
            return;
        }
        let Some(expected) = self.expected.pop_front() else {
            // 421 may come at any time (RFC 5321 §3.8), and is no violation.
            if code != 421 {
                let line = line.escape_ascii().to_string();
                self.fail(tally, || format!("nothing waits for this reply: {line}"));
            }
            tally.connections_lost += 1;
            self.over = true;
            return;
        };
        self.reply(now, expected, code, dialogue, tally, out);
    }

    fn keyword(&mut self, text: &[u8]) {
        let word = text
            .trim_ascii()
            .split(|octet| *octet == b' ')
            .next()
            .unwrap_or_default();
        self.pipelining_offered |= word.eq_ignore_ascii_case(b"PIPELINING");
        self.chunking_offered |= word.eq_ignore_ascii_case(b"CHUNKING");
        self.starttls_offered |= word.eq_ignore_ascii_case(b"STARTTLS");
        self.etrn_offered |= word.eq_ignore_ascii_case(b"ETRN");
    }

    fn reply(
        &mut self,
        now: Instant,
        expected: Expected,
        code: u16,
        dialogue: &Dialogue,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) {
        let positive = code / 100 == 2;
        let since = |moment: Instant| now.saturating_duration_since(moment);
        if matches!(expected, Expected::Content { .. }) {
            self.contents_under_way -= 1;
        }
        match expected {
            Expected::Greeting if positive => {
                out.extend_from_slice(&dialogue.ehlo);
                self.expected.push_back(Expected::Ehlo);
            }
            Expected::Ehlo if positive => self.offered(dialogue, tally, out),
            Expected::StartTls if positive => self.channel = Channel::Ready,
            Expected::Greeting | Expected::Ehlo | Expected::StartTls => {
                *tally.refused.entry(code).or_default() += 1;
                self.over = true;
            }
            Expected::Mail { sent } => {
                tally.mail.record(since(sent));
                self.step(now, code, dialogue, tally, out);
            }
            Expected::Recipient => {
                if !positive {
                    tally.recipients_refused += 1;
                } else if let Some(opening) = &mut self.opening {
                    opening.recipients_accepted += 1;
                }
                self.step(now, code, dialogue, tally, out);
            }
            Expected::Data => {
                let Some(opening) = self.opening.take() else {
                    return;
                };
                match (code, opening.recipients_accepted) {
                    // RFC 2920 §3.1: accepted for nobody, a lone dot ends it.
                    (354, 0) => {
                        out.extend_from_slice(b".\r\n");
                        self.expected.push_back(Expected::Void);
                        self.refused(opening.failed.unwrap_or(code), tally);
                    }
                    (354, _) => self.content(now, opening.job, dialogue, out),
                    _ => {
                        self.stale_transaction = true;
                        self.refused(opening.failed.unwrap_or(code), tally);
                    }
                }
            }
            Expected::Content { job, sent } if positive => {
                tally.content.record(since(sent));
                tally.whole.record(since(job.due));
                tally.accepted += 1;
                tally.accepted_bytes += dialogue.templates[job.template].content_bytes() as u64;
                tally.timeline.count(now);
            }
            Expected::Content { .. } => {
                // After a failed BDAT the server's state is unknown (RFC 3030 §3).
                self.stale_transaction = dialogue.transfer == Transfer::Bdat;
                self.refused(code, tally);
            }
            Expected::Etrn { job, sent } => {
                tally.etrn.record(since(sent));
                tally.whole.record(since(job.due));
                tally.timeline.count(now);
                *tally.etrn_replies.entry(code).or_default() += 1;
            }
            Expected::Void | Expected::Reset => {}
            Expected::Quit => self.over = true,
        }
        if code == 421 && !self.over {
            self.lost(tally);
        }
    }

    /// EHLO is answered: is there what the test needs?
    fn offered(&mut self, dialogue: &Dialogue, tally: &mut Tally, out: &mut Vec<u8>) {
        if dialogue.tls == Tls::Starttls && self.channel == Channel::Clear {
            if self.starttls_offered {
                out.extend_from_slice(b"STARTTLS\r\n");
                self.expected.push_back(Expected::StartTls);
            } else {
                self.fail(tally, || "STARTTLS is wanted, and not offered".to_owned());
            }
            return;
        }
        let lacks = match self.purpose {
            Purpose::Hold => None,
            Purpose::Etrn => (!self.etrn_offered).then_some("ETRN"),
            Purpose::Send => {
                let pipelines = dialogue.pipelining != Pipelining::None;
                let chunks = dialogue.transfer == Transfer::Bdat;
                if pipelines && !self.pipelining_offered {
                    Some("PIPELINING")
                } else if chunks && !self.chunking_offered {
                    Some("CHUNKING")
                } else {
                    None
                }
            }
        };
        match lacks {
            Some(keyword) if !dialogue.force => {
                self.fail(tally, || {
                    format!("{keyword} is wanted, and not offered (--force?)")
                });
            }
            _ => self.stage = Stage::Ready,
        }
    }

    /// The next command of a transaction without pipelining.
    fn step(
        &mut self,
        now: Instant,
        code: u16,
        dialogue: &Dialogue,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) {
        let Some(mut opening) = self.opening.take() else {
            return;
        };
        if code / 100 != 2 {
            opening.failed.get_or_insert(code);
        }
        if dialogue.pipelining != Pipelining::None {
            self.opening = Some(opening);
            return;
        }
        let mail_failed = opening.asked == 0 && opening.failed.is_some();
        if mail_failed || (opening.asked == dialogue.recipients && opening.recipients_accepted == 0)
        {
            self.stale_transaction = !mail_failed;
            self.refused(code, tally);
        } else if opening.asked < dialogue.recipients {
            self.recipient(&mut opening, dialogue, out);
            self.opening = Some(opening);
        } else if dialogue.transfer == Transfer::Bdat {
            self.content(now, opening.job, dialogue, out);
        } else {
            out.extend_from_slice(b"DATA\r\n");
            self.expected.push_back(Expected::Data);
            self.opening = Some(opening);
        }
    }

    fn refused(&mut self, code: u16, tally: &mut Tally) {
        *tally.refused.entry(code).or_default() += 1;
    }

    fn fail(&mut self, tally: &mut Tally, what: impl FnOnce() -> String) {
        tally.violation(what);
        self.over = true;
    }
}

/// The code, and whether the line is the last of its reply.
fn parse_reply_line(line: &[u8]) -> Option<(u16, bool)> {
    let [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = line else {
        return None;
    };
    let digit = |octet: &u8| u16::from(octet - b'0');
    let code = digit(a) * 100 + digit(b) * 10 + digit(c);
    match rest.first() {
        Some(b'-') => Some((code, false)),
        Some(b' ' | b'\r' | b'\n') => Some((code, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::MessageClock;
    use crate::message::{MessageId, Template, TemplateOptions};

    struct Jobs(u32);

    impl Work for Jobs {
        fn next(&mut self, now: Instant) -> Next {
            if self.0 == 0 {
                return Next::Never;
            }
            self.0 -= 1;
            Next::Job(Job {
                id: MessageId {
                    run: 1,
                    number: self.0,
                },
                template: 0,
                due: now,
            })
        }
    }

    fn dialogue(pipelining: Pipelining, transfer: Transfer, now: Instant) -> Dialogue {
        let template = Template::new(&TemplateOptions {
            bytes: 1,
            transfer,
            recipients: 1,
            dots_every: 0,
            from: "a@b".into(),
            to: "c@d".into(),
        });
        Dialogue {
            pipelining,
            transfer,
            ehlo: b"EHLO x\r\n".to_vec(),
            mail: vec![b"MAIL\r\n".to_vec()],
            rcpt: vec![b"RCPT\r\n".to_vec()],
            recipients: 2,
            templates: vec![template],
            etrn: vec![b"ETRN d\r\n".to_vec()],
            messages_per_session: None,
            force: false,
            tls: Tls::None,
            clock: MessageClock::new(now, 0),
        }
    }

    /// The commands only; `<>` for a content.
    fn commands(out: &[u8]) -> String {
        let text = String::from_utf8(out.to_vec()).unwrap();
        let mut commands = Vec::new();
        let mut in_content = false;
        for line in text.split_terminator("\r\n") {
            let verb = line.split(' ').next().unwrap();
            match (in_content, verb) {
                (false, "From:") => {
                    in_content = true;
                    commands.push("<>");
                }
                (true, ".") => in_content = false,
                (true, _) if line.starts_with("id=") && !text.contains("\r\n.\r\n") => {
                    in_content = false;
                }
                (true, _) => {}
                (false, verb) => commands.push(verb),
            }
        }
        commands.join(" ")
    }

    /// Plays `script`: replies of the server, and what the client then sends.
    fn check(
        pipelining: Pipelining,
        transfer: Transfer,
        jobs: u32,
        script: &[(&str, &str)],
    ) -> (Tally, Standing) {
        let now = Instant::now();
        let dialogue = dialogue(pipelining, transfer, now);
        let mut work = Jobs(jobs);
        let mut tally = Tally::new(now);
        let mut client = Client::new(Purpose::Send);
        let mut standing = Standing::Waits;
        for (replies, expected) in script {
            let mut out = Vec::new();
            let replies = replies
                .replace(' ', " x\r\n")
                .replace("PIPE", "250-PIPELINING");
            let replies = replies.replace("CHUNK", "250-CHUNKING");
            client.receive(now, replies.as_bytes(), &dialogue, &mut tally, &mut out);
            standing = client.pump(now, &dialogue, &mut work, &mut out);
            assert_eq!(commands(&out), *expected, "after {replies:?}");
        }
        (tally, standing)
    }

    #[test]
    fn without_pipelining_one_command_a_reply() {
        let (tally, standing) = check(
            Pipelining::None,
            Transfer::Data,
            1,
            &[
                ("220 ", "EHLO"),
                ("250 ", "MAIL"),
                ("250 ", "RCPT"),
                ("250 ", "RCPT"),
                ("550 ", "DATA"),
                ("354 ", "<>"),
                ("250 ", "QUIT"),
                ("221 ", ""),
            ],
        );
        assert_eq!((tally.accepted, tally.recipients_refused), (1, 1));
        assert_eq!(standing, Standing::Over);
    }

    #[test]
    fn a_transaction_at_a_time() {
        let (tally, _) = check(
            Pipelining::Transaction,
            Transfer::Data,
            2,
            &[
                ("220 ", "EHLO"),
                ("PIPE 250 ", "MAIL RCPT RCPT DATA"),
                ("250 250 ", ""),
                ("250 354 ", "<>"),
                ("250 ", "MAIL RCPT RCPT DATA"),
                ("250 550 550 554 ", "QUIT"),
            ],
        );
        assert_eq!(tally.accepted, 1);
        assert_eq!(tally.refused.iter().collect::<Vec<_>>(), [(&550, &1)]);
    }

    #[test]
    fn a_group_carries_content_and_the_next_envelope() {
        let (tally, _) = check(
            Pipelining::Group,
            Transfer::Data,
            2,
            &[
                ("220 ", "EHLO"),
                ("PIPE 250 ", "MAIL RCPT RCPT DATA"),
                ("250 250 250 354 ", "<> MAIL RCPT RCPT DATA"),
                ("250 250 550 550 354 ", ". QUIT"),
                ("554 221 ", ""),
            ],
        );
        assert_eq!(tally.accepted, 1);
        assert_eq!(tally.refused.get(&550), Some(&1));
    }

    #[test]
    fn a_flight_of_chunks() {
        let (tally, _) = check(
            Pipelining::Flight(2),
            Transfer::Bdat,
            3,
            &[
                ("220 ", "EHLO"),
                (
                    "CHUNK PIPE 250 ",
                    "MAIL RCPT RCPT BDAT <> MAIL RCPT RCPT BDAT <>",
                ),
                ("250 250 250 ", ""),
                ("250 ", "MAIL RCPT RCPT BDAT <>"),
                ("250 250 250 552 250 ", "QUIT"),
                ("250 250 250 221 ", ""),
            ],
        );
        assert_eq!(tally.accepted, 2);
        assert_eq!(tally.refused.get(&552), Some(&1));
    }

    #[test]
    fn replies_that_no_server_should_give() {
        for replies in ["220 250 250 250 250 ", "hello", "220 199 "] {
            let now = Instant::now();
            let dialogue = dialogue(Pipelining::None, Transfer::Data, now);
            let mut tally = Tally::new(now);
            let mut client = Client::new(Purpose::Send);
            let mut out = Vec::new();
            let text = replies.replace(' ', " x\r\n") + "\r\n";
            client.receive(now, text.as_bytes(), &dialogue, &mut tally, &mut out);
            let standing = client.pump(now, &dialogue, &mut Jobs(1), &mut out);
            assert_eq!(standing, Standing::Over, "{replies}");
            assert_eq!(tally.violations, 1, "{replies}");
        }
    }
}
