//! Parsers.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use turnspool::config::addresses::{parse_host, parse_network};
use turnspool::config::surroundings::Surroundings;
use turnspool::mail::{Address, Domain, ForwardPath, ReversePath};
use turnspool::pop3::recipients::{DomainRules, HeaderBuffer, Mailbox, Occurrence, Rules, Source};
use turnspool::smtp::answer::{ANSWER_BYTES_MAX, REPLY_TEXT_BYTES_MAX, Reader};
use turnspool::smtp::auth::scram::{ClientFirst, Hash, Keys};
use turnspool::smtp::auth::server::{Claim, Ourselves, Step, begin};
use turnspool::smtp::auth::stored::Stored;
use turnspool::smtp::auth::users::Users;
use turnspool::smtp::auth::{Mechanism, Nonce, base64, cram};
use turnspool::smtp::client::capabilities::Capabilities;
use turnspool::smtp::data::{BareNewline, Framing, Limits, Piece, Scanned, Scanner};
use turnspool::smtp::etrn as etrn_words;
use turnspool::smtp::reply::Tls;
use turnspool::smtp::settings::{Role, Settings};
use turnspool::smtp::syntax::{self, Context, Utf8};
use turnspool::time::WallTime;

fn domain() -> Domain {
    "relay.example".parse().expect("a domain")
}

fn choice(octets: &[u8]) -> (u8, &[u8]) {
    octets
        .split_first()
        .map_or((0, octets), |(first, rest)| (*first, rest))
}

/// What was parsed parses again from what it is shown as, to the same.
pub(crate) fn addresses(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    for line in text.lines() {
        if let Ok(address) = line.parse::<Address>() {
            assert_eq!(address.as_str().parse::<Address>().as_ref(), Ok(&address));
            let parts = Address::new(address.local_part(), &address.domain());
            assert_eq!(parts.as_ref(), Ok(&address), "{line:?}");
        }
        if let Ok(path) = line.parse::<ReversePath>() {
            assert_eq!(path.as_str().parse::<ReversePath>().as_ref(), Ok(&path));
        }
        if let Ok(path) = line.parse::<ForwardPath>() {
            assert_eq!(path.as_str().parse::<ForwardPath>().as_ref(), Ok(&path));
        }
        if let Ok(domain) = line.parse::<Domain>() {
            assert_eq!(domain.as_str().parse::<Domain>().as_ref(), Ok(&domain));
            let _ = (domain.parent(), domain.literal(), domain.is_literal());
        }
        let _ = (parse_host(line), parse_network(line));
    }
}

/// However the octets are cut, the answers are the same; their text can be shown.
pub(crate) fn answers(octets: &[u8]) {
    let read = |cut: usize| {
        let (mut reader, mut got) = (Reader::default(), Vec::new());
        for mut part in octets.chunks(cut) {
            loop {
                match reader.next(&mut part) {
                    None => break,
                    Some(Ok(answer)) => {
                        let reply = answer.reply();
                        let text = reply.to_string();
                        assert!(!text.chars().any(char::is_control), "{text:?}");
                        assert!(text.len() <= REPLY_TEXT_BYTES_MAX + 100, "{}", text.len());
                        let octets: usize = answer.lines().map(<[u8]>::len).sum();
                        assert!(octets <= ANSWER_BYTES_MAX, "{octets}");
                        got.push(text);
                    }
                    Some(Err(error)) => {
                        got.push(format!("{error:?}"));
                        return got;
                    }
                }
            }
        }
        got
    };
    assert_eq!(read(octets.len().max(1)), read(1));
}

pub(crate) fn capabilities(octets: &[u8]) {
    let mut reader = Reader::default();
    let mut rest = octets;
    while let Some(Ok(answer)) = reader.next(&mut rest) {
        let _ = format!("{:?}", Capabilities::from_answer(&answer));
    }
}

/// Every report can be shown.
pub(crate) fn config(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return;
    };
    let surroundings = Surroundings {
        host_name: "host.example".to_owned(),
        cpus: 2,
        credentials_directory: None,
        state_directory: None,
    };
    match turnspool::config::parse(Path::new("fuzz.toml"), text, &surroundings) {
        Ok(config) => {
            let _ = format!("{config:?}");
        }
        Err(report) => assert!(!report.to_string().is_empty()),
    }
}

