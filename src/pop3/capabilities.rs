//! What a server can do (RFC 2449, RFC 2595, RFC 5034).

use std::time::Duration;

use super::settings::Mechanism;

/// Longest pause between two logins that a server gets (RFC 2449 §6.5). What it says is
/// its own affair; a number without sense must not end collecting.
const LOGIN_DELAY_MAX: Duration = Duration::from_secs(24 * 3600);

/// What CAPA said, or what is assumed of a server that does not know CAPA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Capabilities {
    pub(super) pipelining: bool,
    pub(super) stls: bool,
    pub(super) user: bool,
    pub(super) top: bool,
    /// Worth a try.
    pub(super) uidl: bool,
    /// CAPA names it.
    pub(super) uidl_is_announced: bool,
    /// Mechanisms that we know, too.
    pub(super) sasl: Vec<Mechanism>,
    /// At least so long between two logins. Where it depends on the user this is the
    /// longest: RFC 2449 §6.5 has it so before the login.
    pub(super) login_delay: Option<Duration>,
    /// Days for which messages stay there (RFC 2449 §6.7), if not for ever.
    pub(super) expire_days: Option<u32>,
}

impl Capabilities {
    /// Of a server that has answered nothing yet.
    pub(super) fn none() -> Self {
        Self {
            pipelining: false,
            stls: false,
            user: false,
            top: false,
            uidl: false,
            uidl_is_announced: false,
            sasl: Vec::new(),
            login_delay: None,
            expire_days: None,
        }
    }

    /// Of a server that does not know CAPA: all that RFC 1939 has, and commands one
    /// after the other. TOP and UIDL are optional there; they are tried.
    pub(super) fn of_rfc_1939() -> Self {
        Self {
            user: true,
            top: true,
            uidl: true,
            ..Self::none()
        }
    }

    /// A line of the answer to CAPA.
    pub(super) fn line(&mut self, line: &[u8]) {
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let Some(name) = words.next() else { return };
        match name.to_ascii_uppercase().as_slice() {
            b"PIPELINING" => self.pipelining = true,
            b"STLS" => self.stls = true,
            b"USER" => self.user = true,
            b"TOP" => self.top = true,
            b"UIDL" => {
                self.uidl = true;
                self.uidl_is_announced = true;
            }
            b"SASL" => {
                for mechanism in words.filter_map(Mechanism::by_name) {
                    if !self.sasl.contains(&mechanism) {
                        self.sasl.push(mechanism);
                    }
                }
            }
            b"LOGIN-DELAY" => {
                let delay = words.next().and_then(number).map(Duration::from_secs);
                self.login_delay = delay.map(|delay| delay.min(LOGIN_DELAY_MAX));
            }
            // Beside a number there is NEVER.
            b"EXPIRE" => {
                let days = words.next().and_then(number);
                self.expire_days = days.and_then(|days| u32::try_from(days).ok());
            }
            _ => {}
        }
    }
}

/// Digits and nothing else. One that is too large to be counted is the largest.
fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = std::str::from_utf8(word).ok()?;
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dovecot_says() {
        let mut got = Capabilities::none();
        for line in [
            "CAPA",
            "TOP",
            "UIDL",
            "RESP-CODES",
            "PIPELINING",
            "AUTH-RESP-CODE",
            "STLS",
            "USER",
            "SASL PLAIN LOGIN cram-md5 PLAIN SCRAM-SHA-256-PLUS scram-sha-256",
            "",
        ] {
            got.line(line.as_bytes());
        }
        let expected = Capabilities {
            pipelining: true,
            stls: true,
            user: true,
            top: true,
            uidl: true,
            uidl_is_announced: true,
            sasl: vec![Mechanism::Plain, Mechanism::CramMd5, Mechanism::ScramSha256],
            login_delay: None,
            expire_days: None,
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn how_often_and_how_long() {
        let check = |line: &str, delay: Option<u64>, days: Option<u32>| {
            let mut got = Capabilities::none();
            got.line(line.as_bytes());
            assert_eq!(got.login_delay, delay.map(Duration::from_secs), "{line}");
            assert_eq!(got.expire_days, days, "{line}");
        };
        check("LOGIN-DELAY 900", Some(900), None);
        check("login-delay 60 USER", Some(60), None);
        check("LOGIN-DELAY 99999999999999999999999", Some(86_400), None);
        for nonsense in ["LOGIN-DELAY", "LOGIN-DELAY -1", "LOGIN-DELAY +5", "EXPIRE"] {
            check(nonsense, None, None);
        }
        check("EXPIRE 0", None, Some(0));
        check("EXPIRE 30 USER", None, Some(30));
        check("EXPIRE NEVER", None, None);
        check("EXPIRE 99999999999999999999999", None, None);
    }
}
