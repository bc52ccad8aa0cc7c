//! A provider that is no relay of ours holds mail for a site, and is asked for it by ETRN.

use crate::harness::message::{contains, message};
use crate::harness::secure::Certificates;
use crate::harness::{Client, Setup, Sink, eventually, place};
use crate::peer::{Kind, Peer, Wanted};

/// Postfix keeps a list of what is deferred for a domain (`fast_flush_domains`), tries none
/// of it of itself (`defer_transports`), and lets it go by ETRN.
#[test]
fn postfix_is_asked() {
    let certificates = Certificates::new();
    let address = place::next_address();
    let mut wanted = Wanted::new(&certificates, address);
    wanted.held = Some("b.example");
    let Some(peer) = Peer::start(Kind::Postfix, &wanted) else {
        return;
    };
    let home = Sink::new();
    let collect = format!(
        "[[collect]]\nkind = \"etrn\"\nserver = \"{}\"\nnames = [\"b.example\"]\n",
        peer.address
    );
    let site = Setup::new()
        .listen(address)
        .route("b.example", home.address())
        .site(&collect)
        .start();
    let mut client = Client::connect(peer.address);
    client.hello();
    for n in 0..5 {
        let text = message(&format!("held {n}"), "text");
        client.envelope("<a@world.example>", &["<x@b.example>"]);
        assert_eq!(client.data(&text).code, 250);
    }
    eventually("it is deferred", || {
        (peer.log().matches("status=deferred").count() >= 5).then_some(())
    });
    assert_eq!(home.count(), 0);
    let finished = site.run(&["collect", "etrn"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("b.example: 250 "), "{finished:?}");
    let mail = home.wait_for(5);
    for n in 0..5 {
        let subject = format!("Subject: held {n}\r\n");
        assert!(mail.iter().any(|mail| contains(&mail.octets, &subject)));
    }
}
