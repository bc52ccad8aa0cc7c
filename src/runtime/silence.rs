//! How long the other end of a connection may give no sign of life.
//!
//! A line that breaks tells nobody: the kernel repeats what was sent for a quarter of an
//! hour, and who waits for an answer hears nothing, for ever. The time-outs of the sessions
//! are no help: they are for a host that thinks long, which may take ten minutes (RFC 5321
//! §4.5.3.2.6), and so long what is under way on a dead connection cannot go another way.
//!
//! So the kernel watches ([`watch`]). A connection is given up
//! - when what was sent is not acknowledged for so long (`TCP_USER_TIMEOUT`);
//! - when nothing is under way, and the other end's kernel does not answer that it is there
//!   (`SO_KEEPALIVE`); a host that thinks long answers, since its kernel does it for it;
//! - when the other end keeps its window shut for so long, also if it is there: Linux makes
//!   no difference. That is a block of data that does not leave, to which RFC 5321
//!   §4.5.3.2.5 gives three minutes; `limits.silence` has some more.
//!
//! The sockets that a listener accepts inherit all of it, so it costs them no system call.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use rustix::net::sockopt;

/// Of the silence, when the other end is first asked whether it is there, and then each time
/// again: so often that an outage of a minute in the three leaves questions that it answers.
const ASKED_AFTER: (u32, u32) = (3, 10);
const ASKED_EACH: (u32, u32) = (3, 20);

/// The silence of a connection whose other end is said to be elsewhere by now, as a part of
/// that of others: of 200 seconds 20, in which a packet is repeated four times at a round trip
/// of 600 ms.
const DOUBTED: u32 = 10;

/// Repeated so often, it is not the one packet that is lost on a bad line.
const REPEATED: u8 = 4;

/// Lets the kernel watch over a socket, or over all that a listening one accepts.
///
/// # Errors
/// As the system says.
pub(super) fn watch(socket: BorrowedFd<'_>, silence: Duration) -> io::Result<()> {
    let part = |(of, all): (u32, u32)| (silence * of / all).max(Duration::from_secs(1));
    let millis = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, millis)?;
    sockopt::set_tcp_keepidle(socket, part(ASKED_AFTER))?;
    sockopt::set_tcp_keepintvl(socket, part(ASKED_EACH))?;
    sockopt::set_socket_keepalive(socket, true)?;
    Ok(())
}

/// Whether a connection that is in doubt is dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doubted {
    /// It is.
    Dead,
    /// If it is, the kernel says so within seconds.
    Watched,
}

/// The other end of a connection is said to be elsewhere by now.
pub(super) fn doubt(socket: BorrowedFd<'_>, silence: Duration) -> Doubted {
    let silence = silence / DOUBTED;
    // The kernel looks at its clock when it repeats a packet, and the pauses between that
    // double: it may be a minute to the next one.
    if is_unanswered(socket, silence) {
        return Doubted::Dead;
    }
    // Where that fails, the connection has the silence of the others.
    let _ = watch(socket, silence);
    Doubted::Watched
}

/// Whether packets have been repeated for so long without an acknowledgement.
#[allow(unsafe_code)]
fn is_unanswered(socket: BorrowedFd<'_>, silence: Duration) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets to `info`, which has so many; all of
    // them were zero before, and its fields are numbers, for which any octets will do.
    let info = unsafe {
        let result = libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        );
        if result != 0 {
            return false;
        }
        info.assume_init()
    };
    let since = Duration::from_millis(info.tcpi_last_ack_recv.into());
    info.tcpi_retransmits >= REPEATED && since >= silence
}
