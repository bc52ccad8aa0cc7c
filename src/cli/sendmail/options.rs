//! The options of sendmail, as programs and people have used them for forty years.
//!
//! They are not what other commands of ours have: letters may be joined (`-it`), a value
//! may follow at once (`-fa@b.example`) or as the next word, and `-o` takes the name of
//! an option of sendmail's own. What asks for something that is not there is an error;
//! what only tunes sendmail itself is passed over.

use crate::cli::eml;
use crate::mail::{Notify, Ret};

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Mode {
    /// `-bm`: take a message from standard input.
    #[default]
    Deliver,
    /// `-bs`: SMTP on standard input and output.
    Smtp,
    /// `-bp`, `mailq`: list the queue.
    List,
    /// `-q`: try now what waits for its time.
    Flush,
    /// `-bi`, `newaliases`.
    Aliases,
}

/// The command line.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Options {
    pub(super) mode: Mode,
    /// `-t`: recipients stand in the message.
    pub(super) from_header: bool,
    /// `-i`, `-oi`: a line with a lone dot ends nothing.
    pub(super) dots_are_text: bool,
    /// `-f`, `-r`.
    pub(super) sender: Option<String>,
    /// `-F`.
    pub(super) full_name: Option<String>,
    /// `-N`.
    pub(super) notify: Option<Notify>,
    /// `-R`.
    pub(super) ret: Option<Ret>,
    /// `-V`.
    pub(super) envid: Option<String>,
    /// `-C`, or `--config` and `--socket` as everywhere.
    pub(super) config: Option<String>,
    pub(super) socket: Option<String>,
    pub(super) json: bool,
    /// `-v`.
    pub(super) verbose: bool,
    pub(super) recipients: Vec<String>,
}

/// Letters with a value, in the same word or in the next one.
const WITH_VALUE: &str = "fFrNRVCBXLhOp";

