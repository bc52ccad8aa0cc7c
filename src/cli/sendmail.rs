//! The program as local programs call it: `sendmail`, `mailq`, `newaliases`, by a link of
//! that name, or `turnspool sendmail`.
//!
//! It takes a message from standard input, finds who is to get it, adds what is missing,
//! and hands it to the running server by SMTP over loopback. It keeps nothing: if the
//! server is not there, it says so and exits with 75, and the caller tries again.
//!
//! Rules:
//! - All recipients or none: a message that was sent to some of them would be sent to
//!   those again by who sees an error.
//! - Recipients and senders without a domain are at the server's own name.
//! - It runs as whoever calls it, with no rights of its own, and needs none but to read
//!   the configuration file: not the secrets that are named there.
//!
//! Exit codes are those of sysexits(3), as callers of sendmail know them.
//!
//! What it does not do: it knows no aliases and no `.forward`, and delivers nothing.

mod message;
mod options;

use std::ffi::OsString;
use std::io::{self, BufReader, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process;

use clap::Args;

use self::message::{Header, Missing, Text};
use self::options::{Mode, Options};
use super::submission::{self, NotTaken, Said, Server, Submission};
use super::text::{escaped, now};
use super::{CONFIG_VARIABLE, Exit, Failure, eml, run_with};
use crate::mail::{Address, Recipient, ReversePath};

/// Where the configuration is, unless somebody says otherwise: as the package puts it.
const CONFIG: &str = "/etc/turnspool/turnspool.toml";

/// RFC 5321 §4.5.3.1.8 wants a hundred; lists of people are longer.
const RECIPIENTS_MAX: usize = 10_000;

/// Codes of sysexits(3).
mod sysexits {
    pub(super) const USAGE: u8 = 64;
    pub(super) const DATAERR: u8 = 65;
    pub(super) const NOUSER: u8 = 67;
    pub(super) const UNAVAILABLE: u8 = 69;
    pub(super) const TEMPFAIL: u8 = 75;
    pub(super) const NOPERM: u8 = 77;
    pub(super) const CONFIG: u8 = 78;
}

/// Takes a message from standard input, as sendmail does.
#[derive(Debug, Args)]
pub(super) struct Sendmail {
    /// As of sendmail: -t -i -f ADDRESS -F NAME -bs -bp -q -N -R -V, and recipients
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "OPTIONS"
    )]
    words: Vec<OsString>,
}

/// The words behind the name, if a command line calls us as sendmail.
pub(super) fn words(line: &[OsString]) -> Option<Vec<String>> {
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    let called = Path::new(line.first()?)
        .file_name()?
        .to_string_lossy()
        .into_owned();
    let first = match called.as_str() {
        "sendmail" => None,
        "mailq" => Some("-bp".to_owned()),
        "newaliases" => Some("-bi".to_owned()),
        _ if line.get(1).is_some_and(|word| word == "sendmail") => {
            return Some(line[2..].iter().map(text).collect());
        }
        _ => return None,
    };
    Some(
        first
            .into_iter()
            .chain(line[1..].iter().map(text))
            .collect(),
    )
}

/// Why it was not sent: the code, and a sentence.
type Sorry = (u8, String);

impl Sendmail {
    /// For a command line that did not look like ours from outside.
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let words: Vec<_> = (self.words.iter())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        Ok(run(&words, out, &mut io::stderr()))
    }
}

/// Does what sendmail would do.
pub(super) fn run(words: &[String], out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    if words.iter().any(|word| word == "--help") {
        let line = ["turnspool", "help", "sendmail"].map(OsString::from);
        return run_with(line, out, errors);
    }
    let options = match Options::parse(words) {
        Ok(options) => options,
        Err(what) => {
            let _ = writeln!(errors, "sendmail: {}", escaped(&what));
            return Exit::Sysexits(sysexits::USAGE);
        }
    };
    let done = match options.mode {
        Mode::List => return queue(&["list"], &options, out, errors),
        // Not what is on hold, and not what waits for a customer's call.
        Mode::Flush => {
            let words = ["release", "--state", "deferred"];
            return queue(&words, &options, out, errors);
        }
        Mode::Aliases => {
            let what = "sendmail: there are no aliases here, so there is nothing to do";
            writeln!(errors, "{what}").map_err(|error| (sysexits::TEMPFAIL, error.to_string()))
        }
        Mode::Smtp => smtp(&options, out),
        Mode::Deliver => deliver(&options, errors),
    };
    match done {
        Ok(()) => Exit::Done,
        Err((code, what)) => {
            let _ = writeln!(errors, "sendmail: {what}");
            Exit::Sysexits(code)
        }
    }
}

/// Which configuration counts; none if there is none.
fn config(options: &Options) -> Option<PathBuf> {
    let said = options.config.clone().map(PathBuf::from);
    let variable = || std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from);
    // One that may not be read is there: another server must not be taken for this one.
    let usual = || Some(PathBuf::from(CONFIG)).filter(|path| path.try_exists().unwrap_or(true));
    said.or_else(variable).or_else(usual)
}