/// A refusal is one line that can be sent.
fn parse(line: &[u8], settings: &Settings, utf8: Utf8, tls: Tls) {
    let hostname = domain();
    let context = Context {
        hostname: &hostname,
        role: settings.role,
        offers: &settings.offers,
        utf8,
        tls,
        time: WallTime::from_millis(1_795_351_597_250),
        is_local: true,
    };
    match syntax::parse(line, &context) {
        Ok(command) => {
            let _ = format!("{command:?}");
        }
        Err(error) => {
            let mut reply = Vec::new();
            error.refusal().reply().write(&mut reply);
            let line = reply.strip_suffix(b"\r\n").expect("a line");
            assert!(
                !line.iter().any(u8::is_ascii_control),
                "{}",
                reply.escape_ascii()
            );
        }
    }
}

fn settings(bits: u8) -> Settings {
    let mut settings = Settings::new(domain());
    settings.role = if bits & 1 == 0 {
        Role::Mail
    } else {
        Role::Odmr
    };
    let offers = &mut settings.offers;
    offers.etrn = bits & 2 != 0;
    offers.start_tls = true;
    offers.mt_priority = true;
    offers.deliver_by = Some(Duration::from_secs(1));
    offers.future_release = Some(Duration::from_secs(1_000_000));
    settings
}

pub(crate) fn smtp_syntax(octets: &[u8]) {
    let (bits, rest) = choice(octets);
    let utf8 = if bits & 4 == 0 {
        Utf8::Allowed
    } else {
        Utf8::Refused
    };
    let tls = if bits & 8 == 0 {
        Tls::Active
    } else {
        Tls::Absent
    };
    for line in rest.split(|&octet| octet == b'\n') {
        parse(line, &settings(bits), utf8, tls);
    }
}

/// DSN with xtext, SIZE, DELIVERBY, hold, priorities: behind paths that are right.
pub(crate) fn parameters(octets: &[u8]) {
    let (bits, rest) = choice(octets);
    for head in ["MAIL FROM:<a@a.example> ", "RCPT TO:<b@b.example> "] {
        for line in rest.split(|&octet| octet == b'\n') {
            let line = [head.as_bytes(), line].concat();
            parse(&line, &settings(bits), Utf8::Allowed, Tls::Active);
        }
    }
}

/// ETRN and ATRN: the names that are asked for, from both sides.
pub(crate) fn etrn(octets: &[u8]) {
    for head in ["ETRN ", "ATRN "] {
        for line in octets.split(|&octet| octet == b'\n') {
            let line = [head.as_bytes(), line].concat();
            parse(&line, &settings(2), Utf8::Refused, Tls::Active);
        }
    }
    for line in String::from_utf8_lossy(octets).lines() {
        if let Ok(node) = etrn_words::wanted(line) {
            let again = etrn_words::wanted(&node.to_string());
            assert_eq!(again.as_ref(), Ok(&node), "{line:?}");
        }
    }
}

/// There is always somebody to give it to, and nobody twice.
pub(crate) fn mailbox_header(octets: &[u8]) {
    let (bits, header) = choice(octets);
    let default: Address = "postmaster@site.example".parse().expect("an address");
    let rules = DomainRules {
        domains: vec!["site.example".parse().expect("a domain")],
        sources: vec![
            Source::Envelope,
            Source::Received,
            Source::Resent,
            Source::Header,
        ],
        envelope_fields: [
            "X-Envelope-To",
            "Delivered-To",
            "X-Original-To",
            "Envelope-To",
        ]
        .map(str::to_owned)
        .to_vec(),
        occurrence: Occurrence(u32::from(bits & 1)),
        strip_prefix: (bits & 2 != 0).then(|| "site-".to_owned()),
        received_skipped: u32::from(bits >> 4),
        default: default.clone(),
    };
    let rules = Rules {
        mailbox: if bits & 4 == 0 {
            Mailbox::Domain(Box::new(rules))
        } else {
            Mailbox::User(default)
        },
        aliases: BTreeMap::from([(
            "alias@site.example".into(),
            "real@site.example".parse().expect("an address"),
        )]),
    };
    let mut buffer = HeaderBuffer::default();
    for part in header.chunks(1 + usize::from(bits)) {
        if buffer.push(part) {
            break;
        }
    }
    let addressing = rules.addressing(buffer.octets());
    assert!(!addressing.recipients.is_empty());
    let different: HashSet<_> = addressing.recipients.iter().collect();
    assert_eq!(different.len(), addressing.recipients.len());
}

