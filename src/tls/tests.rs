//! A client and a server in memory, in all cuttings; and peers that do not keep to the
//! rules.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::*;

/// 2026-06-01: between the beginning and the end of what is made here.
const NOW: u64 = 1_780_272_000;

#[derive(Debug)]
struct Fixed(u64);

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        Self::named("test authority")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn identity(&self, names: &[&str]) -> Identity {
        let (certificate, key) = self.issue(names, |_| {});
        Identity::from_pem(certificate.as_bytes(), key.as_bytes()).expect("they fit")
    }
}

fn server_settings(identity: &Identity, client_ca: Option<&str>) -> ServerSettings {
    ServerSettings::new(identity, client_ca.map(str::as_bytes), Arc::new(Fixed(NOW)))
        .expect("settings")
}

fn clients(roots: &[&Authority], identities: Vec<Identity>) -> Clients {
    clients_at(NOW, roots, identities)
}

fn clients_at(now: u64, roots: &[&Authority], identities: Vec<Identity>) -> Clients {
    let roots: Vec<_> = roots.iter().map(|authority| authority.der()).collect();
    Clients::new(ClientSettings::new(roots, identities, Arc::new(Fixed(now))))
}

const ANY: Request<'static> = Request {
    name: "mx.example",
    address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    verification: Verification::Any,
    identity: None,
};

const NAMED: Request<'static> = Request {
    verification: Verification::Name,
    ..ANY
};

/// A server and a client whose handshake is done: for the tests of what lies above.
pub(crate) fn layers() -> (Layer, Layer) {
    let authority = Authority::new();
    let server = server_settings(&authority.identity(&["mx.example"]), None);
    let client = clients(&[], Vec::new()).layer(&ANY).expect("a layer");
    let mut pair = Pair::new(client, &server);
    pair.talk();
    (pair.server.layer, pair.client.layer)
}

/// One end, with what it has for the other and what it got.
struct End {
    layer: Layer,
    room: Room,
    out: Vec<u8>,
    got: Vec<u8>,
    facts: Option<Facts>,
    ended: bool,
    fault: Option<Fault>,
}

impl End {
    fn new(mut layer: Layer) -> Self {
        let mut out = Vec::new();
        layer.begin(&mut out).expect("it begins");
        Self {
            layer,
            room: Room::default(),
            out,
            got: Vec::new(),
            facts: None,
            ended: false,
            fault: None,
        }
    }

    fn take(&mut self, octets: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        match self.layer.receive(octets, &mut self.room, &mut self.out) {
            Ok(received) => {
                if let Some(facts) = received.started {
                    assert!(self.facts.replace(facts).is_none(), "it starts once");
                }
                self.got.extend_from_slice(&self.room.plaintext);
                self.ended |= received.ended;
            }
            Err(fault) => self.fault = Some(fault),
        }
    }

    fn say(&mut self, octets: &[u8]) {
        self.layer
            .encrypt(octets, &mut self.out)
            .expect("it is open");
    }
}

struct Pair {
    client: End,
    server: End,
}

impl Pair {
    fn new(client: Layer, server: &ServerSettings) -> Self {
        Self {
            client: End::new(client),
            server: End::new(server.layer().expect("a layer")),
        }
    }

    /// Lets both talk until neither has anything to say. `cut` gives the length of the
    /// next part.
    fn talk_in(&mut self, mut cut: impl FnMut() -> usize) {
        loop {
            let to_server = std::mem::take(&mut self.client.out);
            let to_client = std::mem::take(&mut self.server.out);
            if to_server.is_empty() && to_client.is_empty() {
                return;
            }
            for (octets, end) in [(to_server, &mut self.server), (to_client, &mut self.client)] {
                let mut rest = &octets[..];
                while !rest.is_empty() {
                    let (part, behind) = rest.split_at(cut().clamp(1, rest.len()));
                    end.take(part);
                    rest = behind;
                }
            }
        }
    }

    fn talk(&mut self) {
        self.talk_in(|| usize::MAX);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % n
    }
}

