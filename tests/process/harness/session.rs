//! One session of a [`Sink`](super::sink::Sink): commands, message text, rules.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use super::rule::{Action, Stage};
use super::sink::{Mail, Shared, Transfer};

/// Longest line that is read. A message line may be as long as a relay lets through.
const LINE_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
struct Transaction {
    mail: String,
    recipients: Vec<String>,
    chunks: Option<Vec<u8>>,
}

pub(super) struct Session<'a> {
    number: u32,
    reader: BufReader<TcpStream>,
    shared: &'a Shared,
    transaction: Option<Transaction>,
}

/// Whether the session goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Go,
    End,
}

impl<'a> Session<'a> {
    /// `number` is for reports.
    pub(super) fn new(number: u32, stream: TcpStream, shared: &'a Shared) -> Self {
        Self {
            number,
            reader: BufReader::with_capacity(256 << 10, stream),
            shared,
            transaction: None,
        }
    }

    /// The connection, when [`Self::run`] has ended.
    pub(super) fn into_stream(self) -> TcpStream {
        self.reader.into_inner()
    }

    /// Until QUIT, a rule, or the end of the connection.
    pub(super) fn run(&mut self) -> io::Result<()> {
        if self.answer(Stage::Greeting, "", "220 sink.example ESMTP")? == Next::End {
            return Ok(());
        }
        while let Some(line) = self.line()? {
            self.note(&line);
            let verb = line.split([' ', ':']).next().unwrap_or_default();
            let verb = verb.to_ascii_uppercase();
            let last_in_group = matches!(verb.as_str(), "EHLO" | "HELO" | "DATA" | "QUIT");
            let ran_ahead = !self.reader.buffer().is_empty() && verb != "BDAT";
            if ran_ahead && (last_in_group || !self.shared.offers("PIPELINING")) {
                self.breach("something was sent behind", &line);
            }
            let next = match verb.as_str() {
                "EHLO" | "HELO" => self.hello(&line),
                "MAIL" => self.mail(&line),
                "RCPT" => self.rcpt(&line),
                "DATA" => self.data(&line),
                "BDAT" => self.bdat(&line),
                "RSET" => {
                    self.transaction = None;
                    self.answer(Stage::Rset, &line, "250 2.0.0 reset")
                }
                "NOOP" => self.reply("250 2.0.0 still here"),
                "QUIT" => {
                    self.answer(Stage::Quit, &line, "221 2.0.0 bye")?;
                    return Ok(());
                }
                _ => {
                    self.breach("not a command that was offered:", &line);
                    self.reply("500 5.5.1 unknown")
                }
            }?;
            if next == Next::End {
                return Ok(());
            }
        }
        Ok(())
    }

    fn note(&self, line: &str) {
        self.shared.note(format!("{} {line}", self.number));
    }

    fn breach(&self, what: &str, line: &str) {
        self.shared
            .breach(format!("session {}: {what} {line:?}", self.number));
    }

    /// A command line without CRLF, `None` at the end of the connection.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let limit = 100_000;
        (&mut self.reader)
            .take(limit)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        if !line.ends_with(b"\r\n") {
            self.breach("no command line:", &line.escape_ascii().to_string());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        Ok(Some(line))
    }

    fn reply(&mut self, text: &str) -> io::Result<Next> {
        let stream = self.reader.get_mut();
        stream.write_all(format!("{text}\r\n").as_bytes())?;
        Ok(Next::Go)
    }

    /// The rule's reply if a rule is due, else `usual`.
    fn answer(&mut self, stage: Stage, line: &str, usual: &str) -> io::Result<Next> {
        match self.shared.rule(stage, line) {
            None => self.reply(usual),
            Some(Action::Hold(gate)) => {
                gate.pass();
                self.reply(usual)
            }
            Some(Action::ObeyThenClose) => {
                self.reply(usual)?;
                Ok(Next::End)
            }
            Some(action) => self.depart(action),
        }
    }

    /// Does what a rule wants in place of the usual.
    fn depart(&mut self, action: Action) -> io::Result<Next> {
        match action {
            Action::Reply(text) => self.reply(&text),
            Action::ReplyThenClose(text) => {
                self.reply(&text)?;
                Ok(Next::End)
            }
            Action::Close | Action::ObeyThenClose => Ok(Next::End),
            Action::Silence => {
                io::copy(&mut self.reader, &mut io::sink())?;
                Ok(Next::End)
            }
            Action::Hold(gate) => {
                gate.pass();
                Ok(Next::Go)
            }
        }
    }