/// The same as `turnspool queue`, which may say no to who may not.
fn queue(words: &[&str], options: &Options, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let mut line = vec![OsString::from("turnspool"), OsString::from("queue")];
    line.extend(words.iter().map(OsString::from));
    if let Some(socket) = &options.socket {
        line.extend(["--socket".into(), socket.into()]);
    }
    if let Some(config) = config(options) {
        line.extend(["--config".into(), config.into()]);
    }
    if options.json {
        line.push("--json".into());
    }
    match run_with(line, out, errors) {
        Exit::Failed | Exit::TryLater => Exit::Sysexits(sysexits::TEMPFAIL),
        Exit::Usage => Exit::Sysexits(sysexits::CONFIG),
        other => other,
    }
}

fn server(options: &Options) -> Result<Server, Sorry> {
    submission::server(config(options).as_deref()).map_err(|what| (sysexits::CONFIG, what))
}

/// SMTP on standard input and output: the server's own, greeting and all.
fn smtp(options: &Options, out: &mut dyn Write) -> Result<(), Sorry> {
    let server = server(options)?;
    let stream = Submission::raw(server.address).map_err(sorry)?;
    let broken = |error: io::Error| (sysexits::TEMPFAIL, format!("the session broke: {error}"));
    let mut up = stream.try_clone().map_err(broken)?;
    // It ends with the process: a caller may keep its end open after QUIT.
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut up);
        let _ = up.shutdown(std::net::Shutdown::Write);
    });
    let mut stream = stream;
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece).map_err(broken)? {
            0 => return Ok(()),
            octets => {
                out.write_all(&piece[..octets]).map_err(broken)?;
                out.flush().map_err(broken)?;
            }
        }
    }
}

fn deliver(options: &Options, errors: &mut dyn Write) -> Result<(), Sorry> {
    let server = server(options)?;
    let hostname = server.hostname.clone().unwrap_or_else(|| {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    });
    let caller = Caller::of_this_process();
    let data = |what: String| (sysexits::DATAERR, what);
    let sender = match options.sender.as_deref().map(bare) {
        Some("") => ReversePath::Null,
        Some(text) => ReversePath::Address(qualified(text, &hostname).map_err(data)?),
        None => ReversePath::Address(qualified(&caller.user, &hostname).map_err(data)?),
    };
    if io::stdin().is_terminal() && options.verbose {
        let _ = writeln!(errors, "sendmail: the message, and then Control-D");
    }
    let unreadable = |error: io::Error| data(format!("reading the message failed: {error}"));
    let mut text = Text::new(BufReader::new(io::stdin()), options.dots_are_text);
    let header = Header::read(&mut text).map_err(unreadable)?;
    let mut wanted: Vec<String> = options.recipients.clone();
    if options.from_header {
        // What stands on the command line beside -t is added, as Postfix does.
        wanted.extend(header.recipients());
    }
    let mut recipients: Vec<Recipient> = Vec::new();
    for text in &wanted {
        // A list with commas is one word for some callers.
        for text in text
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            let address = qualified(bare(text), &hostname).map_err(data)?;
            if recipients
                .iter()
                .any(|known| *known.forward_path.address() == address)
            {
                continue;
            }
            let path = address.as_str().parse();
            let path = path.map_err(|error| data(format!("{}: it {error}", escaped(text))))?;
            let mut recipient = Recipient::new(path);
            recipient.notify = options.notify.unwrap_or(recipient.notify);
            recipients.push(recipient);
        }
    }
    if recipients.is_empty() {
        let what = "nobody is to get it: name recipients, or say -t and name them in To";
        return Err((sysexits::USAGE, what.to_owned()));
    }
    if recipients.len() > RECIPIENTS_MAX {
        return Err((
            sysexits::DATAERR,
            format!("more than {RECIPIENTS_MAX} recipients"),
        ));
    }
    let time = now();
    let from = caller.from(options.full_name.as_deref(), &sender, &hostname);
    let message_id = format!("<{}.{}@{hostname}>", time.as_millis(), process::id());
    let head = header.completed(Missing {
        from: &from,
        date: &time.rfc5322(),
        message_id: &message_id,
    });
    // Most of what is not ASCII shows in the header section or early; a program that says
    // nothing about its text gets what all servers take.
    let mut sender = submission::sender(sender, true);
    sender.smtputf8 |= recipients
        .iter()
        .any(|r| !r.forward_path.as_str().is_ascii());
    sender.ret = options.ret;
    sender.envid = options.envid.as_deref().map(eml::xtext).map(Into::into);
    let mut session = Submission::open(server.address, &hostname).map_err(sorry)?;
    let sent = session.send(&sender, &recipients, None, false, &head, &mut text);
    let (said, _) = sent.map_err(sorry)?;
    session.quit();
    if options.verbose {
        let _ = writeln!(errors, "sendmail: {said}");
    }
    Ok(())
}

