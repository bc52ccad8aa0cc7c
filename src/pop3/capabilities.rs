//! What a server can do (RFC 2449, RFC 2595, RFC 5034).

use super::settings::Mechanism;

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
            _ => {}
        }
    }
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
        };
        assert_eq!(got, expected);
    }
}
