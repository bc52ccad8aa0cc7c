//! Recipients of which the customer's own host is asked before they are taken.

use std::fs;
use std::net::TcpListener;

use crate::harness::message::message;
use crate::harness::{Client, Relay, Setup, Sink, eventually};
use crate::real_clients::postfix;

const MAIL: &str = "MAIL FROM:<a@client.example>";

fn customer(domain: &str, site: &str) -> String {
    format!(
        "[[customer]]\nname = \"site\"\ndomains = [\"{domain}\"]\ndeliver_to = \"{site}\"\n\
         call_ahead = true\nrelease = {{ open = true }}\n"
    )
}

/// The reply to RCPT in a new session.
#[track_caller]
fn asked(relay: &Relay, recipient: &str) -> String {
    let mut client = relay.client();
    client.expect(MAIL, 250);
    let reply = client.command(&format!("RCPT TO:<{recipient}>"));
    format!("{} {}", reply.code, reply.text())
}

#[test]
fn what_a_site_has_said_serves_while_it_is_away() {
    let directory = tempfile::tempdir().expect("a directory");
    let list = directory.path().join("list");
    fs::write(&list, "bob\n").expect("it is ours");
    let behind = Sink::new();
    let own = format!(
        "[[customer]]\nname = \"own\"\ndomains = [\"site.example\"]\ndeliver_to = \"{}\"\n\
         recipients_file = \"{}\"\nrelease = {{ open = true }}\n",
        behind.address(),
        list.display()
    );
    let mut site = Setup::new().customer(&own).start();
    let address = site.address().to_string();
    let mut relay = Setup::new()
        .cores(2)
        .customer(&customer("site.example", &address))
        .start();
    // In one session with others, in their order.
    let mut client = relay.client();
    client.write(
        b"MAIL FROM:<a@client.example>\r\nRCPT TO:<bob@site.example>\r\n\
          RCPT TO:<nobody@site.example>\r\nRCPT TO:<bob+news@site.example>\r\nDATA\r\n",
    );
    let codes: Vec<_> = (0..5).map(|_| client.reply().code).collect();
    assert_eq!(codes, [250, 250, 550, 250, 354]);
    client.write(b"Subject: x\r\n\r\n.\r\n");
    assert_eq!(client.reply().code, 250);
    let unknown = asked(&relay, "nobody@site.example");
    assert_eq!(unknown, "550 5.1.1 no such recipient here");
    assert_eq!(relay.counter("recipients_asked"), 4);
    let connections = relay.counter("connections_out");
    assert_eq!(
        connections, 3,
        "one for each address, and none for the second time"
    );
    site.stop();
    assert_eq!(asked(&relay, "nobody@site.example"), unknown);
    assert_eq!(asked(&relay, "bob@site.example"), "250 2.1.5 Ok");
    assert_eq!(asked(&relay, "unheard-of@site.example"), "250 2.1.5 Ok");
    eventually("the operator is told", || {
        let told = "the site of site cannot be asked about recipients";
        relay.log().contains(told).then_some(())
    });
    // And what was taken is delivered when the site is back.
    site.start_again();
    relay.client().expect("ETRN site.example", 253);
    relay.wait_until_empty();
    relay.stop();
    site.stop();
}

/// The provider is started again while the site is away, after a stop and after a kill: who
/// is known is known. A file that makes no sense costs no more than what it held.
#[test]
fn what_a_site_has_said_survives_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let list = directory.path().join("list");
    fs::write(&list, "bob\n").expect("it is ours");
    let behind = Sink::new();
    let own = format!(
        "[[customer]]\nname = \"own\"\ndomains = [\"site.example\"]\ndeliver_to = \"{}\"\n\
         recipients_file = \"{}\"\nrelease = {{ open = true }}\n",
        behind.address(),
        list.display()
    );
    let mut site = Setup::new().customer(&own).start();
    let mut relay = Setup::new()
        .cores(2)
        .customer(&customer("site.example", &site.address().to_string()))
        .start();
    let unknown = "550 5.1.1 no such recipient here";
    let known = |relay: &Relay| {
        assert_eq!(asked(relay, "bob@site.example"), "250 2.1.5 Ok");
        assert_eq!(asked(relay, "nobody@site.example"), unknown);
    };
    known(&relay);
    site.stop();
    relay.stop();
    relay.start_again();
    known(&relay);
    let connections = relay.counter("connections_out");
    assert_eq!(connections, 0, "what is fresh is not asked for again");
    assert_eq!(asked(&relay, "unheard-of@site.example"), "250 2.1.5 Ok");

    // What is new is kept a moment later, so that a kill costs little.
    site.start_again();
    fs::write(&list, "bob\ncarol\n").expect("it is ours");
    relay.stop();
    relay.start_again();
    eventually("the site knows the new one", || {
        (asked(&site, "carol@site.example") == "250 2.1.5 Ok").then_some(())
    });
    assert_eq!(asked(&relay, "carol@site.example"), "250 2.1.5 Ok");
    assert_eq!(asked(&relay, "mallory@site.example"), unknown);
    let file = relay.spool_directory().join("call-ahead.json");
    eventually("it is kept", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let both = text.contains("carol@site.example") && text.contains("mallory@site.example");
        both.then_some(())
    });
    site.stop();
    relay.kill();
    relay.start_again();
    known(&relay);
    assert_eq!(asked(&relay, "mallory@site.example"), unknown);

    relay.stop();
    fs::write(&file, "{\"version\":1,\"exists\":[[").expect("it is ours");
    relay.start_again();
    eventually("the operator is told", || {
        let told = "sites are asked about each recipient anew";
        relay.log().contains(told).then_some(())
    });
    assert_eq!(asked(&relay, "nobody@site.example"), "250 2.1.5 Ok");
    relay.stop();
}

#[test]
fn postfix_is_asked() {
    let lines = "virtual_mailbox_maps = inline:{ bob@post.example=bob/ }";
    let Some(site) = postfix(lines) else { return };
    let mut relay = Setup::new()
        .customer(&customer("post.example", &site.address.to_string()))
        .start();
    assert_eq!(asked(&relay, "bob@post.example"), "250 2.1.5 Ok");
    let unknown = asked(&relay, "nobody@post.example");
    assert_eq!(unknown, "550 5.1.1 no such recipient here");
    drop(site);
    assert_eq!(asked(&relay, "nobody@post.example"), unknown);
    assert_eq!(asked(&relay, "carol@post.example"), "250 2.1.5 Ok");
    relay.stop();
}

#[test]
fn who_waits_for_a_site_that_says_nothing_blocks_nobody() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("it is bound").to_string();
    let other = Sink::new();
    let mut relay = Setup::new()
        .customer(&customer("site.example", &address))
        .route("other.example", other.address())
        .start();
    let mut waits = relay.client();
    waits.expect(MAIL, 250);
    waits.write(b"RCPT TO:<bob@site.example>\r\n");
    let (call, _) = silent.accept().expect("the site is called");
    let mut client = relay.client();
    let to = ["<c@other.example>"];
    client.send("<a@client.example>", &to, &message("not blocked", "text"));
    other.wait_for_one();
    // The second session about the same address joins the first one's call.
    let mut joins = Client::connect(relay.address());
    joins.hello();
    joins.expect(MAIL, 250);
    joins.write(b"RCPT TO:<bob@site.example>\r\n");
    eventually("both have asked", || {
        (relay.counter("recipients_asked") == 2).then_some(())
    });
    drop(call);
    assert_eq!(waits.reply().code, 250);
    assert_eq!(joins.reply().code, 250);
    assert_eq!(relay.counter("connections_out"), 2);
    relay.stop();
}
