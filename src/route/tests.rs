use std::net::IpAddr;

use super::*;

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

fn customer(text: &str) -> CustomerName {
    text.parse().unwrap()
}

#[test]
fn what_a_route_holds_is_no_customers() {
    let nobody = CustomerName::of_routes();
    assert!(nobody.is_of_routes());
    assert!(!customer("held").is_of_routes());
    assert!(nobody.as_str().parse::<CustomerName>().is_err());
}

fn host(port: u16) -> Host {
    Host {
        host: HostName::Address("192.0.2.1".parse().unwrap()),
        port,
        protocol: Protocol::Smtp,
        tls: TlsPolicy::None.into(),
    }
}

const GROUP: SmarthostGroup = SmarthostGroup(0);

fn routes(mode: DeliveryMode, in_smarthost_mode: RoutesInSmarthostMode) -> Routes {
    Routes::new(
        mode,
        in_smarthost_mode,
        [
            (scope("held.example"), customer("c")),
            (scope(".held.example"), customer("c")),
        ],
        [
            (scope("a.example"), Target::Host(host(1))),
            (scope(".a.example"), Target::Host(host(2))),
            (scope("x.y.a.example"), Target::Host(host(3))),
            (scope(".y.a.example"), Target::Mx),
            (scope("null.example"), Target::Discard),
            (scope("box.example"), Target::Maildir("/m".into())),
            (
                scope("routed.example"),
                "hold".parse::<written::Written>().unwrap().target(),
            ),
            (scope("[192.0.2.7]"), Target::Host(host(4))),
        ],
    )
    .unwrap()
}

#[test]
fn the_longest_match_wins() {
    let in_mode = |mode| routes(mode, RoutesInSmarthostMode::Ignored);
    let mx = in_mode(DeliveryMode::Mx);
    let check = |routes: &Routes, domain: &str, expected: &str| {
        let got = routes.next_hop(domain).to_owned();
        assert_eq!(got.to_string(), expected, "{domain}");
    };
    check(&mx, "a.example", "smtp://192.0.2.1:1");
    check(&mx, "b.a.example", "smtp://192.0.2.1:2");
    check(&mx, "c.b.a.example", "smtp://192.0.2.1:2");
    check(&mx, "x.y.a.example", "smtp://192.0.2.1:3");
    check(&mx, "z.y.a.example", "mx of z.y.a.example");
    check(&mx, "y.a.example", "smtp://192.0.2.1:2");
    check(&mx, "ba.example", "mx of ba.example");
    check(&mx, "example", "mx of example");
    check(&mx, "null.example", "discard");
    check(&mx, "x.null.example", "mx of x.null.example");
    check(&mx, "box.example", "maildir:/m");
    check(&mx, "held.example", "held for c (held.example)");
    check(&mx, "b.held.example", "held for c (b.held.example)");
    check(&mx, "routed.example", "held (routed.example)");
    check(&mx, "[192.0.2.7]", "smtp://192.0.2.1:4");
    check(&mx, "[192.0.2.8]", "mx of [192.0.2.8]");

    let smarthost = in_mode(DeliveryMode::Smarthost(GROUP));
    check(&smarthost, "a.example", "smarthost 0");
    check(&smarthost, "elsewhere.example", "smarthost 0");
    check(&smarthost, "held.example", "held for c (held.example)");

    let both = routes(DeliveryMode::Smarthost(GROUP), RoutesInSmarthostMode::Used);
    check(&both, "a.example", "smtp://192.0.2.1:1");
    check(&both, "z.y.a.example", "mx of z.y.a.example");
    check(&both, "elsewhere.example", "smarthost 0");

    let then = in_mode(DeliveryMode::MxThenSmarthost(GROUP));
    let direct = then.next_hop("elsewhere.example").to_owned();
    assert_eq!(direct.to_string(), "mx of elsewhere.example");
    let fallback = then.mode().fallback(&direct);
    assert_eq!(fallback, Some(NextHop::Smarthost(GROUP)));
    assert_eq!(then.mode().fallback(&NextHop::Host(host(1))), None);
    assert_eq!(mx.mode().fallback(&direct), None);
}

