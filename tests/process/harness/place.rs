//! Loopback addresses that nobody else uses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

/// Outside the range from which the kernel takes ports for outgoing connections.
const PORT_FIRST: u16 = 2525;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An address on 127.0.0.0/8 for one server of this test process: the process
/// number is in the middle octets, a counter in the last one, so nothing is bound
/// and released, and nobody can come in between.
pub(crate) fn next_address() -> SocketAddr {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // 0 and 255 are left out: 127.0.0.1 has the rest of the machine's servers, and
    // a last octet of 255 looks like a broadcast.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let high = if high == 0 { 1 } else { high };
    let last = u8::try_from(number % 254 + 1).expect("below 255");
    let port = PORT_FIRST + u16::try_from(number / 254).expect("few servers");
    SocketAddr::from((Ipv4Addr::new(127, high, low, last), port))
}

/// The port of all mail exchangers of the tests, below those of the other servers.
pub(crate) const EXCHANGER_PORT: u16 = PORT_FIRST - 1;

static NEXT_EXCHANGER: AtomicU32 = AtomicU32::new(0);

/// The same for a mail exchanger: all of them have one port, since MX records name
/// none.
pub(crate) fn next_exchanger() -> SocketAddr {
    let number = NEXT_EXCHANGER.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let high = if high == 0 { 1 } else { high };
    let last = u8::try_from(number + 1).expect("at most 255 exchangers in all tests");
    SocketAddr::from((Ipv4Addr::new(127, high, low, last), EXCHANGER_PORT))
}
