//! Who may not, who talks nonsense and who floods: told no, and nobody else notices.

use super::site::{Provider, SECRET, Site, sorted};
use crate::harness::message::message;

/// What a customer may not have and what does not exist differ in nothing that it is
/// told.
#[test]
fn what_is_forbidden_and_what_is_unknown_are_told_alike() {
    let provider = Provider::start(2);
    provider.hold("a.example", 3);
    let mut stranger = Site::connect(provider.odmr);
    let mut other = provider.call("other");
    for (site, code) in [(&mut stranger, 530), (&mut other, 450)] {
        let first = site.expect("ATRN a.example", code);
        for domains in [
            "b.example",
            "a.example,b.example",
            "nobody.example",
            "nobody.example,a.example",
            "x.a.example",
            "c.example,a.example",
            "c.example,nobody.example",
            "example",
            "[192.0.2.1]",
        ] {
            let told = site.expect(&format!("ATRN {domains}"), code);
            assert_eq!(told, first, "{domains}");
        }
    }
    // On the port for mail, by ETRN.
    let mut stranger = provider.relay.client();
    let mut login = Site::connect(provider.relay.address());
    login.authenticate("other");
    let first = stranger.expect("ETRN a.example", 530);
    let forbidden = login.expect("ETRN a.example", 459);
    for node in [
        "b.example",
        "@a.example",
        "@example",
        "#branch",
        "nobody.example",
        "@nobody.example",
        "#nobody",
        "x.a.example",
        "[192.0.2.1]",
    ] {
        let told = stranger.expect(&format!("ETRN {node}"), 530);
        assert_eq!(told.text(), first.text(), "{node}");
        if node == "@example" {
            // Of which some is its own.
            assert_eq!(
                login.expect("ETRN @example", 251),
                login.expect("ETRN @example", 251)
            );
        } else {
            assert_eq!(
                login.expect(&format!("ETRN {node}"), 459),
                forbidden,
                "{node}"
            );
        }
    }
    login.expect("ETRN c.example", 251);
    assert_eq!(provider.relay.queued().len(), 3);
}

#[test]
fn floods_and_nonsense_slow_nobody_down() {
    const FLOODERS: usize = 6;
    const MESSAGES: usize = 60;
    let mut provider = Provider::start(2);
    let before = provider.relay.memory_kib("VmRSS");
    let megabyte = "x".repeat(1 << 20);
    let nonsense = [
        "ETRN a/b".to_owned(),
        "ETRN ../../etc/passwd".to_owned(),
        "ETRN a\0.example".to_owned(),
        "ETRN '; DROP TABLE x; --".to_owned(),
        "ATRN ..".to_owned(),
        "ATRN a.example,,".to_owned(),
        format!("ATRN {}", vec!["c.example"; 5000].join(",")),
        format!("ETRN {megabyte}"),
        format!("ETRN #{megabyte}"),
        format!("ATRN {megabyte}"),
    ];
    let done = std::sync::atomic::AtomicBool::new(false);
    let taken = std::thread::scope(|scope| {
        let (relay, odmr, done, nonsense) = (&provider.relay, provider.odmr, &done, &nonsense);
        let mut flooders = Vec::new();
        for flooder in 0..FLOODERS {
            flooders.push(scope.spawn(move || {
                let mut refused = 0;
                for round in 0.. {
                    if done.load(std::sync::atomic::Ordering::Relaxed) && round > 1 {
                        break;
                    }
                    let address = if flooder % 2 == 0 {
                        relay.address()
                    } else {
                        odmr
                    };
                    let Ok(mut client) = crate::harness::Client::try_connect(None, address) else {
                        continue;
                    };
                    for n in 0..150 {
                        let line = match n % 3 {
                            0 => format!("ETRN nobody-{flooder}-{round}-{n}.example"),
                            1 => format!("ATRN nobody-{flooder}-{round}-{n}.example"),
                            _ => nonsense[(n / 3) % nonsense.len()].clone(),
                        };
                        match client.try_command(&line) {
                            Ok(reply) if reply.code == 421 => break,
                            Ok(reply) => {
                                assert!(reply.code >= 400, "{line:.50}: {reply:?}");
                                refused += 1;
                            }
                            // It was dismissed, with octets still on their way.
                            Err(_) => break,
                        }
                    }
                }
                refused
            }));
        }
        let mut taken = Vec::new();
        for n in 0..MESSAGES {
            let mail = message(&format!("number-{n:02}"), "text");
            let mut client = relay.client();
            client.send("<a@sender.example>", &["<x@a.example>"], &mail);
            if n % 20 == 19 {
                taken.extend(provider.collect("branch", "a.example"));
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for flooder in flooders {
            let refused = flooder.join().expect("it asserts nothing that fails");
            assert!(refused > 20, "{refused}");
        }
        taken
    });
    let expected: Vec<_> = (0..MESSAGES).map(|n| format!("number-{n:02}")).collect();
    assert_eq!(sorted(taken), expected);
    provider.relay.wait_until_empty();
    provider.relay.assert_running();
    let after = provider.relay.memory_kib("VmRSS");
    assert!(
        after < before + (32 << 10),
        "{before} KiB, then {after} KiB"
    );
    let log = provider.relay.log();
    assert!(
        !log.contains(&megabyte[..1000]),
        "no line repeats what a stranger said"
    );
    assert!(!log.contains(SECRET));
}

/// Octets behind ATRN, whether they come with it or a moment later, in clear: the
/// session ends, and the mail stays.
#[test]
fn octets_behind_atrn_are_never_a_greeting() {
    let provider = Provider::start(2);
    let held = provider.hold("a.example", 2);
    for behind in [
        "220 site.example\r\n",
        "220 site.example\r\n250 8BITMIME\r\n250 ok\r\n250 ok\r\n354 go\r\n",
        "ATRN\r\n",
        "QUIT\r\n",
        "\r\n",
        "x",
        "\0",
    ] {
        for domains in ["", " a.example", " c.example"] {
            let mut site = provider.call("branch");
            site.say(&format!("ATRN{domains}\r\n{behind}"));
            let (code, line) = site.reply();
            assert_eq!(code, 503, "{behind:?}: {line}");
            assert_eq!(site.line(), "", "{behind:?}: it is closed");
        }
    }
    assert_eq!(sorted(provider.collect("branch", "")), held);
}
