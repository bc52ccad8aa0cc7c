//! Whole files in, configuration or report out.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::example::{Role, example};
use super::setting::Setting as _;
use super::*;
use crate::route::Network;

fn surroundings() -> Surroundings {
    Surroundings {
        host_name: "host.example".to_owned(),
        cpus: 2,
        credentials_directory: None,
        state_directory: None,
    }
}

fn parse(text: &str) -> Result<Config, Report> {
    super::parse(Path::new("t.toml"), text, &surroundings())
}

/// `line:column: option` of each finding.
fn places(text: &str) -> Vec<String> {
    let Err(report) = parse(text) else {
        return Vec::new();
    };
    report
        .findings
        .iter()
        .map(|finding| match finding.position {
            Some(Position { line, column }) => format!("{line}:{column}: {}", finding.option),
            None => finding.option.clone(),
        })
        .collect()
}

/// The one finding of a text.
#[track_caller]
fn check(text: &str, place: &str, what: &str, instead: &str) {
    let report = parse(text).expect_err(text);
    assert_eq!(places(text), [place], "{report}");
    let finding = &report.findings[0];
    assert!(finding.what.contains(what), "{text}\n{report}");
    assert!(finding.instead.contains(instead), "{text}\n{report}");
}

#[test]
fn without_a_file_it_is_a_safe_relay_on_loopback() {
    let config = without_file(&surroundings());
    assert_eq!(config.hostname.as_str(), "host.example");
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:2525");
    assert_eq!(config.spool.directory, Path::new("turnspool-spool"));
    assert_eq!(config.admin.socket, Path::new("turnspool-spool/admin.sock"));
    assert_eq!(config.delivery.mode, DeliveryMode::Mx);
    assert!(config.routes.is_empty() && config.relay.domains.is_empty());
    for network in &config.relay.networks {
        assert!(Network::loopback().contains(network), "{network}");
    }
    assert_eq!(config.cores.data, 2);
    assert_eq!(config.limits.sessions_max, 20_000);
    assert_eq!(config, parse("# nothing\n").unwrap());
}

#[test]
fn a_service_has_its_spool_in_its_state_directory() {
    let mut around = surroundings();
    around.state_directory = Some("/var/lib/turnspool".into());
    around.host_name = "no host name".to_owned();
    let config = without_file(&around);
    assert_eq!(
        config.spool.directory,
        Path::new("/var/lib/turnspool/spool")
    );
    assert_eq!(config.hostname.as_str(), "localhost");
}

#[test]
fn everything_supported_is_read() {
    let text = r#"
        hostname = "Spool.ISP.example"
        [spool]
        directory = "/var/spool/turnspool"
        segment_size = "16MiB"
        size_max = "20GiB"
        free_min = "50MB"
        [cores]
        data = 4
        pin = false
        [limits]
        sessions = 200
        sessions_per_client = 10
        message_size = "10MiB"
        recipients = 500
        [[listener]]
        address = "0.0.0.0:25"
        [[listener]]
        address = "[::]:25"
        role = "mx"
        tls = "none"
        when = "always"
        [relay]
        networks = ["127.0.0.0/8", "10.1.0.0/16"]
        domains = ["branch.example", "a.b.branch.example"]
        [dns]
        servers = ["127.0.0.1:5353"]
        fallback_to_system = false
        [delivery]
        mode = "smarthost"
        connections = 10
        connections_per_destination = 4
        routes_in_smarthost_mode = true
        [[delivery.smarthost]]
        host = "smtp.isp.example"
        port = 2525
        [[delivery.smarthost]]
        host = "192.0.2.9"
        [[route]]
        domain = "branch.example"
        next_hop = "smtp://10.0.0.5:25"
        [[route]]
        domain = ".branch.example"
        next_hop = "hold"
        [retry]
        first = "1m"
        factor = 3
        longest = "1h"
        give_up = "2d"
        warn = "0s"
        [admin]
        socket = "/run/turnspool/admin.sock"
        [log]
        format = "json"
        to = "/var/log/turnspool.log"
        detail = { smtp = true, dns = false }
    "#;
    let config = parse(text).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.hostname.as_str(), "spool.isp.example");
    assert_eq!(config.spool.bytes_max, Some(20 << 30));
    assert_eq!(config.spool.free_bytes_min, 50_000_000);
    assert_eq!(
        config.cores,
        Cores {
            data: 4,
            pin: false
        }
    );
    assert_eq!(config.listeners.len(), 2);
    let DeliveryMode::Smarthost(smarthosts) = &config.delivery.mode else {
        panic!("{:?}", config.delivery.mode);
    };
    assert_eq!((smarthosts[0].port, smarthosts[1].port), (2525, 25));
    assert_eq!(config.routes.len(), 2);
    assert_eq!(
        config.retry,
        Retry::Exponential {
            first: Duration::from_secs(60),
            factor: 3.0,
            longest: Duration::from_secs(3600),
            give_up: Duration::from_secs(172_800),
            warn: None,
        }
    );
    assert!(config.log.detail.smtp && !config.log.detail.dns);
    assert_eq!(
        config.log.to,
        LogTarget::File("/var/log/turnspool.log".into())
    );
}

