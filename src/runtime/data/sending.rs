//! What does not leave at once: it waits for the socket, or for the disk.

use std::rc::Rc;
use std::time::Duration;

use super::{Connection, Shared, turn};
use crate::core::{Completion, ConnectionId};
use crate::runtime::outgoing::{Outgoing, Stop};

/// How often the core is told that a long send goes on: well below the three minutes in
/// which something must have left (RFC 5321 §4.5.3.2.5), and rare enough to cost nothing.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Sends what did not leave at once, and tells that it goes on.
pub(super) async fn send(
    shared: Shared,
    connection: Rc<Connection>,
    id: ConnectionId,
    mut left: Outgoing,
    mut stop: Stop,
) {
    let mut told = shared.borrow().clock.now().instant;
    loop {
        let waited = match stop {
            Stop::Cold { segment, octets } => {
                let warming = shared.borrow().segments.warm(segment, octets);
                match warming {
                    Ok(warming) => {
                        warming.done().await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            Stop::Full | Stop::Done => connection.socket.writable().await,
        };
        if connection.closed.get() {
            return;
        }
        let sent =
            waited.and_then(|()| left.advance(&connection.socket, &shared.borrow().segments));
        match sent {
            Ok(Stop::Done) => return turn(&shared, Completion::Sent { connection: id }),
            Ok(again) => {
                stop = again;
                // It was writable, so something has left.
                let now = shared.borrow().clock.now().instant;
                if now >= told + PROGRESS_INTERVAL {
                    told = now;
                    turn(&shared, Completion::Progress { connection: id });
                    if connection.closed.get() {
                        return;
                    }
                }
            }
            Err(error) => {
                let mut shell = shared.borrow_mut();
                shell.send_failed(id, &error);
                return shell.pump(&shared);
            }
        }
    }
}
