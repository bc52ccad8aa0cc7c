//! What a collector is, and what is said about a run of it between the cores.
//!
//! A collector is a way in which this site gets its own mail: it takes it away from a
//! mailbox (POP3) or from a provider over one connection (ATRN), or it sets something in
//! motion after which the mail comes by itself (ETRN, a wake-up message, a program).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::core::copies::Copies;
use crate::core::summoning::Letter;
use crate::core::{CoreId, Host};
use crate::link::collecting::CollectKind;
use crate::pop3::mailbox::{Large, Oversize, Policy};
use crate::pop3::memory::Account;
use crate::pop3::recipients::Rules;
use crate::pop3::{self, Login};
use crate::report::collecting::Tally;
use crate::route::{HostName, HostTls, Network};
use crate::smtp::client::asking::Ask;

/// A collector, as the operator wants it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collector {
    /// For logs and commands. No two have the same.
    pub name: Box<str>,
    /// Runs of itself, if it does.
    pub every: Option<Duration>,
    /// How it gets where it has to.
    pub way: Way,
    /// How long to wait for the mail that it has set in motion.
    pub wait: Duration,
    /// From where that comes, besides the servers that were asked. None: also from
    /// wherever mail comes for what was asked for.
    pub callers: Vec<Network>,
    /// By what.
    pub means: Means,
}

/// How a collector gets where it has to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Way {
    /// It needs no link.
    Near,
    /// It runs while a link is up.
    OverLink,
}

/// By what a collector gets mail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Means {
    /// POP3.
    Mailbox(Arc<PopMailbox>),
    /// ETRN or ATRN.
    Provider(Provider),
    /// A wake-up message.
    Letter(Arc<Letter>),
    /// A program with its arguments. Never empty.
    Command(Vec<String>),
}

impl Means {
    /// As the schedule names it.
    #[must_use]
    pub const fn kind(&self) -> CollectKind {
        match self {
            Self::Mailbox(_) => CollectKind::Pop3,
            Self::Provider(Provider {
                ask: Ask::Turn(_), ..
            }) => CollectKind::Atrn,
            Self::Provider(Provider {
                ask: Ask::Release(_),
                ..
            }) => CollectKind::Etrn,
            Self::Letter(_) => CollectKind::Wakeup,
            Self::Command(_) => CollectKind::Command,
        }
    }

    /// What becomes of large messages, where it is a mailbox.
    #[must_use]
    pub fn oversize(&self) -> Option<Oversize> {
        match self {
            Self::Mailbox(mailbox) => Some(mailbox.policy.oversize),
            Self::Provider(_) | Self::Letter(_) | Self::Command(_) => None,
        }
    }

    /// From where or by what, for the operator.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Mailbox(mailbox) => mailbox.account.as_str().to_owned(),
            Self::Provider(provider) => {
                let hosts = provider.servers.iter();
                let hosts: Vec<_> = hosts.map(|(host, port)| format!("{host}:{port}")).collect();
                hosts.join(", ")
            }
            Self::Letter(letter) => letter.to.to_string(),
            Self::Command(words) => words[0].clone(),
        }
    }
}

/// A provider who holds our mail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Provider {
    /// Its servers with their ports, in the order in which they are tried. Never empty.
    pub servers: Vec<(HostName, u16)>,
    /// How TLS is used.
    pub tls: HostTls,
    /// User name, and where the password is. Read at each run.
    pub login: Option<(Box<str>, PathBuf)>,
    /// What is asked for.
    pub ask: Ask,
}

/// A mailbox that is collected, as the operator wants it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PopMailbox {
    /// The collector's name.
    pub name: Box<str>,
    /// Under which it is remembered.
    pub account: Account,
    /// The server.
    pub host: HostName,
    /// Where it listens.
    pub port: u16,
    /// The user name.
    pub user: Box<str>,
    /// Where the password is. Read at each run.
    pub password_file: PathBuf,
    /// How the session goes.
    pub session: Arc<pop3::settings::Settings>,
    /// What is collected, and how long it stays there.
    pub policy: Policy,
    /// For whom it is.
    pub rules: Rules,
    /// How long a Message-ID is remembered for a recipient; zero: not at all.
    pub duplicates: Duration,
    /// The copies that are kept of what was collected.
    pub copies: Option<Copies>,
}

/// The data core that sees to a mailbox or provider, always the same for a name: what is
/// remembered of a mailbox is in that core's log.
#[must_use]
pub fn home(name: &str, data_cores: u8) -> CoreId {
    // FNV-1a: the same in each process and version.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, octet| {
        (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193)
    });
    let core = hash % u32::from(data_cores.max(1));
    CoreId(u8::try_from(core).expect("below the number of cores"))
}

/// A run of a collector, given by the control core and never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RunId(pub u64);

/// What a run needs from outside, read and looked up.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// The addresses of a POP3 server in their order, and with what we log in.
    Mailbox(Vec<SocketAddr>, Login),
    /// The hosts of a provider, each with how we log in there.
    Provider(Vec<Host>),
}

/// One run over a mailbox that a data core is to make.
#[derive(Clone, Debug)]
pub struct Order {
    /// To be answered with.
    pub run: RunId,
    /// Of what.
    pub collector: Arc<PopMailbox>,
    /// The server's addresses, in the order in which they are to be tried.
    pub addresses: VecDeque<SocketAddr>,
    /// With which we log in.
    pub login: Login,
    /// Whether messages above the limit are collected.
    pub large: Large,
}

/// What the next run of itself depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// As usual.
    Usual,
    /// The server did not take our name and password: asking often locks accounts.
    LoginRefused,
    /// Nobody was there, or there was no time for us: where the link has just come up, it
    /// may be for that.
    Soon,
}

/// Whether mail comes behind a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Behind {
    /// None: it is here, or there is none.
    Nothing,
    /// There may be some.
    Perhaps,
    /// It was announced.
    Announced,
}

/// How a run went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Which.
    pub id: RunId,
    /// What was done.
    pub tally: Tally,
    /// What a provider said, for the operator.
    pub said: Option<String>,
    /// What it has set in motion.
    pub behind: Behind,
    /// Why it did not end in good order, and what follows.
    pub failure: Option<(Next, String)>,
    /// The server wants no other login for so long.
    pub login_delay: Option<Duration>,
}

impl Run {
    /// Something was set in motion.
    #[must_use]
    pub const fn begun(id: RunId) -> Self {
        Self {
            id,
            tally: Tally::NOTHING,
            said: None,
            behind: Behind::Perhaps,
            failure: None,
            login_delay: None,
        }
    }

    /// One that never came to anything.
    #[must_use]
    pub fn failed(id: RunId, why: String) -> Self {
        Self {
            id,
            tally: Tally::default(),
            said: None,
            behind: Behind::Nothing,
            failure: Some((Next::Usual, why)),
            login_delay: None,
        }
    }
}