fn octets(n: usize) -> Vec<u8> {
    (0..n)
        .map(|i| u8::try_from(i * 7 % 251).expect("below 251"))
        .collect()
}

#[test]
fn octets_arrive_in_every_cutting() {
    let authority = Authority::new();
    let server = server_settings(&authority.identity(&["mx.example"]), None);
    let check = |cut: &mut dyn FnMut() -> usize, bytes: usize| {
        let mut clients = clients(&[&authority], Vec::new());
        let mut pair = Pair::new(clients.layer(&NAMED).expect("a layer"), &server);
        pair.talk_in(&mut *cut);
        let sent = octets(bytes);
        pair.client.say(&sent);
        pair.server.say(b"250 ok\r\n");
        pair.talk_in(&mut *cut);
        assert_eq!(pair.client.fault, None);
        assert_eq!(pair.server.fault, None);
        assert!(pair.server.got == sent, "{bytes} octets");
        assert_eq!(pair.client.got, b"250 ok\r\n");
        let facts = pair.server.facts.as_ref().expect("it started");
        assert_eq!(facts.version, "TLSv1.3");
        assert!(facts.cipher.starts_with("TLS_"), "{facts:?}");
        assert_eq!(facts.handshake, Handshake::Full);
        assert_eq!(facts.peer, None);
        pair.client.layer.close(&mut pair.client.out);
        pair.talk_in(&mut *cut);
        assert!(pair.server.ended && pair.server.fault.is_none());
        assert_eq!(pair.server.layer.held_bytes(), 0);
        assert_eq!(pair.client.layer.held_bytes(), 0);
    };
    for bytes in [
        0,
        1,
        RECORD_BYTES_MAX - 1,
        RECORD_BYTES_MAX,
        RECORD_BYTES_MAX + 1,
    ] {
        check(&mut || usize::MAX, bytes);
    }
    check(&mut || 1, 20_000);
    for seed in 0..40 {
        let mut random = Random(seed);
        let bytes = random.below(200_000);
        let longest = 1 + random.below(40_000);
        eprintln!("seed {seed}");
        check(&mut || 1 + random.below(longest), bytes);
    }
}

/// A greeting comes with the server's part of the handshake: one round trip for both. Not
/// where the client is asked for a certificate: nobody knows yet to whom it is said.
#[test]
fn a_server_speaks_before_the_handshake_is_done() {
    let authority = Authority::new();
    let identity = authority.identity(&["mx.example"]);
    for (client_ca, early) in [(None, true), (Some(authority.pem()), false)] {
        let server = server_settings(&identity, client_ca.as_deref());
        let mut clients = clients(&[&authority], Vec::new());
        let mut pair = Pair::new(clients.layer(&NAMED).expect("a layer"), &server);
        let hello = std::mem::take(&mut pair.client.out);
        pair.server.take(&hello);
        assert_eq!(pair.server.facts.is_some(), early);
        assert!(!pair.server.layer.is_done());
        if early {
            assert!(pair.server.layer.is_shaking_hands() != early);
            pair.server.say(b"220 mx.example\r\n");
            let flight = std::mem::take(&mut pair.server.out);
            pair.client.take(&flight);
            assert_eq!(pair.client.got, b"220 mx.example\r\n");
            assert!(pair.client.facts.is_some() && pair.client.layer.is_done());
        }
        pair.talk();
        assert!(pair.server.layer.is_done() && pair.server.facts.is_some());
        pair.client.say(b"EHLO client.example\r\n");
        pair.talk();
        assert_eq!(pair.server.got, b"EHLO client.example\r\n");
        assert!(pair.server.fault.is_none() && pair.client.fault.is_none());
    }
}

