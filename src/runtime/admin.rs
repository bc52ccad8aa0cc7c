//! The admin socket: one JSON object a line in, one out.
//!
//! The socket's mode is 0600: whoever may open it may steer the server. Lines
//! have a limit; a client that says nothing is let go.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::core::admin::{REQUEST_BYTES_MAX, Request, Response};
use crate::report::Fact;
use crate::runtime::control::Control;
use crate::runtime::log::report_control;

/// A client of ours asks at once; one that says nothing for this long has gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

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
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let control = control.clone();
                tokio::task::spawn_local(async move {
                    // The operator's client sees its own error; there is no other reader.
                    let _ = serve(control, stream).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
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

async fn serve(control: Control, stream: UnixStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = REQUEST_BYTES_MAX as u64 + 1;
        let mut limited = (&mut reader).take(limit);
        let read = tokio::time::timeout(IDLE_TIMEOUT, limited.read_until(b'\n', &mut line));
        match read.await {
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
        let response = match Request::from_line(&line) {
            Ok(request) => control.ask(request.command).await,
            Err(refused) => Response::Refused(refused),
        };
        writer.write_all(&response.to_line()).await?;
        if line.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
}
