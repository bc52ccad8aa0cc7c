//! Message text as it comes over the wire: where it ends and what is in it.
//!
//! One [`Scanner`] reads one message, by DATA (RFC 5321 §4.1.1.4) or by BDAT
//! (RFC 3030). It copies nothing: what is to be stored comes out as [`Piece`]s,
//! ranges of the octets that went in. The stored form is the wire form: lines
//! end in CRLF, and with DATA the dots at line starts are as the client sent them.
//!
//! Invariants:
//!
//! - The end of data is CRLF `.` CRLF and nothing else; the CRLF of the DATA
//!   command counts as the first, so an empty message ends. No other sequence of
//!   CR, LF, dots and NULs is an end, whatever the policy (SMTP smuggling).
//! - All pieces together are a prefix of the message; what is not yet decided
//!   (`.`, `.` CR or CR at the end of the input) is held and is a constant, so
//!   that it never has to be remembered as a range of an earlier input.
//! - The result does not depend on how the input was cut.
//! - Stored text holds no CR without LF and no LF without CR, and no line `.`
//!   that a next hop could take for the end, unless [`Scanner::fault`] says that
//!   the message is refused.
//!
//! NUL is an octet like any other: RFC 5321 §4.1.1.4 lets the text hold all 128
//! ASCII characters, and a relay does not change what it was given.
//!
//! Deliberately not here: decoding, header syntax, and any wish to repair a
//! message beyond the newlines of [`BareNewline::Normalise`].

use std::ops::Range;

use memchr::memchr2;

use crate::mail::BodyForm;

/// What is done with a CR without LF, or an LF without CR.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BareNewline {
    /// The message is refused (550 5.6.11).
    #[default]
    Refuse,
    /// Each is stored as CRLF. The end of data stays CRLF `.` CRLF: a line `.`
    /// beside a bare newline is stored as text.
    Normalise,
}

/// How the end of the message is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// By a line with a single dot (DATA).
    Dots,
    /// By the counts of BDAT; a dot means nothing.
    Chunks,
}

/// What a message may not exceed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Octets of the message, without the dots that DATA adds (RFC 1870 §3).
    pub message_bytes_max: u64,
    /// Octets of a line, without CRLF.
    pub line_bytes_max: u64,
    /// Received header fields.
    pub hops_max: u32,
}

/// Why a message is refused at its end. Where several apply, the first listed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// Over [`Limits::message_bytes_max`].
    TooBig,
    /// Over [`Limits::hops_max`]: it goes in circles (RFC 5321 §6.3).
    TooManyHops,
    /// Over [`Limits::line_bytes_max`].
    LineTooLong,
    /// A CR or LF alone, under [`BareNewline::Refuse`].
    BareNewline,
}

/// What is known of a message when its last octet has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageFacts {
    /// Octets handed out as pieces: the stored text, our trace line not counted.
    pub octets: u64,
    /// Stored octets up to and with the empty line that ends the header section;
    /// all of them where there is no such line.
    pub header_octets: u64,
    /// How it can be sent on.
    pub form: BodyForm,
    /// An octet above 127 is in it: the next hop must have 8BITMIME.
    pub eight_bit: bool,
    /// False only for a message by BDAT whose last line is not ended. DATA must
    /// add the CRLF. An empty message needs none.
    pub ends_with_crlf: bool,
    /// Received header fields that it came with.
    pub hops: u32,
}

/// A stretch of the text to be stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// These octets of the input of the running call.
    Octets(Range<usize>),
    /// Octets held from an earlier input, or put in place of a bare newline.
    Constant(&'static [u8]),
}

/// What a call to [`Scanner::scan`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scanned {
    /// This many octets were looked at. Fewer than given only when a call made
    /// [`PIECES_MAX`] pieces: go on with the rest.
    More(usize),
    /// The message ended; this many octets belong to it and to its end.
    End(usize),
}

/// Most pieces that one call makes. Only a text full of bare newlines under
/// [`BareNewline::Normalise`] gets there; the limit bounds the caller's queue.
pub const PIECES_MAX: usize = 64;

/// How the line before a line start was ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// By CRLF, on the wire.
    Crlf,
    /// By a bare newline, stored as CRLF. No end of data can begin here.
    Bare,
}

