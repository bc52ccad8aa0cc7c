//! How long a customer's mail is held: a time, or a number of windows.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::reader::Reader;
use super::setting::{Setting, quoted};
use super::units;

/// The shortest and the longest time. A day is what a site needs that calls once a day;
/// nobody waits a year for a letter.
const AGE_MIN: Duration = Duration::from_secs(86_400);
const AGE_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Most windows that are counted: with ten minutes between them a week.
const WINDOWS_MAX: u16 = 1000;

/// How long mail is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retention {
    /// Since it arrived.
    Age(Duration),
    /// Until so many windows were missed.
    Windows(u16),
}

const INSTEAD: &str = "write \"20d\" (1 to 365 days) or { windows = 5 } (1 to 1000)";

impl Setting for Retention {
    const WANTED: &'static str = "a time, or a number of windows";

    fn sample() -> String {
        quoted("20d")
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let read = match value.get_ref() {
            DeValue::String(text) => units::parse_duration(text)
                .ok()
                .filter(|age| (AGE_MIN..=AGE_MAX).contains(age))
                .map(Self::Age),
            DeValue::Table(table) => match table.iter().next() {
                Some((key, number)) if table.len() == 1 && &**key.get_ref() == "windows" => {
                    match number.get_ref() {
                        DeValue::Integer(number) => {
                            u16::from_str_radix(number.as_str(), number.radix())
                                .ok()
                                .filter(|windows| (1..=WINDOWS_MAX).contains(windows))
                                .map(Self::Windows)
                        }
                        _ => None,
                    }
                }
                _ => None,
            },
            _ => return reader.wrong_kind(value),
        };
        if read.is_none() {
            let what = format!("is not {}", Self::WANTED);
            reader.wrong(value.span(), what, INSTEAD.to_owned());
        }
        read
    }

    fn advice(_value: &DeValue<'_>) -> String {
        INSTEAD.to_owned()
    }

    fn write(&self) -> Option<String> {
        Some(match self {
            Self::Age(age) => quoted(units::duration_text(*age)),
            Self::Windows(windows) => format!("{{ windows = {windows} }}"),
        })
    }
}