/// What is encrypted at once takes as many records as it must, and not more.
#[test]
fn records_are_full() {
    let authority = Authority::new();
    let server = server_settings(&authority.identity(&["mx.example"]), None);
    let mut pair = Pair::new(
        clients(&[], Vec::new()).layer(&ANY).expect("a layer"),
        &server,
    );
    pair.talk();
    let mut out = Vec::new();
    for (bytes, records) in [
        (1, 1),
        (RECORD_BYTES_MAX, 1),
        (RECORD_BYTES_MAX + 1, 2),
        (64 << 10, 4),
    ] {
        out.clear();
        pair.client
            .layer
            .encrypt(&octets(bytes), &mut out)
            .expect("open");
        let over = out.len() - bytes;
        assert!(
            over <= records * RECORD_OVERHEAD,
            "{bytes} octets: {over} more"
        );
        assert!(over > (records - 1) * 22, "{bytes} octets: {over} more");
    }
}

#[test]
fn names_and_authorities_are_checked_where_that_is_wanted() {
    let authority = Authority::new();
    let stranger = Authority::named("a stranger");
    let check = |identity: &Identity, request: &Request<'_>, now: u64, expected: Option<&str>| {
        let server = server_settings(identity, None);
        let mut clients = clients_at(now, &[&authority], Vec::new());
        let mut pair = Pair::new(clients.layer(request).expect("a layer"), &server);
        pair.talk();
        match expected {
            None => assert_eq!(pair.client.fault, None),
            Some(expected) => {
                let fault = pair.client.fault.expect("a fault");
                assert!(matches!(fault, Fault::Certificate(_)), "{fault:?}");
                let text = fault.to_string();
                assert!(text.contains(expected), "{text}");
                // The server learns why.
                let told = pair.server.fault.expect("an alert");
                assert!(matches!(told, Fault::Refused(_)), "{told:?}");
            }
        }
    };
    let good = authority.identity(&["mx.example"]);
    let other = authority.identity(&["other.example", "www.example"]);
    let strange = stranger.identity(&["mx.example"]);
    let by_address = authority.identity(&["192.0.2.1"]);
    let year = 365 * 24 * 3600;
    check(&good, &NAMED, NOW, None);
    check(
        &good,
        &NAMED,
        NOW + year,
        Some("it has expired (Fri, 01 Jan 2027"),
    );
    check(&good, &NAMED, NOW - year, Some("not valid yet"));
    check(
        &other,
        &NAMED,
        NOW,
        Some("it is for other.example, www.example, and not for mx.example"),
    );
    check(&strange, &NAMED, NOW, Some("its issuer is unknown"));
    let address = Request {
        name: "192.0.2.1",
        ..NAMED
    };
    check(&by_address, &address, NOW, None);
    check(&good, &address, NOW, Some("not for 192.0.2.1"));
    for identity in [&good, &other, &strange] {
        check(identity, &ANY, NOW + 5 * year, None);
    }
    let odd = Request {
        name: "_mx.[exa]mple",
        ..ANY
    };
    check(&good, &odd, NOW, None);
    let odd = Request {
        verification: Verification::Name,
        ..odd
    };
    let refused = clients(&[&authority], Vec::new()).layer(&odd);
    assert!(matches!(refused, Err(Fault::Certificate(_))));
}

#[test]
fn sessions_are_resumed_and_verification_is_not_borrowed() {
    let authority = Authority::new();
    let stranger = Authority::named("a stranger");
    let server = server_settings(&stranger.identity(&["mx.example"]), None);
    let mut clients = clients(&[&authority], Vec::new());
    let mut handshake = |request: &Request<'_>| {
        let mut pair = Pair::new(clients.layer(request).expect("a layer"), &server);
        pair.talk();
        pair.client.facts.map(|facts| facts.handshake)
    };
    assert_eq!(handshake(&ANY), Some(Handshake::Full));
    assert_eq!(handshake(&ANY), Some(Handshake::Resumed));
    let elsewhere = Request {
        name: "mx2.example",
        ..ANY
    };
    assert_eq!(handshake(&elsewhere), Some(Handshake::Full));
    // The ticket was given without verification, and does not replace it.
    assert_eq!(handshake(&NAMED), None);
    assert_eq!(handshake(&ANY), Some(Handshake::Resumed));
}

