//! Sockets on monoio, with monoio's traps kept in here.
//!
//! The ring is used for what must wait: readiness, accept, the bell, the sync of
//! a segment. Octets move by plain non-blocking system calls once the socket is
//! ready, which costs no more on a socket that has data, and buys four things:
//!
//! - A pending wait holds no buffer, so an idle connection costs no buffer, and a
//!   wait that is given up loses no octets (a dropped monoio *read* does).
//! - One buffer serves all connections of a core and stays in its cache.
//! - A time-out needs no cancellation: [`Socket::hang_up`] shuts the socket down,
//!   and whatever waits on it wakes up.
//! - `sendfile` and `sendmsg` from the mapped spool fit in as they are.
//!
//! The traps that this module keeps in:
//!
//! | trap (monoio 0.2.4) | here |
//! |---|---|
//! | a dropped `accept` leaks its socket | [`Listener::accept`] is awaited in one endless task, never dropped, never timed out |
//! | accepted sockets lack CLOEXEC | set before the socket is handed out |
//! | a dropped `read` loses what it took | no ring reads on sockets |
//! | close on drop is only queued | [`Socket::hang_up`] acts at once; drop frees the number later |
//! | ring operations on an `O_NONBLOCK` socket fail with EAGAIN | only polls go through the ring, and they do not care |

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use monoio::net::{TcpListener, TcpStream, UnixStream};
use rustix::fd::AsRawFd;
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use crate::core::Endpoint;
use crate::runtime::silence::{self, Doubted};

/// Connections that the kernel may complete before we accept them. A burst of a
/// whole provider's customers after an outage; the kernel caps it at somaxconn.
const BACKLOG: i32 = 4096;

/// A listening socket of one data core. Every core has its own on the same
/// address (`SO_REUSEPORT`), so the kernel spreads the connections.
#[derive(Debug)]
pub struct Listener(TcpListener);

/// Whether the host has to have an address already that is to be listened on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AddressIs {
    /// It has.
    Ours,
    /// It may come with a link, and go with it (`IP_FREEBIND`).
    OursSometimes,
}

/// Fails if another program listens at an address. Two programs of one user would share
/// it without this (`SO_REUSEPORT`): each would get a part of the mail, and neither say so.
///
/// # Errors
/// As the system says.
pub fn is_free(address: SocketAddr, is: AddressIs) -> io::Result<()> {
    to_be_bound(address, is)?.bind(&address.into())
}

/// Binds a socket that is to listen. Run before the threads start, so that an address
/// that is taken stops the program with one clear line.
///
/// # Errors
/// As the system says.
pub fn bind(address: SocketAddr, is: AddressIs) -> io::Result<std::net::TcpListener> {
    let socket = to_be_bound(address, is)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn to_be_bound(address: SocketAddr, is: AddressIs) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        // An IPv4 listener on the same port is an entry of its own.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    match (is, address) {
        (AddressIs::Ours, _) => {}
        (AddressIs::OursSometimes, SocketAddr::V4(_)) => socket.set_freebind_v4(true)?,
        (AddressIs::OursSometimes, SocketAddr::V6(_)) => socket.set_freebind_v6(true)?,
    }
    Ok(socket)
}

/// Lets a bound socket take connections. Run last of all at the start: who can
/// connect may expect everything else to work.
///
/// # Errors
/// As the system says.
pub fn listen(listener: &std::net::TcpListener) -> io::Result<()> {
    Ok(rustix::net::listen(listener, BACKLOG)?)
}

/// Ends listening at once: whoever connects from now on is refused by the kernel.
pub fn refuse(listener: &std::net::TcpListener) {
    // It listens no more: then it is as it should be.
    let _ = rustix::net::shutdown(listener, Shutdown::Both);
}

impl Listener {
    /// Takes over a bound socket. Must be called on the runtime's thread. Clients may be
    /// silent for so long.
    ///
    /// # Errors
    /// As the system says.
    pub fn new(listener: std::net::TcpListener, silence: Duration) -> io::Result<Self> {
        silence::watch(listener.as_fd(), silence)?;
        Ok(Self(TcpListener::from_std(listener)?))
    }

    /// The next connection. The future must not be dropped before it is ready.
    ///
    /// # Errors
    /// As the system says; most errors are the peer's or pass by themselves.
    pub async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((Socket::prepared(taken_out(stream))?, peer))
    }
}