/// The automaton's states, each named by what led to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Nothing, or a line that was ended.
    LineStart(Ending),
    /// `.` at a line start; it is held.
    Dot(Ending),
    /// `.` CR at a line start; both are held.
    DotCr(Ending),
    /// Text in a line.
    Text,
    /// CR in a line, at the end of an input; it is held.
    Cr,
}

/// Where in the header section we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Header {
    /// This many octets of a line agree with `received:`.
    Name(u8),
    /// In a line that is none, or was counted.
    Line,
    /// Past the empty line.
    Over,
}

/// Reads one message. See the module's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scanner {
    framing: Framing,
    bare_newline: BareNewline,
    limits: Limits,
    place: Place,
    header: Header,
    /// Octets of the current line that were looked at, a doubling dot not counted.
    line_octets: u64,
    line_octets_longest: u64,
    octets: u64,
    header_octets: u64,
    /// Lines that begin with a dot.
    dot_lines: u64,
    hops: u32,
    eight_bit: bool,
    bare_newline_seen: bool,
}

/// Compared without regard to case.
const RECEIVED: &[u8] = b"received:";

impl Scanner {
    /// Before the first octet of a message.
    #[must_use]
    pub const fn new(framing: Framing, bare_newline: BareNewline, limits: Limits) -> Self {
        Self {
            framing,
            bare_newline,
            limits,
            place: Place::LineStart(Ending::Crlf),
            header: Header::Name(0),
            line_octets: 0,
            line_octets_longest: 0,
            octets: 0,
            header_octets: 0,
            dot_lines: 0,
            hops: 0,
            eight_bit: false,
            bare_newline_seen: false,
        }
    }

    /// Reads on. Pieces come in order; a caller that has dropped the message
    /// ignores them.
    pub fn scan(&mut self, octets: &[u8], keep: impl FnMut(Piece)) -> Scanned {
        let mut pass = Pass {
            octets,
            from: 0,
            pieces: 0,
            keep,
        };
        if self.place == Place::Text {
            self.match_received(octets);
        }
        let mut at = 0;
        while let Some(&octet) = octets.get(at) {
            at = match self.place {
                Place::LineStart(ending) => {
                    if octet == b'.' {
                        match self.dot(octets, at, ending) {
                            AfterDot::Text => at + 1,
                            AfterDot::Undecided => {
                                pass.keep_to(self, at);
                                pass.from = at + 1;
                                self.place = Place::Dot(ending);
                                at + 1
                            }
                            AfterDot::End => {
                                pass.keep_to(self, at);
                                return Scanned::End(at + 3);
                            }
                        }
                    } else {
                        self.place = Place::Text;
                        self.match_received(&octets[at..]);
                        at
                    }
                }
                Place::Text => self.text(&mut pass, at),
                Place::Cr => match (octet, self.bare_newline) {
                    (b'\n', _) => {
                        pass.keep_constant(self, b"\r\n");
                        pass.from = at + 1;
                        self.line_ended(Ending::Crlf, self.octets);
                        at + 1
                    }
                    (_, BareNewline::Normalise) => {
                        pass.keep_constant(self, b"\r\n");
                        self.line_ended(Ending::Bare, self.octets);
                        at
                    }
                    (_, BareNewline::Refuse) => {
                        pass.keep_constant(self, b"\r");
                        self.bare_newline_in_text();
                        at
                    }
                },
                Place::Dot(ending) => match (octet, self.bare_newline) {
                    (b'\r', _) => {
                        pass.from = at + 1;
                        self.place = Place::DotCr(ending);
                        at + 1
                    }
                    (b'\n', BareNewline::Normalise) => {
                        pass.from = at + 1;
                        self.lone_dot(&mut pass, Ending::Bare);
                        at + 1
                    }
                    _ => {
                        pass.keep_constant(self, b".");
                        self.dot_line();
                        at
                    }
                },
                Place::DotCr(ending) => match (octet, ending, self.bare_newline) {
                    (b'\n', Ending::Crlf, _) => {
                        self.place = Place::LineStart(Ending::Crlf);
                        return Scanned::End(at + 1);
                    }
                    (b'\n', Ending::Bare, _) => {
                        pass.from = at + 1;
                        self.lone_dot(&mut pass, Ending::Crlf);
                        at + 1
                    }
                    (_, _, BareNewline::Normalise) => {
                        self.lone_dot(&mut pass, Ending::Bare);
                        at
                    }
                    (_, _, BareNewline::Refuse) => {
                        pass.keep_constant(self, b".\r");
                        self.dot_line();
                        self.bare_newline_in_text();
                        at
                    }
                },
            };
            if pass.pieces >= PIECES_MAX {
                break;
            }
        }
        pass.keep_to(self, at);
        Scanned::More(at)
    }

