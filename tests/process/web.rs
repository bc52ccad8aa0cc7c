//! The web page, as a program and as a browser see it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::http::{Answer, request};
use crate::harness::message::message;
use crate::harness::{Relay, Setup, Sink, Stage, eventually, on, place, skipped};

/// A relay with a page, and the address of the page.
fn with_page(setup: Setup) -> (Relay, SocketAddr) {
    let mut page = place::next_address();
    page.set_port(8025);
    let relay = setup.admin(&format!("web = \"{page}\"")).start();
    wait_for(page);
    (relay, page)
}

/// It is there a little after the server.
fn wait_for(page: SocketAddr) {
    eventually("the page is served", || {
        request(page, "GET", "/healthz", &[], "")
    });
}

fn get(page: SocketAddr, path: &str) -> Answer {
    request(page, "GET", path, &[], "").expect("the page answers")
}

/// The page's facts, when there are some.
fn live(page: SocketAddr) -> Option<Value> {
    let answer = get(page, "/live");
    (answer.status == 200).then(|| answer.json())
}

/// The token, as an operator gets it.
fn token(relay: &Relay) -> String {
    let facts = relay.facts(&["web"]).remove(0);
    facts["token"].as_str().expect("a token").to_owned()
}

fn send(relay: &Relay, sender: &str, recipient: &str) {
    let mut client = relay.client();
    client.send(sender, &[recipient], &message("subject", "text"));
}

#[test]
fn what_a_stranger_may_not() {
    let (relay, page) = with_page(Setup::to(place::next_address()));
    let token = format!("Authorization: Bearer {}", token(&relay));
    let host = format!("Host: {page}");
    let origin = format!("Origin: http://{page}");
    let release = r#"{"action":"release","name":"nobody.example"}"#;
    let check = |method: &str, path: &str, fields: &[&str], body: &str, expected: u16| {
        let answer = request(page, method, path, fields, body).expect("an answer");
        assert_eq!(
            answer.status, expected,
            "{method} {path} {fields:?}: {answer:?}"
        );
        let head = answer.head.to_ascii_lowercase();
        // Whatever is answered, no browser may do anything else with it.
        for field in [
            "content-security-policy: default-src 'none'; script-src 'self';",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(head.contains(field), "no {field:?}: {answer:?}");
        }
        assert!(!head.contains("access-control"), "{answer:?}");
    };
    check("GET", "/", &[&host], "", 200);
    check("GET", "/page.js", &["Host: localhost"], "", 200);
    check("GET", "/page.css", &["Host: RELAY.example:8025"], "", 200);
    check("GET", "/healthz", &[], "", 200);
    check("GET", "/nothing", &[], "", 404);
    check("GET", "/../page.rs", &[], "", 404);
    // A name that was turned to this address.
    check("GET", "/", &["Host: evil.example"], "", 421);
    check("GET", "/live", &["Host: evil.example:8025"], "", 421);
    check(
        "POST",
        "/action",
        &["Host: evil.example", &token],
        release,
        421,
    );
    // Without the token, or from another page.
    check("POST", "/action", &[], release, 401);
    check(
        "POST",
        "/action",
        &["Authorization: Bearer wrong"],
        release,
        401,
    );
    check("POST", "/token", &[], "", 401);
    check(
        "POST",
        "/action",
        &[&token, "Origin: http://evil.example"],
        release,
        403,
    );
    check("POST", "/action", &[&token, "Origin: null"], release, 403);
    let elsewhere = ["Origin: http://evil.example"];
    check("POST", "/find", &elsewhere, "branch", 403);
    check("POST", "/find", &[&origin], "branch", 200);
    check("GET", "/find", &[], "", 405);
    check("GET", "/action", &[&token], "", 405);
    check("POST", "/live", &[&token], "", 405);
    // With it.
    check("POST", "/token", &[&token, &origin], "", 200);
    check("POST", "/action", &[&token, &origin], release, 200);
    check("POST", "/action", &[&token], "{}", 400);
    check("POST", "/action", &[&token], r#"{"action":"stop"}"#, 400);
    let queue = r#"{"action":"hold-queue","next_hop":"mx of nobody.example"}"#;
    check("POST", "/action", &[&token], queue, 404);
    let link = r#"{"action":"dial","link":"isp"}"#;
    check("POST", "/action", &[&token], link, 404);
    let long = format!("{release}{}", " ".repeat(10_000));
    check("POST", "/action", &[&token], &long, 413);
    let mut relay = relay;
    relay.stop();
}

/// Beyond this machine even a look takes the token, and it must be the operator's own.
#[test]
fn a_page_for_others_takes_a_token_to_look() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    let write = |text: &str| {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = std::fs::File::options();
        let mut file = (options.write(true).create(true).truncate(true).mode(0o600))
            .open(&file)
            .expect("it is made");
        file.write_all(text.as_bytes()).expect("it is written");
    };
    write("a-token-of-the-operator\n");
    let page = place::next_address();
    // The wildcard is no loopback address, and is reached at one.
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 20_000 + (std::process::id() % 10_000) as u16));
    let lines = |token: bool| {
        let token = match token {
            true => format!("\nweb_token_file = \"{}\"", file.display()),
            false => String::new(),
        };
        format!("web = \"{anywhere}\"{token}")
    };
    let setup = Setup::to(place::next_address());
    let mut relay = setup.admin(&lines(true)).start();
    let page = SocketAddr::new(page.ip(), anywhere.port());
    let status = |path: &str, fields: &[&str]| {
        let answer = request(page, "GET", path, fields, "");
        answer.map(|answer| answer.status)
    };
    eventually("the page is served", || status("/healthz", &[]));
    let known = "Authorization: Bearer a-token-of-the-operator";
    assert_eq!(status("/", &[]), Some(200));
    assert_eq!(status("/live", &[]), Some(401));
    assert_eq!(status("/metrics", &[]), Some(401));
    eventually("who knows the token may look", || {
        (status("/live", &[known]) == Some(200)).then_some(())
    });
    assert_eq!(status("/metrics", &[known]), Some(200));
    relay.stop();
    let without = Setup::to(place::next_address()).admin(&lines(false));
    let text = without.text(directory.path());
    let path = directory.path().join("wrong.toml");
    std::fs::write(&path, text).expect("it is written");
    let output = Command::new(env!("CARGO_BIN_EXE_turnspool"))
        .arg("check")
        .arg("--config")
        .arg(&path)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("admin.web"), "{said}");
    assert!(said.contains("web_token_file"), "{said}");
}

