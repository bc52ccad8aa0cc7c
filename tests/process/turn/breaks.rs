//! A line that breaks behind the turn, at each step of the session.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustls::ClientConfig;

use super::site::{Provider, Site, tcp, tls};
use crate::harness::eventually;
use crate::harness::secure::Certificates;

/// How a site goes away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Going {
    /// What it said has arrived.
    InOrder,
    /// What it said last may be lost.
    Reset,
}

/// What a site took.
#[derive(Default)]
struct Taken {
    /// The relay has heard that.
    surely: Vec<String>,
    /// It may not have heard it.
    perhaps: Vec<String>,
    /// The session ended with 221.
    whole: bool,
}

/// A call that ends at this step behind the 250.
fn call(
    provider: &Provider,
    config: Option<&Arc<ClientConfig>>,
    steps: u32,
    going: Going,
) -> Taken {
    let line = tcp(provider.odmr);
    let handle = line.try_clone().expect("a second descriptor");
    let mut site = match config {
        Some(config) => Site::new(tls(Box::new(line), config)),
        None => Site::new(Box::new(line)),
    };
    site = site.greeted();
    site.authenticate("branch");
    site.expect("ATRN", 250);
    let mut taken = Taken::default();
    let whole = take(&mut site, steps, &mut taken.surely).is_some();
    taken.whole = whole;
    hang_up(site, &handle, going);
    if going == Going::Reset && !whole {
        taken.perhaps = taken.surely.split_off(taken.surely.len().saturating_sub(1));
    }
    taken
}

/// `None` when the steps are over before the session is.
fn take(site: &mut Site, mut steps: u32, acknowledged: &mut Vec<String>) -> Option<()> {
    let mut step = || {
        steps = steps.checked_sub(1)?;
        Some(())
    };
    step()?;
    site.say("220 site.example\r\n");
    loop {
        step()?;
        let line = site.line();
        step()?;
        match line.get(..4).unwrap_or_default() {
            "DATA" => {
                site.say("354 go on\r\n");
                let mut subject = String::new();
                loop {
                    step()?;
                    let line = site.line();
                    if let Some(text) = line.strip_prefix("Subject: ") {
                        text.trim_end().clone_into(&mut subject);
                    }
                    if line == ".\r\n" {
                        break;
                    }
                }
                step()?;
                acknowledged.push(subject);
                site.say("250 taken\r\n");
            }
            "QUIT" => {
                site.say("221 bye\r\n");
                return Some(());
            }
            "" => panic!("the relay went away"),
            verb => {
                let reply = site.answer(verb);
                site.say(&reply);
            }
        }
    }
}

fn hang_up(site: Site, handle: &TcpStream, going: Going) {
    match going {
        Going::InOrder => {
            // All is read, so that no reset overtakes what we said.
            let _ = handle.shutdown(Shutdown::Write);
            site.read_over();
        }
        Going::Reset => {
            let socket = socket2::SockRef::from(handle);
            let at_once = Some(std::time::Duration::ZERO);
            socket.set_linger(at_once).expect("a socket of ours");
        }
    }
}

fn check(provider: &Provider, config: Option<&Arc<ClientConfig>>, going: Going) {
    let mut sent = 0;
    let mut times: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let mut count = |taken: &Taken| {
        for subject in &taken.surely {
            times.entry(subject.clone()).or_default().0 += 1;
        }
        for subject in &taken.perhaps {
            times.entry(subject.clone()).or_default().1 += 1;
        }
    };
    let mut turns = 0;
    let mut steps = 0;
    loop {
        // Two at each call, so that one is behind the one that breaks.
        while sent < 2 * (steps as usize + 1) {
            provider.hold_one("a.example", &format!("number-{sent}"));
            sent += 1;
        }
        let taken = call(provider, config, steps, going);
        count(&taken);
        turns += 1;
        eventually("the turn is over", || {
            let log = provider.relay.log();
            (log.matches("branch took ").count() >= turns).then_some(())
        });
        if taken.whole {
            break;
        }
        steps += 1;
        // As far as the second message and beyond; the rest is the same again.
        if steps > 60 {
            count(&call(provider, config, u32::MAX, Going::InOrder));
            break;
        }
    }
    provider.relay.wait_until_empty();
    assert!(turns > 20, "{turns}");
    assert_eq!(times.len(), sent);
    for (subject, (surely, perhaps)) in times {
        let once = surely == 1 || surely == 0 && perhaps > 0;
        assert!(
            once,
            "{subject}: {surely} times and {perhaps} more, {going:?}"
        );
    }
}

#[test]
fn a_line_that_breaks_at_each_step_in_clear() {
    for going in [Going::InOrder, Going::Reset] {
        check(&Provider::start(2), None, going);
    }
}

#[test]
fn a_line_that_breaks_at_each_step_under_tls() {
    let certificates = Certificates::new();
    let own = certificates.issue("provider", &["relay.example", "127.0.0.1"], |_| {});
    let config = certificates.client_config();
    for going in [Going::InOrder, Going::Reset] {
        let provider = Provider::start_with(2, "tls = \"implicit\"", &own.section());
        check(&provider, Some(&config), going);
    }
}
