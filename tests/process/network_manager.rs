//! A link by NetworkManager, over a private D-Bus with python-dbusmock in its place.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::message::{assert_identical, message};
use crate::harness::{Relay, Setup, Sink, eventually, skipped};

/// Adds a device and a connection, then obeys: `active` activates as somebody else would,
/// `stranger` activates another connection, `break` takes down whatever is active, `list` says
/// what is. `slow` and a file: it makes the file when it is next asked to activate, and does so
/// two seconds later. It answers with how many are active, and their ids.
const OPERATOR: &str = r#"
import sys, dbus
bus = dbus.SystemBus()
NM = 'org.freedesktop.NetworkManager'
root = '/org/freedesktop/NetworkManager'
def obj(path, iface): return dbus.Interface(bus.get_object(NM, path), iface)
mock = obj(root, 'org.freedesktop.DBus.Mock')
nm = obj(root, NM)
dev = mock.AddEthernetDevice('mock_Ethernet1', 'lo', dbus.UInt32(30))
settings = obj(root + '/Settings', NM + '.Settings')
conn = settings.AddConnection(dbus.Dictionary({'connection': dbus.Dictionary({
    'id': 'Mobile', 'type': 'gsm', 'uuid': '1-2-3'}, signature='sv')}, signature='sa{sv}'))
wire = settings.AddConnection(dbus.Dictionary({'connection': dbus.Dictionary({
    'id': 'Wire', 'type': 'ethernet', 'uuid': '4-5-6'}, signature='sv')}, signature='sa{sv}'))
def active():
    return obj(root, 'org.freedesktop.DBus.Properties').Get(NM, 'ActiveConnections')
print('ready', flush=True)
SLOW = """
import time
open({!r}, 'w').close()
time.sleep(2)
ret = self.activate_connection(self, args[0], args[1], args[2])
"""
for line in sys.stdin:
    word, _, file = line.strip().partition(' ')
    if word == 'active':
        nm.ActivateConnection(conn, dev, '/')
    elif word == 'stranger':
        nm.ActivateConnection(wire, dev, '/')
    elif word == 'break':
        for path in active():
            nm.DeactivateConnection(path)
    elif word == 'slow':
        mock.AddMethod(NM, 'ActivateConnection', 'ooo', 'o', SLOW.format(file))
    ids = []
    for path in active():
        try:
            ids.append(str(obj(path, 'org.freedesktop.DBus.Properties').Get(NM + '.Connection.Active', 'Id')))
        except dbus.exceptions.DBusException:
            # It has gone since.
            pass
    print(len(ids), '+'.join(ids), flush=True)
"#;

/// The bus, the mock on it, and an operator.
struct Desk {
    address: String,
    bus: Child,
    mock: Child,
    operator: Child,
    answers: BufReader<std::process::ChildStdout>,
}

