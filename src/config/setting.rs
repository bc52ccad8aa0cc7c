//! The types that the value of an option may have, and how each is read.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::addresses::{self, AddressPair, DeliverTo, HostPort, NextHop};
use super::declaration::SectionInfo;
use super::reader::{Reader, shown};
use super::units::{self, Bytes, Every, Money, TimeOfDay, Weekdays};
use crate::mail::{Address, Domain};
use crate::route::{CustomerName, HostName, Network, Scope};

/// A type that the value of an option may have.
pub trait Setting: Sized + 'static {
    /// What is expected, with an article: "a time".
    const WANTED: &'static str;

    /// TOML for some value of this type, for the reference.
    fn sample() -> String;

    /// Reads a value. `None` after a report.
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self>;

    /// What to write instead of a value of another kind.
    fn advice(value: &DeValue<'_>) -> String;

    /// The TOML text that [`Setting::read`] reads. `None`: it is left out.
    fn write(&self) -> Option<String>;

    /// The value of a section that the file does not have.
    fn absent(_reader: &mut Reader) -> Option<Self> {
        None
    }

    /// The options inside, for sections and lists of them.
    fn section() -> Option<SectionInfo> {
        None
    }
}

/// TOML's text for a string.
pub(super) fn quoted(text: impl fmt::Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

/// Settings that are strings in the file, with a parser that gives advice.
macro_rules! text_setting {
    ($ty:ty, $wanted:literal, $sample:literal, $parse:expr, $write:expr) => {
        impl Setting for $ty {
            const WANTED: &'static str = $wanted;

            fn sample() -> String {
                quoted($sample)
            }

            fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
                let DeValue::String(text) = value.get_ref() else {
                    return reader.wrong_kind(value);
                };
                let parse: fn(&str) -> Result<Self, String> = $parse;
                match parse(text) {
                    Ok(read) => Some(read),
                    Err(instead) => {
                        let what = format!("{} is not {}", shown(value.get_ref()), $wanted);
                        reader.wrong(value.span(), what, instead);
                        None
                    }
                }
            }

            fn advice(value: &DeValue<'_>) -> String {
                let parse: fn(&str) -> Result<Self, String> = $parse;
                let bare = match value {
                    DeValue::Integer(number) => number.to_string(),
                    DeValue::Float(number) => number.as_str().to_owned(),
                    _ => String::new(),
                };
                match parse(&bare) {
                    Ok(_) => format!("write it in quotation marks: \"{bare}\""),
                    Err(instead) => instead,
                }
            }

            fn write(&self) -> Option<String> {
                let write: fn(&Self) -> String = $write;
                Some(quoted(write(self)))
            }
        }
    };
}

text_setting!(Bytes, "a size", "64MiB", str::parse, ToString::to_string);
text_setting!(Duration, "a time", "10m", units::parse_duration, |time| {
    units::duration_text(*time)
});
text_setting!(
    TimeOfDay,
    "a time of day",
    "08:00",
    str::parse,
    ToString::to_string
);
text_setting!(
    Weekdays,
    "a set of days",
    "mon-fri",
    str::parse,
    ToString::to_string
);
text_setting!(Every, "an interval", "1h", str::parse, ToString::to_string);
text_setting!(
    Money,
    "an amount of money",
    "0.05",
    str::parse,
    ToString::to_string
);
text_setting!(
    Network,
    "a network",
    "192.0.2.0/24",
    addresses::parse_network,
    ToString::to_string
);
text_setting!(
    HostName,
    "a host",
    "smtp.isp.example",
    addresses::parse_host,
    ToString::to_string
);
text_setting!(
    HostPort,
    "a host",
    "mail.isp.example:25",
    str::parse,
    ToString::to_string
);
text_setting!(
    AddressPair,
    "a pair of addresses",
    "info@branch.example = anna@branch.example",
    str::parse,
    ToString::to_string
);
text_setting!(
    NextHop,
    "a next hop",
    "smtp://10.0.0.5:25",
    str::parse,
    ToString::to_string
);
text_setting!(
    Scope,
    "a domain",
    "branch.example",
    addresses::parse_scope,
    ToString::to_string
);
text_setting!(
    DeliverTo,
    "a place to deliver to",
    "203.0.113.9:25",
    str::parse,
    ToString::to_string
);
text_setting!(
    SocketAddr,
    "an address with a port",
    "192.0.2.1:25",
    addresses::parse_socket_address,
    ToString::to_string
);
text_setting!(
    Domain,
    "a domain name",
    "mail.example",
    |text| {
        text.parse()
            .map_err(|error| format!("the name {error}; write one such as \"mail.example.com\""))
    },
    ToString::to_string
);
text_setting!(
    Address,
    "a mail address",
    "postmaster@mail.example",
    |text| {
        text.parse()
            .map_err(|error| format!("it {error}; write one such as \"user@mail.example\""))
    },
    ToString::to_string
);
text_setting!(
    CustomerName,
    "a name",
    "branch",
    |text| {
        text.parse()
            .map_err(|_| "write 1 to 64 of the characters a-z 0-9 - _ .".to_owned())
    },
    ToString::to_string
);
text_setting!(
    PathBuf,
    "a path",
    "/etc/turnspool/file",
    |text| {
        if text.is_empty() || text.contains('\0') {
            Err("write the path of a file".to_owned())
        } else if text.starts_with("~/") {
            Err("`~` is a word of the shell: write the whole path".to_owned())
        } else {
            Ok(text.into())
        }
    },
    |path| path.display().to_string()
);
text_setting!(
    String,
    "a text",
    "name",
    |text| {
        if text.is_empty() || text.chars().any(char::is_control) {
            Err("write a text of at least one character, without control characters".to_owned())
        } else {
            Ok(text.to_owned())
        }
    },
    Clone::clone
);

