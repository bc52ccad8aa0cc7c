//! Rules by which a sink misbehaves.
//!
//! ```text
//! STAGE [~ GLOB] [every N | first N | after N | chance P] ACTION
//! STAGE:   connect ehlo mail rcpt data content quit etrn
//! ACTION:  DDD [text]        reply with this code
//!          delay DURATION    answer later; further rules are looked at
//!          close             end the connection in order, without a reply
//!          reset             end it with RST
//!          silent            never answer anything again
//! ```
//!
//! `rcpt ~ defer*@* 450 4.2.1 Later`, `content every 10 451`,
//! `mail after 1000 close`, `content chance 0.01 delay 2s`.
//!
//! `N` counts the times that stage and pattern fitted, on one thread. The first
//! rule with another action than `delay` decides.

use std::str::FromStr;
use std::time::Duration;

use crate::sizes::{Draws, parse_duration};

/// Where in a session a rule applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Connect,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    /// The end of data, by the lone dot or the last chunk.
    Content,
    Quit,
    Etrn,
}

impl Stage {
    const NAMES: [(&'static str, Self); 8] = [
        ("connect", Self::Connect),
        ("ehlo", Self::Ehlo),
        ("mail", Self::Mail),
        ("rcpt", Self::Rcpt),
        ("data", Self::Data),
        ("content", Self::Content),
        ("quit", Self::Quit),
        ("etrn", Self::Etrn),
    ];
}

/// One rule.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    stage: Stage,
    glob: Option<String>,
    which: Which,
    action: Action,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Which {
    All,
    Every(u64),
    First(u64),
    After(u64),
    Chance(f64),
}

#[derive(Clone, PartialEq, Debug)]
enum Action {
    Answer(Answer),
    Delay(Duration),
}

/// What is done instead of the usual reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// This line, CRLF included.
    Reply(String),
    Close,
    Reset,
    Silent,
}

/// What the rules say about one event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ruling {
    pub(crate) delay: Duration,
    pub(crate) answer: Option<Answer>,
}

/// Rules with their counts: one for each thread.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    rules: Vec<(Rule, u64)>,
    draws: Draws,
}

impl Rules {
    pub(crate) fn new(rules: &[Rule], seed: u64) -> Self {
        let rules = rules.iter().map(|rule| (rule.clone(), 0)).collect();
        Self {
            rules,
            draws: Draws::new(seed),
        }
    }

    /// What to do at `stage` about `argument` (the path, the name).
    pub(crate) fn at(&mut self, stage: Stage, argument: &[u8]) -> Ruling {
        let mut ruling = Ruling::default();
        for (rule, count) in &mut self.rules {
            let fits = rule.stage == stage
                && rule
                    .glob
                    .as_ref()
                    .is_none_or(|glob| glob_fits(glob.as_bytes(), argument));
            if !fits {
                continue;
            }
            *count += 1;
            let chosen = match rule.which {
                Which::All => true,
                Which::Every(number) => count.is_multiple_of(number),
                Which::First(number) => *count <= number,
                Which::After(number) => *count > number,
                Which::Chance(chance) => self.draws.fraction() < chance,
            };
            match &rule.action {
                // Decided, but the later rules count all the same.
                _ if !chosen || ruling.answer.is_some() => {}
                Action::Delay(delay) => ruling.delay += *delay,
                Action::Answer(answer) => ruling.answer = Some(answer.clone()),
            }
        }
        ruling
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rest = text.trim();
        let name = word(&mut rest);
        let stage = Stage::NAMES
            .into_iter()
            .find_map(|(known, stage)| (known == name).then_some(stage))
            .ok_or_else(|| format!("{name:?} is no stage; {}", stage_names()))?;
        let mut glob = None;
        if rest.starts_with('~') {
            word(&mut rest);
            glob = Some(word(&mut rest).to_owned());
        }
        let number = |rest: &mut &str| -> Result<u64, String> {
            let text = word(rest);
            match text.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{text:?} is no number above 0")),
            }
        };
        let mut action = word(&mut rest);
        let which = match action {
            "every" => Which::Every(number(&mut rest)?),
            "first" => Which::First(number(&mut rest)?),
            "after" => Which::After(number(&mut rest)?),
            "chance" => {
                let text = word(&mut rest);
                match text.parse() {
                    Ok(chance) if (0.0..=1.0).contains(&chance) => Which::Chance(chance),
                    _ => return Err(format!("{text:?} is no chance from 0 to 1")),
                }
            }
            _ => Which::All,
        };
        if which != Which::All {
            action = word(&mut rest);
        }
        let action = match action {
            "close" => Action::Answer(Answer::Close),
            "reset" => Action::Answer(Answer::Reset),
            "silent" => Action::Answer(Answer::Silent),
            "delay" => Action::Delay(parse_duration(word(&mut rest))?),
            code if is_reply_code(code) => {
                let words = std::mem::take(&mut rest);
                let words = if words.is_empty() {
                    "As the rule says"
                } else {
                    words
                };
                if words.contains(['\r', '\n']) {
                    return Err("a reply text has no line end".to_owned());
                }
                Action::Answer(Answer::Reply(format!("{code} {words}\r\n")))
            }
            other => return Err(format!("{other:?} is no action")),
        };
        if !rest.is_empty() {
            return Err(format!("{rest:?} is left over"));
        }
        Ok(Self {
            stage,
            glob,
            which,
            action,
        })
    }
}

