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