    /// The last chunk was read: decides about what is still held.
    pub fn finish(&mut self, keep: impl FnMut(Piece)) {
        assert_eq!(
            self.framing,
            Framing::Chunks,
            "a message by DATA ends by its dot"
        );
        if self.place == Place::Cr {
            let mut pass = Pass {
                octets: &[],
                from: 0,
                pieces: 0,
                keep,
            };
            match self.bare_newline {
                BareNewline::Normalise => {
                    pass.keep_constant(self, b"\r\n");
                    self.line_ended(Ending::Bare, self.octets);
                }
                BareNewline::Refuse => {
                    pass.keep_constant(self, b"\r");
                    self.bare_newline_in_text();
                }
            }
        }
    }

    /// Why the message cannot be taken, as far as it was read. Once there is a
    /// fault there always is one, though a graver one may take its place.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        let longest = self.line_octets_longest.max(self.line_octets);
        if self.message_octets() > self.limits.message_bytes_max {
            Some(Fault::TooBig)
        } else if self.hops > self.limits.hops_max {
            Some(Fault::TooManyHops)
        } else if longest > self.limits.line_bytes_max {
            Some(Fault::LineTooLong)
        } else if self.bare_newline_seen {
            Some(Fault::BareNewline)
        } else {
            None
        }
    }

    /// Octets of the message so far, without the dots that DATA adds.
    #[must_use]
    pub const fn message_octets(&self) -> u64 {
        match self.framing {
            Framing::Dots => self.octets - self.dot_lines,
            Framing::Chunks => self.octets,
        }
    }

    /// What is known now. Final after [`Scanned::End`] or [`Scanner::finish`].
    #[must_use]
    pub fn facts(&self) -> MessageFacts {
        MessageFacts {
            octets: self.octets,
            header_octets: match self.header {
                Header::Over => self.header_octets,
                Header::Name(_) | Header::Line => self.octets,
            },
            form: match (self.dot_lines, self.framing) {
                (0, _) => BodyForm::Plain,
                (_, Framing::Dots) => BodyForm::Stuffed,
                (_, Framing::Chunks) => BodyForm::Raw,
            },
            eight_bit: self.eight_bit,
            ends_with_crlf: match self.place {
                Place::LineStart(_) => true,
                Place::Dot(_) | Place::DotCr(_) | Place::Text | Place::Cr => false,
            },
            hops: self.hops,
        }
    }

    /// In a line, at `at`: to its end or to the end of the input. Where the next
    /// octet to look at is.
    fn text<K: FnMut(Piece)>(&mut self, pass: &mut Pass<'_, K>, at: usize) -> usize {
        let octets = pass.octets;
        let Some(length) = memchr2(b'\r', b'\n', &octets[at..]) else {
            self.line_octets += (octets.len() - at) as u64;
            return octets.len();
        };
        self.line_octets += length as u64;
        let newline = at + length;
        let is_crlf = match (octets[newline], octets.get(newline + 1)) {
            (b'\r', Some(b'\n')) => true,
            (b'\r', None) => {
                pass.keep_to(self, newline);
                pass.from = newline + 1;
                self.place = Place::Cr;
                return newline + 1;
            }
            _ => false,
        };
        match (is_crlf, self.bare_newline) {
            (true, _) => {
                let stored = self.octets + (newline + 2 - pass.from) as u64;
                self.line_ended(Ending::Crlf, stored);
                newline + 2
            }
            (false, BareNewline::Normalise) => {
                pass.keep_to(self, newline);
                pass.keep_constant(self, b"\r\n");
                pass.from = newline + 1;
                self.line_ended(Ending::Bare, self.octets);
                newline + 1
            }
            (false, BareNewline::Refuse) => {
                self.bare_newline_in_text();
                newline + 1
            }
        }
    }

    /// A dot at a line start, with a look at what follows if it is there: so the
    /// common case of a doubled dot does not cut a piece in two.
    fn dot(&mut self, octets: &[u8], at: usize, ending: Ending) -> AfterDot {
        if self.framing == Framing::Chunks {
            self.dot_line();
            self.line_octets = 1;
            return AfterDot::Text;
        }
        match (octets.get(at + 1), octets.get(at + 2)) {
            (Some(b'\r'), Some(b'\n')) if ending == Ending::Crlf => AfterDot::End,
            (Some(b'\r' | b'\n') | None, _) => AfterDot::Undecided,
            (Some(_), _) => {
                self.dot_line();
                AfterDot::Text
            }
        }
    }

    /// We are in a line that begins with a dot, behind the dot.
    fn dot_line(&mut self) {
        self.dot_lines += 1;
        self.place = Place::Text;
        self.line_octets = 0;
        if let Header::Name(_) = self.header {
            self.header = Header::Line;
        }
    }

    /// A line `.` that is not the end, since a bare newline stands beside it.
    fn lone_dot<K: FnMut(Piece)>(&mut self, pass: &mut Pass<'_, K>, ending: Ending) {
        pass.keep_constant(self, b"..\r\n");
        self.dot_line();
        self.line_octets = 1;
        self.line_ended(ending, self.octets);
    }

    /// A CR or LF alone that is left where it is, since the message is refused.
    fn bare_newline_in_text(&mut self) {
        self.bare_newline_seen = true;
        self.line_octets += 1;
        self.place = Place::Text;
        if let Header::Name(_) = self.header {
            self.header = Header::Line;
        }
    }

    /// `stored`: octets of the stored text with this line.
    fn line_ended(&mut self, ending: Ending, stored: u64) {
        if self.header != Header::Over {
            if self.line_octets == 0 {
                self.header = Header::Over;
                self.header_octets = stored;
            } else {
                self.header = Header::Name(0);
            }
        }
        self.line_octets_longest = self.line_octets_longest.max(self.line_octets);
        self.line_octets = 0;
        self.place = Place::LineStart(ending);
    }

    /// Compares the beginning of a line, or what comes behind an earlier cut of
    /// it, with the name of the field that counts hops.
    fn match_received(&mut self, line: &[u8]) {
        let Header::Name(matched) = self.header else {
            return;
        };
        let wanted = &RECEIVED[usize::from(matched)..];
        let length = wanted.len().min(line.len());
        self.header = if !wanted[..length].eq_ignore_ascii_case(&line[..length]) {
            Header::Line
        } else if length == wanted.len() {
            self.hops = self.hops.saturating_add(1);
            Header::Line
        } else {
            Header::Name(matched + u8::try_from(length).expect("not longer than a field name"))
        };
    }
}