/// Without the angle brackets that some callers write.
fn bare(text: &str) -> &str {
    let inner = text.strip_prefix('<').and_then(|t| t.strip_suffix('>'));
    inner.unwrap_or(text)
}

/// An address, at this host if it names none.
fn qualified(text: &str, hostname: &str) -> Result<Address, String> {
    let whole = if text.contains('@') {
        text.to_owned()
    } else {
        format!("{text}@{hostname}")
    };
    let parsed = whole.parse::<Address>();
    parsed.map_err(|error| format!("{:?} is no address: it {error}", escaped(text)))
}

fn sorry(why: NotTaken) -> Sorry {
    match why {
        NotTaken::Later(what) => (sysexits::TEMPFAIL, format!("{what}; nothing was sent")),
        NotTaken::Unreadable(what) => (
            sysexits::DATAERR,
            format!("reading the message failed ({what}); nothing was sent"),
        ),
        NotTaken::Refused(said) => (
            code(&said),
            format!("the server said {said}; nothing was sent"),
        ),
    }
}

/// By what is wrong (RFC 3463).
fn code(said: &Said) -> u8 {
    match said.enhanced() {
        Some((1, 1 | 2 | 6 | 10)) => sysexits::NOUSER,
        Some((1, 3 | 7 | 8)) | Some((6, _)) => sysexits::DATAERR,
        Some((7, _)) => sysexits::NOPERM,
        _ => sysexits::UNAVAILABLE,
    }
}

/// Who calls.
struct Caller {
    user: String,
    full_name: String,
}

impl Caller {
    /// From the file of users; where that does not know him, from what the shell says. It
    /// is what others are shown, no proof of anything.
    fn of_this_process() -> Self {
        let uid = rustix::process::getuid().as_raw().to_string();
        let file = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let line = file.lines().map(fields).find(|f| f.get(2) == Some(&uid));
        if let Some(fields) = line {
            let gecos = fields.get(4).map_or("", String::as_str);
            let full_name = gecos.split(',').next().unwrap_or_default();
            return Self {
                full_name: full_name.replace('&', &fields[0]),
                user: fields[0].clone(),
            };
        }
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let user = variable("LOGNAME").or_else(|| variable("USER"));
        Self {
            user: user.unwrap_or_else(|| format!("uid-{uid}")),
            full_name: String::new(),
        }
    }

    /// The field that is missing. A null sender writes as the caller.
    fn from(&self, full_name: Option<&str>, sender: &ReversePath, hostname: &str) -> String {
        let own;
        let address = match sender {
            ReversePath::Null => {
                own = format!("{}@{hostname}", self.user);
                own.as_str()
            }
            ReversePath::Address(address) => address.as_str(),
        };
        let name = full_name.unwrap_or(&self.full_name);
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        if name.is_empty() {
            address.to_owned()
        } else {
            format!("\"{quoted}\" <{address}>")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_which_it_is_called() {
        let check = |line: &str, expected: Option<&[&str]>| {
            let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let got = words(&line);
            let expected = expected.map(|words| words.iter().map(|w| (*w).to_owned()).collect());
            assert_eq!(got, expected);
        };
        check("/usr/sbin/sendmail -t", Some(&["-t"]));
        check("sendmail", Some(&[]));
        check("mailq", Some(&["-bp"]));
        check("newaliases", Some(&["-bi"]));
        check("turnspool sendmail -t a", Some(&["-t", "a"]));
        check("turnspool serve", None);
        check("turnspool", None);
    }

    #[test]
    fn codes_by_what_is_wrong() {
        let check = |code_said: u16, text: &str, expected: u8| {
            let said = Said {
                code: code_said,
                text: text.to_owned(),
            };
            assert_eq!(code(&said), expected, "{said}");
        };
        check(550, "5.1.1 nobody", sysexits::NOUSER);
        check(501, "5.1.3 what?", sysexits::DATAERR);
        check(550, "5.7.1 no relay", sysexits::NOPERM);
        check(552, "5.3.4 too large", sysexits::UNAVAILABLE);
        check(554, "no", sysexits::UNAVAILABLE);
    }

    #[test]
    fn addresses_are_at_this_host_if_they_name_none() {
        let check = |text: &str, expected: &str| {
            let got = qualified(bare(text), "here.example").map(|a| a.as_str().to_owned());
            assert_eq!(got.as_deref(), Ok(expected));
        };
        check("root", "root@here.example");
        check("<a@b.example>", "a@b.example");
        assert!(qualified("a b", "here.example").is_err());
        assert!(qualified("a@b\r\nRCPT TO:<c@d.example>", "here.example").is_err());
    }

    #[test]
    fn an_envelope_id_is_written_as_xtext() {
        assert_eq!(eml::xtext("a+b=c d"), "a+2Bb+3Dc+20d");
    }
}