#[test]
fn a_client_is_known_by_a_certificate_of_our_authorities_only() {
    let authority = Authority::new();
    let stranger = Authority::named("a stranger");
    let server = server_settings(&authority.identity(&["mx.example"]), Some(&authority.pem()));
    let deaf = server_settings(&authority.identity(&["mx.example"]), None);
    let named = |names: &[&str], change: &dyn Fn(&mut CertificateParams)| {
        let (certificate, key) = authority.issue(names, change);
        Identity::from_pem(certificate.as_bytes(), key.as_bytes()).expect("they fit")
    };
    let check = |server: &ServerSettings, identity: Option<Identity>, expected: Option<&str>| {
        let number = identity.is_some().then_some(IdentityNumber(0));
        let mut clients = clients(&[], identity.into_iter().collect());
        let request = Request {
            identity: number,
            ..ANY
        };
        // The second time it is resumed, and the name stays.
        for _ in 0..2 {
            let mut pair = Pair::new(clients.layer(&request).expect("a layer"), server);
            pair.talk();
            assert_eq!(pair.server.fault, None);
            let facts = pair.server.facts.expect("it started");
            assert_eq!(facts.peer.as_deref(), expected);
        }
    };
    check(&server, None, None);
    check(
        &server,
        Some(named(&["site.example"], &|_| {})),
        Some("site.example"),
    );
    check(&server, Some(stranger.identity(&["site.example"])), None);
    check(&deaf, Some(authority.identity(&["site.example"])), None);
    let mail = named(&[], &|params| {
        let address = "user@site.example".try_into().expect("ASCII");
        params.subject_alt_names = vec![SanType::Rfc822Name(address)];
    });
    check(&server, Some(mail), Some("user@site.example"));
    let common = named(&[], &|params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "branch-7");
    });
    check(&server, Some(common), Some("branch-7"));
    let forged = named(&[], &|params| {
        params.distinguished_name.push(DnType::CommonName, "a\r\nb");
    });
    check(&server, Some(forged), None);
    let expired = named(&["old.example"], &|params| {
        params.not_after = rcgen::date_time_ymd(2026, 2, 1);
    });
    check(&server, Some(expired), None);
    let missing = Request {
        identity: Some(IdentityNumber(3)),
        ..ANY
    };
    let refused = clients(&[], Vec::new()).layer(&missing);
    assert!(matches!(refused, Err(Fault::Ours(_))));
}

/// Whatever comes instead of TLS ends the connection with a sentence, and never us.
#[test]
fn garbage_is_refused() {
    let authority = Authority::new();
    let server = server_settings(&authority.identity(&["mx.example"]), None);
    let check = |octets: &[u8], expected: &str| {
        let mut end = End::new(server.layer().expect("a layer"));
        end.take(octets);
        let fault = end
            .fault
            .unwrap_or_else(|| panic!("{}", octets.escape_ascii()));
        assert!(fault.to_string().contains(expected), "{fault}");
        // At most an alert is said.
        assert!(end.out.len() <= 7, "{} octets", end.out.len());
    };
    check(b"EHLO client.example\r\n", "is no TLS");
    check(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "is no TLS");
    check(&[0x80, 0x2e, 0x01, 0x03, 0x01], "is no TLS");
    check(&[22, 3, 1, 0xff, 0xff, 1, 2, 3], "");
    check(&[23, 3, 3, 0, 2, 1, 2], "");
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut end = End::new(server.layer().expect("a layer"));
        let octets: Vec<u8> = (0..random.below(300) + 5)
            .map(|_| u8::try_from(random.below(256)).expect("an octet"))
            .collect();
        end.take(&octets);
        end.take(&[0; 100_000]);
        assert!(end.facts.is_none());
        assert!(end.layer.held_bytes() <= PARTIAL_BYTES_MAX);
    }
}

