//! What comes in on a connection, to its end and a little beyond.

use std::rc::Rc;
use std::time::Duration;

use super::{Connection, Shared};
use crate::core::{Completion, ConnectionId};
use crate::runtime::net::Progress;

/// How long a peer may go on after our last words, and how much it may send: one round
/// trip of a slow line, and what a client has in flight on it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Receives on one connection as long as the core wants it at once; the usual
/// exchange of a session runs in one task. No `async fn`: that would keep its arguments
/// twice, for each connection that is idle.
#[allow(clippy::manual_async_fn)]
pub(super) fn receive(
    shared: Shared,
    connection: Rc<Connection>,
    id: ConnectionId,
) -> impl Future<Output = ()> {
    async move {
        loop {
            let waited = connection.socket.readable().await;
            if connection.closed.get() {
                return;
            }
            let mut guard = shared.borrow_mut();
            let shell = &mut *guard;
            let now = shell.clock.now();
            let received =
                waited.and_then(|()| connection.socket.receive(&mut shell.receive_buffer));
            match received {
                Ok(Progress::Wait) => continue,
                Ok(Progress::Octets(n)) => {
                    connection.wanted.set(false);
                    let octets = &shell.receive_buffer[..n];
                    let completion = Completion::Received {
                        connection: id,
                        octets,
                    };
                    shell.core.handle(now, completion, &shell.segments);
                }
                Err(error) => {
                    shell.drop_connection(id);
                    let completion = Completion::Broken {
                        connection: id,
                        why: error.to_string(),
                        heard: &[],
                    };
                    shell.core.handle(now, completion, &shell.segments);
                }
            }
            shell.pump(&shared);
            if !connection.wanted.get() || connection.closed.get() {
                connection.receiving.set(false);
                return;
            }
        }
    }
}

/// Reads over what the peer still sends after our last words. A socket that is closed
/// with unread octets resets the connection, and the reset overtakes the words.
pub(super) async fn linger(shared: Shared, connection: Rc<Connection>) {
    // Not a handle: the socket of a peer that goes in time is to be closed then, or
    // short sessions would fill the table of descriptors with their timers.
    let timed = Rc::downgrade(&connection);
    monoio::spawn(async move {
        monoio::time::sleep(LINGER).await;
        if let Some(connection) = timed.upgrade() {
            connection.socket.hang_up();
        }
    });
    let mut octets = 0;
    while octets < LINGER_BYTES_MAX && connection.socket.readable().await.is_ok() {
        let buffer = &mut shared.borrow_mut().receive_buffer;
        match connection.socket.receive(buffer) {
            Ok(Progress::Octets(0)) | Err(_) => break,
            Ok(Progress::Octets(n)) => octets += n,
            Ok(Progress::Wait) => {}
        }
    }
    connection.socket.hang_up();
}
