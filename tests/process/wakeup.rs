//! Wake-up mail: held mail is released by a message to an address of the server's own,
//! which is answered like any other and then gone.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};

use crate::harness::message::message;
use crate::harness::{Client, Relay, Setup, Sink, eventually, skipped};

const SECRET: &str = "open-sesame-please";
/// The one address that the customer lists.
const SITE: [u8; 4] = [127, 0, 0, 7];

fn customer(name: &str, site: &Sink, release: &str) -> String {
    format!(
        "[[customer]]\nname = \"{name}\"\ndomains = [\"{name}.example\"]\n\
         deliver_to = \"{}\"\nrelease = {{ {release} }}\n",
        site.address()
    )
}

const WAKEUP: &str = "[wakeup]\naddress = \"wakeup@spool.example\"\n\
                      null_at = [\"spool.example\"]\n";

/// One that holds a message for `branch`, which may call from [`SITE`], and one for
/// `far`, which has the secret.
fn holding(branch: &Sink, far: &Sink, directory: &tempfile::TempDir) -> Relay {
    let file = directory.path().join("secret");
    fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut file| writeln!(file, "{SECRET}"))
        .expect("it is ours");
    let by_secret = format!("wakeup_secret_file = \"{}\"", file.display());
    let relay = Setup::new()
        .cores(2)
        .sections(WAKEUP)
        .relay("networks = []")
        .customer(&customer("branch", branch, "clients = [\"127.0.0.7\"]"))
        .customer(&customer("far", far, &by_secret))
        .start();
    let mut client = relay.client();
    for name in ["branch", "far"] {
        let to = format!("<b@{name}.example>");
        client.send("<a@client.example>", &[&to], &message("waits", "text"));
    }
    relay
}

/// Sends a message, which must be taken.
#[track_caller]
fn write(client: &mut Client, to: &str, subject: &str) {
    client.send(
        "<a@branch.example>",
        &[&format!("<{to}>")],
        &message(subject, ""),
    );
}

#[track_caller]
fn wait_for(relay: &Relay, words: &str) {
    eventually(words, || relay.log().contains(words).then_some(()));
}

#[test]
fn a_listed_site_names_itself_in_the_address_or_the_subject_or_as_null() {
    let calls = [
        ("wakeup+branch.example@spool.example", "x"),
        ("WakeUp@spool.example", "#branch now"),
        ("null%branch.example@spool.example", "x"),
    ];
    for (to, subject) in calls {
        let (branch, far) = (Sink::new(), Sink::new());
        let directory = tempfile::tempdir().expect("a directory");
        let mut relay = holding(&branch, &far, &directory);
        let mut site = Client::connect_from(SITE.into(), relay.address());
        site.hello();
        write(&mut site, to, subject);
        branch.wait_for_one();
        wait_for(&relay, "by wake-up mail of 127.0.0.7:");
        wait_for(&relay, "1 message");
        eventually("only the other's is left", || {
            (relay.queued().len() == 1).then_some(())
        });
        assert_eq!((branch.count(), far.count()), (1, 0), "{to}");
        relay.stop();
    }
}

#[test]
fn strangers_hear_the_same_whoever_they_name_and_nothing_happens() {
    let (branch, far) = (Sink::new(), Sink::new());
    let directory = tempfile::tempdir().expect("a directory");
    let mut relay = holding(&branch, &far, &directory);
    let mut stranger = relay.client();
    let calls = [
        ("wakeup+branch.example@spool.example", "x"),
        ("wakeup+far.example@spool.example", "wrong-sesame-please"),
        ("wakeup+nobody.example@spool.example", "x"),
        ("wakeup+@spool.example", "x"),
        ("wakeup@spool.example", "branch.example open-sesame-please"),
        ("wakeup@spool.example", ""),
        ("null%branch.example@spool.example", "x"),
        ("null@spool.example", "x"),
    ];
    for (to, subject) in calls {
        stranger.expect("MAIL FROM:<>", 250);
        let taken = stranger.expect(&format!("RCPT TO:<{to}>"), 250).text();
        assert_eq!(taken, "2.1.5 Ok", "{to}");
        assert_eq!(stranger.data(&message(subject, "")).code, 250, "{to}");
    }
    wait_for(
        &relay,
        "release of nobody.example, by wake-up mail of 127.0.0.1:",
    );
    stranger.expect("MAIL FROM:<>", 250);
    // No relay, and no other address of the domain.
    stranger.expect("RCPT TO:<wakeups@spool.example>", 550);
    stranger.expect("RCPT TO:<null@elsewhere.example>", 550);
    // What was for nobody is gone, also after a crash.
    assert_eq!(relay.queued().len(), 2);
    relay.kill();
    relay.start_again();
    assert_eq!(relay.queued().len(), 2);
    assert_eq!((branch.count(), far.count()), (0, 0));
    relay.stop();
}

#[test]
fn a_secret_counts_wherever_it_comes_from_and_the_rest_of_the_message_goes_on() {
    if Command::new("swaks").arg("--version").output().is_err() {
        skipped("swaks is not installed");
        return;
    }
    let (branch, far, other) = (Sink::new(), Sink::new(), Sink::new());
    let directory = tempfile::tempdir().expect("a directory");
    let mut relay = holding(&branch, &far, &directory);
    relay.change(|setup| {
        let setup = setup.relay("networks = []\ndomains = [\"other.example\"]");
        setup.route("other.example", other.address())
    });
    relay.reload();
    wait_for(&relay, "configuration");
    let output = Command::new("swaks")
        .args(["--server", &relay.address().ip().to_string()])
        .args(["--port", &relay.address().port().to_string()])
        .args(["--from", "admin@far.example"])
        .args(["--to", "wakeup+far.example@spool.example,c@other.example"])
        .args(["--header", &format!("Subject: wake up {SECRET}")])
        .stdin(Stdio::null())
        .output()
        .expect("swaks runs");
    assert!(output.status.success(), "{output:?}");
    far.wait_for_one();
    other.wait_for_one();
    wait_for(&relay, "with the secret");
    assert!(!relay.log().contains(SECRET));
    assert_eq!(branch.count(), 0);
    eventually("one is left", || (relay.queued().len() == 1).then_some(()));
    relay.stop();
}
