//! Quantities with their units, as they are written in the configuration.
//!
//! A number never stands alone where it has a unit: `"90s"`, `"64MiB"`,
//! `"22:00"`, `"mon-fri"`. Each parser explains a text that it does not take, with
//! the text that was probably meant.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bytes(pub u64);

impl Bytes {
    /// So many KiB.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// So many MiB.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// So many GiB.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// So many TiB.
    #[must_use]
    pub const fn tib(n: u64) -> Self {
        Self(n << 40)
    }
}

const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// In the largest unit that divides it.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in BYTE_UNITS {
            if self.0 != 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text)
            .ok_or_else(|| "write a whole number and a unit, such as \"64MiB\"".to_owned())?;
        let factor = BYTE_UNITS.iter().find(|(name, _)| *name == unit);
        let Some((_, factor)) = factor else {
            return Err(match unit.to_ascii_lowercase().as_str() {
                "" => format!("add the unit: \"{number}MiB\", \"{number}MB\" or \"{number}B\""),
                "k" | "kb" | "kib" => format!("write \"{number}KiB\" (1024) or \"{number}kB\""),
                "m" | "mb" | "mib" => format!("write \"{number}MiB\" (1024²) or \"{number}MB\""),
                "g" | "gb" | "gib" => format!("write \"{number}GiB\" (1024³) or \"{number}GB\""),
                "t" | "tb" | "tib" => format!("write \"{number}TiB\" (1024⁴) or \"{number}TB\""),
                _ => "the units are B, kB, MB, GB, TB, KiB, MiB, GiB and TiB".to_owned(),
            });
        };
        number
            .checked_mul(*factor)
            .map(Self)
            .ok_or_else(|| "write a size below 2⁶⁴ octets".to_owned())
    }
}

/// The number and the letters behind it. `None` without a number of at most 64
/// bits, or with a sign, a point or a blank.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number = number.parse().ok()?;
    unit.chars()
        .all(char::is_alphabetic)
        .then_some((number, unit))
}

const TIME_UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// Longest time: a thousand years would overflow calendars further on.
const TIME_SECONDS_MAX: u64 = 36_500 * 86_400;

/// A time such as `90s`, `10m`, `4h`, `20d`.
///
/// # Errors
/// What to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text)
        .ok_or_else(|| "write a whole number and a unit, such as \"90s\" or \"10m\"".to_owned())?;
    let factor = TIME_UNITS.iter().find(|(name, _)| *name == unit);
    let Some((_, factor)) = factor else {
        return Err(match unit.to_lowercase().as_str() {
            "" => format!(
                "add the unit: \"{number}s\", \"{number}m\", \"{number}h\" or \"{number}d\""
            ),
            "s" | "sec" | "secs" | "second" | "seconds" => format!("write \"{number}s\""),
            "m" | "min" | "mins" | "minute" | "minutes" => format!("write \"{number}m\""),
            "h" | "hr" | "hrs" | "hour" | "hours" => format!("write \"{number}h\""),
            "d" | "day" | "days" => format!("write \"{number}d\""),
            "w" | "week" | "weeks" => format!("write \"{}d\"", number.saturating_mul(7)),
            _ => "the units are s, m, h and d".to_owned(),
        });
    };
    match number.checked_mul(*factor) {
        Some(seconds) if seconds <= TIME_SECONDS_MAX => Ok(Duration::from_secs(seconds)),
        _ => Err("write a time of at most \"36500d\"".to_owned()),
    }
}

/// The text that [`parse_duration`] reads, in the largest unit that divides it.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    for (unit, factor) in TIME_UNITS {
        if seconds != 0 && seconds.is_multiple_of(factor) {
            return format!("{}{unit}", seconds / factor);
        }
    }
    format!("{seconds}s")
}

/// A time of day, `00:00` to `24:00`, in the local time zone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TimeOfDay {
    /// Minutes since midnight, at most 1440.
    minutes: u16,
}

