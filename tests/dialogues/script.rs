//! The text form of a dialogue.

use std::time::Duration;

use turnspool::smtp::auth::{Mechanism, Mechanisms};
use turnspool::smtp::data::BareNewline;
use turnspool::smtp::etrn::{Answer, Waiting};
use turnspool::smtp::reply::Refusal;
use turnspool::smtp::server::{NotTaken, Verdict};
use turnspool::smtp::settings::{AuthOffer, EarlyTalker, Role, Settings};
use turnspool::smtp::trace::TlsFacts;

use crate::login::LoginAnswer;

/// What happens besides what the client says.
///
/// `set KEY VALUE` (before all else), `implicit-tls [NAME]` (in the client's
/// certificate), `show trace`,
/// `answer VERDICT` (to the next question that has none), `answer-later VERDICT`,
/// `begin OUTCOME`, `begin-later OUTCOME`, `store OUTCOME`, `store-later OUTCOME`,
/// `etrn ANSWER`, `etrn-later ANSWER`, `go` (the late answer comes), `lose OUTCOME` (the message is lost now),
/// `advance SECONDSs`, `stop`, `peer-closes`, `login banned|busy|slow` (the next
/// question about AUTH).
///
/// VERDICT: `accept`, `refuse CODE X.Y.Z TEXT`, `dismiss CODE X.Y.Z TEXT`.
/// ANSWER: `started MESSAGES OCTETS`, `joined MESSAGES OCTETS`, `nothing`, `unable`,
/// `too-often`, `not-allowed`, `auth-required`.
/// OUTCOME: `ok`, `no-room`, `failed`, `refuse CODE X.Y.Z TEXT`.
#[derive(Debug)]
pub(crate) enum Directive {
    Login(LoginAnswer),
    Answer(Verdict),
    AnswerLater(Verdict),
    Outcome(Stage, Result<(), NotTaken>),
    OutcomeLater(Stage, Result<(), NotTaken>),
    Etrn(Answer),
    EtrnLater(Answer),
    /// The next refusal of what moves no mail waits so long.
    Pause(Duration),
    Go,
    Lose(NotTaken),
    Advance(Duration),
    Stop,
    PeerCloses,
    Impatient,
    ShowTrace,
}

/// Which of a message's two answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Begin,
    Store,
}

pub(crate) enum Step {
    /// What the client says until somebody else acts, in lines.
    Client(Vec<Vec<u8>>),
    /// What we have said and told since the last comparison.
    Expect {
        replies: String,
        events: Vec<String>,
    },
    Sends(usize),
    Do(Directive),
}

pub(crate) struct Script {
    pub(crate) settings: Settings,
    pub(crate) tls: Option<TlsFacts>,
    /// With the line where each begins.
    pub(crate) steps: Vec<(usize, Step)>,
}

/// A dialogue, or the line that is wrong and why.
pub(crate) fn parse(text: &str) -> Result<Script, (usize, String)> {
    let mut script = Script {
        settings: Settings::new("relay.example".parse().expect("a domain")),
        tls: None,
        steps: Vec::new(),
    };
    for (i, line) in text.lines().enumerate() {
        let number = i + 1;
        parse_line(&mut script, number, line).map_err(|error| (number, error))?;
    }
    Ok(script)
}

fn parse_line(script: &mut Script, number: usize, line: &str) -> Result<(), String> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
    let steps = &mut script.steps;
    match mark {
        "C:" | "c:" => {
            let mut octets = unescape(rest)?;
            if mark == "C:" {
                octets.extend_from_slice(b"\r\n");
            }
            match steps.last_mut() {
                Some((_, Step::Client(lines))) => lines.push(octets),
                _ => {
                    // What was not announced must not have happened.
                    if !matches!(
                        steps.last(),
                        Some((_, Step::Expect { .. } | Step::Do(_) | Step::Sends(_)))
                    ) {
                        steps.push((number, expect_nothing()));
                    }
                    steps.push((number, Step::Client(vec![octets])));
                }
            }
        }
        "S:" | "E:" => {
            if !matches!(steps.last(), Some((_, Step::Expect { .. }))) {
                steps.push((number, expect_nothing()));
            }
            let Some((_, Step::Expect { replies, events })) = steps.last_mut() else {
                unreachable!("it was pushed")
            };
            if mark == "S:" {
                replies.push_str(rest);
                replies.push_str("\r\n");
            } else {
                events.push(rest.to_owned());
            }
        }
        "sends:" => {
            let sends = rest.parse().map_err(|_| "want a number".to_owned())?;
            steps.push((number, Step::Sends(sends)));
        }
        "!" => {
            if let Some(setting) = rest.strip_prefix("set ") {
                return set(&mut script.settings, setting);
            }
            if let Some(client) = rest.strip_prefix("implicit-tls") {
                let client = client.trim();
                script.tls = Some(TlsFacts {
                    protocol: "TLSv1.2",
                    cipher: "ECDHE",
                    client: (!client.is_empty()).then(|| client.into()),
                });
                return Ok(());
            }
            let directive = directive(rest)?;
            // A directive acts on the world; what was said before it is compared first.
            let acts = matches!(
                directive,
                Directive::Go
                    | Directive::Lose(_)
                    | Directive::Advance(_)
                    | Directive::Stop
                    | Directive::PeerCloses
                    | Directive::Impatient
            );
            if acts && matches!(steps.last(), Some((_, Step::Client(_)))) {
                steps.push((number, expect_nothing()));
            }
            steps.push((number, Step::Do(directive)));
            if acts {
                steps.push((number, expect_nothing()));
            }
        }
        _ => return Err(format!("no line begins with {mark:?}")),
    }
    Ok(())
}