#[test]
fn facts_metrics_and_readiness() {
    let sink = Sink::new();
    let (mut relay, page) = with_page(Setup::to(sink.address()).held("held.example").cores(2));
    for n in 0..3 {
        send(
            &relay,
            &format!("<a{n}@client.example>"),
            "<b@held.example>",
        );
    }
    send(&relay, "<a@client.example>", "<b@b.example>");
    sink.wait_for(1);
    let facts = eventually("the page knows of it", || {
        let facts = live(page)?;
        let delivered = facts["counters"]["messages_delivered"] == 1;
        let held = facts["live"]["classes"]["held"]["messages"] == 3;
        (delivered && held).then_some(facts)
    });
    let queues = facts["live"]["queues"].as_array().expect("queues");
    let held = queues.iter().find(|queue| queue["class"] == "held");
    let held = held.expect("the held queue");
    assert_eq!(held["messages"], 3, "of both cores: {facts}");
    assert_eq!(held["domain"], "held.example", "{facts}");
    assert_eq!(held["gate"], "held", "{facts}");
    assert!(held["oldest"].is_string(), "{facts}");
    assert_eq!(facts["live"]["links"], Value::Null, "{facts}");
    assert!(facts["samples"].as_array().is_some_and(|s| !s.is_empty()));
    assert!(facts["live"]["acceptance"]["sum_micros"].as_u64() > Some(0));
    let started = |event: &Value| event["fact"] == "started";
    let events = facts["live"]["events"].as_array().expect("events");
    assert!(events.iter().any(started), "{facts}");
    // The command tells the same.
    let status = relay.facts(&["status"]).remove(0);
    assert_eq!(status["live"]["classes"]["held"]["messages"], 3, "{status}");

    assert_eq!(get(page, "/readyz").status, 200);
    let metrics = get(page, "/metrics");
    assert_eq!(metrics.status, 200);
    for expected in [
        "turnspool_messages_accepted_total 4\n",
        "turnspool_queue_messages{class=\"held\"} 3\n",
        "turnspool_messages_delivered_total 1\n",
        "turnspool_acceptance_seconds_count 4\n",
        "turnspool_ready 1\n",
    ] {
        assert!(
            metrics.body.contains(expected),
            "{expected:?}: {}",
            metrics.body
        );
    }
    promtool(&metrics.body);
    relay.stop();
    assert!(request(page, "GET", "/healthz", &[], "").is_none());
}

