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
        let (mut rest, mut left) = (self.0, ESCAPED_CHARS_MAX);
        loop {
            // Nearly always all of it, in one piece: this is done twice a message.
            let plain = rest.bytes().take(left);
            let plain = plain
                .take_while(|octet| matches!(octet, b' '..=b'~'))
                .count();
            let (written, other) = rest.split_at(plain);
            f.write_str(written)?;
            left -= plain;
            let mut chars = other.chars();
            let Some(c) = chars.next() else {
                return Ok(());
            };
            if left == 0 {
                return f.write_str("...");
            }
            let steers = matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            if c.is_control() || steers {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                f.write_char(c)?;
            }
            left -= 1;
            rest = chars.as_str();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines() {
        let check = |text: &str, expected: &str| assert_eq!(Escaped(text).to_string(), expected);
        check("", "");
        check("250 2.0.0 Ok: queued", "250 2.0.0 Ok: queued");
        check("a\r\nb\u{7f}", "a\\u{d}\\u{a}b\\u{7f}");
        check("m\u{fc}ller \u{202e}x", "m\u{fc}ller \\u{202e}x");
        let most = "x".repeat(ESCAPED_CHARS_MAX);
        check(&most, &most);
        check(&format!("{most}y"), &format!("{most}..."));
        check(
            &format!("\u{fc}{most}"),
            &format!("\u{fc}{}...", &most[1..]),
        );
        check(&format!("{most}\n"), &format!("{most}..."));
    }
}
