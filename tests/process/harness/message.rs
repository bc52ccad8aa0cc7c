//! Message text: making it, and telling the trace header from the rest.

/// A header with this subject and a body, lines ended by CRLF.
pub(crate) fn message(subject: &str, body: &str) -> Vec<u8> {
    format!("From: <a@client.example>\r\nTo: <b@b.example>\r\nSubject: {subject}\r\n\r\n{body}\r\n")
        .into_bytes()
}

/// Divides a received message behind the `Received` field that the relay put on
/// top: (that field unfolded, all the rest untouched).
#[track_caller]
pub(crate) fn without_trace(octets: &[u8]) -> (String, &[u8]) {
    assert!(
        octets.starts_with(b"Received: "),
        "no trace header on top, but: {}",
        shown(octets)
    );
    let mut from = 0;
    loop {
        let end = octets[from..]
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .unwrap_or_else(|| panic!("the trace header has no end: {}", shown(octets)));
        from += end + 2;
        if !matches!(octets.get(from), Some(b' ' | b'\t')) {
            let field = String::from_utf8(octets[..from].to_vec()).expect("trace is UTF-8");
            let unfolded: Vec<&str> = field.split_whitespace().collect();
            return (unfolded.join(" "), &octets[from..]);
        }
    }
}

/// Asserts that the rest behind the trace header is `sent`, octet by octet, and
/// gives the trace header.
#[track_caller]
pub(crate) fn assert_identical(received: &[u8], sent: &[u8]) -> String {
    let (trace, rest) = without_trace(received);
    if rest != sent {
        let at = rest.iter().zip(sent).take_while(|(a, b)| a == b).count();
        panic!(
            "octets changed: {} received, {} sent, first difference at {at}:\n received {}\n sent     {}",
            rest.len(),
            sent.len(),
            shown(&rest[at.saturating_sub(20)..]),
            shown(&sent[at.saturating_sub(20)..]),
        );
    }
    trace
}

/// The beginning of some octets, for a person.
pub(crate) fn shown(octets: &[u8]) -> String {
    let beginning = &octets[..octets.len().min(200)];
    format!("\"{}\" ({} octets)", beginning.escape_ascii(), octets.len())
}

/// Whether the text stands anywhere in the octets.
pub(crate) fn contains(octets: &[u8], text: &str) -> bool {
    octets
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// DATA's way to write a message: dots at line starts doubled, CRLF added where
/// the last line has none, without the final dot (RFC 5321 §4.5.2).
pub(crate) fn stuffed(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 64 + 2);
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A sequence of numbers that looks random and is the same for the same seed
/// (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 ≤ result < `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
