//! Lines that break without a word: the other end is a host in name spaces of its own,
//! and its end of a line goes down.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::message::message;
use crate::harness::namespace::Namespace;
use crate::harness::relay::Relay;
use crate::harness::sink::EVERYTHING;
use crate::harness::{Client, Gate, Setup, Sink, Stage, eventually, on};
use crate::release::{customer, log_in};
use crate::turn::site::Site;

const SENDER: &str = "<a@client.example>";
const PORT: u16 = 2525;

/// A provider and a site, with two lines between them.
struct Hosts {
    provider: Namespace,
    site: Namespace,
}

/// Which line.
#[derive(Clone, Copy)]
struct Line(u8);

const FIRST: Line = Line(1);
const SECOND: Line = Line(2);

impl Line {
    fn provider(self) -> SocketAddr {
        SocketAddr::from(([10, 9, self.0, 1], PORT))
    }

    fn site(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(10, 9, self.0, 2), 25))
    }
}

impl Hosts {
    fn new(what_for: &str) -> Option<Self> {
        let provider = Namespace::new(what_for, "ip link set lo up")?;
        let pid = provider.pid();
        let script = format!(
            "ip link set lo up; for n in 1 2; do \
             ip link add name line$n type veth peer name line$n netns {pid}; \
             ip addr add 10.9.$n.2/24 dev line$n; ip link set line$n up; \
             nsenter --net --target {pid} sh -ec \
             \"ip addr add 10.9.$n.1/24 dev line$n; ip link set line$n up\"; done"
        );
        let site = Namespace::new(what_for, &script)?;
        Some(Self { provider, site })
    }

    /// The provider's end stays up, and hears nothing any more.
    fn cut(&self, line: Line) {
        let name = format!("line{}", line.0);
        self.site.within(|| {
            let down = Command::new("ip")
                .args(["link", "set", &name, "down"])
                .status();
            assert!(down.expect("ip is there").success());
        });
    }

    /// A relay at the provider.
    fn relay(&self, setup: Setup) -> Relay {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        self.provider.within(|| setup.listen(any).start())
    }

    fn send(&self, relay: &Relay, recipients: &[&str]) {
        self.provider.within(|| {
            let mut client = relay.client();
            for to in recipients {
                client.send(SENDER, &[to], &message(to, "text"));
            }
        });
    }
}

/// A session of the site over this line.
fn call(line: Line) -> Client {
    let ours: IpAddr = line.site().ip();
    log_in(Client::connect_from(ours, line.provider()), "branch")
}

/// It needs the permits that the dead connections have, and does not wait for the time in
/// which a line may be silent.
#[test]
fn a_site_that_calls_from_another_address_gets_what_was_on_the_old_line() {
    let Some(hosts) = Hosts::new("a site that redials") else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let silence = Duration::from_secs(60);
    let setup = Setup::new()
        .customer(&customer(directory.path(), "branch", "caller", ""))
        .limits(&format!("silence = \"{}s\"", silence.as_secs()));
    let mut relay = hosts.relay(setup);
    let to = "<b@branch.example>";
    hosts.send(&relay, &[to; 5]);
    let gate = Gate::new();
    hosts.site.within(|| {
        let old = Sink::at(FIRST.site(), EVERYTHING, [on(Stage::End).hold(&gate)]);
        let new = Sink::at(SECOND.site(), EVERYTHING, []);
        call(FIRST).expect("ETRN branch.example", 253);
        eventually("a site's first connections wait", || {
            (gate.arrived() == 2).then_some(())
        });
        hosts.cut(FIRST);
        let since = Instant::now();
        let reply = call(SECOND).command("ETRN branch.example");
        assert_eq!(reply.code / 10, 25, "{reply:?}");
        new.wait_for(5);
        assert!(since.elapsed() < silence / 2, "{:?}", since.elapsed());
        // What came has an answer, before the sink goes.
        relay.wait_until_empty();
        gate.open();
        drop(old);
    });
    hosts.provider.within(|| relay.stop());
}

