//! What a collector of kind pop3 is, and what is said about a run of it between the
//! cores.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::core::CoreId;
use crate::pop3::mailbox::{Large, Policy};
use crate::pop3::memory::Account;
use crate::pop3::recipients::Rules;
use crate::pop3::{self, Login};
use crate::report::collecting::Tally;
use crate::route::HostName;

/// A mailbox that is collected, as the operator wants it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collector {
    /// For logs and commands.
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
    /// Runs of itself, if it does.
    pub every: Option<Duration>,
}

impl Collector {
    /// The data core that collects it, always the same: what is remembered of the
    /// mailbox is in its log.
    #[must_use]
    pub fn home(account: &Account, data_cores: u8) -> CoreId {
        // FNV-1a: the same in each process and version.
        let hash = account
            .as_str()
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, octet| {
                (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193)
            });
        let core = hash % u32::from(data_cores.max(1));
        CoreId(u8::try_from(core).expect("below the number of cores"))
    }
}

/// One run that a data core is to make.
#[derive(Clone, Debug)]
pub struct Order {
    /// Of what.
    pub collector: Arc<Collector>,
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
}

/// How a run went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Of what.
    pub account: Account,
    /// What was done.
    pub tally: Tally,
    /// Why it did not end in good order, and what follows.
    pub failure: Option<(Next, String)>,
}
