//! The admin socket: one JSON object a line in, one out.
//!
//! The socket's mode is 0600: whoever may open it may steer the server. Lines
//! have a limit; a client that says nothing, or does not read, is let go; there are at most
//! `CONNECTIONS_MAX` at once, and for one more the one that has been silent for longest
//! goes: so a script that went wrong takes no descriptors from mail, and does not lock the
//! operator out.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::core::admin::{REQUEST_BYTES_MAX, Request, Response};
use crate::report::Fact;
use crate::runtime::control::Control;
use crate::runtime::log::report_control;

/// A client of ours asks at once; one that says nothing for this long has gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a client may take to read an answer. The longest ones, lists of a queue, are
/// some megabytes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Clients at once. Operators and their scripts use a few.
const CONNECTIONS_MAX: usize = 64;

/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Binds the socket. Without it mail goes on, and the operator is told.
pub fn bind(path: &Path) -> Option<UnixListener> {
    match bind_file(path) {
        Ok(listener) => Some(listener),
        Err(error) => {
            let what = format!(
                "opening the admin socket {} failed ({error}); mail goes on, the commands \
                 queue, release and link do not work until a restart",
                path.display()
            );
            report_control(&Fact::Trouble { what });
            None
        }
    }
}

/// Serves the socket, for ever.
pub async fn listen(control: Control, listener: UnixListener) {
    let guests = Rc::new(RefCell::new(Guests::default()));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if !guests.borrow_mut().admit() {
                    continue;
                }
                let (control, guests) = (control.clone(), Rc::clone(&guests));
                tokio::task::spawn_local(async move {
                    // The operator's client sees its own error; there is no other reader.
                    let _ = serve(control, stream, &guests).await;
                    guests.borrow_mut().count -= 1;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Who is connected.
#[derive(Default)]
struct Guests {
    count: usize,
    /// Those that have said nothing since, the longest first, with what tells them to go.
    idle: BTreeMap<u64, Rc<Notify>>,
    last: u64,
}

impl Guests {
    /// Makes room for one more; false if all are being answered.
    fn admit(&mut self) -> bool {
        if self.count >= CONNECTIONS_MAX {
            let Some((_, oldest)) = self.idle.pop_first() else {
                return false;
            };
            oldest.notify_one();
        }
        self.count += 1;
        true
    }

    fn waits(&mut self) -> (u64, Rc<Notify>) {
        self.last += 1;
        let notify = Rc::new(Notify::new());
        self.idle.insert(self.last, Rc::clone(&notify));
        (self.last, notify)
    }
}

/// A socket left over from a process that died is removed; another file is not.
/// That no other server uses it, the lock of the spool directory has shown.
fn bind_file(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve(control: Control, stream: UnixStream, guests: &RefCell<Guests>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = REQUEST_BYTES_MAX as u64 + 1;
        let mut limited = (&mut reader).take(limit);
        let read = tokio::time::timeout(IDLE_TIMEOUT, limited.read_until(b'\n', &mut line));
        let (number, told_to_go) = guests.borrow_mut().waits();
        let read = tokio::select! {
            read = read => read,
            () = told_to_go.notified() => return Ok(()),
        };
        guests.borrow_mut().idle.remove(&number);
        match read {
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
        let response = match Request::from_line(&line) {
            Ok(request) => control.ask(request.command).await,
            Err(refused) => Response::Refused(refused),
        };
        let line_out = response.to_line();
        match tokio::time::timeout(ANSWER_TIMEOUT, writer.write_all(&line_out)).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
        if line.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
}