/// Else the line would be told as broken where a host does not take a block of data, which
/// has a time-out of its own, with words of its own.
#[test]
fn a_line_may_be_silent_for_longer_than_a_block_of_data_may_take() {
    let silence = parse("").unwrap().limits.silence;
    assert!(silence > crate::smtp::client::stage::Timeouts::default().sending);
    let short = parse("limits.silence = \"30s\"").unwrap();
    assert_eq!(short.limits.silence, Duration::from_secs(30));
}

#[test]
fn presets() {
    let small = parse("preset = \"small-site\"").unwrap();
    assert_eq!(small.limits.sessions_max, 20);
    assert_eq!(small.limits.sessions_per_client_max, 5);
    assert_eq!(small.delivery.connections_max, 2);
    let every = Duration::from_secs(300);
    let warn = Some(Duration::from_secs(4 * 3600));
    assert_eq!(
        small.retry,
        Retry::Fixed {
            tries: 5,
            every,
            warn
        }
    );
    let spool = parse("preset = \"spool\"").unwrap();
    assert_eq!(spool, parse("").unwrap());
    // What is written counts more than the preset.
    let text = "preset = \"small-site\"\nlimits.sessions = 50\nretry.first = \"1m\"";
    let mixed = parse(text).unwrap();
    assert_eq!(mixed.limits.sessions_max, 50);
    assert!(matches!(mixed.retry, Retry::Exponential { .. }));
    check(
        "preset = \"small\"",
        "1:10: preset",
        "\"small\"",
        "\"small-site\"",
    );
}

/// The bounds of the option are within those of the format, which asserts them.
#[test]
fn every_segment_size_is_one_that_the_format_takes() {
    use spool_format::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
    for size in ["1MiB", "1048577B", "1234567B", "64MB", "1GiB"] {
        let config = parse(&format!("spool.segment_size = \"{size}\"")).unwrap();
        let bytes = u32::try_from(config.spool.segment_bytes).unwrap();
        assert!(bytes.is_multiple_of(4096), "{size}: {bytes}");
        assert!(
            (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes),
            "{size}: {bytes}"
        );
    }
    assert!(parse("spool.segment_size = \"1025MiB\"").is_err());
}

/// The promise of `turnspool check`: one run finds all.
#[test]
fn every_error_is_found_at_once() {
    let text = r#"hostname = "a b"
colour = "red"
[spool]
segment_size = 64
sizemax = "1GiB"
free_min = "1 GiB"
[limits]
sessions = "many"
recipients = 5
[[listener]]
role = "mix"
[[route]]
domain = "x.example"
next_hop = "10.0.0.5"
[retry]
first = "10min"
tries = 3
every = "5m"
[[delivery.smarthost]]
password = "secret"
[customer]
name = "x"
"#;
    assert_eq!(
        places(text),
        [
            "1:12: hostname",
            "2:1: ",
            "4:16: spool.segment_size",
            "5:1: spool",
            "6:12: spool.free_min",
            "8:12: limits.sessions",
            "9:14: limits.recipients",
            "10:1: listener.address",
            "11:8: listener.role",
            "14:12: route.next_hop",
            "16:9: retry.first",
            "17:9: retry.tries",
            "19:1: delivery.smarthost.host",
            "19:1: delivery.smarthost",
            "20:1: delivery.smarthost",
            "21:1: customer",
        ]
        .map(str::to_owned),
        "{}",
        parse(text).unwrap_err()
    );
}