#[test]
fn a_contradiction_is_refused_in_every_mode() {
    for mode in [DeliveryMode::Mx, DeliveryMode::Smarthost(GROUP)] {
        let got = Routes::new(
            mode,
            RoutesInSmarthostMode::Ignored,
            [(scope("a.example"), customer("c"))],
            [(scope("a.example"), Target::Discard)],
        );
        assert_eq!(got.err(), Some(RouteError::Twice(scope("a.example"))));
    }
}

#[test]
fn a_borrowed_next_hop_finds_its_owned_one() {
    let all = [
        NextHop::Smarthost(GROUP),
        NextHop::Host(host(25)),
        NextHop::Mx("a.example".parse().unwrap()),
        NextHop::Hold {
            customer: customer("c"),
            domain: "a.example".parse().unwrap(),
        },
        NextHop::Discard,
        NextHop::Maildir("/a.example".into()),
    ];
    let mut table: HashMap<NextHop, usize, Build> = HashMap::default();
    for (i, next_hop) in all.iter().enumerate() {
        table.insert(next_hop.clone(), i);
    }
    for (i, next_hop) in all.iter().enumerate() {
        assert_eq!(table.get(&next_hop.as_ref()), Some(&i));
        assert_eq!(next_hop.as_ref().to_owned(), *next_hop);
    }
    assert_eq!(table.get(&NextHopRef::Mx("b.example")), None);
}

/// All that can be left out of the configuration, against all kinds of clients.
#[test]
fn never_an_open_relay_whatever_is_left_out() {
    let networks = [
        None,
        Some(vec![]),
        Some(vec!["198.51.100.0/24".parse().unwrap()]),
        Some(Network::loopback()),
    ];
    let domains = [vec![], vec![scope("held.example"), scope(".held.example")]];
    let clients = [
        "127.0.0.1",
        "127.255.255.254",
        "::1",
        "::ffff:127.0.0.1",
        "198.51.100.7",
        "::ffff:198.51.100.7",
        "203.0.113.5",
        "2001:db8::1",
        "::2",
        "::",
        "0.0.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "::ffff:0:127.0.0.1",
        "7f00:1::",
    ];
    let users = [None, Some("site".parse::<UserName>().unwrap())];
    let targets = [
        "held.example",
        "b.held.example",
        "xheld.example",
        "example",
        "[127.0.0.1]",
    ];
    let mut cases = 0;
    for listed in &networks {
        for scopes in &domains {
            let rules = RelayRules::new(listed.clone(), scopes.iter().cloned());
            for client in clients {
                for user in &users {
                    for target in targets {
                        let address: IpAddr = client.parse().unwrap();
                        let canonical = address.to_canonical().to_string();
                        let is_loopback = canonical.starts_with("127.") || canonical == "::1";
                        let is_listed = match listed {
                            None => is_loopback,
                            Some(list) if list.is_empty() => false,
                            Some(list) if list.len() == 1 => canonical == "198.51.100.7",
                            Some(_) => is_loopback,
                        };
                        let ours = !scopes.is_empty()
                            && (target == "held.example" || target.ends_with(".held.example"));
                        let expected = is_listed || ours || user.is_some();
                        let got = rules.may_relay(address, user.as_ref(), target);
                        assert_eq!(
                            got != Verdict::Refuse,
                            expected,
                            "{listed:?} {scopes:?} {client} {user:?} {target}: {got:?}"
                        );
                        cases += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cases, 4 * 2 * 15 * 2 * 5);
}

#[test]
fn names_of_customers() {
    let check = |text: &str, expected: Option<&str>| {
        let got = text.parse::<CustomerName>().ok();
        assert_eq!(got.as_ref().map(CustomerName::as_str), expected, "{text:?}");
    };
    check("Branch-1", Some("branch-1"));
    check("", None);
    check("a b", None);
    check("a/b", None);
    check("a\r\n", None);
    check(&"a".repeat(65), None);
}