fn python(bus_address: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command
        .args(arguments)
        .env("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
        .env("DBUS_SESSION_BUS_ADDRESS", bus_address);
    command
}

impl Desk {
    /// `None`, with a line that says so, where the mock is not installed.
    fn new() -> Option<Self> {
        let mut bus = match Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        {
            Ok(bus) => bus,
            Err(error) => {
                skipped(&format!(
                    "NetworkManager: dbus-daemon is not installed ({error})"
                ));
                return None;
            }
        };
        let mut address = String::new();
        let out = bus.stdout.take().expect("piped");
        BufReader::new(out)
            .read_line(&mut address)
            .expect("it says where it is");
        let address = address.trim().to_owned();
        let installed = python(&address, &["-c", "import dbusmock"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !installed {
            skipped("NetworkManager: python3-dbusmock is not installed");
            let _ = bus.kill();
            let _ = bus.wait();
            return None;
        }
        let (mock, operator, answers) = Self::start(&address);
        Some(Self {
            address,
            bus,
            mock,
            operator,
            answers,
        })
    }

    /// A NetworkManager, and its operator.
    fn start(address: &str) -> (Child, Child, BufReader<std::process::ChildStdout>) {
        let words = ["-m", "dbusmock", "--system", "--template", "networkmanager"];
        let mock = python(address, &words).stdout(Stdio::null()).spawn();
        let mock = mock.expect("python starts");
        eventually("the mock has its name", || {
            let look = "import dbus; assert dbus.SystemBus().name_has_owner('org.freedesktop.NetworkManager')";
            let status = python(address, &["-c", look])
                .stderr(Stdio::null())
                .status();
            status.is_ok_and(|status| status.success()).then_some(())
        });
        let mut operator = python(address, &["-c", OPERATOR])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut answers = BufReader::new(operator.stdout.take().expect("piped"));
        let mut ready = String::new();
        answers.read_line(&mut ready).expect("it answers");
        assert_eq!(ready, "ready\n");
        (mock, operator, answers)
    }

    /// It goes, as at an update or a crash.
    fn end_manager(&mut self) {
        for child in [&mut self.operator, &mut self.mock] {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
        }
    }

    fn start_manager(&mut self) {
        (self.mock, self.operator, self.answers) = Self::start(&self.address);
    }

    /// Says a word; gives how many connections are active then.
    fn say(&mut self, word: &str) -> u32 {
        let answer = self.ask(word);
        let (number, _) = answer.split_once(' ').expect("two words");
        number.parse().expect("a number")
    }

    /// The ids of what is active.
    fn names(&mut self) -> String {
        let answer = self.ask("list");
        let (_, names) = answer.split_once(' ').expect("two words");
        names.trim().to_owned()
    }

    fn ask(&mut self, word: &str) -> String {
        use std::io::Write as _;
        let stdin = self.operator.stdin.as_mut().expect("piped");
        writeln!(stdin, "{word}").expect("it listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        answer
    }

    fn setup(&self, sink: &Sink, more: &str) -> Setup {
        let link = format!(
            "[[link]]\nname = \"mobile\"\nkind = \"networkmanager\"\nentry = \"Mobile\"\n{more}\n"
        );
        let variable = format!("DBUS_SYSTEM_BUS_ADDRESS={}", self.address);
        Setup::to(sink.address())
            .site(&link)
            .wrapper(vec!["env".to_owned(), variable])
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for child in [&mut self.operator, &mut self.mock, &mut self.bus] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn link(relay: &Relay) -> Value {
    relay.facts(&["link", "status"])[0]["links"][0].clone()
}

fn send(relay: &Relay, subject: &str) -> Vec<u8> {
    let text = message(subject, "text");
    relay
        .client()
        .send("<a@client.example>", &["<b@b.example>"], &text);
    text
}

#[test]
fn a_connection_is_activated_for_mail_and_deactivated() {
    let Some(mut desk) = Desk::new() else { return };
    let sink = Sink::new();
    let more = "go_up = { messages = 1 }\nhang_up = { idle = \"1s\" }";
    let mut relay = desk.setup(&sink, more).start();
    assert_eq!(desk.say("list"), 0);
    let sent = send(&relay, "one");
    assert_identical(&sink.wait_for_one().octets, &sent);
    eventually("it is down again", || {
        (link(&relay)["state"] == "down").then_some(())
    });
    assert_eq!(desk.say("list"), 0, "what we activated we deactivate");
    let history = relay.facts(&["link", "history"]).remove(0);
    assert_eq!(history[0]["outings"][0]["ours"], true, "{history}");
    relay.stop();
}

#[test]
fn one_that_breaks_is_noticed_and_one_that_is_active_is_used() {
    let Some(mut desk) = Desk::new() else { return };
    let sink = Sink::new();
    let more = "dial = { pause = \"1s\" }\nhang_up = { idle = \"1h\" }";
    let mut relay = desk.setup(&sink, more).start();
    relay.facts(&["link", "up"]);
    eventually("it is up", || (link(&relay)["ours"] == true).then_some(()));
    assert_eq!(desk.say("break"), 0);
    eventually("that is noticed", || {
        relay
            .log()
            .contains("NetworkManager says that it is down")
            .then_some(())
    });
    relay.facts(&["link", "down"]);
    eventually("it stays down", || {
        (link(&relay)["state"] == "down" && desk.say("list") == 0).then_some(())
    });
    // Somebody else's: used after the operator lets it, and left as it is.
    assert_eq!(desk.say("active"), 1);
    relay.facts(&["link", "up"]);
    send(&relay, "two");
    sink.wait_for_one();
    relay.stop();
    assert_eq!(desk.say("list"), 1);
}

/// A server that is killed leaves active what it activated, and the next one takes it over:
/// it hangs up, and sees it break. What somebody else activated stays.
#[test]
fn one_that_a_killed_server_left_active_is_deactivated() {
    let Some(mut desk) = Desk::new() else { return };
    let sink = Sink::new();
    let mut relay = desk.setup(&sink, "hang_up = { idle = \"1h\" }").start();
    let left_active = |relay: &mut Relay, desk: &mut Desk| {
        relay.facts(&["link", "up"]);
        eventually("it is up", || (link(relay)["ours"] == true).then_some(()));
        relay.kill();
        assert_eq!(desk.say("list"), 1);
        relay.start_again();
        eventually("it is ours", || (link(relay)["ours"] == true).then_some(()));
    };
    left_active(&mut relay, &mut desk);
    relay.stop();
    assert_eq!(desk.say("list"), 0);
    relay.start_again();
    left_active(&mut relay, &mut desk);
    assert_eq!(desk.say("break"), 0);
    eventually("that is noticed", || {
        relay
            .log()
            .contains("NetworkManager says that it is down")
            .then_some(())
    });
    relay.facts(&["link", "down"]);
    eventually("it stays down", || {
        (link(&relay)["state"] == "down" && desk.say("list") == 0).then_some(())
    });
    relay.kill();
    assert_eq!(desk.say("active"), 1);
    relay.start_again();
    eventually("it is not ours", || {
        (link(&relay)["ours"] == false).then_some(())
    });
    relay.kill();
    relay.start_again();
    relay.stop();
    assert_eq!(desk.say("list"), 1);
}

/// What we have asked for is ours, also if we want it no more when it comes.
#[test]
fn one_that_is_called_off_while_it_is_asked_for_does_not_stay_up() {
    let Some(mut desk) = Desk::new() else { return };
    let sink = Sink::new();
    let directory = tempfile::tempdir().expect("a directory");
    let asked = directory.path().join("asked");
    desk.say(&format!("slow {}", asked.display()));
    let relay = desk.setup(&sink, "").start();
    relay.facts(&["link", "up"]);
    eventually("it is asked for", || asked.exists().then_some(()));
    relay.facts(&["link", "down"]);
    eventually("it is down", || {
        let is_down = link(&relay)["state"] == "down";
        (is_down && desk.say("list") == 0).then_some(())
    });
}

/// NetworkManager starts again, as at an update: what it keeps up has another path then, and
/// its old path may be another connection's. If it keeps nothing up, that is noticed.
#[test]
fn one_that_is_kept_over_a_restart_of_the_manager_is_ours() {
    let Some(mut desk) = Desk::new() else { return };
    let sink = Sink::new();
    let mut relay = desk.setup(&sink, "hang_up = { idle = \"1h\" }").start();
    relay.facts(&["link", "up"]);
    eventually("it is up", || (link(&relay)["ours"] == true).then_some(()));
    desk.end_manager();
    desk.start_manager();
    // It has our path.
    assert_eq!(desk.say("stranger"), 1);
    assert_eq!(desk.say("active"), 2);
    send(&relay, "one");
    sink.wait_for_one();
    assert_eq!(link(&relay)["ours"], true);
    relay.facts(&["link", "down"]);
    eventually("it is down", || {
        (link(&relay)["state"] == "down").then_some(())
    });
    assert_eq!(desk.names(), "Wire", "what is not ours stays");
    relay.facts(&["link", "up"]);
    eventually("it is up", || (link(&relay)["ours"] == true).then_some(()));
    desk.end_manager();
    desk.start_manager();
    assert_eq!(desk.say("stranger"), 1);
    eventually("that is noticed", || {
        let told = relay.log();
        told.contains("NetworkManager says that it is down")
            .then_some(())
    });
    relay.stop();
    assert_eq!(desk.names(), "Wire");
}

/// Without a NetworkManager for long it is taken for lost, and if it is up again later, it is
/// neither used as somebody else's nor does it stay up.
#[test]
fn one_whose_manager_stays_away_is_lost_and_taken_down_later() {
    let Some(mut desk) = Desk::new() else { return };
    let sink = Sink::new();
    let more = "hang_up = { idle = \"1h\" }\ngo_up = { messages = 100 }";
    let mut relay = desk.setup(&sink, more).start();
    relay.facts(&["link", "up"]);
    eventually("it is up", || (link(&relay)["ours"] == true).then_some(()));
    desk.end_manager();
    eventually("it is lost", || {
        let told = relay.log();
        told.contains("there is no NetworkManager any more")
            .then_some(())
    });
    relay.facts(&["link", "down"]);
    desk.start_manager();
    assert_eq!(desk.say("stranger"), 1);
    desk.say("active");
    eventually("it is deactivated", || {
        (desk.names() == "Wire").then_some(())
    });
    relay.stop();
    assert_eq!(desk.names(), "Wire");
}

/// No answer is not the answer that it is down.
#[test]
fn one_that_nobody_says_is_down_is_not_taken_for_it() {
    let Some(mut desk) = Desk::new() else { return };
    let sink = Sink::new();
    let relay = desk.setup(&sink, "hang_up = { idle = \"1h\" }").start();
    relay.facts(&["link", "up"]);
    eventually("it is up", || (desk.say("list") == 1).then_some(()));
    eventually("it is known to be", || {
        relay.log().contains(": up").then_some(())
    });
    let mock = rustix::process::Pid::from_child(&desk.mock);
    let signal = |signal| rustix::process::kill_process(mock, signal).expect("it is ours");
    signal(rustix::process::Signal::STOP);
    relay.facts(&["link", "down"]);
    eventually("it is told", || {
        relay.log().contains("does not answer").then_some(())
    });
    assert_eq!(link(&relay)["state"], "hanging up");
    signal(rustix::process::Signal::CONT);
}

#[test]
fn a_connection_that_is_not_there_is_told_and_not_tried_again() {
    let Some(desk) = Desk::new() else { return };
    let sink = Sink::new();
    let setup = desk
        .setup(&sink, "")
        .site("[[link]]\nname = \"other\"\nkind = \"networkmanager\"\nentry = \"Nobody\"\n");
    let relay = setup.start();
    relay.facts(&["link", "up", "other"]);
    eventually("it is told", || {
        let log = relay.log();
        (log.contains("has no connection") && log.contains("the series is over")).then_some(())
    });
}