/// All mechanisms from both sides; a line of the input is a response.
pub(crate) fn sasl(octets: &[u8]) {
    let (bits, rest) = choice(octets);
    if let Some(decoded) = base64::decode(rest) {
        let text = base64::text(&decoded);
        let again = base64::decode(text.as_bytes()).expect("we wrote it");
        assert_eq!(again[..], decoded[..]);
    }
    let _ = (cram::parse_response(rest), ClientFirst::parse(rest).is_ok());
    let hostname = domain();
    let ourselves = Ourselves {
        hostname: &hostname,
        time: WallTime::from_millis(1_795_351_597_250),
        nonce: Nonce([7; 18]),
    };
    let mechanism = match bits % 5 {
        0 => Mechanism::Plain,
        1 => Mechanism::Login,
        2 => Mechanism::ScramSha256,
        3 => Mechanism::External,
        _ => Mechanism::CramMd5,
    };
    let mut lines = rest.split(|&octet| octet == b'\n');
    let initial = if bits & 128 == 0 { lines.next() } else { None };
    let mut step = begin(mechanism, initial, &ourselves);
    // No mechanism has more than a few steps.
    for _ in 0..6 {
        step = match step {
            Step::Challenge(_, exchange) => match lines.next() {
                Some(line) => exchange.response(line),
                None => return,
            },
            Step::Ask(claiming) => {
                let Claim::Keys { user } = &claiming.claim else {
                    return;
                };
                let secret: Hash = [3; 32];
                let keys = Keys::fake(&secret, user);
                claiming.keys(keys)
            }
            // Nobody knows a password of whom we know nothing.
            Step::Proven(user) => panic!("{user} has proved it"),
            Step::Wrong(_) | Step::Malformed => return,
        };
    }
    panic!("{mechanism:?} does not end");
}

/// The file of users, and what stands in one line of it.
pub(crate) fn users(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    if let Ok(users) = Users::parse(&text) {
        let written = users.to_text();
        let again = Users::parse(&written).expect("we wrote it");
        assert_eq!(again.to_text().as_str(), written.as_str());
    }
    for line in text.lines() {
        if let Ok(stored) = Stored::parse(line) {
            let written = stored.to_text();
            let again = Stored::parse(&written).expect("we wrote it");
            assert_eq!(again.to_text().as_str(), written.as_str());
        }
    }
}

/// However a message is cut, it is the same message.
pub(crate) fn wire_text(octets: &[u8]) {
    let (bits, text) = choice(octets);
    let framing = if bits & 1 == 0 {
        Framing::Dots
    } else {
        Framing::Chunks
    };
    let bare = if bits & 2 == 0 {
        BareNewline::Refuse
    } else {
        BareNewline::Normalise
    };
    let limits = Limits {
        message_bytes_max: 200,
        line_bytes_max: 60,
        hops_max: 2,
    };
    let read = |cut: usize| {
        let mut scanner = Scanner::new(framing, bare, limits);
        let (mut kept, mut end, mut at) = (Vec::new(), None, 0);
        'all: while at < text.len() {
            let part = &text[at..text.len().min(at + cut)];
            let mut keep = |piece: Piece| match piece {
                Piece::Octets(range) => kept.extend_from_slice(&part[range]),
                Piece::Constant(octets) => kept.extend_from_slice(octets),
            };
            match scanner.scan(part, &mut keep) {
                Scanned::More(0) => panic!("it stands still"),
                Scanned::More(taken) => at += taken,
                Scanned::End(taken) => {
                    end = Some(at + taken);
                    break 'all;
                }
            }
        }
        if framing == Framing::Chunks {
            scanner.finish(|piece| match piece {
                Piece::Octets(_) => panic!("of no input"),
                Piece::Constant(octets) => kept.extend_from_slice(octets),
            });
        }
        if framing == Framing::Chunks || end.is_some() {
            assert_eq!(scanner.facts().octets, kept.len() as u64);
        }
        let facts = (framing == Framing::Chunks || end.is_some()).then(|| scanner.facts());
        (
            kept,
            end,
            facts.map(|facts| format!("{facts:?}")),
            scanner.fault(),
        )
    };
    let whole = read(text.len().max(1));
    let (kept, end, facts, fault) = read(1);
    if end.is_some() || framing == Framing::Chunks {
        assert_eq!((kept, end, facts, fault), whole);
    }
}