/// More queues than are told, on several cores: each has all its messages, on whichever core
/// they are, and is one.
#[test]
fn very_many_queues_are_counted_over_all_cores() {
    let (mut relay, page) = with_page(
        Setup::to(place::next_address())
            .held(".held.example")
            .cores(2),
    );
    let count = 520;
    let sessions = 6;
    let text = message("subject", "text");
    for session in 0..sessions {
        let mut client = relay.client();
        for number in 0..count {
            // One has more than the others, and little of it from one session.
            let name = if number % 100 == 99 { 7 } else { number };
            let to = format!("<b@d{name}.held.example>");
            client.send(&format!("<a{session}@client.example>"), &[&to], &text);
        }
    }
    let seventh = sessions * (1 + count / 100);
    let facts = eventually("all is counted", || {
        let facts = live(page)?;
        (facts["counters"]["queue_messages"] == sessions * count).then_some(facts)
    });
    let distinct = count - count / 100;
    assert_eq!(facts["live"]["queues_total"], distinct);
    let queues = facts["live"]["queues"].as_array().expect("queues");
    assert_eq!(queues.len(), 500);
    assert_eq!(queues[0]["domain"], "d7.held.example");
    assert_eq!(queues[0]["messages"], seventh);
    let mut others = queues[1..].iter();
    assert!(others.all(|queue| queue["messages"] == sessions), "{facts}");
    // Those that are not told are found, whichever cores have them.
    let find = |text: &str| {
        let answer = request(page, "POST", "/find", &[], text).expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        let found = answer.json();
        assert_eq!(found["text"], text);
        let queues = found["queues"].as_array().expect("queues").clone();
        (found["total"].as_u64().expect("a number"), queues)
    };
    for number in [0, 298, 516] {
        let domain = format!("d{number}.held.example");
        let (total, queues) = find(&domain.to_uppercase());
        assert_eq!((total, queues.len()), (1, 1), "{queues:?}");
        assert_eq!(queues[0]["domain"], domain);
        assert_eq!(queues[0]["messages"], sessions);
    }
    let (total, queues) = find("held.example");
    assert_eq!((total, queues.len()), (distinct, 500));
    assert_eq!(queues[0]["messages"], seventh);
    assert_eq!(find("nobody.example"), (0, Vec::new()));
    for wrong in ["", &"x".repeat(257)] {
        let answer = request(page, "POST", "/find", &[], wrong).expect("an answer");
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    relay.stop();
}

/// What Prometheus' own tool says of it: nothing.
fn promtool(metrics: &str) {
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        return skipped("no promtool here (package prometheus)");
    };
    let mut input = child.stdin.take().expect("its input");
    input.write_all(metrics.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{said}\n{metrics}"
    );
}

