//! What is drawn of those who are beside the program: hosts that take mail, and clients
//! that bring it.

use std::collections::VecDeque;

use crate::client::{Client, Exit, Manner};
use crate::mailbox::{Abilities, Mailbox};
use crate::random::Random;
use crate::server::Offers;

const MICROSECOND: u64 = 1000;
const MILLISECOND: u64 = 1000 * MICROSECOND;
const SECOND: u64 = 1000 * MILLISECOND;

/// A final host, and what it offers.
pub(crate) struct HostPlan {
    pub(crate) offers: Offers,
    pub(crate) lmtp: bool,
    pub(crate) latency: u64,
    /// Connects are refused, once in so many; 0 for never.
    pub(crate) refuses_in: u64,
    /// It is that of a mailbox.
    pub(crate) mailbox: Option<(Mailbox, Abilities)>,
}

impl HostPlan {
    /// One that takes mail.
    pub(crate) fn draw(random: &mut Random, lmtp: bool, misdeed_in: u64) -> Self {
        let mut one = |in_ten: u64| random.below(10) < in_ten;
        let offers = Offers {
            ehlo: lmtp || one(9),
            pipelining: one(7),
            chunking: !lmtp && one(5),
            eight_bit: one(8),
            dsn: one(5),
            size: one(5),
            flight: one(2),
        };
        let latencies = [10 * MICROSECOND, MILLISECOND, 50 * MILLISECOND, SECOND];
        Self {
            offers,
            lmtp,
            latency: random.pick(&latencies),
            refuses_in: refuses_in(random, misdeed_in),
            mailbox: None,
        }
    }

    /// One that has a mailbox, and is nobody's next hop.
    pub(crate) fn of_mailbox(
        random: &mut Random,
        mailbox: Mailbox,
        abilities: Abilities,
        misdeed_in: u64,
    ) -> Self {
        Self {
            offers: Offers::default(),
            lmtp: false,
            latency: random.pick(&[MILLISECOND, 50 * MILLISECOND]),
            refuses_in: refuses_in(random, misdeed_in),
            mailbox: Some((mailbox, abilities)),
        }
    }
}

/// Only where anything may go wrong.
fn refuses_in(random: &mut Random, misdeed_in: u64) -> u64 {
    if misdeed_in > 0 {
        random.between(1, 8)
    } else {
        0
    }
}

/// Somebody who brings these, and goes early once in so many times.
pub(crate) fn client(random: &mut Random, messages: VecDeque<usize>, exit_in: u64) -> Client {
    let manner = random.pick(&[Manner::Plain, Manner::Pipelined, Manner::Chunked]);
    let mut client = Client::new(manner, messages, random.fork());
    if random.one_in(exit_in) {
        let exit = random.pick(&[Exit::Finish, Exit::Reset]);
        let most = random.pick(&[200, 2000, 40_000]);
        client.exit = Some((random.below(most), exit));
    }
    client
}
