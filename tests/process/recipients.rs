//! Only recipients that exist are taken, where a customer has given us a list.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::message::message;
use crate::harness::relay::PROGRAM;
use crate::harness::{Relay, Setup, eventually};

const MAIL: &str = "MAIL FROM:<a@client.example>";

fn customer(name: &str, list: &Path) -> String {
    format!(
        "[[customer]]\nname = \"{name}\"\ndomains = [\"{name}.example\"]\n\
         deliver_to = \"127.0.0.1:1\"\nrecipients_file = \"{}\"\n",
        list.display()
    )
}

/// The code that RCPT gets in a new session.
#[track_caller]
fn asked(relay: &Relay, recipient: &str) -> u16 {
    let mut client = relay.client();
    client.expect(MAIL, 250);
    client.command(&format!("RCPT TO:<{recipient}>")).code
}

#[test]
fn a_list_of_recipients_follows_its_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let list = directory.path().join("branch.recipients");
    let put = |text: &str| {
        let new = directory.path().join("new");
        fs::write(&new, text).expect("it is ours");
        fs::rename(&new, &list).expect("it is ours");
    };
    put("# people\nbob\nalice@branch.example\n");
    let mut relay = Setup::new()
        .cores(2)
        .customer(&customer("branch", &list))
        .start();
    let mut client = relay.client();
    client.expect(MAIL, 250);
    client.expect("RCPT TO:<Bob+news@branch.example>", 250);
    client.expect("RCPT TO:<alice@branch.example>", 250);
    client.expect("RCPT TO:<postmaster@branch.example>", 250);
    let unknown = client.expect("RCPT TO:<carol@branch.example>", 550).text();
    assert!(unknown.starts_with("5.1.1 "), "{unknown}");
    assert!(client.data(&message("for three", "text")).code == 250);
    // The file is another one: no reload is needed, and each core knows.
    put("carol\n");
    eventually("carol is known", || {
        (0..8)
            .all(|_| asked(&relay, "carol@branch.example") == 250)
            .then_some(())
    });
    assert_eq!(asked(&relay, "bob@branch.example"), 550);
    eventually("it is told", || {
        let told = "recipients of branch loaded: 1 entry";
        relay.log().contains(told).then_some(())
    });
    // A fault changes nothing, and is told with its line.
    put("dave\n\nnot one\ntwo@words@x\n");
    eventually("the fault is told", || {
        relay
            .log()
            .contains("branch.recipients, line 4: ")
            .then_some(())
    });
    assert_eq!(asked(&relay, "carol@branch.example"), 250);
    assert_eq!(asked(&relay, "dave@branch.example"), 550);
    // Nor does a reload lose the list, which brings another customer.
    let second = directory.path().join("second.recipients");
    fs::write(&second, "eve\n").expect("it is ours");
    relay.change(|setup| setup.customer(&customer("second", &second)));
    relay.reload();
    // Until then it is a domain like any other, to which this host may relay.
    eventually("each core knows the second customer", || {
        (0..8)
            .all(|_| asked(&relay, "carol@second.example") == 550)
            .then_some(())
    });
    assert_eq!(asked(&relay, "eve@second.example"), 250);
    assert_eq!(asked(&relay, "carol@branch.example"), 250);
    // Written in place, and taken when it is still.
    fs::write(&second, "frank\n").expect("it is ours");
    eventually("frank is known", || {
        (asked(&relay, "frank@second.example") == 250).then_some(())
    });
    assert!(relay.counter("recipients_unknown") >= 4);
    relay.stop();
}

#[test]
fn a_start_without_a_list_says_what_is_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let list = directory.path().join("list");
    fs::write(&list, "bob\nx@elsewhere.example\n").expect("it is ours");
    let config = directory.path().join("turnspool.toml");
    fs::write(&config, customer("branch", &list)).expect("it is ours");
    for (word, code) in [("check", 2), ("serve", 1)] {
        let output = Command::new(PROGRAM)
            .args([word, "--config"])
            .arg(&config)
            .current_dir(&directory)
            .output()
            .expect("the program starts");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(
            said.contains("line 2: \"x@elsewhere.example\""),
            "{word}: {said}"
        );
    }
}
