//! What a client session is waiting for, as a table: words for the operator and time-out.

use std::fmt;
use std::time::Duration;

/// What the session is waiting for. Each has a time-out in [`Timeouts`] and words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// The connection.
    Connect,
    /// 220.
    Greeting,
    /// The reply to EHLO, HELO or LHLO.
    Hello,
    /// The reply to STARTTLS.
    StartTls,
    /// The TLS handshake.
    Handshake,
    /// A reply in the AUTH exchange.
    Auth,
    /// The reply to ETRN.
    Release,
    /// The reply to ATRN.
    Turn,
    /// The reply to RSET.
    Reset,
    /// The reply to MAIL.
    Mail,
    /// The reply to RCPT.
    Rcpt,
    /// 354.
    Data,
    /// That octets leave.
    Sending,
    /// The reply to the end of data.
    End,
    /// A job.
    Idle,
    /// 221.
    Quit,
}

impl Stage {
    /// All, for tables and tests.
    pub const ALL: [Self; 16] = [
        Self::Connect,
        Self::Greeting,
        Self::Hello,
        Self::StartTls,
        Self::Handshake,
        Self::Auth,
        Self::Release,
        Self::Turn,
        Self::Reset,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Sending,
        Self::End,
        Self::Idle,
        Self::Quit,
    ];

    /// Goes behind "while": `while waiting for the greeting`.
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Greeting => "waiting for the greeting",
            Self::Hello => "waiting for the reply to our hello",
            Self::StartTls => "waiting for the reply to STARTTLS",
            Self::Handshake => "negotiating TLS",
            Self::Auth => "authenticating",
            Self::Release => "waiting for the reply to ETRN",
            Self::Turn => "waiting for the reply to ATRN",
            Self::Reset => "waiting for the reply to RSET",
            Self::Mail => "waiting for the reply to MAIL",
            Self::Rcpt => "waiting for the reply to RCPT",
            Self::Data => "waiting for the reply to DATA",
            Self::Sending => "sending",
            Self::End => "waiting for the reply to the end of data",
            Self::Idle => "idle between messages",
            Self::Quit => "waiting for the reply to QUIT",
        }
    }

    /// What the peer answered to. Goes behind "in reply to".
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::Connect | Self::Greeting => "the connection",
            Self::Hello => "our hello",
            Self::StartTls | Self::Handshake => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Release => "ETRN",
            Self::Turn => "ATRN",
            Self::Reset => "RSET",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Sending | Self::End => "the end of data",
            Self::Idle => "nothing",
            Self::Quit => "QUIT",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.phrase())
    }
}

/// How long to wait, stage by stage. The defaults are those of RFC 5321 §4.5.3.2
/// where it names one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Until the connection stands. A minute: SYN is repeated five times in it.
    pub connect: Duration,
    /// §4.5.3.2.1: 5 minutes.
    pub greeting: Duration,
    /// 5 minutes, as for MAIL.
    pub hello: Duration,
    /// The reply to STARTTLS, and then the handshake: 2 minutes each.
    pub tls: Duration,
    /// Each reply of the exchange (RFC 4954 names none): 2 minutes.
    pub auth: Duration,
    /// RFC 2645 §7 asks for 10 minutes or more: the provider looks for mail meanwhile.
    pub turn: Duration,
    /// §4.5.3.2.2: 5 minutes. Also for RSET and ETRN.
    pub mail: Duration,
    /// §4.5.3.2.3: 5 minutes.
    pub rcpt: Duration,
    /// §4.5.3.2.4: 2 minutes.
    pub data: Duration,
    /// §4.5.3.2.5: 3 minutes in which no octet left, and so long in all of what they take
    /// longer than [`Timeouts::sending_rate_min`] asks for.
    pub sending: Duration,
    /// Octets a second that leave at least. Below what is left of a line of 2400 bit/s to
    /// each of ten connections: it is for hosts that take an octet now and then, of which
    /// each kept a connection for ever.
    pub sending_rate_min: u64,
    /// All replies to the commands of one transaction together, and again all those to its
    /// end, which are several in LMTP: half an hour. Each may take minutes, and there may be
    /// a hundred.
    pub transaction: Duration,
    /// §4.5.3.2.6: 10 minutes. Shorter ones deliver twice.
    pub end: Duration,
    /// Without a job. The server hangs up after 5 minutes (§4.5.3.2.7).
    pub idle: Duration,
    /// For 221. Nothing hangs on it.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            connect: MINUTE,
            greeting: 5 * MINUTE,
            hello: 5 * MINUTE,
            tls: 2 * MINUTE,
            auth: 2 * MINUTE,
            turn: 10 * MINUTE,
            mail: 5 * MINUTE,
            rcpt: 5 * MINUTE,
            data: 2 * MINUTE,
            sending: 3 * MINUTE,
            sending_rate_min: 20,
            transaction: 30 * MINUTE,
            end: 10 * MINUTE,
            idle: 2 * MINUTE,
            quit: Duration::from_secs(30),
        }
    }
}

impl Timeouts {
    /// The one for a stage.
    #[must_use]
    pub const fn of(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Connect => self.connect,
            Stage::Greeting => self.greeting,
            Stage::Hello => self.hello,
            Stage::StartTls | Stage::Handshake => self.tls,
            Stage::Auth => self.auth,
            Stage::Turn => self.turn,
            Stage::Release | Stage::Reset | Stage::Mail => self.mail,
            Stage::Rcpt => self.rcpt,
            Stage::Data => self.data,
            Stage::Sending => self.sending,
            Stage::End => self.end,
            Stage::Idle => self.idle,
            Stage::Quit => self.quit,
        }
    }
}
