//! Connections that go from one data core's thread to another's.

use std::io;
use std::os::fd::OwnedFd;

use super::{Shared, Shell};
use crate::core::turn::Baton;
use crate::core::{Completion, ConnectionId, CoreId};
use crate::runtime::mailboxes::Outbound;
use crate::runtime::net::Socket;

impl Shell {
    /// Gives a connection to another core's thread: a second descriptor of it. The task
    /// that waits here for octets wakes with the first that come, finds that the
    /// connection is not ours any more, takes nothing and drops its descriptor. Nothing is
    /// lost by that, since readiness is all it waits for.
    pub(super) fn hand_over(&mut self, connection: ConnectionId, core: CoreId, baton: Box<Baton>) {
        let here = self.connections.remove(&connection);
        let here = here.expect("a connection without a send under way is there");
        here.closed.set(true);
        match here.socket.share() {
            Ok(socket) => self.undelivered.push_back(Outbound::HandOver {
                core,
                baton,
                socket,
            }),
            Err(error) => {
                here.socket.hang_up();
                self.break_off(baton, &error);
            }
        }
    }

    /// A connection that cannot be taken over breaks: so its turn ends as any other.
    fn break_off(&mut self, baton: Box<Baton>, error: &io::Error) {
        let connection = self.core.admit();
        self.ready
            .push_back(Completion::HandedOver { connection, baton });
        self.ready.push_back(Completion::Broken {
            connection,
            why: format!("handing it from core to core failed: {error}"),
            heard: &[],
        });
    }
}

/// Takes over a connection that another core has handed over.
pub(super) fn take_over(shared: &Shared, baton: Box<Baton>, socket: OwnedFd) {
    let mut shell = shared.borrow_mut();
    match Socket::taken_over(socket) {
        Ok(socket) => {
            let connection = shell.core.admit();
            shell.keep(connection, socket);
            let completion = Completion::HandedOver { connection, baton };
            shell.ready.push_back(completion);
        }
        Err(error) => shell.break_off(baton, &error),
    }
    shell.pump(shared);
}