/// A change of any octet on the way is noticed, and nothing behind it gets through.
#[test]
fn changes_and_cuts_are_noticed() {
    let authority = Authority::new();
    let server = server_settings(&authority.identity(&["mx.example"]), None);
    let mut clients = clients(&[&authority], Vec::new());
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut pair = Pair::new(clients.layer(&NAMED).expect("a layer"), &server);
        pair.talk();
        pair.client.say(b"MAIL FROM:<>\r\n");
        // Behind the type and version of the record, which say nothing any more and need
        // not be looked at (RFC 8446 §5.1, §5.2).
        let at = 3 + random.below(pair.client.out.len() - 3);
        let bit = 1 << random.below(8);
        pair.client.out[at] ^= bit;
        let changed = std::mem::take(&mut pair.client.out);
        pair.server.take(&changed);
        pair.server.take(&[0; 40_000]);
        assert!(pair.server.fault.is_some(), "octet {at} bit {bit}");
        assert!(pair.server.got.is_empty());
        // The alert reaches the client.
        pair.talk();
        assert!(
            matches!(pair.client.fault, Some(Fault::Refused(_))),
            "{:?}",
            pair.client.fault
        );
    }
    // Where nothing but TCP says that it is over, it did not say so.
    let mut pair = Pair::new(clients.layer(&NAMED).expect("a layer"), &server);
    pair.talk();
    pair.client.say(b"MAIL FROM:<>\r\n");
    let cut = pair.client.out.len() - 1;
    let part = pair.client.out[..cut].to_vec();
    pair.server.take(&part);
    assert!(!pair.server.ended && pair.server.got.is_empty() && pair.server.fault.is_none());
    assert_eq!(pair.server.layer.held_bytes(), cut);
}

/// A handshake message that never ends does not fill the memory.
#[test]
fn endless_handshakes_are_cut_short() {
    let authority = Authority::new();
    let server = server_settings(&authority.identity(&["mx.example"]), None);
    let mut end = End::new(server.layer().expect("a layer"));
    // A ClientHello of 16 MiB less one octet, in records of 16 KiB.
    let mut first = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    first.resize(5 + 0x4000, 0);
    end.take(&first);
    let mut more = vec![22, 3, 3, 0x40, 0];
    more.resize(5 + 0x4000, 0);
    for _ in 0..1000 {
        end.take(&more);
        assert!(end.layer.held_bytes() <= PARTIAL_BYTES_MAX);
    }
    assert!(end.fault.is_some());
}

#[test]
fn nothing_is_said_before_the_handshake_or_after_the_end() {
    let authority = Authority::new();
    let server = server_settings(&authority.identity(&["mx.example"]), None);
    let mut layer = server.layer().expect("a layer");
    let mut out = Vec::new();
    assert!(layer.is_shaking_hands());
    assert!(matches!(
        layer.encrypt(b"220", &mut out),
        Err(Fault::Ours(_))
    ));
    layer.close(&mut out);
    assert!(out.is_empty());
    let mut pair = Pair::new(
        clients(&[], Vec::new()).layer(&ANY).expect("a layer"),
        &server,
    );
    pair.talk();
    assert!(!pair.server.layer.is_shaking_hands());
    pair.server.layer.close(&mut out);
    let once = out.len();
    pair.server.layer.close(&mut out);
    assert_eq!(out.len(), once);
    assert!(pair.server.layer.encrypt(b"x", &mut out).is_err());
    // What the other side still says is read.
    pair.client.say(b"QUIT\r\n");
    pair.talk();
    assert_eq!(pair.server.got, b"QUIT\r\n");
}

#[test]
fn files_that_do_not_fit_are_told_apart() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&["mx.example"], |_| {});
    let (_, other) = authority.issue(&["mx.example"], |_| {});
    let check = |certificate: &str, key: &str, expected: &str| {
        let error = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    };
    let good = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).expect("they fit");
    assert_eq!(good.not_after().as_seconds(), 1_798_761_600);
    check(&certificate, &other, "is not that of the certificate");
    check("", &key, "has no \"CERTIFICATE\"");
    check(&key, &key, "has no \"CERTIFICATE\"");
    check(&certificate, "", "has no \"PRIVATE KEY\"");
    check(&certificate, &certificate, "has no \"PRIVATE KEY\"");
    check(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &key,
        "cannot be read",
    );
    let error = ServerSettings::new(&good, Some(b"nothing"), Arc::new(Fixed(NOW)));
    assert!(error.is_err_and(|what| what.contains("has no \"CERTIFICATE\"")));
}