#[test]
fn broken_syntax_does_not_hide_the_rest() {
    let text = "[spool]\nsegment_size = 64MiB\nfree_min = 5\n[limits\nsessions = 0\n";
    let report = parse(text).unwrap_err();
    let lines: Vec<usize> = report
        .findings
        .iter()
        .filter_map(|finding| Some(finding.position?.line))
        .collect();
    assert!(
        lines.contains(&2) && lines.contains(&3) && lines.contains(&4),
        "{report}"
    );
    assert!(report.findings[0].what.contains("not TOML"), "{report}");
    let twice = parse("[spool]\nfree_min = \"1GiB\"\nfree_min = \"2GiB\"\n").unwrap_err();
    assert_eq!(
        twice.findings[0].position.map(|p| p.line),
        Some(3),
        "{twice}"
    );
}

#[test]
fn wrong_values() {
    check(
        "spool.segment_size = \"64\"",
        "1:22: spool.segment_size",
        "is not a size",
        "64MiB",
    );
    check(
        "spool.segment_size = \"1KiB\"",
        "1:22: spool.segment_size",
        "bounds",
        "\"1MiB\" to",
    );
    check(
        "limits.sessions = \"20\"",
        "1:19: limits.sessions",
        "number",
        "without quotation",
    );
    check(
        "limits.sessions = -1",
        "1:19: limits.sessions",
        "-1",
        "write 0 to",
    );
    check(
        "limits.recipients = 99",
        "1:21: limits.recipients",
        "bounds",
        "100 to 100000",
    );
    check(
        "retry.first = 90",
        "1:15: retry.first",
        "90 is not a time",
        "\"90s\"",
    );
    check(
        "retry.factor = 0.5",
        "1:16: retry.factor",
        "bounds",
        "1.0 to 10.0",
    );
    check("retry.factor = nan", "1:16: retry.factor", "nan", "2.0");
    check(
        "cores.pin = \"yes\"",
        "1:13: cores.pin",
        "true or false",
        "without quotation",
    );
    check("cores = 2", "1:9: cores", "not a section", "[cores]");
    check(
        "relay.networks = \"10.0.0.0/8\"",
        "1:18: relay.networks",
        "a list",
        "[\"10.0.0.0/8\"]",
    );
    check(
        "relay.networks = [\"10.0.0.0/8\", \"10.0.0.1/8\"]",
        "1:33: relay.networks",
        "network",
        "10.0.0.0/8",
    );
    check(
        "[listener]\naddress = \"127.0.0.1:25\"",
        "1:1: listener",
        "a list",
        "[[listener]]",
    );
    check(
        "[limits]\npreset = \"small-site\"",
        "2:1: limits",
        "no option",
        "top of the file",
    );
    check(
        "[spool]\n\"a\\nb\" = 1",
        "2:1: spool",
        "\"a\\nb\"",
        "known here",
    );
    check(
        "[log]\nto = \"file\"",
        "2:6: log.to",
        "nor a path",
        "./file",
    );
}