    fn hello(&mut self, line: &str) -> io::Result<Next> {
        self.transaction = None;
        let mut usual = "250-sink.example".to_owned();
        for extension in self.shared.extensions() {
            usual.push_str("\r\n250-");
            usual.push_str(extension);
        }
        usual.push_str("\r\n250 HELP");
        let usual = if line.to_ascii_uppercase().starts_with("EHLO") {
            usual.as_str()
        } else {
            "250 sink.example"
        };
        self.answer(Stage::Hello, line, usual)
    }

    fn mail(&mut self, line: &str) -> io::Result<Next> {
        let argument = &line[line.len().min("MAIL FROM:".len())..];
        self.check_parameters(line);
        if self.transaction.is_some() {
            self.breach("MAIL within a transaction:", line);
            return self.reply("503 5.5.1 nested MAIL");
        }
        let action = self.shared.rule(Stage::Mail, line);
        match action {
            action if obeys(action.as_ref()) => {
                self.transaction = Some(Transaction {
                    mail: argument.to_owned(),
                    recipients: Vec::new(),
                    chunks: None,
                });
                self.finish(action, "250 2.1.0 sender ok")
            }
            Some(action) => self.depart(action),
            None => unreachable!("no rule is to obey"),
        }
    }

    fn rcpt(&mut self, line: &str) -> io::Result<Next> {
        let argument = &line[line.len().min("RCPT TO:".len())..];
        self.check_parameters(line);
        if self.transaction.is_none() {
            // Right where MAIL was refused and the group was under way.
            return self.reply("503 5.5.1 MAIL first");
        }
        let action = self.shared.rule(Stage::Rcpt, line);
        match action {
            action if obeys(action.as_ref()) => {
                let transaction = self.transaction.as_mut().expect("seen above");
                transaction.recipients.push(argument.to_owned());
                let count = transaction.recipients.len();
                if self.recipients_max().is_some_and(|most| count > most) {
                    self.breach("more recipients than LIMITS allows:", line);
                }
                self.finish(action, "250 2.1.5 recipient ok")
            }
            Some(action) => self.depart(action),
            None => unreachable!("no rule is to obey"),
        }
    }

    /// RFC 9422 `LIMITS RCPTMAX=n`.
    fn recipients_max(&self) -> Option<usize> {
        let limits = (self.shared.extensions().iter()).find(|line| line.starts_with("LIMITS "))?;
        let most = limits
            .split(' ')
            .find_map(|word| word.strip_prefix("RCPTMAX="))?;
        most.parse().ok()
    }

    /// The usual reply, with what a rule wants around it.
    fn finish(&mut self, action: Option<Action>, usual: &str) -> io::Result<Next> {
        if let Some(Action::Hold(gate)) = &action {
            gate.pass();
        }
        self.reply(match &action {
            Some(Action::Reply(text)) => text,
            _ => usual,
        })?;
        Ok(match action {
            Some(Action::ObeyThenClose) => Next::End,
            _ => Next::Go,
        })
    }

    /// A parameter may be used only if its extension was offered.
    fn check_parameters(&self, line: &str) {
        // Behind the path, which may hold blanks within quotes.
        let Some((_, parameters)) = line.rsplit_once('>') else {
            return self.breach("no path in", line);
        };
        for parameter in parameters.split_whitespace() {
            let name = parameter.split('=').next().unwrap_or_default();
            let extension = match name {
                "SIZE" => "SIZE",
                "BODY" => "8BITMIME",
                "SMTPUTF8" => "SMTPUTF8",
                "RET" | "ENVID" | "NOTIFY" | "ORCPT" => "DSN",
                "MT-PRIORITY" => "MT-PRIORITY",
                "BY" => "DELIVERBY",
                _ => "(unknown)",
            };
            if !self.shared.offers(extension) {
                self.breach("a parameter that was not offered in", line);
            }
        }
        if !line.is_ascii() && !self.shared.offers("SMTPUTF8") {
            self.breach("UTF-8 that was not offered in", line);
        }
    }

    fn data(&mut self, line: &str) -> io::Result<Next> {
        let recipients = self.transaction.as_ref().map_or(0, |t| t.recipients.len());
        let usual = if recipients == 0 {
            "554 5.5.1 no valid recipients"
        } else {
            "354 go on"
        };
        let mut invites = recipients > 0;
        match self.shared.rule(Stage::Data, line) {
            None => self.reply(usual)?,
            Some(Action::Hold(gate)) => {
                gate.pass();
                self.reply(usual)?
            }
            Some(Action::Reply(text)) => {
                invites = text.starts_with('3');
                self.reply(&text)?
            }
            Some(Action::ObeyThenClose) => {
                self.reply(usual)?;
                return Ok(Next::End);
            }
            Some(action) => return self.depart(action),
        };
        if !invites {
            return Ok(Next::Go);
        }
        let Some(octets) = self.text()? else {
            return Ok(Next::End);
        };
        if recipients == 0 {
            if !octets.is_empty() {
                self.breach("a message for nobody behind", line);
            }
            // The end of data ends the transaction, whatever the reply
            // (RFC 5321 §4.1.1.4).
            self.transaction = None;
            return self.reply("554 5.5.1 no valid recipients");
        }
        let transaction = self.transaction.take();
        self.end(transaction, octets, Transfer::Data)
    }