/// Settings that are whole numbers in the file.
macro_rules! integer_setting {
    ($($ty:ty),+) => {$(
        impl Setting for $ty {
            const WANTED: &'static str = "a whole number";

            fn sample() -> String {
                "1".to_owned()
            }

            fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
                let DeValue::Integer(number) = value.get_ref() else {
                    return reader.wrong_kind(value);
                };
                match <$ty>::from_str_radix(number.as_str(), number.radix()) {
                    Ok(read) => Some(read),
                    Err(_) => {
                        let what = format!("{number} is out of bounds");
                        let instead = format!("write {} to {}", <$ty>::MIN, <$ty>::MAX);
                        reader.wrong(value.span(), what, instead);
                        None
                    }
                }
            }

            fn advice(value: &DeValue<'_>) -> String {
                match value {
                    DeValue::String(text) if text.parse::<$ty>().is_ok() => {
                        format!("write it without quotation marks: {text}")
                    }
                    _ => "write a whole number, without quotation marks".to_owned(),
                }
            }

            fn write(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}

integer_setting!(i8, u8, u16, u32, u64);

impl Setting for f64 {
    const WANTED: &'static str = "a number";

    fn sample() -> String {
        "2.0".to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let number = match value.get_ref() {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.to_string().parse().ok(),
            _ => None,
        };
        match number.filter(|number: &Self| number.is_finite()) {
            Some(number) => Some(number),
            None => reader.wrong_kind(value),
        }
    }

    fn advice(_value: &DeValue<'_>) -> String {
        "write a number such as 2.0".to_owned()
    }

    fn write(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

impl Setting for bool {
    const WANTED: &'static str = "true or false";

    fn sample() -> String {
        "true".to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        match value.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => reader.wrong_kind(value),
        }
    }

    fn advice(_value: &DeValue<'_>) -> String {
        "write true or false, without quotation marks".to_owned()
    }

    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl<T: Setting> Setting for Option<T> {
    const WANTED: &'static str = T::WANTED;

    fn sample() -> String {
        T::sample()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        T::read(value, reader).map(Some)
    }

    fn advice(value: &DeValue<'_>) -> String {
        T::advice(value)
    }

    fn write(&self) -> Option<String> {
        self.as_ref().and_then(T::write)
    }

    fn absent(_reader: &mut Reader) -> Option<Self> {
        Some(None)
    }

    fn section() -> Option<SectionInfo> {
        T::section()
    }
}

/// Most elements of one list in the file: far above what anybody writes by hand,
/// so that a generated file with a mistake in it ends in a report.
const ELEMENTS_MAX: usize = 100_000;

impl<T: Setting> Setting for Vec<T> {
    const WANTED: &'static str = "a list";

    fn sample() -> String {
        format!("[{}]", T::sample())
    }

    /// Elements that are wrong are reported and left out.
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let DeValue::Array(array) = value.get_ref() else {
            return reader.wrong_kind(value);
        };
        if array.len() > ELEMENTS_MAX {
            let what = format!("a list of {} elements", array.len());
            let instead = format!("write at most {ELEMENTS_MAX} elements");
            reader.wrong(value.span(), what, instead);
            return None;
        }
        Some(
            array
                .iter()
                .filter_map(|element| T::read(element, reader))
                .collect(),
        )
    }

    fn advice(value: &DeValue<'_>) -> String {
        match (T::section(), value) {
            (Some(section), _) => format!("write [[{0}]] instead of [{0}]", section.path),
            (None, DeValue::String(text)) => format!("write it as a list: [{}]", quoted(text)),
            (None, _) => format!("write a list, each element {}: […, …]", T::WANTED),
        }
    }

    fn write(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let elements: Vec<String> = self.iter().filter_map(T::write).collect();
        Some(format!("[{}]", elements.join(", ")))
    }

    fn section() -> Option<SectionInfo> {
        let mut section = T::section()?;
        section.repeated = true;
        Some(section)
    }
}