#[test]
fn contradictions() {
    check(
        "[relay]\nnetworks = [\"0.0.0.0/0\"]",
        "2:13: relay.networks",
        "",
        "own clients",
    );
    check(
        "[relay]\nnetworks = [\"128.0.0.0/1\"]",
        "2:12: relay.networks",
        "open relay",
        "own clients",
    );
    check(
        "[relay]\ndomains = [\"x.example\"]",
        "2:11: relay.domains",
        "no route",
        "[[route]]",
    );
    check(
        "[retry]\nfirst = \"5h\"",
        "2:9: retry.first",
        "more than `longest`",
        "longest",
    );
    check(
        "[retry]\ngive_up = \"2h\"",
        "2:11: retry.give_up",
        "less than `warn`",
        "warn",
    );
    check(
        "[retry]\ntries = 5",
        "2:9: retry.tries",
        "no interval",
        "every",
    );
    check(
        "[retry]\nevery = \"5m\"",
        "2:9: retry.every",
        "no number",
        "tries",
    );
    check(
        "[limits]\nsessions = 10\nsessions_per_client = 20",
        "3:23: limits.sessions_per_client",
        "more than `sessions`",
        "at most",
    );
    check(
        "[delivery]\nconnections = 3\nconnections_per_destination = 4",
        "3:31: delivery.connections_per_destination",
        "more than",
        "at most",
    );
    check(
        "[delivery]\nmode = \"smarthost\"",
        "2:8: delivery.mode",
        "no smarthost",
        "host =",
    );
    check(
        "[[delivery.smarthost]]\nhost = \"a.example\"",
        "1:1: delivery.smarthost",
        "never used",
        "mode = \"smarthost\"",
    );
    check(
        "[[route]]\ndomain = \"a.example\"\nnext_hop = \"hold\"\n[[route]]\ndomain = \
         \"A.example\"\nnext_hop = \"discard\"",
        "5:10: route.domain",
        "twice",
        "in line 2",
    );
    check(
        "[[route]]\ndomain = \"a.example\"\nnext_hop = \"smtp://127.0.0.1:2525\"",
        "3:12: route.next_hop",
        "our own listener",
        "another",
    );
    check(
        "[delivery]\nmode = \"smarthost\"\n[[delivery.smarthost]]\nhost = \"a.example\"\n\
         [[route]]\ndomain = \"b.example\"\nnext_hop = \"hold\"",
        "5:1: route",
        "not obeyed",
        "routes_in_smarthost_mode = true",
    );
    check(
        "[spool]\nsegment_size = \"1GiB\"\nsize_max = \"2GiB\"",
        "3:12: spool.size_max",
        "too small",
        "at least 8GiB, four segments of 1GiB for each data core",
    );
    check(
        "[spool]\nsegment_size = \"1GiB\"\nsize_max = \"7GiB\"",
        "3:12: spool.size_max",
        "too small",
        "8GiB",
    );
    check(
        "[spool]\nsegment_size = \"1MiB\"\nsize_max = \"64MiB\"",
        "3:12: limits.message_size",
        "half of",
        "size_max",
    );
    check(
        "[admin]\nweb = \"0.0.0.0:8025\"",
        "2:7: admin.web",
        "others can reach",
        "web_token_file",
    );
    let long = format!("[spool]\ndirectory = \"/{}\"", "a".repeat(107));
    check(&long, "2:13: admin.socket", "too long", "shorter");
}

#[test]
fn contradictions_of_a_collector() {
    let check_collect = |lines: &str, place: &str, what: &str, instead: &str| {
        let text = format!("[[collect]]\n{lines}\n{OWN}");
        check(&text, place, what, instead);
    };
    let etrn = "kind = \"etrn\"\nserver = \"spool.example\"\n";
    check_collect(
        "kind = \"etrn\"\nnames = [\"a.example\"]",
        "2:8: collect.kind",
        "needs a server",
        "host:port",
    );
    check_collect(etrn, "2:8: collect.kind", "needs names", "branch.example");
    check_collect(
        &format!("{etrn}names = [\"a.example\", \"a b\"]"),
        "4:9: collect.names",
        "\"a b\" cannot be asked for",
        "#queue",
    );
    check_collect(
        "kind = \"command\"",
        "2:8: collect.kind",
        "needs a program",
        "command = [",
    );
    check_collect(
        "kind = \"command\"\ncommand = [\"/bin/true\"]\nserver = \"a.example\"",
        "4:10: collect.server",
        "is for kinds \"etrn\", \"atrn\", \"pop3\" only",
        "remove it",
    );
    check_collect(
        "kind = \"wakeup\"",
        "2:8: collect.kind",
        "needs an address",
        "to = ",
    );
    let names = "names = [\"a.example\"]\n";
    check_collect(
        &format!("{etrn}{names}keep = \"1d\""),
        "5:8: collect.keep",
        "is for kind \"pop3\" only",
        "remove it",
    );
    check_collect(
        &format!("{etrn}{names}[[collect]]\n{etrn}{names}"),
        "6:8: collect.kind",
        "has a namesake",
        "its own `name`",
    );
    assert!(parse(&format!("[[collect]]\n{etrn}{names}{OWN}")).is_ok());
}

/// Of our own domain, for mail that is collected.
const OWN: &str = "[relay]\ndomains = [\"a.example\"]\n[[route]]\ndomain = \"a.example\"\n\
                   next_hop = \"smtp://192.0.2.1\"\n";

