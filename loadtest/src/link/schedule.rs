//! When a link is up, and when and how a connection over it is cut.

use std::str::FromStr;
use std::time::Duration;

use crate::sizes::{parse_bytes, parse_duration};

/// Periods since the start in which the link is up, perhaps repeated.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Windows {
    /// In order, without overlap. None: always up.
    up: Vec<Window>,
    cycle: Option<Duration>,
}

/// From and to, since the start (of a cycle).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    from: Duration,
    to: Duration,
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text
            .split_once('-')
            .ok_or_else(|| format!("{text:?} is no window; 10s-30s is"))?;
        let (from, to) = (parse_duration(from)?, parse_duration(to)?);
        if from >= to {
            return Err(format!("the window {text} is empty"));
        }
        Ok(Self { from, to })
    }
}

impl Windows {
    /// # Errors
    /// A sentence for the operator where windows overlap or exceed the cycle.
    pub(crate) fn new(mut up: Vec<Window>, cycle: Option<Duration>) -> Result<Self, String> {
        up.sort_by_key(|window| window.from);
        if up.windows(2).any(|pair| pair[0].to > pair[1].from) {
            return Err("windows overlap".to_owned());
        }
        if let (Some(cycle), Some(last)) = (cycle, up.last())
            && last.to > cycle
        {
            return Err("a window ends after its cycle".to_owned());
        }
        Ok(Self { up, cycle })
    }

    /// Whether the link is up at a time since the start.
    pub(crate) fn is_up(&self, since_start: Duration) -> bool {
        let within = match self.cycle {
            Some(cycle) if !cycle.is_zero() => {
                Duration::from_nanos((since_start.as_nanos() % cycle.as_nanos()) as u64)
            }
            _ => since_start,
        };
        self.up.is_empty()
            || self
                .up
                .iter()
                .any(|window| window.from <= within && within < window.to)
    }
}

/// A direction: to the target of a `--forward`, or from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    Up = 0,
    Down = 1,
}

impl Direction {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// Where a connection is cut: when so many octets of a direction have arrived,
/// or so long after it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// `up:5000`, `down:1k`
    #[doc(hidden)]
    Bytes(DirectionOfCut, u64),
    /// `3s`
    After(Duration),
    /// `never`: for the connections in a list that are to go through.
    Never,
}

/// The direction whose octets a cut counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectionOfCut(Direction);

impl Cut {
    /// How many octets of `direction` may arrive.
    pub(crate) fn bytes_of(self, direction: Direction) -> Option<u64> {
        match self {
            Self::Bytes(DirectionOfCut(of), bytes) if of == direction => Some(bytes),
            _ => None,
        }
    }
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("up", bytes)) => Ok(Self::Bytes(
                DirectionOfCut(Direction::Up),
                parse_bytes(bytes)?,
            )),
            Some(("down", bytes)) => Ok(Self::Bytes(
                DirectionOfCut(Direction::Down),
                parse_bytes(bytes)?,
            )),
            Some(_) => Err(format!("{text:?}: up:OCTETS, down:OCTETS, a time or never")),
            None if text == "never" => Ok(Self::Never),
            None => Ok(Self::After(parse_duration(text)?)),
        }
    }
}

/// What the ends notice of a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum CutManner {
    /// RST at both.
    Reset,
    /// FIN at both, in the middle of whatever it was.
    End,
    /// Nothing: octets go nowhere, as over a dead line.
    Silence,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_open_and_close() {
        let check = |windows: &[&str], cycle: Option<u64>, up_at_seconds: &[u64]| {
            let windows = windows
                .iter()
                .map(|window| window.parse().unwrap())
                .collect();
            let windows = Windows::new(windows, cycle.map(Duration::from_secs)).unwrap();
            let up: Vec<u64> = (0..12)
                .filter(|second| windows.is_up(Duration::from_secs(*second)))
                .collect();
            assert_eq!(up, up_at_seconds);
        };
        check(&[], None, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        check(&["4-6", "1s-2s"], None, &[1, 4, 5]);
        check(&["1-2"], Some(4), &[1, 5, 9]);
        assert!(Windows::new(vec!["1-3".parse().unwrap(), "2-4".parse().unwrap()], None).is_err());
        assert!(Windows::new(vec!["1-9".parse().unwrap()], Some(Duration::from_secs(4))).is_err());
        assert!("3-3".parse::<Window>().is_err());
    }

    #[test]
    fn cuts_as_written() {
        let check = |text: &str, expected: Result<Cut, ()>| {
            assert_eq!(text.parse::<Cut>().map_err(|_| ()), expected, "{text}");
        };
        check(
            "up:5000",
            Ok(Cut::Bytes(DirectionOfCut(Direction::Up), 5000)),
        );
        check(
            "down:1k",
            Ok(Cut::Bytes(DirectionOfCut(Direction::Down), 1024)),
        );
        check("3s", Ok(Cut::After(Duration::from_secs(3))));
        check("never", Ok(Cut::Never));
        check("left:3", Err(()));
        check("up:x", Err(()));
    }
}
