//! A peer's text in a log line.

use std::fmt;

/// Longest text of a peer in one log line; the rest is cut. A reply line has 512
/// octets (RFC 5321 §4.5.3.1.5), so an honest one is never cut.
pub const ESCAPED_CHARS_MAX: usize = 600;

/// A text that may hold anything, written so that it cannot leave its line:
/// control characters, and those that change the direction of text, as `\u{..}`.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for (i, c) in self.0.chars().enumerate() {
            if i == ESCAPED_CHARS_MAX {
                return f.write_str("...");
            }
            let steers = matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            if c.is_control() || steers {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}