impl Options {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// For a person.
    pub(super) fn parse(words: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                options.recipients.extend(words.by_ref().cloned());
            } else if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let mut value = || {
                    let value = value.clone().or_else(|| words.next().cloned());
                    value.ok_or_else(|| format!("--{name} needs a value"))
                };
                match name {
                    "config" => options.config = Some(value()?),
                    "socket" => options.socket = Some(value()?),
                    "json" => options.json = true,
                    _ => return Err(format!("there is no option --{name}")),
                }
            } else if word.len() > 1 && word.starts_with('-') {
                options.letters(&word[1..], &mut words)?;
            } else {
                options.recipients.push(word.clone());
            }
        }
        Ok(options)
    }

    fn letters<'a>(
        &mut self,
        letters: &str,
        words: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), String> {
        for (at, letter) in letters.char_indices() {
            let rest = &letters[at + letter.len_utf8()..];
            if WITH_VALUE.contains(letter) {
                let value = if rest.is_empty() {
                    words.next().cloned()
                } else {
                    Some(rest.to_owned())
                };
                let value = value.ok_or_else(|| format!("-{letter} needs a value"))?;
                return self.value(letter, value);
            }
            match letter {
                't' => self.from_header = true,
                'i' => self.dots_are_text = true,
                'v' => self.verbose = true,
                'b' => return self.become_of(rest),
                'o' => return self.own(rest, words),
                'q' if rest.is_empty() => self.mode = Mode::Flush,
                'q' => {
                    return Err(format!(
                        "-q{rest}: only -q; `turnspool release NAME` and `turnspool queue release` \
                         let some of the mail go"
                    ));
                }
                // Who forwards, does not look up names, did something by hand, wants no
                // aliases, or says where the envelope is from: nothing that we do differs.
                'G' | 'n' | 'm' | 'U' | 'A' | 'D' => {
                    if matches!(letter, 'A' | 'D') {
                        return Ok(());
                    }
                }
                'd' => return Ok(()),
                _ => return Err(format!("there is no option -{letter}")),
            }
        }
        Ok(())
    }

    fn value(&mut self, letter: char, value: String) -> Result<(), String> {
        match letter {
            'f' | 'r' => self.sender = Some(value),
            'F' => self.full_name = Some(value),
            'N' => self.notify = Some(eml::notify(&value).map_err(|error| format!("-N: {error}"))?),
            'R' => {
                self.ret = Some(match value.to_ascii_lowercase().as_str() {
                    "full" => Ret::Full,
                    "hdrs" => Ret::Headers,
                    _ => return Err("-R: want full or hdrs".to_owned()),
                });
            }
            'V' => self.envid = Some(value),
            'C' => self.config = Some(value),
            // The type of the body is seen in the body; the others are sendmail's own.
            _ => {}
        }
        Ok(())
    }

    fn become_of(&mut self, rest: &str) -> Result<(), String> {
        self.mode = match rest {
            "m" => Mode::Deliver,
            "s" => Mode::Smtp,
            "p" => Mode::List,
            "i" => Mode::Aliases,
            "d" | "D" => {
                return Err("-bd: the server is started by `turnspool serve`".to_owned());
            }
            "v" | "t" => {
                return Err(format!(
                    "-b{rest}: `turnspool dns test DOMAIN` shows which way mail would take"
                ));
            }
            _ => return Err(format!("-b{rest} is not known")),
        };
        Ok(())
    }

    /// `-o` and an option of sendmail's own.
    fn own<'a>(
        &mut self,
        rest: &str,
        words: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), String> {
        let name = if rest.is_empty() {
            words.next().cloned().ok_or("-o needs a value")?
        } else {
            rest.to_owned()
        };
        if name.starts_with('i') {
            self.dots_are_text = true;
        }
        // How errors are told (-oem), how fast (-odb), and so on: as we do.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn command_lines_of_known_callers() {
        let check = |line: &str, expected: Options| assert_eq!(parse(line), Ok(expected), "{line}");
        let to = |recipients: &[&str]| Options {
            recipients: recipients.iter().map(|r| (*r).to_owned()).collect(),
            ..Options::default()
        };
        // cron of Debian, with -oem and a name that is no address.
        check(
            "-i -FCronDaemon -B8BITMIME -oem root",
            Options {
                dots_are_text: true,
                full_name: Some("CronDaemon".to_owned()),
                ..to(&["root"])
            },
        );
        // mutt
        check(
            "-oem -oi -f me@here.example -- you@there.example",
            Options {
                dots_are_text: true,
                sender: Some("me@here.example".to_owned()),
                ..to(&["you@there.example"])
            },
        );
        // git send-email, PHP, Python
        check(
            "-t -i",
            Options {
                from_header: true,
                dots_are_text: true,
                ..to(&[])
            },
        );
        check(
            "-ti -fa@b.example",
            Options {
                from_header: true,
                dots_are_text: true,
                sender: Some("a@b.example".to_owned()),
                ..to(&[])
            },
        );
        check(
            "-N failure,delay -R hdrs -V x a@b.example",
            Options {
                notify: Some(Notify::On {
                    success: false,
                    failure: true,
                    delay: true,
                }),
                ret: Some(Ret::Headers),
                envid: Some("x".to_owned()),
                ..to(&["a@b.example"])
            },
        );
        check(
            "-bs",
            Options {
                mode: Mode::Smtp,
                ..to(&[])
            },
        );
        check(
            "-bp --config /x --json",
            Options {
                mode: Mode::List,
                config: Some("/x".to_owned()),
                json: true,
                ..to(&[])
            },
        );
        check(
            "-q",
            Options {
                mode: Mode::Flush,
                ..to(&[])
            },
        );
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let check = |line: &str, part: &str| {
            let error = parse(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        };
        check("-bd", "turnspool serve");
        check("-bd -q30m", "turnspool serve");
        check("-bv a", "dns test");
        check("-bz", "-bz");
        check("-q30m", "only -q");
        check("-f", "needs a value");
        check("-N never,success", "-N");
        check("-Z", "-Z");
        check("--help-me", "--help-me");
    }
}
