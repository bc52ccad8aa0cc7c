//! What the file may say but this version does not do yet.
//!
//! Such a line is refused with a sentence, never ignored: an operator who wrote
//! it counts on it. Building the feature is deleting its row here.

use toml::Spanned;
use toml::de::DeValue;

use super::reader::Reader;
use super::report::{Place, Trouble};

/// One row.
struct Row {
    /// `section.option`, or a whole section.
    option: &'static str,
    /// The value that is refused; [`ANY`], or a beginning with a `*` behind it.
    value: &'static str,
    /// What to write instead.
    instead: &'static str,
}

/// Each value, and each section.
const ANY: &str = "*";

const fn row(option: &'static str, value: &'static str, instead: &'static str) -> Row {
    Row {
        option,
        value,
        instead,
    }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("log.to", "journald", "write \"stderr\": under systemd that is the journal"),
];

/// The sentence.
pub(super) const SENTENCE: &str = "not supported by this version";

/// The advice of the row for an option or section, if there is one.
pub(super) fn advice(option: &str, value: Option<&str>) -> Option<&'static str> {
    let matches = |row: &Row| {
        row.option == option
            && match (row.value, value) {
                (ANY, _) => true,
                (_, None) => false,
                (pattern, Some(value)) => match pattern.strip_suffix('*') {
                    Some(beginning) => value.starts_with(beginning),
                    None => value == pattern,
                },
            }
    };
    ROWS.iter().find(|row| matches(row)).map(|row| row.instead)
}

/// Reports the option being read, if it or its value is in the table.
pub(super) fn report(reader: &mut Reader, value: &Spanned<DeValue<'_>>) {
    let option = reader.option();
    let Some(instead) = advice(&option, value.get_ref().as_str()) else {
        return;
    };
    let what = match value.get_ref().as_str() {
        Some(text) if advice(&option, None).is_none() => format!("{text:?} is {SENTENCE}"),
        _ => format!("is {SENTENCE}"),
    };
    // A section written several times is one absence, named at each place.
    let places = match value.get_ref() {
        DeValue::Array(array) if array.iter().any(|e| e.get_ref().is_table()) => {
            array.iter().map(|e| Place::from(e.span())).collect()
        }
        _ => vec![Place::from(value.span())],
    };
    for place in places {
        reader.troubles.push(Trouble {
            place: Some(place),
            option: option.clone(),
            what: what.clone(),
            instead: instead.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options;

    /// A row for an option that does not exist would never refuse anything.
    #[test]
    fn each_row_names_an_option() {
        for row in ROWS {
            let known = options::sections().iter().any(|section| {
                section.path == row.option
                    || section
                        .options
                        .iter()
                        .any(|option| row.option == format!("{}.{}", section.path, option.name))
            });
            assert!(known, "{}", row.option);
        }
    }

    /// What the table tells the operator to write must itself be supported.
    #[test]
    fn patterns_match() {
        assert!(advice("route.next_hop", Some("smtp://127.0.0.1")).is_none());
        assert!(advice("log.to", Some("journald")).is_some());
        assert!(advice("log.to", Some("stderr")).is_none());
        assert!(advice("customer.recipients_file", None).is_none());
        assert!(advice("delivery.mode", None).is_none());
        assert!(advice("delivery.mode", Some("smarthost")).is_none());
    }
}