/// What is collected must find its way in, and not go out again.
#[test]
fn where_collected_mail_goes() {
    let names = "4:9: collect.names";
    let no_route = "has no route: what is collected for it would go out again";
    let etrn = "[[collect]]\nkind = \"etrn\"\nserver = \"spool.example\"\n";
    let one = format!("{etrn}names = [\"a.example\"]\n");
    check(&one, names, no_route, "add [[route]]");
    let route = OWN.split_once("[[route]]").map_or("", |(_, route)| route);
    let refused = "is not let in: what the provider brings would be refused";
    let no_relay = format!("{one}[[route]]{route}");
    check(&no_relay, names, refused, "in [relay]");
    assert!(parse(&format!("{one}{OWN}")).is_ok());
    // By its address it may send to anywhere.
    let client = no_relay.replace("spool.example", "192.0.2.9");
    check(&client, names, refused, "in [relay]");
    let client = format!("{client}[relay]\nnetworks = [\"192.0.2.0/24\"]\n");
    assert!(parse(&client).is_ok());
    let below = format!("{etrn}names = [\"@a.example\", \"#queue\"]\n{OWN}");
    check(&below, names, ".a.example has no route", "add [[route]]");
    let atrn = "[[collect]]\nkind = \"atrn\"\nserver = \"spool.example\"\n\
                names = [\"b.example\"]\nuser = \"x\"\npassword_file = \"/dev/null\"\n";
    assert!(places(atrn).contains(&names.to_owned()));
    let held = format!(
        "{one}[[customer]]\nname = \"a\"\ndomains = [\"a.example\"]\ndeliver_to = \"mx\"\n"
    );
    assert!(parse(&held).is_ok());
}

#[test]
fn what_wakes_a_site() {
    let customer = |lines: &str| {
        format!(
            "[[customer]]\nname = \"a\"\ndomains = [\"a.example\"]\ndeliver_to = \"mx\"\n{lines}"
        )
    };
    let no_command = customer("wake_for = { messages = 3 }");
    let place = "5:25: customer.wake_for.messages";
    check(&no_command, place, "no command", "add `wake_command`");
    let command = "wake_command = [\"/bin/dial\"]\n";
    let nothing = customer(&format!("{command}wake_for = {{ pause = \"1m\" }}"));
    let place = "6:22: customer.wake_for.pause";
    check(&nothing, place, "nothing for which", "`messages`");
    let sound = customer(&format!(
        "{command}wake_for = {{ bytes = \"1MiB\", age = \"30m\", priority = 4 }}"
    ));
    let config = parse(&sound).unwrap_or_else(|report| panic!("{report}"));
    let rules = config.customers[0].wake_for.expect("some");
    assert_eq!((rules.messages, rules.octets), (None, Some(1 << 20)));
    assert_eq!(rules.age, Some(Duration::from_secs(1800)));
    assert_eq!((rules.priority, rules.pause.as_secs()), (Some(4), 900));
    let config = parse(&customer(command)).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.customers[0].wake_for, None);
}

#[test]
fn contradictions_of_a_link() {
    let check_link = |lines: &str, place: &str, what: &str, instead: &str| {
        check(
            &format!("[[link]]\nname = \"isp\"\n{lines}"),
            place,
            what,
            instead,
        );
    };
    let kind = "3:8: link.kind";
    check_link("kind = \"pppd\"", kind, "name of an entry", "entry =");
    check_link("kind = \"external\"", kind, "name of an entry", "entry =");
    check_link("kind = \"command\"", kind, "needs a command", "up =");
    let up = "kind = \"permanent\"\nup = [\"/bin/true\"]";
    check_link(up, "4:6: link.up", "for kind \"command\" only", "remove it");
    let budget = "kind = \"on-demand\"\nbudget = { per = \"day\", bytes = \"1MiB\" }";
    let bytes = "4:33: link.budget.bytes";
    check_link(budget, bytes, "without an interface", "entry =");
    let twice = "[[link]]\nname = \"a\"\nkind = \"permanent\"\n[[link]]\nname = \"a\"\nkind = \"permanent\"";
    check(twice, "5:8: link.name", "twice", "line 2");
}

#[test]
fn a_site_is_read() {
    let text = r#"
        [[listener]]
        address = "127.0.0.1:2525"
        when = "schedule"
        [[link]]
        name = "isp"
        kind = "pppd"
        entry = "isp"
        go_up = { messages = 10, priority = 4 }
        budget = { per = "day", seconds = 3600, cost_per_minute = "0.05", cost_max = "3.00" }
        [[schedule]]
        days = "mon-fri"
        from = "22:00"
        to = "06:00"
        every = "30m"
        may_dial = false
    "#;
    let config = parse(text).unwrap_or_else(|report| panic!("{report}"));
    let link = &config.links[0];
    let entry = "isp".to_owned();
    assert_eq!(link.driver, Driver::Pppd { entry, login: None });
    assert_eq!(link.settings.go_up.messages, Some(10));
    assert_eq!(
        link.settings.budget.and_then(|b| b.money).map(|m| m.0),
        Some(30_000)
    );
    assert!(
        link.local
            .iter()
            .any(|n| n.contains("192.168.1.1".parse().unwrap()))
    );
    assert!(!config.schedule[0].may_dial && config.schedule[0].send);
    assert_eq!(config.schedule[0].row.from.0, 22 * 60);
}

