//! NSD, a name server of the kind that real zones are served by.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::waiting::eventually;
use super::{place, skipped};

/// A running NSD with the one zone `example`.
#[derive(Debug)]
pub(crate) struct Nsd {
    address: SocketAddr,
    directory: TempDir,
    child: Child,
    serial: u32,
}

impl Nsd {
    /// Serves these lines, which come behind SOA and NS. `None`, with a line that says
    /// so, where it is not installed.
    pub(crate) fn new(lines: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let address = place::next_address();
        let path = directory.path().display();
        let (ip, port) = (address.ip(), address.port());
        let configuration = format!(
            "server:\n  ip-address: {ip}@{port}\n  zonesdir: \"{path}\"\n  pidfile: \"\"\n  \
             xfrdfile: \"{path}/xfrd\"\n  zonelistfile: \"{path}/zones\"\n  database: \"\"\n  \
             username: \"\"\n  logfile: \"{path}/log\"\n  server-count: 1\n\
             remote-control:\n  control-enable: no\n\
             zone:\n  name: \"example\"\n  zonefile: \"zone\"\n"
        );
        fs::write(directory.path().join("nsd.conf"), configuration).expect("it is written");
        write_zone(&directory, 1, lines);
        let spawned = Command::new("nsd")
            .args(["-d", "-c"])
            .arg(directory.path().join("nsd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = spawned else {
            skipped("a real name server: nsd is not installed");
            return None;
        };
        let nsd = Self {
            address,
            directory,
            child,
            serial: 1,
        };
        nsd.wait_for_serial();
        Some(nsd)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves these lines from now on.
    pub(crate) fn change(&mut self, lines: &str) {
        self.serial += 1;
        write_zone(&self.directory, self.serial, lines);
        let pid = i32::try_from(self.child.id()).expect("a process number");
        kill_process(Pid::from_raw(pid).expect("not zero"), Signal::HUP).expect("it runs");
        self.wait_for_serial();
    }

    /// Asks for a record whose text is the serial number, until it is the new one.
    fn wait_for_serial(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("not zero");
        let mut question = vec![0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.extend(b"\x06serial\x07example\0\0\x10\0\x01");
        let wanted = format!("serial {}.", self.serial);
        eventually("nsd serves the zone", || {
            socket.send_to(&question, self.address).ok()?;
            let mut answer = [0; 512];
            let octets = socket.recv(&mut answer).ok()?;
            let text = String::from_utf8_lossy(&answer[..octets]).into_owned();
            text.contains(&wanted).then_some(())
        });
    }
}

impl Drop for Nsd {
    fn drop(&mut self) {
        // NSD has children of its own; asked to end, it ends them.
        let pid = i32::try_from(self.child.id()).expect("a process number");
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn write_zone(directory: &TempDir, serial: u32, lines: &str) {
    let zone = format!(
        "$ORIGIN example.\n$TTL 1\n\
         @ SOA ns root {serial} 60 60 60 1\n@ NS ns\nns A 127.0.0.1\n\
         serial TXT \"serial {serial}.\"\n{lines}\n"
    );
    fs::write(directory.path().join("zone"), zone).expect("it is written");
}