fn expect_nothing() -> Step {
    Step::Expect {
        replies: String::new(),
        events: Vec::new(),
    }
}

fn directive(text: &str) -> Result<Directive, String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(match word {
        "answer" => Directive::Answer(verdict(rest)?),
        "answer-later" => Directive::AnswerLater(verdict(rest)?),
        "begin" => Directive::Outcome(Stage::Begin, outcome(rest)?),
        "begin-later" => Directive::OutcomeLater(Stage::Begin, outcome(rest)?),
        "store" => Directive::Outcome(Stage::Store, outcome(rest)?),
        "store-later" => Directive::OutcomeLater(Stage::Store, outcome(rest)?),
        "etrn" => Directive::Etrn(answer(rest)?),
        "etrn-later" => Directive::EtrnLater(answer(rest)?),
        "login" => Directive::Login(match rest {
            "banned" => LoginAnswer::Banned,
            "busy" => LoginAnswer::Busy,
            "slow" => LoginAnswer::Slow,
            _ => return Err("want login banned, busy or slow".to_owned()),
        }),
        "pause" => Directive::Pause(seconds(rest)?),
        "go" => Directive::Go,
        "lose" => Directive::Lose(outcome(rest)?.err().ok_or("ok is no loss")?),
        "advance" => Directive::Advance(seconds(rest)?),
        "stop" => Directive::Stop,
        "peer-closes" => Directive::PeerCloses,
        "impatient" => Directive::Impatient,
        "show" if rest == "trace" => Directive::ShowTrace,
        _ => return Err(format!("no directive {text:?}")),
    })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text
        .strip_suffix('s')
        .and_then(|number| number.parse().ok());
    number
        .map(Duration::from_secs)
        .ok_or_else(|| format!("want seconds like 300s, not {text:?}"))
}

fn verdict(text: &str) -> Result<Verdict, String> {
    match text.split_once(' ') {
        None if text == "accept" => Ok(Verdict::Accept),
        Some(("refuse", rest)) => Ok(Verdict::Refuse(refusal(rest)?)),
        Some(("dismiss", rest)) => Ok(Verdict::Dismiss(refusal(rest)?)),
        _ => Err(format!("no verdict {text:?}")),
    }
}

fn answer(text: &str) -> Result<Answer, String> {
    let words: Vec<&str> = text.split(' ').collect();
    let waiting = |messages: &str, octets: &str| -> Result<Waiting, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        Ok(Waiting {
            messages: number(messages)?,
            octets: number(octets)?,
        })
    };
    Ok(match words[..] {
        ["started", messages, octets] => Answer::Started(waiting(messages, octets)?),
        ["joined", messages, octets] => Answer::Joined(waiting(messages, octets)?),
        ["nothing"] => Answer::Nothing,
        ["unable"] => Answer::Unable,
        ["too-often"] => Answer::TooOften,
        ["not-allowed"] => Answer::NotAllowed,
        ["auth-required"] => Answer::AuthRequired,
        _ => return Err(format!("no answer {text:?}")),
    })
}

fn outcome(text: &str) -> Result<Result<(), NotTaken>, String> {
    match text.split_once(' ') {
        None if text == "ok" => Ok(Ok(())),
        None if text == "no-room" => Ok(Err(NotTaken::NoRoom)),
        None if text == "failed" => Ok(Err(NotTaken::Failed)),
        Some(("refuse", rest)) => Ok(Err(NotTaken::Refused(refusal(rest)?))),
        _ => Err(format!("no outcome {text:?}")),
    }
}

