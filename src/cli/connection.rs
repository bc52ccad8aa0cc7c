//! The client's end of the admin socket.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Exit, Failure, Global, shown};
use crate::core::admin::{Command, RESPONSE_BYTES_MAX, Reason, Refused, Request, Response};

/// How long the server may take for one answer. A page of a large queue takes
/// milliseconds; a reload waits for the last reader of the old configuration.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// An open admin socket.
pub(super) struct Connection {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// Opens the socket that the command line or the configuration names.
    ///
    /// # Errors
    /// With what to try next.
    pub(super) fn open(global: &Global) -> Result<Self, Failure> {
        let path = global.admin_socket()?;
        let failed = |error: io::Error| unreachable(&path, &error, global.config.is_some());
        let stream = UnixStream::connect(&path).map_err(failed)?;
        let timed = stream
            .set_read_timeout(Some(ANSWER_TIME_MAX))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIME_MAX)));
        timed.map_err(failed)?;
        Ok(Self {
            path,
            stream: BufReader::new(stream),
        })
    }

    /// Waits for each answer until it comes, or the server goes away.
    pub(super) fn without_limit(self) -> Self {
        // A limit that cannot be taken away is still there, and says so when it ends.
        let _ = self.stream.get_ref().set_read_timeout(None);
        self
    }

    /// Asks, and waits for the answer. A refusal is a failure.
    ///
    /// # Errors
    /// With the exit code that the refusal asks for.
    pub(super) fn ask(&mut self, command: Command) -> Result<Response, Failure> {
        let line = Request::new(command).to_line();
        let mut answer = Vec::new();
        let exchanged = self.stream.get_mut().write_all(&line).and_then(|()| {
            let limit = RESPONSE_BYTES_MAX as u64;
            (&mut self.stream)
                .take(limit)
                .read_until(b'\n', &mut answer)
        });
        if let Err(error) = exchanged {
            return Err(self.broken(&error));
        }
        if answer.last() != Some(&b'\n') {
            let text = format!(
                "the server at {} closed the connection without an answer\n    it may be \
                 stopping; look at its log",
                shown(&self.path)
            );
            return Err(Failure::new(Exit::TryLater, text));
        }
        match Response::from_line(&answer) {
            Ok(Response::Refused(refused)) => Err(refusal(&refused)),
            Ok(response) => Ok(response),
            Err(error) => Err(Failure::new(
                Exit::Failed,
                format!(
                    "the server at {} gave an answer that this version does not understand \
                     ({error})\n    use the command of the version that runs",
                    shown(&self.path)
                ),
            )),
        }
    }

    fn broken(&self, error: &io::Error) -> Failure {
        let path = shown(&self.path);
        let late = matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        );
        let text = if late {
            let seconds = ANSWER_TIME_MAX.as_secs();
            format!("the server at {path} did not answer within {seconds} seconds\n    try again")
        } else {
            format!("the connection to the server at {path} broke: {error}\n    try again")
        };
        Failure::new(Exit::TryLater, text)
    }
}

/// The answer is of another kind than the question asks for: a server with a bug.
pub(super) fn unexpected(response: &Response) -> Failure {
    let text = serde_json::to_string(response).unwrap_or_default();
    let text = crate::core::admin::shortened(&text).to_owned();
    Failure::new(
        Exit::Failed,
        format!("the server gave an answer to another question: {text}"),
    )
}

fn refusal(refused: &Refused) -> Failure {
    let exit = match refused.reason {
        Reason::Request | Reason::Configuration => Exit::Usage,
        Reason::NotFound | Reason::Failed => Exit::Failed,
        Reason::Later => Exit::TryLater,
    };
    // The sentence may have several lines (a report), and may quote a peer.
    let lines: Vec<String> = refused.text.lines().map(super::text::escaped).collect();
    Failure::new(exit, lines.join("\n"))
}

fn unreachable(path: &Path, error: &io::Error, configured: bool) -> Failure {
    let next = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "only the user of the server may do this; try it as that user or as root"
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused if configured => {
            "is the server running? `turnspool serve --config FILE` starts it"
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "is the server running? If it has a configuration file, name it by --config FILE, or \
             in TURNSPOOL_CONFIG"
        }
        _ => "is this the admin socket of the server?",
    };
    Failure::new(
        Exit::Failed,
        format!(
            "cannot reach the server at {}: {error}\n    {next}",
            shown(path)
        ),
    )
}