/// The same by ATRN: the message on the dead line is all that there is, and is not kept for it.
#[test]
fn a_site_that_takes_its_mail_from_another_address_gets_what_was_on_the_old_line() {
    const ODMR: u16 = 366;
    let Some(hosts) = Hosts::new("a site that redials for ATRN") else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let customer = customer(directory.path(), "branch", "mx", "");
    let odmr = format!("[[listener]]\naddress = \"0.0.0.0:{ODMR}\"\nrole = \"odmr\"\n");
    let silence = Duration::from_secs(60);
    let setup = Setup::new()
        .sections(&format!("{odmr}{customer}"))
        .limits(&format!("silence = \"{}s\"", silence.as_secs()));
    let mut relay = hosts.relay(setup);
    hosts.send(&relay, &["<b@branch.example>"]);
    hosts.site.within(|| {
        let call = |line: Line| {
            let mut site = Site::connect(SocketAddr::new(line.provider().ip(), ODMR));
            site.authenticate("branch");
            site
        };
        let mut old = call(FIRST);
        old.expect("ATRN", 250);
        old.say("220 site.example\r\n");
        loop {
            let line = old.line();
            let verb = line.get(..4).unwrap_or_default();
            if verb == "DATA" {
                break;
            }
            let reply = old.answer(verb);
            old.say(&reply);
        }
        old.say("354 go on\r\n");
        while old.line() != ".\r\n" {}
        hosts.cut(FIRST);
        let since = Instant::now();
        let mut new = call(SECOND);
        // All that there is is on its way, and by this call in doubt.
        new.expect("ATRN", 450);
        eventually("the old line is given up", || {
            relay.log().contains("lost the connection").then_some(())
        });
        eventually("it has its turn", || {
            new.say("ATRN\r\n");
            (new.reply().0 == 250).then_some(())
        });
        assert_eq!(new.take(usize::MAX).len(), 1);
        assert!(since.elapsed() < silence / 2, "{:?}", since.elapsed());
    });
    relay.wait_until_empty();
    hosts.provider.within(|| relay.stop());
}

/// What counts is whether the line is there, not how soon the host answers.
#[test]
fn a_line_that_breaks_is_noticed_and_a_host_that_thinks_long_is_waited_for() {
    let Some(hosts) = Hosts::new("a line that breaks") else {
        return;
    };
    let setup = Setup::new()
        .route("slow.example", SECOND.site())
        .route("dead.example", FIRST.site())
        .limits("silence = \"5s\"");
    let mut relay = hosts.relay(setup);
    let (slow_gate, dead_gate) = (Gate::new(), Gate::new());
    hosts.site.within(|| {
        let slow = Sink::at(SECOND.site(), EVERYTHING, [on(Stage::End).hold(&slow_gate)]);
        let dead = Sink::at(FIRST.site(), EVERYTHING, [on(Stage::End).hold(&dead_gate)]);
        hosts.send(&relay, &["<b@slow.example>"]);
        eventually("the slow host thinks", || {
            (slow_gate.arrived() == 1).then_some(())
        });
        hosts.send(&relay, &["<b@dead.example>"]);
        eventually("the other host thinks", || {
            (dead_gate.arrived() == 1).then_some(())
        });
        hosts.cut(FIRST);
        eventually("the line is noticed to be dead", || {
            relay.log().contains("lost the connection").then_some(())
        });
        slow_gate.open();
        slow.wait_for_one();
        assert_eq!(slow.sessions(), 1);
        dead_gate.open();
        drop(dead);
    });
    hosts.provider.within(|| relay.stop());
}

/// Else its place among the sessions would be its own until a command is overdue.
#[test]
fn a_client_whose_line_breaks_makes_room() {
    let Some(hosts) = Hosts::new("a client whose line breaks") else {
        return;
    };
    let setup = Setup::new().limits("sessions = 1\nsilence = \"5s\"");
    let mut relay = hosts.relay(setup);
    hosts.site.within(|| {
        let greeted = |line: Line| {
            let client = Client::try_connect(Some(line.site().ip()), line.provider());
            client.ok().filter(|client| client.greeting.code == 220)
        };
        // Whoever looked whether the relay is there may have his place for a moment.
        let mut client = eventually("a session", || greeted(FIRST));
        client.hello();
        hosts.cut(FIRST);
        assert!(greeted(SECOND).is_none(), "its place is taken");
        eventually("there is room", || greeted(SECOND));
    });
    hosts.provider.within(|| relay.stop());
}
