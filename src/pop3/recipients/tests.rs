use super::*;

fn rules() -> DomainRules {
    DomainRules {
        domains: vec!["branch.example".parse().expect("a domain")],
        sources: vec![
            Source::Envelope,
            Source::Received,
            Source::Resent,
            Source::Header,
        ],
        envelope_fields: vec!["Delivered-To".to_owned(), "X-Original-To".to_owned()],
        occurrence: Occurrence::FIRST,
        strip_prefix: Some("branch-".to_owned()),
        received_skipped: 0,
        default: "postmaster@branch.example".parse().expect("an address"),
    }
}

#[track_caller]
fn check_rules(rules: DomainRules, header: &str, source: Option<Source>, expected: &[&str]) {
    let rules = Rules {
        mailbox: Mailbox::Domain(Box::new(rules)),
        aliases: BTreeMap::from([(
            "info@branch.example".into(),
            "anna@branch.example".parse().expect("an address"),
        )]),
    };
    let header = header.replace('\n', "\r\n");
    // Whatever stands behind the header section does not count.
    for octets in [
        header.clone(),
        format!("{header}\r\nTo: nobody@branch.example\r\n\r\n"),
    ] {
        let got = rules.addressing(octets.as_bytes());
        let names: Vec<_> = got.recipients.iter().map(Address::as_str).collect();
        assert_eq!(
            (got.source, names.as_slice()),
            (source, expected),
            "{octets:?}"
        );
    }
}

#[track_caller]
fn check(header: &str, source: Option<Source>, expected: &[&str]) {
    check_rules(rules(), header, source, expected);
}

#[test]
fn the_envelope_field_comes_first() {
    let source = Some(Source::Envelope);
    check(
        "Delivered-To: branch-anna@branch.example\n",
        source,
        &["anna@branch.example"],
    );
    check(
        "delivered-to:<Branch-anna@BRANCH.example>\n",
        source,
        &["anna@branch.example"],
    );
    check(
        "Delivered-To:\n anna@branch.example\n",
        source,
        &["anna@branch.example"],
    );
    check(
        "X-Original-To: bob@branch.example\nTo: anna@branch.example\n",
        source,
        &["bob@branch.example"],
    );
    // The mailbox itself is no user of ours: the next field is.
    check(
        "Delivered-To: box17@isp.example\nX-Original-To: bob@branch.example\n",
        source,
        &["bob@branch.example"],
    );
    check(
        "Delivered-To: info@branch.example\n",
        source,
        &["anna@branch.example"],
    );
    let twice = "Delivered-To: box17@isp.example\nDelivered-To: branch-bob@branch.example\n\
                 Delivered-To: eve@branch.example\n";
    let second = DomainRules {
        occurrence: Occurrence(2),
        ..rules()
    };
    check_rules(second.clone(), twice, source, &["bob@branch.example"]);
    check_rules(
        second,
        "Delivered-To: bob@branch.example\n",
        None,
        &["postmaster@branch.example"],
    );
}

#[test]
fn then_the_for_of_received_lines() {
    let source = Some(Source::Received);
    let received = "Received: from mx.isp.example by pop.isp.example with LMTP id 1\n\
                    \tfor <box17@isp.example>; Sun, 22 Nov 2026 12:46:37 +0000\n\
                    Received: from a.example (a.example [192.0.2.1])\n\
                    \tby mx.isp.example with ESMTP id 2 for <bob@branch.example>;\n\
                    \tSun, 22 Nov 2026 12:46:37 +0000\n\
                    Received: by a.example for <eve@branch.example>; Sun, 22 Nov 2026 12:46:30 +0000\n\
                    To: anna@branch.example\n";
    check(received, source, &["bob@branch.example"]);
    let skip = |received_skipped| DomainRules {
        received_skipped,
        ..rules()
    };
    check_rules(skip(1), received, source, &["bob@branch.example"]);
    check_rules(skip(2), received, source, &["eve@branch.example"]);
    check_rules(
        skip(3),
        received,
        Some(Source::Header),
        &["anna@branch.example"],
    );
}

#[test]
fn then_the_fields_that_users_see() {
    let header = Some(Source::Header);
    check(
        "To: Anna <anna@branch.example>, \"Bob, the\" <bob@branch.example>,\n eve@other.example\n\
         Cc: friends: carl@branch.example, info@branch.example;\n",
        header,
        &[
            "anna@branch.example",
            "bob@branch.example",
            "carl@branch.example",
        ],
    );
    check(
        "To: eve@other.example\nResent-To: bob@branch.example\nTo: anna@branch.example\n",
        Some(Source::Resent),
        &["bob@branch.example"],
    );
    check("Bcc: bob@branch.example\n", header, &["bob@branch.example"]);
    // A prefix belongs to the envelope only.
    check(
        "To: branch-bob@branch.example\n",
        header,
        &["branch-bob@branch.example"],
    );
}

