//! The command that brings a customer's site on line.
//!
//! It is the operator's program with the operator's arguments: nothing that a peer said is
//! among them, and no shell reads them. It gets the customer's name in its environment and
//! nothing else of ours: no descriptor, no secret.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::route::CustomerName;

/// How long it may take. A modem dials in half of that; a command that hangs must not
/// stand in the way of the next one.
const TIME_MAX: Duration = Duration::from_secs(120);

/// What it finds the customer's name in.
pub const CUSTOMER_VARIABLE: &str = "TURNSPOOL_CUSTOMER";

/// Where it finds other programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs it to its end.
///
/// # Errors
/// It could not be started, said that it failed, or took too long and was killed.
pub async fn run(customer: &CustomerName, command: &[String]) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("there is no command".to_owned());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env(CUSTOMER_VARIABLE, customer.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        // Its own group, so that what it starts is not ended with our terminal.
        .process_group(0)
        .kill_on_drop(true);
    close_descriptors(&mut command);
    let mut child = command
        .spawn()
        .map_err(|error| format!("starting {program} failed: {error}"))?;
    match tokio::time::timeout(TIME_MAX, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{program} ended with {status}")),
        Ok(Err(error)) => Err(format!("waiting for {program} failed: {error}")),
        Err(_) => {
            if let Some(group) = child.id().and_then(|id| i32::try_from(id).ok())
                && let Some(group) = rustix::process::Pid::from_raw(group)
            {
                // What it has started goes with it. It may have gone just now.
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = child.wait().await;
            let seconds = TIME_MAX.as_secs();
            Err(format!("{program} was killed after {seconds} seconds"))
        }
    }
}

/// Sockets that a ring has just accepted are not yet marked to be closed: all are, here.
#[allow(unsafe_code)]
fn close_descriptors(command: &mut Command) {
    let mark = || {
        // SAFETY: close_range with CLOSE_RANGE_CLOEXEC marks descriptors and closes none;
        // it takes three numbers and touches no memory. It is a system call and nothing
        // more, so it may be made between fork and exec, where we are the only thread.
        let result = unsafe {
            libc::syscall(
                libc::SYS_close_range,
                3,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        };
        // A kernel before 5.11 does not know it: what is open then, is marked by ourselves
        // right after accept.
        let _ = result;
        Ok(())
    };
    // SAFETY: `mark` allocates nothing, takes no lock and does not panic.
    unsafe { command.pre_exec(mark) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wake(command: &[&str]) -> Result<(), String> {
        let customer = "branch".parse().unwrap();
        let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(run(&customer, &command))
    }

    #[test]
    fn it_is_told_whom_it_wakes_and_nothing_else() {
        let script =
            "test \"$TURNSPOOL_CUSTOMER\" = branch && test -z \"$HOME\" && test \"$1\" = ';'";
        assert_eq!(wake(&["/bin/sh", "-c", script, "x", ";"]), Ok(()));
    }

    #[test]
    fn it_has_none_of_our_descriptors() {
        // Made without the mark, as accept does on the ring.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let plain = rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty());
        plain.unwrap();
        let script = "for n in /proc/self/fd/*; do case $n in */[012]) ;; *) test -S $n && exit 1 ;; esac; done; exit 0";
        assert_eq!(wake(&["/bin/sh", "-c", script]), Ok(()));
        // The same without our care would fail: the test can.
        let status = std::process::Command::new("/bin/sh")
            .args(["-c", script])
            .status();
        assert!(!status.unwrap().success());
    }

    #[test]
    fn what_goes_wrong_is_said() {
        let failed = wake(&["/bin/false"]).unwrap_err();
        assert!(
            failed.contains("/bin/false ended with exit status: 1"),
            "{failed}"
        );
        let missing = wake(&["/nonexistent/dial"]).unwrap_err();
        assert!(
            missing.contains("starting /nonexistent/dial failed"),
            "{missing}"
        );
    }
}
