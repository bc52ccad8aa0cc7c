//! A next hop that follows a script, octet by octet, whatever it is told: for peers so
//! broken that no server of SMTP would do.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::waiting::PATIENCE;

/// What it does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Writes this.
    Say(Vec<u8>),
    /// Reads lines up to one that begins so.
    Hear(&'static str),
    /// Reads some octets, whatever they are.
    HearSomething,
    /// Writes this again and again, until the other side has enough.
    SayForEver(&'static [u8]),
    /// Is the server of a TLS handshake; all that follows is under TLS.
    StartTls(Arc<ServerConfig>),
    /// Writes this beneath TLS.
    SayBeneath(&'static [u8]),
    /// Ends the connection by a reset.
    Reset,
    /// Reads until the other side closes.
    HearToTheEnd,
}

/// Steps on octets.
pub(crate) fn say(octets: impl AsRef<[u8]>) -> Step {
    Step::Say(octets.as_ref().to_vec())
}

/// A running one. Behind the last step of a script the connection is closed.
#[derive(Debug)]
pub(crate) struct Scripted {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Scripted {
    /// The first connection gets the first script, and so on; the last script is for
    /// all that follow.
    pub(crate) fn at(address: SocketAddr, scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind(address).expect("the address is ours");
        let stopped = Arc::new(AtomicBool::new(false));
        let for_thread = Arc::clone(&stopped);
        let accepting = thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if for_thread.load(Ordering::Acquire) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let script = scripts.get(number).or(scripts.last()).cloned();
                // Not joined: it ends with its connection, or when patience does.
                thread::spawn(move || follow(stream, &script.unwrap_or_default()));
            }
        });
        Self {
            address,
            stopped,
            accepting: Some(accepting),
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// A connection in clear, or under TLS.
enum Line {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Line {
    fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Self::Clear(stream) => stream,
            Self::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.write(octets),
            Self::Tls(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Clear(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// `None` when the other side was gone first.
fn follow(stream: TcpStream, script: &[Step]) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(Line::Clear(stream));
    for step in script {
        match step {
            Step::Say(octets) => {
                reader.get_mut().write_all(octets).ok()?;
                reader.get_mut().flush().ok()?;
            }
            Step::Hear(beginning) => loop {
                let mut line = Vec::new();
                if reader.read_until(b'\n', &mut line).ok()? == 0 {
                    return None;
                }
                if line.starts_with(beginning.as_bytes()) {
                    break;
                }
            },
            Step::HearSomething => {
                let octets = reader.fill_buf().ok()?.len();
                reader.consume(octets);
            }
            Step::SayForEver(octets) => loop {
                reader.get_mut().write_all(octets).ok()?;
            },
            Step::StartTls(config) => {
                let mut line = reader.into_inner();
                let stream = line.tcp().try_clone().ok()?;
                let connection = ServerConnection::new(Arc::clone(config)).ok()?;
                let stream = Box::new(StreamOwned::new(connection, stream));
                reader = BufReader::new(Line::Tls(stream));
            }
            Step::SayBeneath(octets) => reader.get_mut().tcp().write_all(octets).ok()?,
            Step::Reset => {
                let socket = socket2::SockRef::from(&*reader.get_mut().tcp());
                socket.set_linger(Some(std::time::Duration::ZERO)).ok()?;
                return None;
            }
            Step::HearToTheEnd => {
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
            }
        }
    }
    let _ = reader.get_mut().tcp().shutdown(std::net::Shutdown::Write);
    // What the other side still says must not be answered by a reset, which would
    // take our last words from it.
    let _ = std::io::copy(&mut reader, &mut std::io::sink());
    Some(())
}