/// A connected, or connecting, stream socket. monoio's type for Unix sockets is used for TCP
/// too: of what it can do only the polls are used, and they do not care. Its type for TCP
/// keeps room for two addresses, which an idle connection would pay for.
#[derive(Debug)]
pub struct Socket(UnixStream);

/// What a non-blocking call came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// This many octets moved. For a receive, 0 is the end of the stream.
    Octets(usize),
    /// Nothing moved: wait until the socket is ready.
    Wait,
}

impl Socket {
    fn prepared(socket: OwnedFd) -> io::Result<Self> {
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        ioctl_fionbio(&socket, true)?;
        // Replies are gathered into one send; Nagle would only hold them back.
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        Self::taken_over(socket)
    }

    /// Begins to connect. Await [`Socket::writable`], then ask [`Socket::connected`]. The
    /// host may be silent for so long.
    ///
    /// # Errors
    /// As the system says: no route, no ports left, `from` is not ours.
    pub fn connect(to: &Endpoint, from: Option<IpAddr>, silence: Duration) -> io::Result<Self> {
        let to = match to {
            Endpoint::Tcp(to) => *to,
            Endpoint::Unix(path) => return Self::connect_unix(path),
        };
        let domain = socket2::Domain::for_address(to);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        silence::watch(socket.as_fd(), silence)?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Self::taken_over(socket.into())
    }

    /// A connect to a Unix socket is done at once, or fails: with "try again" where the
    /// server does not keep up with accepting, which is a failure like others.
    fn connect_unix(path: &Path) -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&socket2::SockAddr::unix(path)?)?;
        Self::taken_over(socket.into())
    }

    /// A second descriptor of it, for another thread.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.fd().try_clone_to_owned()
    }

    /// Takes over a socket, say one that another thread [shared](Socket::share). Must be
    /// called on the runtime's thread.
    ///
    /// # Errors
    /// As the system says.
    pub fn taken_over(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(UnixStream::from_std(socket.into())?))
    }

    /// What became of a connect, once the socket is writable.
    ///
    /// # Errors
    /// Why it did not connect.
    pub fn connected(&self) -> io::Result<()> {
        rustix::net::sockopt::socket_error(self.fd())??;
        // A hang-up during the connect leaves no error behind.
        rustix::net::getpeername(self.fd())?;
        Ok(())
    }

    /// Waits until a receive would not wait. Safe to drop: nothing is taken.
    ///
    /// # Errors
    /// As the ring says.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.readable(true)
    }

    /// Waits until a send would not wait. Safe to drop.
    ///
    /// # Errors
    /// As the ring says.
    pub fn writable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.writable(true)
    }

    /// Takes what has come, at most `buffer`.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Progress> {
        progress(rustix::net::recv(self.fd(), buffer, RecvFlags::DONTWAIT).map(|(_, n)| n))
    }

    /// Hands over as much of `pieces` as fits.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&self, pieces: &[IoSlice<'_>], more: More) -> io::Result<Progress> {
        let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if more == More::Follows {
            flags |= SendFlags::MORE;
        }
        let mut control = SendAncillaryBuffer::default();
        progress(rustix::net::sendmsg(self.fd(), pieces, &mut control, flags))
    }

    /// Hands over as much of a file range as fits, without a copy in user space.
    ///
    /// # Errors
    /// The connection is broken, or the file cannot be read.
    pub fn send_file(
        &self,
        file: BorrowedFd<'_>,
        offset: &mut u64,
        octets: usize,
    ) -> io::Result<Progress> {
        progress(rustix::fs::sendfile(self.fd(), file, Some(offset), octets))
    }

    /// The other end is said to be elsewhere by now. False: it is dead. Otherwise the kernel
    /// says so within seconds, if it is.
    pub fn may_live(&self, silence: Duration) -> bool {
        silence::doubt(self.fd(), silence) == Doubted::Watched
    }

    /// Ends the connection in both directions at once; what waits on it wakes up.
    pub fn hang_up(&self) {
        // Not connected any more: then it is as it should be.
        let _ = rustix::net::shutdown(self.fd(), Shutdown::Both);
    }

    /// We have said our last words. Whether the connection is over, or the peer may be
    /// sending still; `buffer` is for what it has sent.
    pub fn finish(&self, buffer: &mut [u8]) -> Ended {
        // Not connected any more: then the receive says so.
        let _ = rustix::net::shutdown(self.fd(), Shutdown::Write);
        match self.receive(buffer) {
            Ok(Progress::Octets(0)) | Err(_) => {
                self.hang_up();
                Ended::Over
            }
            Ok(Progress::Octets(_) | Progress::Wait) => Ended::PeerGoesOn,
        }
    }

    /// Our end.
    ///
    /// # Errors
    /// As the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        let address = rustix::net::getsockname(self.fd())?;
        SocketAddr::try_from(address).map_err(io::Error::from)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        borrow(&self.0)
    }
}

