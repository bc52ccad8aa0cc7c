//! The ports that the server listens on: bound here, or by the service manager before
//! the program was there (systemd's socket activation), so that the server never needs
//! the right to bind them, and a restart refuses nobody.
//!
//! A passed socket serves the `[[listener]]` with the same address. All data cores accept
//! from this one socket; the kernel wakes one of them. A socket that belongs to no
//! listener is a mistake in a unit or in the configuration, and is said: whoever connects
//! there would wait for ever.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use listenfd::ListenFd;

use crate::config::{Config, ListenWhen};
use crate::runtime::net::{self, AddressIs};

/// How often a port is tried that is in use, and the pause between two tries. The ring of a
/// server that was killed outlives it for some moments, and with it the sockets that it waits
/// on; who starts the server again at once is not to be told that the port is taken.
const PORT_TRIES: u32 = 150;
const PORT_PAUSE: Duration = Duration::from_millis(20);

/// Every address once for each data core: passed to us, or bound by us. Run once, and
/// before there are other threads.
///
/// # Errors
/// For the operator: an address is taken, or a passed socket fits nothing.
pub(super) fn bind(config: &Config) -> Result<Vec<Vec<TcpListener>>, String> {
    let mut passed = PassedSockets::of_this_process()?;
    let data_cores = config.cores.data;
    let mut for_cores: Vec<Vec<_>> = (0..data_cores).map(|_| Vec::new()).collect();
    for listener in &config.listeners {
        let address = listener.address;
        let shared = passed
            .take(address, data_cores)
            .map_err(|error| format!("sharing the socket at {address} failed: {error}"))?;
        if shared.is_some() && listener.when != ListenWhen::Always {
            return Err(format!(
                "the service manager listens on {address} at all times, and the [[listener]] only \
                 sometimes (when); take it out of the socket unit, or write when = \"always\""
            ));
        }
        let own = match shared {
            Some(shared) => shared,
            None => bind_for(data_cores, address, listener.when)?,
        };
        for (core, socket) in for_cores.iter_mut().zip(own) {
            core.push(socket);
        }
    }
    passed.finish()?;
    Ok(for_cores)
}

/// One socket for each data core.
fn bind_for(
    data_cores: u8,
    address: SocketAddr,
    when: ListenWhen,
) -> Result<Vec<TcpListener>, String> {
    let is = match when {
        ListenWhen::Always => AddressIs::Ours,
        // The address of a dial-up line is there while the line is.
        ListenWhen::LinkUp | ListenWhen::Schedule => AddressIs::OursSometimes,
    };
    let bound = wait_until_free(address, is).and_then(|()| {
        let sockets = (0..data_cores).map(|_| net::bind(address, is));
        sockets.collect()
    });
    bound.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program listens there, perhaps this server, started twice; `ss -ltnp` \
                 shows which. Stop it, or write another port in [[listener]]"
            }
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need the capability CAP_NET_BIND_SERVICE, or root and process.user"
            }
            std::io::ErrorKind::AddrNotAvailable => {
                "this host has no such address; one that comes with a link wants when = \"link-up\""
            }
            _ => "look at [[listener]] in the configuration",
        };
        format!("listening on {address} failed ({error}): {advice}")
    })
}

/// Returns when nobody listens at an address.
///
/// # Errors
/// Somebody goes on listening, or the address cannot be had at all.
fn wait_until_free(address: SocketAddr, is: AddressIs) -> io::Result<()> {
    for _ in 1..PORT_TRIES {
        match net::is_free(address, is) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                std::thread::sleep(PORT_PAUSE);
            }
            result => return result,
        }
    }
    net::is_free(address, is)
}

/// Sockets in the order in which they were passed.
#[derive(Debug, Default)]
struct PassedSockets(Vec<(SocketAddr, TcpListener)>);

impl PassedSockets {
    /// Those of this process. Run once, before there are other threads: it takes the
    /// variables that tell of them out of the environment.
    ///
    /// # Errors
    /// For the operator: a descriptor is no listening TCP socket.
    fn of_this_process() -> Result<Self, String> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let socket = passed.take_tcp_listener(index).and_then(|socket| {
                let socket = socket.ok_or_else(|| io::Error::other("it was taken already"))?;
                Ok((socket.local_addr()?, socket))
            });
            sockets.push(socket.map_err(|error| {
                format!(
                    "socket {} of those that the service manager passed cannot be used ({error}); \
                     write ListenStream=ADDRESS:PORT in its unit",
                    index + 1
                )
            })?);
        }
        Ok(Self(sockets))
    }

    /// The socket at this address, if there is one, once for each data core.
    ///
    /// # Errors
    /// As the system says.
    fn take(
        &mut self,
        address: SocketAddr,
        data_cores: u8,
    ) -> io::Result<Option<Vec<TcpListener>>> {
        let Some(found) = self.0.iter().position(|(own, _)| *own == address) else {
            return Ok(None);
        };
        let (_, socket) = self.0.swap_remove(found);
        (0..data_cores)
            .map(|_| socket.try_clone())
            .collect::<io::Result<_>>()
            .map(Some)
    }

    /// That none is left.
    ///
    /// # Errors
    /// For the operator: which are left, and what to do.
    fn finish(self) -> Result<(), String> {
        if self.0.is_empty() {
            return Ok(());
        }
        let left: Vec<_> = self.0.iter().map(|(own, _)| own.to_string()).collect();
        Err(format!(
            "the service manager listens on {}, and no [[listener]] has this address; write one, \
             or take it out of the socket unit",
            left.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(count: usize) -> PassedSockets {
        let sockets = (0..count).map(|_| {
            let socket = TcpListener::bind("127.0.0.1:0").expect("loopback");
            (socket.local_addr().expect("bound"), socket)
        });
        PassedSockets(sockets.collect())
    }

    #[test]
    fn a_socket_serves_the_listener_with_its_address_on_each_core() {
        let mut sockets = passed(2);
        let (first, _) = sockets.0[0];
        let taken = |sockets: &mut PassedSockets| {
            let own = sockets.take(first, 3).expect("it can be shared");
            own.map(|own| {
                own.iter()
                    .map(|one| one.local_addr().expect("bound"))
                    .collect()
            })
        };
        assert_eq!(taken(&mut sockets), Some(vec![first; 3]));
        assert_eq!(taken(&mut sockets), None::<Vec<SocketAddr>>, "it is taken");
    }

    #[test]
    fn what_nobody_takes_is_said() {
        let sockets = passed(1);
        let (address, _) = sockets.0[0];
        let said = sockets.finish().expect_err("one is left");
        assert!(said.contains(&address.to_string()), "{said}");
        passed(0).finish().expect("none is left");
    }
}