#[test]
fn a_queue_is_held_and_released_by_the_page() {
    let sink = Sink::new();
    let (mut relay, page) = with_page(Setup::to(sink.address()).cores(2));
    let token = format!("Authorization: Bearer {}", token(&relay));
    let act = |action: Value| {
        let body = action.to_string();
        let answer = request(page, "POST", "/action", &[&token], &body).expect("an answer");
        assert_eq!(answer.status, 200, "{action}: {answer:?}");
        answer.json()["done"]
            .as_str()
            .expect("a sentence")
            .to_owned()
    };
    send(&relay, "<first@client.example>", "<b@b.example>");
    sink.wait_for(1);
    let name = format!("smarthost {}", sink.address().ip());
    act(json!({ "action": "hold-queue", "next_hop": name }));
    // On whichever core they come in.
    let send_four = |relay: &Relay| {
        for n in 0..4 {
            send(relay, &format!("<held{n}@client.example>"), "<b@b.example>");
        }
    };
    let wait_until_held = |messages: u64| {
        eventually("all of it is held", || {
            let facts = live(page)?;
            let queues = facts["live"]["queues"].as_array()?.clone();
            let queue = queues.into_iter().find(|queue| queue["next_hop"] == name)?;
            (queue["messages"] == messages && queue["gate"] == "held").then_some(())
        });
    };
    send_four(&relay);
    wait_until_held(4);
    // Over the end of the process too, and on cores that were not there.
    relay.kill();
    relay.change(|setup| setup.cores(3));
    relay.start_again();
    wait_for(page);
    wait_until_held(4);
    send_four(&relay);
    wait_until_held(8);
    assert_eq!(sink.count(), 1, "what is held was sent");
    let done = act(json!({ "action": "release-queue", "next_hop": name }));
    assert_eq!(done, "8 messages released");
    sink.wait_for(9);
    relay.wait_until_empty();
    let log = relay.log();
    assert!(log.contains("queue-steered"), "{log}");
    // The release is not forgotten either.
    relay.kill();
    relay.start_again();
    send_four(&relay);
    sink.wait_for(13);
    relay.stop();
}

/// The same in a terminal: a real one, as far as a program can tell.
#[test]
fn top_shows_it_in_a_terminal_and_acts() {
    if Command::new("script").arg("--version").output().is_err() {
        return skipped("no script here (package bsdutils)");
    }
    let sink = Sink::new();
    let relay = Setup::to(sink.address())
        .customer(&format!(
            "[[customer]]\nname = \"branch\"\ndomains = [\"held.example\"]\n\
             deliver_to = \"{}\"\nrelease = {{ open = true }}\n",
            sink.address()
        ))
        .start();
    send(&relay, "<a@client.example>", "<b@held.example>");
    let screen = relay.directory().join("screen");
    let line = format!(
        "stty rows 30 cols 120; exec {} top --config {}",
        env!("CARGO_BIN_EXE_turnspool"),
        relay.config_path().display()
    );
    let mut child = Command::new("script")
        .args(["--quiet", "--flush", "--return", "--command", &line])
        .arg(&screen)
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("script starts");
    let mut keys = child.stdin.take().expect("piped");
    let mut press = |key: &[u8]| {
        keys.write_all(key).expect("it reads");
        keys.flush().expect("it reads");
    };
    let shows = |text: &str| {
        eventually(text, || {
            let octets = std::fs::read(&screen).unwrap_or_default();
            String::from_utf8_lossy(&octets)
                .contains(text)
                .then_some(())
        });
    };
    // Blanks need not be written: words are looked for.
    shows("(held.example)");
    // A filter, that is corrected and kept.
    press(b"/nobody");
    shows("contains");
    press(&[0x7f; 6]);
    press(b"HELD\r");
    // A key alone does nothing; another one says no.
    press(b"r");
    shows("(held.example)?");
    press(b"n");
    press(b"r");
    press(b"y");
    sink.wait_for(1);
    press(b"q");
    let status = eventually("it ends", || child.try_wait().expect("a child"));
    assert!(status.success(), "{status:?}");
    // The terminal is left as it was: the other screen is gone.
    shows("\u{1b}[?1049l");
}

