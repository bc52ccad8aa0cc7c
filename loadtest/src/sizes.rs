//! Sizes of messages: one, or a distribution.

use std::fmt;
use std::str::FromStr;

/// Sizes that one range is divided into. More would only cost memory: each is a
/// template of its own.
const STEPS_OF_A_RANGE: u32 = 16;
/// The largest message: what a session may have to hold in memory.
const BYTES_MAX: u64 = 256 << 20;

/// A distribution of message sizes, `4096`, `4k`, `4k:70,64k:25,1m:5` (weights)
/// or `1k-64k` (spread evenly over the orders of magnitude).
#[derive(Clone, PartialEq, Debug)]
pub struct Sizes {
    text: String,
    parts: Vec<Part>,
}

/// One size and how often it comes.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Part {
    bytes: usize,
    weight: f64,
}

impl Sizes {
    /// The sizes that occur.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().map(|part| part.bytes)
    }

    /// Which of [`Self::bytes`] a number drawn from all 64-bit numbers means.
    pub(crate) fn choose(&self, drawn: u64) -> usize {
        if self.parts.len() == 1 {
            return 0;
        }
        let total: f64 = self.parts.iter().map(|part| part.weight).sum();
        let mut left = (drawn >> 11) as f64 / (1_u64 << 53) as f64 * total;
        for (index, part) in self.parts.iter().enumerate() {
            left -= part.weight;
            if left < 0.0 {
                return index;
            }
        }
        self.parts.len() - 1
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for part in text.split(',') {
            let (size, weight) = part.split_once(':').unwrap_or((part, "1"));
            let weight: f64 = weight
                .parse()
                .map_err(|_| format!("{weight:?} is no weight"))?;
            if !(weight > 0.0 && weight.is_finite()) {
                return Err(format!("the weight {weight} is not above 0"));
            }
            match size.split_once('-') {
                None => parts.push(Part {
                    bytes: message_bytes(size)?,
                    weight,
                }),
                Some((from, to)) => {
                    let (from, to) = (message_bytes(from)? as f64, message_bytes(to)? as f64);
                    if from >= to {
                        return Err(format!("the range {size} is empty"));
                    }
                    let steps = f64::from(STEPS_OF_A_RANGE - 1);
                    parts.extend((0..STEPS_OF_A_RANGE).map(|step| Part {
                        bytes: (from * (to / from).powf(f64::from(step) / steps)).round() as usize,
                        weight: weight / f64::from(STEPS_OF_A_RANGE),
                    }));
                }
            }
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }
}

/// Octets with an optional unit: `4096`, `4k`, `1m`, `2g`, powers of 1,024.
///
/// # Errors
/// A sentence for the operator.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        unit => return Err(format!("{unit:?} is no unit; k, m and g are")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is no number of octets"))?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text} is too large"))
}

/// A duration with its unit: `250us`, `10ms`, `1.5s`, `2m`, `1h`; no unit: seconds.
///
/// # Errors
/// A sentence for the operator.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("{unit:?} is no unit; us, ms, s, m and h are")),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is no duration"))?;
    std::time::Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

fn message_bytes(text: &str) -> Result<usize, String> {
    let bytes = parse_bytes(text)?;
    if bytes == 0 || bytes > BYTES_MAX {
        return Err(format!(
            "a message of {bytes} octets; 1 to {BYTES_MAX} are possible"
        ));
    }
    Ok(bytes as usize)
}

/// Numbers that look random, from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Evenly from 0 up to but without `bound`, as far as it matters.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Evenly from 0 up to but without 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sizes_as_written() {
        let check = |text: &str, expected: Result<Vec<usize>, ()>| {
            let sizes = text
                .parse::<Sizes>()
                .map(|sizes| sizes.bytes().collect::<Vec<_>>());
            assert_eq!(sizes.map_err(|_| ()), expected, "{text}");
        };
        check("4096", Ok(vec![4096]));
        check("4k:70,1M:5", Ok(vec![4096, 1 << 20]));
        for wrong in ["", "x", "0", "4k:0", "4k:-1", "9k-1k", "1g", "4q", "-1"] {
            check(wrong, Err(()));
        }
        let range: Vec<_> = "1k-64k".parse::<Sizes>().unwrap().bytes().collect();
        assert_eq!((range[0], range[15], range.len()), (1024, 65536, 16));
    }

    #[test]
    fn weights_are_kept() {
        let sizes: Sizes = "1k:3,2k:1".parse().unwrap();
        let mut draws = Draws::new(1);
        let mut counts = [0_u32; 2];
        for _ in 0..10_000 {
            counts[sizes.choose(draws.next())] += 1;
        }
        assert!((7_300..7_700).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn durations_as_written() {
        let check = |text: &str, expected: Option<Duration>| {
            assert_eq!(parse_duration(text).ok(), expected, "{text}");
        };
        check("250us", Some(Duration::from_micros(250)));
        check("1.5s", Some(Duration::from_millis(1500)));
        check("2m", Some(Duration::from_secs(120)));
        check("3", Some(Duration::from_secs(3)));
        check("-3", None);
        check("3d", None);
    }
}