/// `550 5.1.1 text`.
fn refusal(text: &str) -> Result<Refusal, String> {
    let mut words = text.splitn(3, ' ');
    let mut next = || {
        words
            .next()
            .ok_or(format!("want code, status and text, not {text:?}"))
    };
    let code = next()?
        .parse()
        .map_err(|_| "the code is no number".to_owned())?;
    let status: Vec<u16> = next()?
        .split('.')
        .filter_map(|part| part.parse().ok())
        .collect();
    let [_, subject, detail] = status[..] else {
        return Err("want a status like 5.1.1".to_owned());
    };
    Ok(Refusal::new(code, subject, detail, "").with_text(next()?.to_owned()))
}

fn set(settings: &mut Settings, text: &str) -> Result<(), String> {
    let (key, value) = text.split_once(' ').ok_or("want set KEY VALUE")?;
    let number = || {
        value
            .parse::<u64>()
            .map_err(|_| format!("{value:?} is no number"))
    };
    let small = || {
        value
            .parse::<u32>()
            .map_err(|_| format!("{value:?} is no number"))
    };
    match key {
        "hostname" => settings.hostname = value.parse().map_err(|_| "no domain".to_owned())?,
        "message_bytes_max" => settings.message_bytes_max = number()?,
        "text_line_bytes_max" => settings.text_line_bytes_max = number()?,
        "discard_bytes_max" => settings.discard_bytes_max = number()?,
        "recipients_max" => settings.recipients_max = small()?,
        "transactions_max" => settings.transactions_max = Some(small()?),
        "errors_max" => settings.errors_max = small()?,
        "commands_max" => settings.commands_max = small()?,
        "pauses_max" => settings.pauses_max = small()?,
        "idle_commands_max" => settings.idle_commands_max = small()?,
        "text_rate_min" => settings.timeouts.text_rate_min = number()?,
        "hops_max" => settings.hops_max = small()?,
        "command_bytes_max" => {
            settings.command_bytes_max = value.parse().map_err(|_| "no number".to_owned())?;
        }
        "bare_newline" if value == "normalise" => settings.bare_newline = BareNewline::Normalise,
        "greeting_pause" => {
            let pause = seconds(value)?;
            settings.early_talker = EarlyTalker::Refuse { pause };
        }
        "start_tls" if value == "offered" => settings.offers.start_tls = true,
        "etrn" if value == "offered" => settings.offers.etrn = true,
        "auth" => settings.offers.auth = Some(AuthOffer::new(mechanisms(value)?)),
        "auth_needed" if value == "yes" => {
            settings
                .offers
                .auth
                .as_mut()
                .ok_or("set auth first")?
                .needed = true;
        }
        "role" if value == "odmr" => settings.role = Role::Odmr,
        "mt_priority" if value == "offered" => settings.offers.mt_priority = true,
        "deliver_by" => settings.offers.deliver_by = Some(seconds(value)?),
        "future_release" => settings.offers.future_release = Some(seconds(value)?),
        _ => return Err(format!("no setting {text:?}")),
    }
    Ok(())
}

fn mechanisms(text: &str) -> Result<Mechanisms, String> {
    let mut mechanisms = Mechanisms::NONE;
    for name in text.split(',') {
        let mechanism = Mechanism::by_name(name.as_bytes());
        mechanisms = mechanisms.with(mechanism.ok_or("no such mechanism")?);
    }
    Ok(mechanisms)
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        octets.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let kind = escape.chars().next().ok_or("a backslash at the end")?;
        rest = &escape[kind.len_utf8()..];
        match kind {
            'r' => octets.push(b'\r'),
            'n' => octets.push(b'\n'),
            '0' => octets.push(0),
            '\\' => octets.push(b'\\'),
            'x' => {
                let digits = rest.get(..2).ok_or("want two digits behind \\x")?;
                let octet = u8::from_str_radix(digits, 16);
                octets.push(octet.map_err(|_| "want two digits behind \\x")?);
                rest = &rest[2..];
            }
            '{' => {
                let (number, behind) = rest.split_once('}').ok_or("an open brace")?;
                let count = number.parse().map_err(|_| "no number in braces")?;
                let octet = *behind.as_bytes().first().ok_or("nothing to repeat")?;
                octets.extend(std::iter::repeat_n(octet, count));
                rest = &behind[1..];
            }
            _ => return Err(format!("no escape \\{kind}")),
        }
    }
    octets.extend_from_slice(rest.as_bytes());
    Ok(octets)
}