/// By a domain of the customer's only that domain's mail goes, by its name all.
#[test]
fn a_customer_is_released_by_the_api() {
    let site = Sink::new();
    let customer = format!(
        "[[customer]]\nname = \"branch\"\ndomains = [\"a.example\", \"b.example\"]\n\
         deliver_to = \"{}\"\n",
        site.address()
    );
    let (mut relay, page) = with_page(Setup::new().cores(2).customer(&customer));
    let token = format!("Authorization: Bearer {}", token(&relay));
    let release = |name: &str| {
        let body = json!({ "action": "release", "name": name }).to_string();
        let answer = request(page, "POST", "/action", &[&token], &body).expect("an answer");
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        answer.json()["done"]
            .as_str()
            .expect("a sentence")
            .to_owned()
    };
    for to in ["<x@a.example>", "<x@b.example>", "<y@b.example>"] {
        send(&relay, "<first@client.example>", to);
    }
    assert_eq!(release("a.example"), "1 message released");
    assert!(site.wait_for_one().recipients[0].starts_with("<x@a.example>"));
    eventually("the rest is held", || {
        (relay.queued().len() == 2).then_some(())
    });
    assert_eq!(release("branch"), "2 messages released");
    site.wait_for(3);
    relay.wait_until_empty();
    let log = relay.log();
    assert!(
        log.contains("release of branch, by the operator: started, 2 messages"),
        "{log}"
    );
    relay.stop();
}

/// A next hop whose greeting is markup: it must be text on the page.
const MARKUP: &str =
    "421 4.3.0 <script>document.title='owned'</script><img src=x onerror=alert(1)>";

#[test]
fn a_browser_shows_it_and_acts() {
    let Some(browser) = Browser::open() else {
        return;
    };
    let sink = Sink::new();
    let hostile = Sink::ruled([on(Stage::Greeting).reply_then_close(MARKUP)]);
    let (mut relay, _) = with_page(
        Setup::to(sink.address())
            .customer(&format!(
                "[[customer]]\nname = \"branch\"\ndomains = [\"held.example\"]\n\
                 deliver_to = \"{}\"\nrelease = {{ open = true }}\n",
                sink.address()
            ))
            .route("hostile.example", hostile.address()),
    );
    send(&relay, "<a@client.example>", "<b@held.example>");
    send(&relay, "<c@client.example>", "<d@hostile.example>");
    let url = relay.run(&["web"]).stdout;
    browser.look(1280, 800, "light");
    browser.go(url.trim());
    browser.wait_for("#state", "takes mail");
    browser.wait_for("#rows td.hop", "held.example");
    browser.wait_for("#rows .why", "<script>document.title='owned'</script><img");
    // The token does not stay where the history keeps it.
    assert_eq!(browser.run("return location.hash"), "");
    assert_eq!(
        browser.run("return document.title"),
        "relay.example – Turnspool"
    );
    assert_eq!(
        browser.run("return document.querySelectorAll('main img, main script').length"),
        0
    );
    browser.picture("light");

    browser.type_into("#filter", "held.ex");
    browser.wait_for("#queues-sum", "1 of");
    browser.click("#rows td.act button");
    browser.wait_for("#ask-text", "Release 1 message");
    browser.picture("question");
    browser.click("#ask-yes");
    sink.wait_for(1);
    browser.wait_for("#said", "1 message released");
    browser.wait_for("#no-rows", "No queue contains this.");
    assert!(
        browser
            .console()
            .iter()
            .all(|line| !line.contains("SEVERE") && !line.contains("Policy")),
        "{:?}",
        browser.console()
    );

    browser.type_into("#filter", "\u{e003}".repeat(7).as_str());
    browser.wait_for("#rows td.hop", "smtp://");
    for (width, scheme) in [(390, "dark"), (360, "light"), (320, "dark")] {
        browser.look(width, 740, scheme);
        browser.run("document.getElementById('queues').scrollIntoView()");
        browser.picture(&format!("narrow-{width}"));
        // With numbers as a full spool has them.
        let wide = "const cells = document.querySelectorAll('#rows td.number'); \
                    ['1,000,000', '999 MiB', '100 min'].forEach((t, i) => cells[i].textContent = t); \
                    return document.documentElement.scrollWidth > \
                    document.documentElement.clientWidth";
        assert_eq!(
            browser.run(wide),
            false,
            "a screen of {width} scrolls sideways"
        );
    }
    relay.stop();
    browser.wait_for("#banner", "does not answer");
    browser.picture("server-gone");
}