fn is_reply_code(text: &str) -> bool {
    matches!(text.as_bytes(), [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'])
}

fn stage_names() -> String {
    Stage::NAMES.map(|(name, _)| name).join(", ") + " are"
}

/// Takes the first word off `rest`.
fn word<'a>(rest: &mut &'a str) -> &'a str {
    let text = *rest;
    let (word, after) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    *rest = after.trim_start();
    word
}

/// `*` fits any octets, `?` one; case is ignored. Time is the product of the
/// lengths at worst, and both are short.
fn glob_fits(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut in_glob) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match glob.get(in_glob) {
            Some(b'*') => {
                star = Some((in_glob, at));
                in_glob += 1;
            }
            Some(octet) if *octet == b'?' || octet.eq_ignore_ascii_case(&text[at]) => {
                in_glob += 1;
                at += 1;
            }
            _ => match &mut star {
                Some((star_in_glob, taken)) => {
                    *taken += 1;
                    at = *taken;
                    in_glob = *star_in_glob + 1;
                }
                None => return false,
            },
        }
    }
    glob[in_glob..].iter().all(|octet| *octet == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (glob, text, fits) in [
            ("", "", true),
            ("*", "", true),
            ("*", "anything", true),
            ("defer*", "defer1@x", true),
            ("defer*", "Defer@x", true),
            ("defer*", "nodefer", false),
            ("*@x", "a@y@x", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "aab", false),
        ] {
            assert_eq!(
                glob_fits(glob.as_bytes(), text.as_bytes()),
                fits,
                "{glob} {text}"
            );
        }
    }

    #[test]
    fn rules_that_are_none() {
        for text in [
            "",
            "rcpt",
            "nowhere 450",
            "rcpt 650",
            "rcpt 45",
            "rcpt every 450",
            "rcpt every 0 450",
            "rcpt chance 2 450",
            "rcpt delay",
            "rcpt close now",
            "rcpt ~",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_rules_say() {
        let check = |rules: &[&str], events: &[(Stage, &str, &str)]| {
            let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
            let mut rules = Rules::new(&rules, 1);
            for (stage, argument, expected) in events {
                let ruling = rules.at(*stage, argument.as_bytes());
                let told = match ruling.answer {
                    Some(Answer::Reply(reply)) => reply.trim_end().to_owned(),
                    other => format!("{other:?} {}", ruling.delay.as_millis()),
                };
                assert_eq!(told, *expected, "{stage:?} {argument}");
            }
        };
        check(
            &[
                "rcpt ~ defer* 450 4.2.1 Later",
                "rcpt delay 10ms",
                "rcpt every 2 close",
            ],
            &[
                (Stage::Rcpt, "defer@x", "450 4.2.1 Later"),
                (Stage::Rcpt, "a@x", "Some(Close) 10"),
                (Stage::Rcpt, "a@x", "None 10"),
                (Stage::Mail, "defer@x", "None 0"),
            ],
        );
        check(
            &["content first 1 451", "content after 2 552 5.2.2 Full"],
            &[
                (Stage::Content, "", "451 As the rule says"),
                (Stage::Content, "", "None 0"),
                (Stage::Content, "", "552 5.2.2 Full"),
            ],
        );
    }
}
