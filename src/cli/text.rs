//! Facts as text for people: tables of 80 columns, sizes, ages.
//!
//! What comes from a peer (addresses, replies) never reaches a terminal as it is:
//! control characters are escaped.

use std::time::Duration;

use crate::time::WallTime;

/// Without control characters.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Marks that turn the direction of text can make an address look like
        // another one.
        let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Escaped, and cut to so many characters with `…` at the end.
pub(super) fn fitted(text: &str, columns: usize) -> String {
    let text = escaped(text);
    if text.chars().count() <= columns {
        return text;
    }
    let mut cut: String = text.chars().take(columns.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A size in at most five characters: `999B`, `4.0K`, `50M`, `1.2G`.
pub(super) fn size(octets: u64) -> String {
    if octets < 1000 {
        return format!("{octets}B");
    }
    let mut value = octets as f64;
    let mut unit = ' ';
    for next in ['K', 'M', 'G', 'T', 'P'] {
        if value < 999.5 && unit != ' ' {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 9.95 {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

/// A time in at most four characters: `59s`, `12m`, `23h`, `400d`.
pub(super) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6000 => format!("{}m", seconds / 60),
        6000..360_000 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Now, for ages. The clock of this command, not of the server: on one machine
/// they are the same.
pub(super) fn now() -> WallTime {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let millis = since.map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(0));
    WallTime::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |octets: u64, expected: &str| assert_eq!(size(octets), expected);
        check(0, "0B");
        check(999, "999B");
        check(1000, "1.0K");
        check(4096, "4.0K");
        check(1_023_999, "1.0M");
        check(50 << 20, "50M");
        check(1_288_490_189, "1.2G");
        check(u64::MAX, "16384P");
        for shift in 0..60 {
            for octets in [1_u64 << shift, (1 << shift) - 1, 3 << shift] {
                assert!(size(octets).len() <= 5, "{octets}: {}", size(octets));
            }
        }
    }

    #[test]
    fn ages() {
        let check = |seconds: u64, expected: &str| {
            assert_eq!(age(Duration::from_secs(seconds)), expected);
        };
        check(0, "0s");
        check(99, "99s");
        check(100, "1m");
        check(5999, "99m");
        check(6000, "1h");
        check(359_999, "99h");
        check(360_000, "4d");
        check(86_400 * 400, "400d");
    }

    #[test]
    fn a_peers_text_cannot_command_a_terminal() {
        assert_eq!(escaped("a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\r\\n");
        assert_eq!(escaped("moc\u{202e}.example"), "moc\\u{202e}.example");
        assert_eq!(escaped("björn@b.example"), "björn@b.example");
        assert_eq!(fitted("abcdef", 6), "abcdef");
        assert_eq!(fitted("abcdefg", 6), "abcde…");
        assert_eq!(fitted("\r\r\r\r", 6), "\\r\\r\\…");
    }
}