/// What is left of a connection after our last words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Nothing.
    Over,
    /// The peer has not closed its end yet.
    PeerGoesOn,
}

/// Whether more octets follow the ones of a send at once (`MSG_MORE`), so that a
/// reply line, an envelope and a body share their packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum More {
    /// More follows; the kernel may wait for it.
    Follows,
    /// That was all; the kernel sends it now.
    No,
}

fn progress(result: rustix::io::Result<usize>) -> io::Result<Progress> {
    match result {
        Ok(octets) => Ok(Progress::Octets(octets)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Progress::Wait),
        Err(error) => Err(error.into()),
    }
}

/// monoio's stream gives its descriptor away only raw.
#[allow(unsafe_code)]
fn taken_out(stream: TcpStream) -> OwnedFd {
    let descriptor = stream.into_raw_fd();
    // SAFETY: the descriptor was the stream's own, which has given it away and is gone.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// monoio's stream offers its descriptor only raw.
#[allow(unsafe_code)]
fn borrow(stream: &UnixStream) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is the stream's own and stays open at least as long
    // as the stream, which the returned borrow keeps alive.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// The bell of a mailbox, as the ring waits for it.
#[derive(Debug)]
pub struct Bell(monoio::fs::File);

impl Bell {
    /// A duplicate of the bell's descriptor, for the runtime of this thread.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn new(bell: BorrowedFd<'_>) -> io::Result<Self> {
        let file = std::fs::File::from(bell.as_fd().try_clone_to_owned()?);
        Ok(Self(monoio::fs::File::from_std(file)?))
    }

    /// Waits until it rings. Runs in one endless task and is never dropped.
    pub async fn wait(&self) {
        // An error would be the ring's own end; the loop then looks and waits again.
        let _ = self.0.read_at(Box::new([0u8; 8]), 0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    const SILENCE: Duration = Duration::from_secs(200);

    /// On a ring made as those of the data cores.
    fn on_a_ring<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
        let mut ring = io_uring_monoio::IoUring::builder();
        ring.setup_single_issuer().setup_defer_taskrun();
        let runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
            .uring_builder(ring)
            .enable_timer()
            .build();
        runtime.expect("io_uring").block_on(test());
    }

    async fn pair() -> (Socket, std::net::TcpStream) {
        let any = "127.0.0.1:0".parse().expect("an address");
        let bound = bind(any, AddressIs::Ours).expect("a port");
        let address = bound.local_addr().expect("bound");
        super::listen(&bound).expect("it listens");
        let listener = Listener::new(bound, SILENCE).expect("taken over");
        let client = std::net::TcpStream::connect(address).expect("connected");
        let (socket, _) = listener.accept().await.expect("accepted");
        (socket, client)
    }

    /// monoio hands them out without; a child would inherit them.
    #[test]
    fn accepted_sockets_are_closed_on_exec() {
        on_a_ring(|| async {
            let (socket, _client) = pair().await;
            let flags = rustix::io::fcntl_getfd(socket.fd()).expect("open");
            assert!(flags.contains(FdFlags::CLOEXEC));
        });
    }

    /// It costs them no system call.
    #[test]
    fn accepted_sockets_are_watched() {
        use rustix::net::sockopt;

        on_a_ring(|| async {
            let (socket, _client) = pair().await;
            let millis = sockopt::tcp_user_timeout(socket.fd()).expect("open");
            assert_eq!(u128::from(millis), SILENCE.as_millis());
            assert!(sockopt::socket_keepalive(socket.fd()).expect("open"));
            let first = sockopt::tcp_keepidle(socket.fd()).expect("open");
            assert_eq!(first, Duration::from_secs(60));
            let each = sockopt::tcp_keepintvl(socket.fd()).expect("open");
            assert_eq!(each, Duration::from_secs(30));
        });
    }

    /// A dropped monoio read loses the octets that it took.
    #[test]
    fn a_wait_that_is_given_up_loses_no_octets() {
        on_a_ring(|| async {
            let (socket, mut client) = pair().await;
            for round in 0..100u8 {
                let wait = socket.readable();
                let pause = monoio::time::sleep(Duration::ZERO);
                monoio::select! {
                    _ = wait => {}
                    () = pause => {}
                }
                client.write_all(&[round]).expect("room");
                socket.readable().await.expect("it comes");
                let mut buffer = [0; 8];
                assert_eq!(
                    socket.receive(&mut buffer).expect("connected"),
                    Progress::Octets(1)
                );
                assert_eq!(buffer[0], round);
            }
        });
    }

    /// Time-outs rest on it: nothing that waits is ever cancelled.
    #[test]
    fn a_hang_up_wakes_who_waits() {
        on_a_ring(|| async {
            let (socket, mut client) = pair().await;
            let socket = std::rc::Rc::new(socket);
            let waiting = std::rc::Rc::clone(&socket);
            let task = monoio::spawn(async move { waiting.readable().await });
            // The task waits by now, or will find the socket shut down.
            monoio::time::sleep(Duration::from_millis(1)).await;
            socket.hang_up();
            task.await.expect("it is readable: at its end");
            let end = socket.receive(&mut [0; 8]).expect("shut down by us");
            assert_eq!(end, Progress::Octets(0));
            assert_eq!(client.read(&mut [0; 8]).expect("the other end"), 0);
        });
    }

    /// A socket that is closed with unread octets resets the connection.
    #[test]
    fn last_words_overtake_nothing() {
        on_a_ring(|| async {
            let (socket, mut client) = pair().await;
            client.write_all(b"more than is read").expect("room");
            socket.readable().await.expect("it comes");
            let words = [IoSlice::new(b"421 bye\r\n")];
            assert_eq!(
                socket.send(&words, More::No).expect("room"),
                Progress::Octets(9)
            );
            assert_eq!(socket.finish(&mut [0; 64]), Ended::PeerGoesOn);
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).expect("no reset");
            assert_eq!(heard, b"421 bye\r\n");
            drop(client);
            socket.readable().await.expect("its end");
            assert_eq!(socket.finish(&mut [0; 64]), Ended::Over);
        });
    }

    /// A host that says yes and resets has taken the mail.
    #[test]
    fn what_came_before_a_reset_can_be_read_behind_a_send_that_failed() {
        on_a_ring(|| async {
            let (socket, mut client) = pair().await;
            let words = [IoSlice::new(b"MAIL")];
            socket.send(&words, More::No).expect("room");
            client.write_all(b"250 taken\r\n").expect("room");
            // With octets unread, so with a reset.
            client.peek(&mut [0; 8]).expect("they are there");
            drop(client);
            let failed = socket.send(&words, More::No).expect_err("reset");
            assert_eq!(failed.kind(), io::ErrorKind::ConnectionReset);
            let mut buffer = [0; 64];
            let heard = socket.receive(&mut buffer).expect("it is there still");
            assert_eq!(heard, Progress::Octets(11));
            assert_eq!(&buffer[..11], b"250 taken\r\n");
        });
    }

    /// Sockets are `O_NONBLOCK`, with which monoio's own sends would fail.
    #[test]
    fn a_full_socket_is_waited_for() {
        on_a_ring(|| async {
            let (socket, mut client) = pair().await;
            let octets = vec![7; 1 << 20];
            let mut sent = 0;
            while let Progress::Octets(n) = socket
                .send(&[IoSlice::new(&octets)], More::No)
                .expect("connected")
            {
                sent += n;
            }
            let reader = std::thread::spawn(move || {
                let mut left = sent + 1;
                let mut buffer = vec![0; 1 << 16];
                while left > 0 {
                    left -= client.read(&mut buffer).expect("octets");
                }
            });
            let mut left = 1;
            while left > 0 {
                socket.writable().await.expect("connected");
                if let Progress::Octets(n) = socket
                    .send(&[IoSlice::new(&octets[..left])], More::No)
                    .expect("connected")
                {
                    left -= n;
                }
            }
            reader.join().expect("all came");
        });
    }
}