#[test]
fn nothing_is_thrown_away() {
    let nobody = &["postmaster@branch.example"];
    check("", None, nobody);
    check("Subject: hello\n", None, nobody);
    check("To: list@other.example\n", None, nobody);
    check("To: undisclosed-recipients:;\n", None, nobody);
    check("To: @branch.example\n", None, nobody);
    check("Delivered-To: \u{fffd}@@branch.example,,,<\n", None, nobody);
    check("no header at all\n", None, nobody);
    check(" folded: anna@branch.example\n", None, nobody);
}

#[test]
fn one_user() {
    let rules = Rules {
        mailbox: Mailbox::User("anna@branch.example".parse().expect("an address")),
        aliases: BTreeMap::new(),
    };
    let got = rules.addressing(b"To: bob@branch.example\r\n\r\n");
    assert_eq!(
        got.recipients,
        ["anna@branch.example".parse().expect("an address")]
    );
}

#[test]
fn reverse_path_and_message_id() {
    let check = |header: &str, path: &str, id: Option<&str>| {
        let rules = Rules {
            mailbox: Mailbox::Domain(Box::new(rules())),
            aliases: BTreeMap::new(),
        };
        let got = rules.addressing(header.replace('\n', "\r\n").as_bytes());
        assert_eq!(got.reverse_path.to_string(), path, "{header:?}");
        assert_eq!(
            got.message_id.as_deref(),
            id.map(str::as_bytes),
            "{header:?}"
        );
    };
    check(
        "Return-Path: <eve@other.example>\n\n",
        "<eve@other.example>",
        None,
    );
    check(
        "Return-Path: eve@other.example\n\n",
        "<eve@other.example>",
        None,
    );
    check("Return-Path: <>\nFrom: eve@other.example\n\n", "<>", None);
    check("From: eve@other.example\n\n", "<>", None);
    check("Return-Path: <not an address>\n\n", "<>", None);
    check(
        "Message-ID: <1@a>\nReturn-Path: <a@b.example>\nReturn-Path: <c@d.example>\n\n",
        "<a@b.example>",
        Some("1@a"),
    );
    check("Message-Id:\n <1@a> \n\n", "<>", Some("1@a"));
    check("Message-ID: odd\n\n", "<>", Some("odd"));
    check("Message-ID:\n\n", "<>", None);
}

/// Whatever the octets, there is a recipient, and no end of the work is missed.
#[test]
fn any_octets() {
    const WORDS: &[&[u8]] = &[
        b"To:",
        b"Delivered-To:",
        b"Received:",
        b"Return-Path:",
        b"Message-ID:",
        b"Resent-Cc:",
        b"for",
        b"<",
        b">",
        b"@",
        b"branch.example",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"(",
        b")",
        b"\"",
        b"\\",
        b",",
        b";",
        b":",
        b"=?utf-8?q?",
        b"?=",
        b"\0",
        b"\xff",
        b"\xc3\xbc",
        b"anna",
        b"..",
        b"[",
        b"]",
        b"by",
        b"from",
        b"with",
    ];
    let rules = Rules {
        mailbox: Mailbox::Domain(Box::new(rules())),
        aliases: BTreeMap::new(),
    };
    for seed in 0..20_000_u64 {
        // xorshift*, so that the seed is the case.
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut octets = Vec::new();
        for _ in 0..40 {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let index = (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize;
            octets.extend_from_slice(WORDS[index % WORDS.len()]);
        }
        let got = rules.addressing(&octets);
        assert!(!got.recipients.is_empty(), "seed {seed}");
        for recipient in &got.recipients {
            assert_eq!(recipient.domain_str(), "branch.example", "seed {seed}");
        }
    }
}

#[test]
fn a_header_section_is_whole_at_its_empty_line() {
    let octets = b"A: b\r\n c\r\n\r\nbody\r\n\r\n";
    for cut in 1..octets.len() {
        let mut buffer = HeaderBuffer::default();
        let first = buffer.push(&octets[..cut]);
        assert_eq!(first, cut >= 12, "{cut}");
        assert!(first || buffer.push(&octets[cut..]));
    }
    assert!(HeaderBuffer::default().push(b"\r\nbody"));
    let mut buffer = HeaderBuffer::default();
    let mut pushed = 0;
    while !buffer.push(&[b'x'; 1000]) {
        pushed += 1000;
        assert!(pushed < HEADER_BYTES_MAX);
    }
}