#[test]
fn a_domain_needs_a_route_that_covers_it() {
    let check = |domain: &str, route: &str, good: bool| {
        let text = format!(
            "[relay]\ndomains = [{domain:?}]\n[[route]]\ndomain = {route:?}\nnext_hop = \"hold\""
        );
        assert_eq!(parse(&text).is_ok(), good, "{text}");
    };
    check("a.example", "a.example", true);
    check("b.a.example", ".a.example", true);
    check(".b.a.example", ".a.example", true);
    check(".a.example", ".a.example", true);
    check("a.example", ".a.example", false);
    check(".a.example", "a.example", false);
    check("ba.example", ".a.example", false);
}

#[test]
fn secrets_are_in_closed_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    let around = surroundings();
    let (what, instead) = secret::check(&path, &around).unwrap_err();
    assert!(
        what.contains("cannot be read") && instead.contains("0600"),
        "{what}"
    );
    std::fs::write(&path, "hunter2\nnot this\n").unwrap();
    let mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o640);
    let (what, instead) = secret::check(&path, &around).unwrap_err();
    assert!(
        what.contains("0640") && instead.contains("chmod 0600"),
        "{what}"
    );
    mode(0o600);
    assert_eq!(secret::check(&path, &around), Ok(()));
    let secret = secret::SecretFile::new(&path, &around).read().unwrap();
    assert_eq!(secret.reveal(), "hunter2");
    assert!(!format!("{secret:?}").contains("hunter2"));
    std::fs::write(&path, "").unwrap();
    assert!(secret::check(&path, &around).is_err());
    // A credential of systemd is found by its name; its mode is systemd's matter.
    std::fs::write(&path, "x").unwrap();
    mode(0o640);
    let mut service = around;
    service.credentials_directory = Some(directory.path().to_owned());
    assert_eq!(secret::check(Path::new("secret"), &service), Ok(()));
}

#[test]
fn files_that_cannot_be_read_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("turnspool.toml");
    let report = load(&path, &surroundings()).unwrap_err();
    assert!(report.to_string().contains("cannot be read"), "{report}");
    std::fs::write(&path, b"hostname = \"a\"\n# \xff\n").unwrap();
    let report = load(&path, &surroundings()).unwrap_err();
    assert!(
        report.to_string().contains("line 2 is not UTF-8"),
        "{report}"
    );
    std::fs::write(&path, "hostname = \"a.example\"\n").unwrap();
    assert_eq!(
        load(&path, &surroundings()).unwrap().hostname.as_str(),
        "a.example"
    );
}

#[test]
fn each_example_passes_the_check() {
    for role in Role::ALL {
        let text = example(role);
        if let Err(report) = parse(&text) {
            panic!("{role:?}: {report}\n{text}");
        }
        for line in text.lines() {
            assert!(
                line.chars().count() <= 80 || !line.starts_with("# "),
                "{line}"
            );
        }
    }
}

/// Each option of each section is in an example, with its documentation.
#[test]
fn the_examples_show_every_option() {
    let examples: Vec<String> = Role::ALL.into_iter().map(example).collect();
    for section in options::sections() {
        for option in section
            .options
            .iter()
            .filter(|option| option.section.is_none())
        {
            let beginning: Vec<&str> = option.doc[0].split_whitespace().take(4).collect();
            let doc = format!("# {}", beginning.join(" "));
            let shown = examples.iter().any(|example| {
                example.contains(&doc) && example.contains(&format!("{} = ", option.name))
            });
            assert!(shown, "[{}] {}", section.path, option.name);
        }
    }
}