impl TimeOfDay {
    /// The beginning of the day.
    pub const MIDNIGHT: Self = Self { minutes: 0 };
    /// The end of the day.
    pub const END: Self = Self { minutes: 24 * 60 };

    /// Minutes since midnight, at most 1440.
    #[must_use]
    pub const fn minutes(self) -> u16 {
        self.minutes
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minutes / 60, self.minutes % 60)
    }
}

impl FromStr for TimeOfDay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "write hours and minutes, \"00:00\" to \"24:00\"".to_owned();
        let (hours, minutes) = text.split_once(':').ok_or_else(wanted)?;
        let two_digits = |part: &str| -> Option<u16> {
            let good = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            good.then(|| part.parse().ok()).flatten()
        };
        let (hours, minutes) = two_digits(hours)
            .zip(two_digits(minutes))
            .ok_or_else(wanted)?;
        let all = hours * 60 + minutes;
        if minutes < 60 && all <= Self::END.minutes {
            Ok(Self { minutes: all })
        } else {
            Err(wanted())
        }
    }
}

/// A set of days of the week.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weekdays {
    /// Bit 0 is Monday.
    bits: u8,
}

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Weekdays {
    /// Monday to Sunday.
    pub const ALL: Self = Self { bits: 0x7f };

    /// Whether a day is in the set; 0 is Monday, 6 Sunday.
    #[must_use]
    pub const fn contains(self, day: u8) -> bool {
        day < 7 && self.bits >> day & 1 == 1
    }
}

/// `mon-sun`, `mon-fri` or a list; what [`FromStr`] reads.
impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut day = 0;
        let mut first = true;
        while day < 7 {
            if !self.contains(day) {
                day += 1;
                continue;
            }
            let mut last = day;
            while self.contains(last + 1) {
                last += 1;
            }
            if !first {
                f.write_str(",")?;
            }
            first = false;
            f.write_str(WEEKDAYS[usize::from(day)])?;
            if last > day {
                write!(f, "-{}", WEEKDAYS[usize::from(last)])?;
            }
            day = last + 1;
        }
        Ok(())
    }
}

impl FromStr for Weekdays {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let day = |name: &str| {
            WEEKDAYS
                .iter()
                .position(|day| *day == name.trim())
                .ok_or_else(|| {
                    "write days as \"mon-fri\" or \"sat,sun\" (mon tue wed thu fri sat sun)"
                        .to_owned()
                })
        };
        let mut bits = 0;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (mut at, last) = (day(first)?, day(last)?);
            // A range may run over the week's end: "fri-mon".
            loop {
                bits |= 1 << at;
                if at == last {
                    break;
                }
                at = (at + 1) % 7;
            }
        }
        Ok(Self { bits })
    }
}

/// An interval, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Every {
    /// Only when something else asks.
    Never,
    /// And also every so often.
    Interval(Duration),
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Interval(interval) => f.write_str(&duration_text(*interval)),
        }
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        match parse_duration(text) {
            Ok(Duration::ZERO) => Err("write \"never\" for no attempts of our own".to_owned()),
            Ok(interval) => Ok(Self::Interval(interval)),
            Err(instead) => Err(format!("{instead}, or \"never\"")),
        }
    }
}

/// An amount of money, in ten-thousandths of the unit of account.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Money(pub u64);

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:04}", self.0 / 10_000, self.0 % 10_000)
    }
}

impl FromStr for Money {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 4 || whole.len() > 12 {
            return Err("write an amount such as \"0.05\", with at most four decimals".to_owned());
        }
        let number = format!("{whole}{fraction:0<4}");
        // At most 16 digits, which fit into 64 bits.
        number
            .parse()
            .map(Self)
            .map_err(|_| "write a smaller amount".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Result<u64, &str>| {
            let got = text.parse::<Bytes>();
            match (&got, expected) {
                (Ok(bytes), Ok(expected)) => assert_eq!(bytes.0, expected, "{text}"),
                (Err(instead), Err(part)) => assert!(instead.contains(part), "{text}: {instead}"),
                _ => panic!("{text}: {got:?}"),
            }
        };
        check("64MiB", Ok(64 << 20));
        check("50MB", Ok(50_000_000));
        check("1kB", Ok(1000));
        check("0B", Ok(0));
        check("64", Err("\"64MiB\""));
        check("64M", Err("\"64MiB\" (1024²) or \"64MB\""));
        check("64mib", Err("\"64MiB\""));
        check("64 MiB", Err("a whole number and a unit"));
        check("-1MiB", Err("a whole number and a unit"));
        check("1.5GiB", Err("a whole number and a unit"));
        check("", Err("a whole number and a unit"));
        check("64XB", Err("the units are"));
        check("99999999TiB", Err("below 2⁶⁴"));
        check("99999999999999999999B", Err("a whole number and a unit"));
    }

