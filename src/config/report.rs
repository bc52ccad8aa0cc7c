//! What is wrong with a configuration, for the one who wrote it.
//!
//! A [`Trouble`] says where, what, and what to write instead. A [`Report`] holds
//! all of them for one file, in the order of the file, so that one run of
//! `turnspool check` is enough. Nothing decides on the kind of a trouble: any
//! of them refuses the whole file.

use std::fmt;
use std::path::{Path, PathBuf};

/// A range of octets in the text of the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The first octet.
    pub start: usize,
    /// The octet behind the last.
    pub end: usize,
}

impl From<std::ops::Range<usize>> for Place {
    fn from(range: std::ops::Range<usize>) -> Self {
        Self {
            start: range.start,
            end: range.end,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// Where in the text. `None`: the whole file (it cannot be read).
    pub place: Option<Place>,
    /// The option or section, as `spool.segment_size`. Empty for the syntax.
    pub option: String,
    /// What is wrong, a clause without a full stop.
    pub what: String,
    /// What to write or do instead, a clause in the imperative.
    pub instead: String,
}

/// Line and column of a place, both from 1; columns are counted in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

impl Position {
    /// Where `offset` is in `text`. An offset behind the end is the end.
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.bytes().filter(|&b| b == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// A trouble with its position, ready to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// `None`: the whole file.
    pub position: Option<Position>,
    /// See [`Trouble::option`].
    pub option: String,
    /// See [`Trouble::what`].
    pub what: String,
    /// See [`Trouble::instead`].
    pub instead: String,
}

/// Everything that is wrong with one file. Never empty.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Report {
    /// The file, as it was named to us.
    pub file: PathBuf,
    /// In the order of the file.
    pub findings: Vec<Finding>,
}

impl Report {
    /// From the troubles found in `text`.
    ///
    /// # Panics
    /// If there are none: then there is nothing to report.
    #[must_use]
    pub fn new(file: &Path, text: &str, mut troubles: Vec<Trouble>) -> Self {
        assert!(!troubles.is_empty(), "a report of nothing");
        troubles.sort_by_key(|trouble| trouble.place);
        let mut findings: Vec<Finding> = Vec::with_capacity(troubles.len());
        for trouble in troubles {
            let finding = Finding {
                position: trouble.place.map(|place| Position::of(text, place.start)),
                option: trouble.option,
                what: trouble.what,
                instead: trouble.instead,
            };
            // The parser of the syntax may find one fault twice while it recovers.
            if findings.last() != Some(&finding) {
                findings.push(finding);
            }
        }
        Self {
            file: file.to_owned(),
            findings,
        }
    }
}

/// A paragraph for each finding: `FILE:LINE:COLUMN: option: what`, then what to
/// write instead, indented.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for (i, finding) in self.findings.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            match finding.position {
                Some(Position { line, column }) => write!(f, "{file}:{line}:{column}: ")?,
                None => write!(f, "{file}: ")?,
            }
            if !finding.option.is_empty() {
                write!(f, "{}: ", finding.option)?;
            }
            write!(f, "{}\n    {}", finding.what, finding.instead)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        let check = |text: &str, offset: usize, line: usize, column: usize| {
            assert_eq!(
                Position::of(text, offset),
                Position { line, column },
                "{text:?} {offset}"
            );
        };
        check("", 0, 1, 1);
        check("ab\ncd", 0, 1, 1);
        check("ab\ncd", 2, 1, 3);
        check("ab\ncd", 3, 2, 1);
        check("ab\ncd", 99, 2, 3);
        // Columns are characters, and an offset within one is its beginning.
        check("äb", 2, 1, 2);
        check("äb", 1, 1, 1);
    }

    #[test]
    fn findings_come_in_the_order_of_the_file_and_once() {
        let trouble = |start: usize, what: &str| Trouble {
            place: Some(Place { start, end: start }),
            option: "a.b".to_owned(),
            what: what.to_owned(),
            instead: "write c".to_owned(),
        };
        let troubles = vec![trouble(3, "two"), trouble(0, "one"), trouble(3, "two")];
        let report = Report::new(Path::new("x.toml"), "12\n4", troubles);
        assert_eq!(
            report.to_string(),
            "x.toml:1:1: a.b: one\n    write c\nx.toml:2:1: a.b: two\n    write c"
        );
    }
}