/// A default or a sample that its own reader refuses would be a trap in every
/// example.
#[test]
fn defaults_and_samples_are_good_values() {
    for section in options::sections() {
        for option in &section.options {
            let shown = option.section.is_none() && option.default.is_none();
            let sample = shown.then_some(&option.sample);
            let values = [option.default.as_ref(), option.small_site.as_ref(), sample];
            for value in values.into_iter().flatten() {
                let text = match (section.path, section.repeated) {
                    ("", _) => format!("{} = {value}", option.name),
                    (path, true) => format!("[[{path}]]\n{} = {value}", option.name),
                    (path, false) => format!("[{path}]\n{} = {value}", option.name),
                };
                let tree = DeTable::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
                let mut reader = Reader::new(Preset::Spool);
                let table = Table::new(tree.get_ref(), tree.span());
                options::File::from_table(&table, &mut reader);
                let name = if section.path.is_empty() {
                    option.name.to_owned()
                } else {
                    format!("{}.{}", section.path, option.name)
                };
                let own = reader
                    .troubles
                    .iter()
                    .find(|trouble| trouble.option == name);
                assert_eq!(own, None, "{text}");
            }
        }
    }
    assert!(options::File::section().is_some());
}

#[test]
fn routes_of_their_own() {
    let config = parse(
        "[retry]\ntries = 4\nevery = \"1m\"\nwarn = \"0s\"\n\
         [delivery]\nconnections = 10\n\
         [[route]]\ndomain = \"a.example\"\nnext_hop = \"mx\"\n\
         [[route]]\ndomain = \"b.example\"\nnext_hop = \"mx\"\nconnections = 50\n\
         retry = { tries = 9, every = \"2m\", warn = \"3m\" }\n\
         [[route]]\ndomain = \"c.example\"\nnext_hop = \"mx\"\n\
         [route.retry]\nfirst = \"2m\"\n",
    )
    .expect("it is right");
    let route = |at: usize| &config.routes[at];
    assert_eq!((route(0).retry, route(0).connections_max), (None, None));
    let minute = Duration::from_secs(60);
    let fixed = Retry::Fixed {
        tries: 9,
        every: 2 * minute,
        warn: Some(3 * minute),
    };
    assert_eq!(route(1).retry, Some(fixed));
    assert_eq!(route(1).connections_max, Some(10), "no more than in all");
    let growing = Retry::Exponential {
        first: 2 * minute,
        factor: 2.0,
        longest: 240 * minute,
        give_up: 7200 * minute,
        warn: None,
    };
    assert_eq!(route(2).retry, Some(growing));

    let route = "[[route]]\ndomain = \"a.example\"\nnext_hop = \"smtp://192.0.2.1\"\n";
    check(
        &format!("{route}retry = {{ tries = 2 }}"),
        "4:19: route.retry.tries",
        "partner",
        "write both",
    );
    check(
        &format!("{route}retry = {{ tries = 2, every = \"1m\", first = \"1m\" }}"),
        "4:19: route.retry.tries",
        "contradicts",
        "either",
    );
    check(
        &format!("{route}retry = {{ first = \"6h\" }}"),
        "4:9: route.retry",
        "more than `longest`",
        "shorter",
    );
    check(
        &format!(
            "{route}connections = 1\n[[route]]\ndomain = \"b.example\"\n\
             next_hop = \"smtp://192.0.2.1\"\nconnections = 2"
        ),
        "7:12: route.next_hop",
        "the route of a.example",
        "the same for both",
    );
}

/// Whatever is thrown at it, the reader reports and does not panic.
#[test]
fn mutilated_files_never_panic() {
    let seed = 0x5eed_2026_1122_u64;
    println!("seed {seed:#x}");
    let mut state = seed;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let texts: Vec<String> = Role::ALL
        .into_iter()
        .map(|role| {
            // The comments off, so that every section is there.
            let text = example(role);
            text.lines()
                .filter_map(|line| match line.strip_prefix("# ") {
                    Some(rest) if rest.contains(" = ") || rest.starts_with('[') => Some(rest),
                    Some(_) => None,
                    None => Some(line),
                })
                .map(|line| format!("{line}\n"))
                .collect()
        })
        .collect();
    for round in 0..600 {
        let mut text = texts[round % texts.len()].clone().into_bytes();
        for _ in 0..=random(4) {
            let at = random(text.len());
            match random(4) {
                0 => text.truncate(at),
                1 => text[at] = b"\"[]{}=.,\n9a\0"[random(12)],
                2 => {
                    let end = (at + random(30)).min(text.len());
                    text.drain(at..end);
                }
                _ => {
                    let end = (at + random(60)).min(text.len());
                    let piece = text[at..end].to_vec();
                    text.splice(at..at, piece);
                }
            }
            if text.is_empty() {
                break;
            }
        }
        if let Ok(text) = String::from_utf8(text)
            && let Err(report) = parse(&text)
        {
            assert!(!report.to_string().is_empty());
        }
    }
}