    #[test]
    fn times() {
        let check = |text: &str, expected: Result<u64, &str>| {
            let got = parse_duration(text);
            match (&got, expected) {
                (Ok(time), Ok(expected)) => assert_eq!(time.as_secs(), expected, "{text}"),
                (Err(instead), Err(part)) => assert!(instead.contains(part), "{text}: {instead}"),
                _ => panic!("{text}: {got:?}"),
            }
        };
        check("90s", Ok(90));
        check("10m", Ok(600));
        check("4h", Ok(14_400));
        check("20d", Ok(1_728_000));
        check("0d", Ok(0));
        check("90", Err("\"90s\""));
        check("10min", Err("write \"10m\""));
        check("2weeks", Err("write \"14d\""));
        check("10M", Err("write \"10m\""));
        check("1h30m", Err("a whole number and a unit"));
        check("5y", Err("s, m, h and d"));
        check("99999999d", Err("at most"));
    }

    #[test]
    fn times_of_day_and_days() {
        let time = |text: &str| text.parse::<TimeOfDay>().ok().map(TimeOfDay::minutes);
        assert_eq!(time("00:00"), Some(0));
        assert_eq!(time("22:30"), Some(1350));
        assert_eq!(time("24:00"), Some(1440));
        for text in ["24:01", "7:00", "07:60", "0700", "+1:00", "99:99", ""] {
            assert_eq!(time(text), None, "{text}");
        }
        let days = |text: &str| text.parse::<Weekdays>().ok().map(|days| days.to_string());
        assert_eq!(days("mon-fri").as_deref(), Some("mon-fri"));
        assert_eq!(days("sun, sat").as_deref(), Some("sat-sun"));
        assert_eq!(days("fri-mon").as_deref(), Some("mon,fri-sun"));
        assert_eq!(days("mon-sun").as_deref(), Some("mon-sun"));
        assert_eq!(days("Monday"), None);
        assert_eq!(days(""), None);
    }

    #[test]
    fn quantities_read_as_they_are_written() {
        for n in [0, 1, 1000, 1024, 1 << 20, 50_000_000, 3 << 40, u64::MAX] {
            assert_eq!(Bytes(n).to_string().parse(), Ok(Bytes(n)));
        }
        for seconds in [0, 1, 59, 60, 3600, 5400, 86_400, TIME_SECONDS_MAX] {
            let time = Duration::from_secs(seconds);
            assert_eq!(parse_duration(&duration_text(time)), Ok(time));
        }
        for bits in 1..0x80 {
            let days = Weekdays { bits };
            assert_eq!(days.to_string().parse(), Ok(days));
        }
        for minutes in 0..=1440 {
            let time = TimeOfDay { minutes };
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        for n in [0, 5, 500, 10_000, 9_999_999_999_999_999] {
            assert_eq!(Money(n).to_string().parse(), Ok(Money(n)));
        }
        assert_eq!("0.05".parse(), Ok(Money(500)));
        assert_eq!("3".parse(), Ok(Money(30_000)));
        for text in ["", ".", "1,50", "-1", "0.00001", "1e3"] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
        for text in ["never", "30m"] {
            assert_eq!(
                text.parse::<Every>().map(|e| e.to_string()).as_deref(),
                Ok(text)
            );
        }
        assert!("0s".parse::<Every>().is_err());
    }
}