    /// Message text up to the lone dot. `None` when a rule ends the session in it.
    fn text(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut octets = Vec::new();
        let mut first = true;
        loop {
            let from = octets.len();
            (&mut self.reader)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut octets)?;
            let line = &octets[from..];
            if !line.ends_with(b"\n") {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(inner) = line.strip_suffix(b"\r\n") else {
                let shown = line.escape_ascii().to_string();
                self.breach("a bare LF in message text:", &shown);
                continue;
            };
            if inner.contains(&b'\r') {
                let shown = line.escape_ascii().to_string();
                self.breach("a bare CR in message text:", &shown);
            }
            if inner == b"." {
                octets.truncate(from);
                return Ok(Some(octets));
            }
            if inner.first() == Some(&b'.') {
                octets.remove(from);
            }
            if std::mem::take(&mut first) && self.within_body()? == Next::End {
                return Ok(None);
            }
        }
    }

    /// Rules of [`Stage::Body`].
    fn within_body(&mut self) -> io::Result<Next> {
        match self.shared.rule(Stage::Body, "") {
            None => Ok(Next::Go),
            Some(action) => self.depart(action),
        }
    }

    fn bdat(&mut self, line: &str) -> io::Result<Next> {
        if !self.shared.offers("CHUNKING") {
            self.breach("not offered:", line);
        }
        let mut words = line.split(' ').skip(1);
        let length = words.next().and_then(|word| word.parse().ok());
        let last = words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        let Some(length) = length else {
            self.breach("no length in", line);
            return Ok(Next::End);
        };
        let mut chunk = vec![0; length];
        let half = length / 2;
        self.reader.read_exact(&mut chunk[..half])?;
        if self.transaction.is_some() && self.within_body()? == Next::End {
            return Ok(Next::End);
        }
        self.reader.read_exact(&mut chunk[half..])?;
        let Some(transaction) = self
            .transaction
            .as_mut()
            .filter(|t| !t.recipients.is_empty())
        else {
            return self.reply("503 5.5.1 no valid recipients");
        };
        let chunks = transaction.chunks.get_or_insert_default();
        chunks.extend_from_slice(&chunk);
        if !last {
            return self.reply("250 2.0.0 chunk taken");
        }
        let octets = std::mem::take(chunks);
        let transaction = self.transaction.take();
        self.end(transaction, octets, Transfer::Bdat)
    }

    /// The end of data: the message is taken if the reply says so.
    fn end(
        &mut self,
        transaction: Option<Transaction>,
        octets: Vec<u8>,
        transfer: Transfer,
    ) -> io::Result<Next> {
        let Transaction {
            mail, recipients, ..
        } = transaction.expect("only called within a transaction");
        if !octets.is_ascii() && !self.shared.offers("8BITMIME") {
            self.breach("8-bit text that was not offered in the message of", &mail);
        }
        let mail = Mail {
            mail,
            recipients,
            transfer,
            octets,
            at: Instant::now(),
        };
        let action = self.shared.rule(Stage::End, &mail.mail);
        let usual = "250 2.0.0 taken";
        match action {
            Some(action @ (Action::Reply(_) | Action::ReplyThenClose(_))) => {
                let (Action::Reply(text) | Action::ReplyThenClose(text)) = &action else {
                    unreachable!("matched above");
                };
                if text.starts_with('2') {
                    self.shared.take(mail);
                }
                self.depart(action)
            }
            // Taken, and the relay never hears of it: it must come again.
            Some(action @ (Action::Close | Action::Silence)) => {
                self.shared.take(mail);
                self.depart(action)
            }
            action => {
                if let Some(Action::Hold(gate)) = &action {
                    gate.pass();
                }
                self.shared.take(mail);
                let action = action.filter(|action| matches!(action, Action::ObeyThenClose));
                self.finish(action, usual)
            }
        }
    }
}

/// Whether the command is to be obeyed, with or without something around it.
fn obeys(action: Option<&Action>) -> bool {
    match action {
        None | Some(Action::Hold(_) | Action::ObeyThenClose) => true,
        Some(Action::Reply(text)) => text.starts_with('2'),
        Some(Action::ReplyThenClose(_) | Action::Close | Action::Silence) => false,
    }
}