/// A key pair in files, and what is wrong with it when it is.
#[test]
fn certificates_are_looked_at() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let write = |name: &str, text: &str, mode: u32| {
        std::fs::write(path(name), text).expect("it is written");
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path(name), mode).expect("it is ours");
    };
    let made = || rcgen::generate_simple_self_signed(vec!["mx.example".to_owned()]).expect("made");
    let (own, other) = (made(), made());
    write("cert.pem", &own.cert.pem(), 0o644);
    write("key.pem", &own.signing_key.serialize_pem(), 0o600);
    write("open.pem", &own.signing_key.serialize_pem(), 0o640);
    write("no-key.pem", &own.cert.pem(), 0o600);
    write("other.pem", &other.signing_key.serialize_pem(), 0o600);
    let section = |certificate: &str, key: &str| {
        format!(
            "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n[[listener]]\n\
             address = \"127.0.0.1:2525\"\ntls = \"starttls\"\n",
            path(certificate),
            path(key)
        )
    };
    let config = parse(&section("cert.pem", "key.pem")).expect("good files");
    assert_eq!(config.listeners[0].tls, ListenerTls::StartTls);
    let pair = config.tls.expect("it was written").pair;
    assert!(pair.load().is_ok());
    let refused = |certificate: &str, key: &str, option: &str, what: &str, instead: &str| {
        check(&section(certificate, key), option, what, instead);
    };
    refused(
        "none.pem",
        "key.pem",
        "2:15: tls.certificate",
        "cannot be read",
        "name the file",
    );
    refused(
        "key.pem",
        "key.pem",
        "2:15: tls.certificate",
        "has no \"CERT",
        "first",
    );
    refused(
        "cert.pem",
        "none.pem",
        "3:7: tls.key",
        "cannot be read",
        "server's user",
    );
    refused(
        "cert.pem",
        "no-key.pem",
        "3:7: tls.key",
        "has no \"PRIVATE",
        "unlocked",
    );
    refused(
        "cert.pem",
        "open.pem",
        "3:7: tls.key",
        "(mode 0640)",
        "chmod 0600",
    );
    refused(
        "cert.pem",
        "other.pem",
        "3:7: tls.key",
        "is not the key of",
        "was asked for",
    );
    let with_ca = section("cert.pem", "key.pem").replace(
        "[[listener]]",
        &format!("client_ca = \"{}\"\n[[listener]]", path("key.pem")),
    );
    check(
        &with_ca,
        "4:13: tls.client_ca",
        "has no \"CERTIFICATE\"",
        "authorities",
    );
    check(
        "[[listener]]\naddress = \"127.0.0.1:2525\"\ntls = \"implicit\"\n",
        "3:7: listener.tls",
        "has no certificate",
        "add [tls]",
    );
}

#[test]
fn tls_towards_smarthosts() {
    let smarthost = |lines: &str| {
        format!(
            "[delivery]\nmode = \"smarthost\"\n[[delivery.smarthost]]\nhost = \"a.example\"\n{lines}"
        )
    };
    let of = |lines: &str| {
        let config = parse(&smarthost(lines)).expect(lines);
        let DeliveryMode::Smarthost(smarthosts) = config.delivery.mode else {
            panic!("the mode was written");
        };
        (smarthosts[0].tls, smarthosts[0].implicit_tls)
    };
    assert_eq!(of(""), (SmarthostTls::Opportunistic, false));
    assert_eq!(
        of("port = 465\ntls = \"verified\""),
        (SmarthostTls::Verified, true)
    );
    assert!(!of("port = 465\nimplicit_tls = false").1);
    assert!(of("port = 2465\nimplicit_tls = true").1);
    check(
        &smarthost("tls = \"none\"\nimplicit_tls = true"),
        "6:16: delivery.smarthost.implicit_tls",
        "contradicts",
        "\"required\"",
    );
    check(
        &smarthost("certificate = \"a.pem\""),
        "5:15: delivery.smarthost.certificate",
        "has no key",
        "add `key",
    );
    check(
        &smarthost("key = \"a.pem\""),
        "5:7: delivery.smarthost.key",
        "has no certificate",
        "add `certificate",
    );
}