/// What a look behind a dot at a line start came to.
enum AfterDot {
    /// Text; the dot was counted.
    Text,
    /// The end of data.
    End,
    /// The input is too short to know, or a bare newline may follow.
    Undecided,
}

/// One call of [`Scanner::scan`].
struct Pass<'a, K> {
    octets: &'a [u8],
    /// The first octet that was neither handed on nor is held.
    from: usize,
    pieces: usize,
    keep: K,
}

impl<K: FnMut(Piece)> Pass<'_, K> {
    /// Hands on what lies before `to`.
    fn keep_to(&mut self, scanner: &mut Scanner, to: usize) {
        if self.from < to {
            let range = self.from..to;
            self.from = to;
            self.pieces += 1;
            scanner.octets += range.len() as u64;
            scanner.eight_bit = scanner.eight_bit || !self.octets[range.clone()].is_ascii();
            (self.keep)(Piece::Octets(range));
        }
    }

    fn keep_constant(&mut self, scanner: &mut Scanner, octets: &'static [u8]) {
        self.pieces += 1;
        scanner.octets += octets.len() as u64;
        (self.keep)(Piece::Constant(octets));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LIMITS: Limits = Limits {
        message_bytes_max: u64::MAX,
        line_bytes_max: u64::MAX,
        hops_max: u32::MAX,
    };

    /// What a scan of a wire text came to.
    #[derive(Clone, PartialEq, Eq, Debug)]
    struct Outcome {
        /// All pieces put together.
        stored: Vec<u8>,
        /// Octets up to and with the end, if there is one.
        end: Option<usize>,
        fault: Option<Fault>,
        facts: MessageFacts,
    }

    /// A scanner that has read some of a wire text.
    #[derive(Clone, PartialEq, Eq, Debug)]
    struct Reading {
        scanner: Scanner,
        /// All pieces put together.
        stored: Vec<u8>,
        /// Octets that were read.
        taken: usize,
        ended: bool,
    }

    impl Reading {
        fn new(scanner: Scanner) -> Self {
            Self {
                scanner,
                stored: Vec::new(),
                taken: 0,
                ended: false,
            }
        }

        /// Reads what is new in `wire`, as one input.
        fn read(&mut self, wire: &[u8]) {
            while self.taken < wire.len() && !self.ended {
                let input = &wire[self.taken..];
                let stored = &mut self.stored;
                let scanned = self.scanner.scan(input, |piece| match piece {
                    Piece::Octets(range) => stored.extend_from_slice(&input[range]),
                    Piece::Constant(octets) => stored.extend_from_slice(octets),
                });
                let (Scanned::More(taken) | Scanned::End(taken)) = scanned;
                assert!(taken > 0, "no progress");
                self.taken += taken;
                self.ended = matches!(scanned, Scanned::End(_));
            }
        }

        fn outcome(&self) -> Outcome {
            let Self {
                mut scanner,
                mut stored,
                taken,
                ended,
            } = self.clone();
            if scanner.framing == Framing::Chunks {
                scanner.finish(|piece| match piece {
                    Piece::Octets(_) => panic!("there is no input"),
                    Piece::Constant(octets) => stored.extend_from_slice(octets),
                });
            }
            Outcome {
                stored,
                end: ended.then_some(taken),
                fault: scanner.fault(),
                facts: scanner.facts(),
            }
        }
    }

    /// The end of data as RFC 5321 §4.1.1.4 says it, with the octets before it.
    fn find_end(wire: &[u8]) -> Option<(&[u8], usize)> {
        if wire.starts_with(b".\r\n") {
            return Some((b"", 3));
        }
        let at = (0..wire.len()).find(|&at| wire[at..].starts_with(b"\r\n.\r\n"))?;
        Some((&wire[..at + 2], at + 5))
    }

    fn has_bare_newline(text: &[u8]) -> bool {
        (0..text.len()).any(|i| match text[i] {
            b'\r' => text.get(i + 1) != Some(&b'\n'),
            b'\n' => i == 0 || text[i - 1] != b'\r',
            _ => false,
        })
    }

    /// Text with every newline, of whatever kind, as CRLF; and where lines `.`
    /// stand beside a bare newline, a second dot.
    fn normalised(text: &[u8], framing: Framing) -> Vec<u8> {
        let mut lines = Vec::new();
        let mut line = Vec::new();
        let mut i = 0;
        while i < text.len() {
            let width = match &text[i..] {
                [b'\r', b'\n', ..] => 2,
                [b'\r' | b'\n', ..] => 1,
                _ => 0,
            };
            if width == 0 {
                line.push(text[i]);
                i += 1;
            } else {
                if line == b"." && framing == Framing::Dots {
                    line.push(b'.');
                }
                line.extend_from_slice(b"\r\n");
                lines.append(&mut line);
                i += width;
            }
        }
        lines.append(&mut line);
        lines
    }

    fn dot_lines(text: &[u8]) -> usize {
        (0..text.len())
            .filter(|&i| text[i] == b'.' && (i == 0 || text[..i].ends_with(b"\r\n")))
            .count()
    }

    fn header_octets(text: &[u8]) -> usize {
        if text.starts_with(b"\r\n") {
            return 2;
        }
        let at = text.windows(4).position(|four| four == b"\r\n\r\n");
        at.map_or(text.len(), |at| at + 4)
    }

    /// What the scanner must come to. `None`: no end, so nothing is decided.
    fn expected(wire: &[u8], framing: Framing, policy: BareNewline) -> Option<Outcome> {
        let (text, end) = match framing {
            Framing::Dots => find_end(wire).map(|(text, end)| (text, Some(end)))?,
            Framing::Chunks => (wire, None),
        };
        let stored = match policy {
            BareNewline::Normalise => normalised(text, framing),
            BareNewline::Refuse => text.to_vec(),
        };
        let refused = policy == BareNewline::Refuse && has_bare_newline(text);
        let facts = MessageFacts {
            octets: stored.len() as u64,
            header_octets: header_octets(&stored) as u64,
            form: match (dot_lines(&stored), framing) {
                (0, _) => BodyForm::Plain,
                (_, Framing::Dots) => BodyForm::Stuffed,
                (_, Framing::Chunks) => BodyForm::Raw,
            },
            eight_bit: !stored.is_ascii(),
            ends_with_crlf: stored.is_empty() || stored.ends_with(b"\r\n"),
            hops: 0,
        };
        Some(Outcome {
            stored,
            end,
            fault: refused.then_some(Fault::BareNewline),
            facts,
        })
    }

    fn check(wire: &[u8], framing: Framing, policy: BareNewline, reading: &Reading) {
        let shown = || format!("{} {framing:?} {policy:?}", wire.escape_ascii());
        let got = reading.outcome();
        let Some(expected) = expected(wire, framing, policy) else {
            assert_eq!(got.end, None, "{}", shown());
            // Whatever comes next, what was stored is a beginning of it.
            let whole = match policy {
                BareNewline::Normalise => normalised(wire, framing),
                BareNewline::Refuse => wire.to_vec(),
            };
            assert!(
                whole.starts_with(&got.stored) && got.stored.len() + 2 >= wire.len(),
                "{}: stored {}",
                shown(),
                got.stored.escape_ascii()
            );
            return;
        };
        assert_eq!(got, expected, "{}", shown());
        if framing == Framing::Dots && got.fault.is_none() {
            // No next hop may find an end, by the letter or by a lenient reading,
            // before ours.
            let mut sent = b"\r\n".to_vec();
            sent.extend_from_slice(&got.stored);
            for ending in [b"\n.\n".as_slice(), b"\r.\r", b"\n.\r\n", b"\r\n.\n"] {
                assert!(memchr::memmem::find(&sent, ending).is_none(), "{}", shown());
            }
        }
    }

    const CASES: [(Framing, BareNewline); 4] = [
        (Framing::Dots, BareNewline::Refuse),
        (Framing::Dots, BareNewline::Normalise),
        (Framing::Chunks, BareNewline::Refuse),
        (Framing::Chunks, BareNewline::Normalise),
    ];
    const ALPHABET: &[u8; 4] = b"\r\n.a";

    /// Appends each letter in turn, and so on. `readings[p]` has read the first `p`
    /// octets of `wire`. That all of them come to the same with one more octet is,
    /// by induction, the same for all ways to cut the text.
    fn grow(
        wire: &mut Vec<u8>,
        readings: &mut Vec<Reading>,
        framing: Framing,
        policy: BareNewline,
        length_max: usize,
    ) {
        for &letter in ALPHABET {
            wire.push(letter);
            let mut last = readings.last().expect("one has read nothing").clone();
            last.read(wire);
            for earlier in readings.iter() {
                let mut reading = earlier.clone();
                reading.read(wire);
                assert_eq!(
                    reading,
                    last,
                    "{} {framing:?} {policy:?}",
                    wire.escape_ascii()
                );
            }
            check(wire, framing, policy, &last);
            if wire.len() < length_max && !last.ended {
                readings.push(last);
                grow(wire, readings, framing, policy, length_max);
                readings.pop();
            }
            wire.pop();
        }
    }

    /// All texts over CR, LF, dot and a letter, in all cuts, against the reference.
    #[test]
    fn end_of_data_exhaustively() {
        for (framing, policy) in CASES {
            let start = Reading::new(Scanner::new(framing, policy, NO_LIMITS));
            check(b"", framing, policy, &start);
            grow(&mut Vec::new(), &mut vec![start], framing, policy, 8);
        }
    }

    /// All texts of eight octets with an end of data behind: longer ones, all of
    /// which end.
    #[test]
    fn ended_texts_exhaustively() {
        for number in 0..4_u32.pow(8) {
            let mut wire: Vec<u8> = (0..8)
                .map(|i| ALPHABET[(number >> (2 * i) & 3) as usize])
                .collect();
            wire.extend_from_slice(b"\r\n.\r\nQUIT");
            for policy in [BareNewline::Refuse, BareNewline::Normalise] {
                let scanner = Scanner::new(Framing::Dots, policy, NO_LIMITS);
                let mut reading = Reading::new(scanner);
                reading.read(&wire);
                check(&wire, Framing::Dots, policy, &reading);
            }
        }
    }

    /// What the survey finds in a message, cut at every octet and between.
    fn check_survey(
        wire: &[u8],
        framing: Framing,
        limits: Limits,
        expected: (Option<Fault>, u64, u32, bool),
    ) {
        for step in 1..=wire.len() {
            let mut reading = Reading::new(Scanner::new(framing, BareNewline::Refuse, limits));
            for end in (step..wire.len()).step_by(step).chain([wire.len()]) {
                reading.read(&wire[..end]);
            }
            let Outcome {
                facts, fault, end, ..
            } = reading.outcome();
            assert!(end.is_some() || framing == Framing::Chunks);
            let got = (fault, facts.header_octets, facts.hops, facts.eight_bit);
            assert_eq!(got, expected, "{} by {step}", wire.escape_ascii());
        }
    }

    #[test]
    fn survey() {
        let check = |wire: &[u8], limits, expected| {
            check_survey(wire, Framing::Chunks, limits, expected);
            let mut by_data = wire.to_vec();
            by_data.extend_from_slice(b".\r\n");
            check_survey(&by_data, Framing::Dots, limits, expected);
        };
        let wire =
            b"Received: a\r\n b\r\nreceived:c\r\nReceivedX: d\r\nRECEIVE: e\r\n\r\nReceived: f\r\n";
        let header = (wire.len() - b"Received: f\r\n".len()) as u64;
        check(wire, NO_LIMITS, (None, header, 2, false));
        check(b"a: \xff\r\n", NO_LIMITS, (None, 6, 0, true));
        check(b"a: b\0\r\n", NO_LIMITS, (None, 7, 0, false));
        check(b"\r\nReceived: a\r\n", NO_LIMITS, (None, 2, 0, false));
        let one_hop = Limits {
            hops_max: 1,
            ..NO_LIMITS
        };
        check(wire, one_hop, (Some(Fault::TooManyHops), header, 2, false));
        let short = Limits {
            line_bytes_max: 3,
            ..NO_LIMITS
        };
        check(b"abc\r\nabc\r\n", short, (None, 10, 0, false));
        check(
            b"abc\r\nabcd\r\n",
            short,
            (Some(Fault::LineTooLong), 11, 0, false),
        );
        let small = |message_bytes_max| Limits {
            message_bytes_max,
            ..NO_LIMITS
        };
        check(b"abc\r\n", small(5), (None, 5, 0, false));
        check(b"abc\r\n", small(4), (Some(Fault::TooBig), 5, 0, false));
        // The graver fault wins, wherever it stands.
        check(
            b"a\nb\r\nc\r\n",
            small(8),
            (Some(Fault::BareNewline), 8, 0, false),
        );
        check(
            b"a\nb\r\nc\r\n",
            small(7),
            (Some(Fault::TooBig), 8, 0, false),
        );
        // The dots that DATA adds do not count, neither to the size nor to a line.
        let both = Limits {
            line_bytes_max: 4,
            ..small(6)
        };
        check_survey(b"..abc\r\n.\r\n", Framing::Dots, both, (None, 7, 0, false));
        check_survey(
            b"..abc\r\n",
            Framing::Chunks,
            both,
            (Some(Fault::TooBig), 7, 0, false),
        );
    }

    /// A text of bare newlines makes many pieces; no call makes more than it may.
    #[test]
    fn pieces_are_bounded() {
        let wire = b"\n".repeat(1000);
        let mut scanner = Scanner::new(Framing::Dots, BareNewline::Normalise, NO_LIMITS);
        let mut from = 0;
        while from < wire.len() {
            let mut pieces = 0;
            let Scanned::More(taken) = scanner.scan(&wire[from..], |_| pieces += 1) else {
                panic!("there is no end");
            };
            assert!(taken > 0 && pieces <= PIECES_MAX + 2, "{pieces} pieces");
            from += taken;
        }
        assert_eq!(scanner.facts().octets, 2000);
    }
}
