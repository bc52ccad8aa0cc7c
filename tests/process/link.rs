//! A site that is not always on line: the link comes up for what waits, and goes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::message::{assert_identical, message};
use crate::harness::namespace::Namespace;
use crate::harness::sink::EVERYTHING;
use crate::harness::{Client, Relay, Setup, Sink, eventually, place};

/// A line that is up while a file is there, with the programs that make it so, and a list
/// of what they did.
pub(crate) struct Line {
    directory: TempDir,
}

impl Line {
    pub(crate) fn new() -> Self {
        let line = Self {
            directory: tempfile::tempdir().expect("a directory"),
        };
        line.program("up", "cat > input; echo up >> done; touch line");
        line.program("down", "echo down >> done; rm -f line");
        line.program("status", "test -e line");
        line
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn program(&self, name: &str, what: &str) {
        let directory = self.directory.path().display();
        let path = self.path(name);
        // Not in place: a program that runs cannot be written.
        let new = self.path("new");
        fs::write(&new, format!("#!/bin/sh\ncd {directory}\n{what}\n")).expect("it is written");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("it is ours");
        fs::rename(new, path).expect("it is put in place");
    }

    /// What its programs did so far.
    pub(crate) fn done(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("done")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// A `[[link]]` by these programs.
    pub(crate) fn link(&self, name: &str, more: &str) -> String {
        let path = |name| self.path(name).display().to_string();
        format!(
            "[[link]]\nname = \"{name}\"\nkind = \"command\"\nup = [\"{}\"]\ndown = [\"{}\"]\n\
             status = [\"{}\"]\n{more}\n",
            path("up"),
            path("down"),
            path("status"),
        )
    }
}

/// The links as `link status` shows them.
fn links(relay: &Relay) -> Value {
    relay.facts(&["link", "status"]).remove(0)
}

fn state(relay: &Relay, link: usize) -> String {
    links(relay)["links"][link]["state"]
        .as_str()
        .expect("a state")
        .to_owned()
}

fn send(relay: &Relay, subject: &str) -> Vec<u8> {
    let text = message(subject, "text");
    let mut client = relay.client();
    client.send("<a@client.example>", &["<b@b.example>"], &text);
    text
}

#[track_caller]
fn wait_for_down(relay: &Relay) {
    eventually("the link is down", || {
        (state(relay, 0) == "down").then_some(())
    });
}

/// Two messages are a reason to dial, one is not; with nothing to do it hangs up.
#[test]
fn mail_makes_the_link_come_up_and_go() {
    let line = Line::new();
    let sink = Sink::new();
    let more = "go_up = { messages = 2 }\nhang_up = { idle = \"1s\" }";
    let mut relay = Setup::to(sink.address())
        .site(&line.link("isp", more))
        .start();
    let first = send(&relay, "one");
    eventually("it waits for the link", || {
        let links = links(&relay);
        (links["ready_messages"] == 1).then_some(())
    });
    assert_eq!(state(&relay, 0), "down");
    assert_eq!(line.done(), [""; 0]);
    let plan = relay.facts(&["link", "plan"]).remove(0);
    assert_eq!(plan[0]["messages"], 1, "{plan}");
    assert_eq!(plan[0]["at"], Value::Null, "{plan}");
    let second = send(&relay, "two");
    let mail = sink.wait_for(2);
    let mut sent = [first, second];
    // Over two connections they may come in any order.
    if !mail[0].octets.ends_with(&sent[0]) {
        sent.swap(0, 1);
    }
    assert_identical(&mail[0].octets, &sent[0]);
    assert_identical(&mail[1].octets, &sent[1]);
    eventually("it hangs up", || {
        (line.done() == ["up", "down"]).then_some(())
    });
    wait_for_down(&relay);
    let history = relay.facts(&["link", "history"]).remove(0);
    let outing = &history[0]["outings"][0];
    assert_eq!(outing["messages"], 2, "{history}");
    assert_eq!(outing["why"], "2 messages wait", "{history}");
    assert_eq!(outing["ours"], true, "{history}");
    // What it did is known after a restart, and so is how long what waits will take.
    relay.stop();
    relay.start_again();
    let again = relay.facts(&["link", "history"]).remove(0);
    assert_eq!(again, history);
    send(&relay, "three");
    eventually("the next time on line is estimated", || {
        let plan = relay.facts(&["link", "plan"]).remove(0);
        plan[0]["seconds"]
            .as_u64()
            .filter(|_| plan[0]["messages"] == 1)
    });
}

/// A stop does not leave open what we opened.
#[test]
fn a_stop_hangs_up() {
    let line = Line::new();
    let mut relay = Setup::new().site(&line.link("isp", "")).start();
    relay.facts(&["link", "up"]);
    eventually("it is up", || (line.done() == ["up"]).then_some(()));
    eventually("and has nothing to do", || {
        (state(&relay, 0) == "idle").then_some(())
    });
    relay.stop();
    assert_eq!(line.done(), ["up", "down"]);
}

/// By hand it goes down, and mail does not bring it up before it is told so.
#[test]
fn by_hand() {
    let line = Line::new();
    let sink = Sink::new();
    let relay = Setup::to(sink.address())
        .site(&line.link(
            "isp",
            "go_up = { messages = 1 }\nhang_up = { idle = \"1h\" }",
        ))
        .start();
    send(&relay, "one");
    sink.wait_for(1);
    relay.facts(&["link", "down", "isp"]);
    wait_for_down(&relay);
    assert_eq!(line.done(), ["up", "down"]);
    send(&relay, "two");
    eventually("it waits", || {
        let links = links(&relay);
        (links["ready_messages"] == 1 && links["links"][0]["held_down"] == true).then_some(())
    });
    assert_eq!(state(&relay, 0), "down");
    relay.facts(&["link", "up"]);
    sink.wait_for(2);
    let finished = relay.run(&["link", "up", "nobody"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("isp"), "{finished:?}");
    // For people.
    let text = relay.run(&["link", "status"]).stdout;
    assert!(text.contains("isp: "), "{text}");
    let text = relay.run(&["link", "history"]).stdout;
    assert!(text.contains("by the operator"), "{text}");
    assert!(relay.run(&["link", "plan"]).stdout.contains("isp: now"));
}

/// A connection of somebody else is used, and left as it is.
#[test]
fn what_others_opened_is_used_and_not_closed() {
    let line = Line::new();
    fs::write(line.path("line"), "").expect("it is written");
    let sink = Sink::new();
    let mut relay = Setup::to(sink.address())
        .site(&line.link("isp", "hang_up = { idle = \"1s\" }"))
        .start();
    send(&relay, "one");
    sink.wait_for(1);
    let links = links(&relay);
    assert_eq!(links["links"][0]["ours"], false, "{links}");
    relay.stop();
    assert_eq!(line.done(), [""; 0]);
    assert!(line.path("line").exists());
}

/// Each failure is told with its cause, and a series is no longer than it may be.
#[test]
fn dials_that_fail_come_in_series() {
    let line = Line::new();
    line.program("up", "echo up >> done; echo 'no carrier' >&2; exit 3");
    let dial = "dial = { pause = \"1s\", tries = 2, series_pause = \"1h\" }";
    let relay = Setup::new().site(&line.link("isp", dial)).start();
    relay.facts(&["link", "up"]);
    eventually("the series is over", || {
        relay.log().contains("the series is over").then_some(())
    });
    assert_eq!(line.done(), ["up", "up"]);
    assert_eq!(state(&relay, 0), "down");
    let log = relay.log();
    assert!(log.contains("no carrier"), "{log}");
    assert!(log.contains("exit code 3"), "{log}");
    let failure = &links(&relay)["links"][0]["last_failure"];
    assert!(
        failure
            .as_str()
            .is_some_and(|why| why.contains("no carrier"))
    );
    // One that does not work at all is not tried again.
    line.program("up", "echo up >> done; exit 78");
    relay.facts(&["link", "up"]);
    eventually("it is given up at once", || {
        (line.done().len() == 3 && state(&relay, 0) == "down").then_some(())
    });
}

/// A program may call it a failure that there is nothing to take down, or not come to its end:
/// what is seen to be down is down.
#[test]
fn what_is_seen_down_is_hung_up_whatever_its_program_says() {
    let line = Line::new();
    line.program("down", "echo down >> done; rm -f line; exit 1");
    let more = "hang_up = { idle = \"1s\" }\ngo_up = { messages = 1 }";
    let sink = Sink::new();
    let relay = Setup::to(sink.address())
        .site(&line.link("isp", more))
        .start();
    for n in 1..=2 {
        send(&relay, "one");
        sink.wait_for(n);
        wait_for_down(&relay);
        assert_eq!(line.done().len(), 2 * n);
    }
    assert!(!relay.log().contains("hanging up failed"));
}

/// A program that is told to end with a dial that is called off, and with it what it has
/// started.
#[test]
fn a_dial_that_is_called_off_leaves_nothing_running() {
    let line = Line::new();
    line.program("up", "trap '' TERM; echo $$ > up-runs; (trap '' TERM; while :; do sleep 1; done) & echo $! > child; while :; do sleep 1; done");
    let relay = Setup::new().site(&line.link("isp", "")).start();
    relay.facts(&["link", "up"]);
    let number = |name: &str| {
        eventually(name, || {
            let text = fs::read_to_string(line.path(name)).ok()?;
            text.trim().parse::<u32>().ok()
        })
    };
    let processes = [number("up-runs"), number("child")];
    relay.facts(&["link", "down"]);
    wait_for_down(&relay);
    for process in processes {
        eventually("it is killed", || {
            let stat = fs::read_to_string(format!("/proc/{process}/stat"));
            let ended = stat.map_or(true, |stat| stat.contains(") Z "));
            ended.then_some(())
        });
    }
    eventually("that is told", || {
        relay.log().contains("was killed").then_some(())
    });
}

/// The second link is for when the first cannot be had.
#[test]
fn the_second_link_is_dialled_when_the_first_fails() {
    let (first, second) = (Line::new(), Line::new());
    first.program("up", "echo up >> done; exit 1");
    let sink = Sink::new();
    let once = "dial = { tries = 1, series_pause = \"1h\" }\ngo_up = { messages = 1 }";
    let go_up = "go_up = { messages = 1 }\nhang_up = { idle = \"1h\" }";
    let relay = Setup::to(sink.address())
        .site(&first.link("modem", once))
        .site(&second.link("satellite", go_up))
        .start();
    send(&relay, "one");
    sink.wait_for(1);
    assert_eq!(first.done(), ["up"]);
    assert_eq!(second.done(), ["up"]);
    assert_ne!(state(&relay, 1), "down");
}

/// A line that goes in the middle of a message: it is sent with the next one, and no
/// attempt is counted.
#[test]
fn a_line_that_breaks_costs_no_attempt() {
    let line = Line::new();
    let address = place::next_address();
    let retry = "tries = 1\nevery = \"1h\"";
    let dial = "dial = { pause = \"1s\" }\ngo_up = { messages = 1 }";
    let relay = Setup::to(address)
        .retry(retry)
        .site(&line.link("isp", dial))
        .start();
    // A host that takes the connection and says nothing.
    let silent = std::net::TcpListener::bind(address).expect("the address is ours");
    let sent = send(&relay, "one");
    let held = silent.accept().expect("the relay calls");
    fs::remove_file(line.path("line")).expect("it was up");
    eventually("that is noticed", || {
        relay.log().contains("says that it is down").then_some(())
    });
    drop((held, silent));
    let sink = Sink::at(address, EVERYTHING, []);
    assert_identical(&sink.wait_for_one().octets, &sent);
    relay.wait_until_empty();
    // What we opened we take down: one that came back would be somebody else's.
    assert_eq!(line.done()[..3], ["up", "down", "up"]);
}

/// A program that does not come to its end says nothing of the line.
#[test]
fn a_status_that_says_nothing_breaks_no_line() {
    let line = Line::new();
    let mut relay = Setup::new()
        .site(&line.link("isp", "hang_up = { idle = \"1h\" }"))
        .start();
    relay.facts(&["link", "up"]);
    eventually("it is up", || (state(&relay, 0) == "idle").then_some(()));
    line.program("status", "kill -KILL $$");
    eventually("it is told", || {
        let told = relay.log().contains("whether the link is up is not known");
        told.then_some(())
    });
    assert_eq!(state(&relay, 0), "idle");
    relay.stop();
    assert_eq!(line.done(), ["up", "down"]);
}

/// The budget is a stop, kept over a restart.
#[test]
fn with_the_budget_used_up_nothing_is_dialled() {
    let line = Line::new();
    let budget = "budget = { per = \"month\", seconds = 1, cost_per_minute = \"0.60\" }\n\
                  go_up = { messages = 1 }\nhang_up = { idle = \"1h\" }";
    let link = line.link("isp", budget);
    let mut relay = Setup::new().site(&link).at_noon().start();
    relay.facts(&["link", "up"]);
    eventually("it is hung up", || {
        (line.done() == ["up", "down"]).then_some(())
    });
    wait_for_down(&relay);
    relay.stop();
    relay.start_again();
    let links = links(&relay);
    let spent = &links["links"][0]["budget"];
    assert!(spent["seconds_spent"].as_u64() >= Some(1), "{links}");
    assert!(spent["money_spent"].is_string(), "{links}");
    let text = relay.run(&["link", "status"]).stdout;
    assert!(text.contains("s on line, 0.0"), "{text}");
    assert!(text.contains(" spent; left: 0s; until "), "{text}");
    assert_eq!(spent["seconds_left"], 0, "{links}");
    let finished = relay.run(&["link", "up"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("used up"), "{finished:?}");
    send(&relay, "one");
    eventually("it is said why", || {
        relay.log().contains("not dialled").then_some(())
    });
    assert_eq!(line.done(), ["up", "down"]);
}

/// Without a price there is no money, and without an interface there are no octets.
#[test]
fn only_what_is_counted_is_shown() {
    let line = Line::new();
    let budget = "budget = { per = \"day\", seconds = 90 }";
    let relay = Setup::new().site(&line.link("isp", budget)).start();
    let budget = &links(&relay)["links"][0]["budget"];
    assert_eq!(budget["money_spent"], Value::Null, "{budget}");
    let text = relay.run(&["link", "status"]).stdout;
    assert!(
        text.contains("this day: 0s on line; left: 90s; until "),
        "{text}"
    );
}

/// Mail for hosts of the own network does not wait for the link.
#[test]
fn what_is_near_does_not_wait() {
    let line = Line::new();
    let sink = Sink::new();
    let relay = Setup::to(place::next_address())
        .route("near.example", sink.address())
        .site(&line.link("isp", ""))
        .start();
    let text = message("near", "text");
    let mut client = relay.client();
    client.send("<a@client.example>", &["<b@near.example>"], &text);
    assert_identical(&sink.wait_for_one().octets, &text);
    assert_eq!(state(&relay, 0), "down");
}

/// User name and password come on standard input, and nowhere else.
#[test]
fn a_password_is_not_in_the_arguments() {
    let line = Line::new();
    line.program("up", "cat > input; cat /proc/$$/cmdline > words; env > environment; ls -l /proc/$$/fd > descriptors; touch line");
    let secret = line.path("secret");
    fs::write(&secret, "correct horse\n").expect("it is written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let login = format!("user = \"site\"\npassword_file = \"{}\"", secret.display());
    let relay = Setup::new().site(&line.link("isp", &login)).start();
    relay.facts(&["link", "up"]);
    eventually("it is up", || line.path("line").exists().then_some(()));
    let read = |name: &str| {
        String::from_utf8_lossy(&fs::read(line.path(name)).expect("it is there")).into_owned()
    };
    assert_eq!(read("input"), "site\ncorrect horse\n");
    for place in ["words", "environment"] {
        assert!(!read(place).contains("correct horse"), "{place}");
    }
    assert!(!relay.log().contains("correct horse"));
    // Sockets and segments of ours are not handed on: at most the shell's own.
    let descriptors = read("descriptors");
    assert!(!descriptors.contains("socket:"), "{descriptors}");
    assert!(!descriptors.contains("segment"), "{descriptors}");
    assert!(!descriptors.contains("io_uring"), "{descriptors}");
}

/// A listener that is open while the link is up.
#[test]
fn a_listener_opens_and_closes_with_the_link() {
    let line = Line::new();
    let second = place::next_address();
    let relay = Setup::new()
        .cores(2)
        .listener(&format!(
            "[[listener]]\naddress = \"{second}\"\nwhen = \"link-up\""
        ))
        .site(&line.link("isp", "hang_up = { idle = \"1h\" }"))
        .start();
    let refused = || Client::try_connect(None, second).is_err();
    assert!(refused());
    for _ in 0..3 {
        relay.facts(&["link", "up"]);
        eventually("it listens", || Client::try_connect(None, second).ok());
        relay.facts(&["link", "down"]);
        eventually("it does not listen", || refused().then_some(()));
        wait_for_down(&relay);
    }
}

/// The address of a dial-up line is there only while the line is; at other times that is
/// no reason not to start.
#[test]
fn a_listener_whose_address_comes_with_the_link() {
    // RFC 5737: nobody has it.
    let nowhere = "192.0.2.77:2525";
    let listener = |when| format!("[[listener]]\naddress = \"{nowhere}\"\nwhen = \"{when}\"");
    let line = Line::new();
    let link = line.link("isp", "hang_up = { idle = \"1h\" }");
    let mut relay = Setup::new()
        .listener(&listener("link-up"))
        .site(&link)
        .start();
    relay.facts(&["link", "up"]);
    eventually("it is up", || (state(&relay, 0) == "idle").then_some(()));
    relay.stop();
    relay.change(|setup| setup.listener(&listener("always")));
    relay.spawn();
    let code = eventually("it does not start", || relay.exit_code());
    assert_ne!(code, 0);
    let log = relay.log();
    assert!(log.contains("when = \"link-up\""), "{log}");
}

/// The schedule dials in its window, and the listener follows it too.
#[test]
fn the_schedule_dials() {
    let line = Line::new();
    let sink = Sink::new();
    let second = place::next_address();
    let schedule = "[[schedule]]\nevery = \"60s\"\ndo = [\"send\"]\n";
    let relay = Setup::to(sink.address())
        .listener(&format!(
            "[[listener]]\naddress = \"{second}\"\nwhen = \"schedule\""
        ))
        .site(&line.link("isp", ""))
        .site(schedule)
        .start();
    // All day is its window.
    eventually("it listens", || Client::try_connect(None, second).ok());
    let links = links(&relay);
    assert!(links["next_window"].is_string(), "{links}");
    let plan = relay.facts(&["link", "plan"]).remove(0);
    assert_eq!(plan[0]["why"], "by schedule", "{plan}");
}

/// An interface that somebody else brings up and down.
#[test]
fn an_external_link_is_followed_by_its_interface() {
    let script = "ip link set lo up; ip link add far type veth peer name near; ip link set near up; ip address add 192.0.2.1/24 dev far";
    let Some(namespace) = Namespace::new("an external link", script) else {
        return;
    };
    namespace.within(|| {
        let ip = |words: &[&str]| {
            let status = std::process::Command::new("ip").args(words).status();
            assert!(status.expect("ip is installed").success(), "{words:?}");
        };
        let sink = Sink::new();
        let mut relay = Setup::to(sink.address())
            .site("[[link]]\nname = \"sat\"\nkind = \"external\"\nentry = \"far\"\n")
            .start();
        send(&relay, "one");
        eventually("it waits", || {
            (links(&relay)["ready_messages"] == 1).then_some(())
        });
        assert_eq!(state(&relay, 0), "down");
        for n in 1..=2 {
            ip(&["link", "set", "far", "up"]);
            sink.wait_for(n);
            assert_eq!(links(&relay)["links"][0]["ours"], false);
            ip(&["link", "set", "far", "down"]);
            wait_for_down(&relay);
            send(&relay, "more");
        }
        relay.stop();
    });
}

/// The link is there at once, since what is sent makes the router dial.
#[test]
fn a_link_on_demand() {
    let sink = Sink::new();
    let on_demand = "[[link]]\nname = \"router\"\nkind = \"on-demand\"\n\
                     go_up = { messages = 2 }\nhang_up = { idle = \"1s\" }\n";
    let relay = Setup::to(sink.address()).site(on_demand).start();
    send(&relay, "one");
    send(&relay, "two");
    sink.wait_for(2);
    wait_for_down(&relay);
}

/// Always there: mail goes at once.
#[test]
fn a_permanent_link() {
    let sink = Sink::new();
    let permanent = "[[link]]\nname = \"fibre\"\nkind = \"permanent\"\nentry = \"lo\"\n";
    let relay = Setup::to(sink.address()).site(permanent).start();
    let sent = send(&relay, "one");
    assert_identical(&sink.wait_for_one().octets, &sent);
    assert_ne!(state(&relay, 0), "down");
    eventually("octets are counted", || {
        links(&relay)["links"][0]["octets"]
            .as_u64()
            .filter(|octets| *octets > 0)
    });
}
