//! Reading a table of toml's tree, and collecting what is wrong in it.
//!
//! Contract: *a trouble never hides another*. A value that is wrong is reported
//! and replaced by its default, marked [`Origin::Damaged`], and reading goes on.
//! Checks that compare values leave damaged ones alone.
//!
//! The serde derive is not used for this: it stops at the first error and knows
//! the place of few. What is read is toml's own tree, with a span for each key
//! and value.

use std::ops::Deref;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::declaration::{Otherwise, Rule};
use super::report::{Place, Trouble};
use super::setting::Setting;

/// Where the value of an option is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Not in the file.
    Default,
    /// In the file.
    Written(Place),
    /// In the file, reported, and replaced by the default or shortened.
    Damaged(Place),
}

/// A value and where it is from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it is from.
    pub origin: Origin,
}

impl<T> At<T> {
    /// True if the file says something about it, right or wrong.
    pub fn is_written(&self) -> bool {
        self.origin != Origin::Default
    }

    /// True if the value can be compared with others without a second report of
    /// the same slip.
    pub fn is_sound(&self) -> bool {
        !matches!(self.origin, Origin::Damaged(_))
    }

    /// Where it is written.
    pub fn place(&self) -> Option<Place> {
        match self.origin {
            Origin::Default => None,
            Origin::Written(place) | Origin::Damaged(place) => Some(place),
        }
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A set of defaults for a kind of installation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Preset {
    /// Many customers, a machine of its own.
    #[default]
    Spool,
    /// A handful of users behind a thin line.
    SmallSite,
}

/// Reads one file; collects what is wrong.
#[derive(Debug)]
pub struct Reader {
    /// Which defaults hold.
    preset: Preset,
    /// Found so far, in no order.
    pub(super) troubles: Vec<Trouble>,
    /// The options on the way to the value being read.
    path: Vec<&'static str>,
}

impl Reader {
    /// Nothing read yet.
    pub fn new(preset: Preset) -> Self {
        Self {
            preset,
            troubles: Vec::new(),
            path: Vec::new(),
        }
    }

    /// The option being read, as `spool.segment_size`.
    pub fn option(&self) -> String {
        self.path.join(".")
    }

    /// Reports the value at `place`.
    pub fn wrong(&mut self, place: impl Into<Place>, what: String, instead: impl Into<String>) {
        self.troubles.push(Trouble {
            place: Some(place.into()),
            option: self.option(),
            what,
            instead: instead.into(),
        });
    }

    pub(super) fn wrong_kind<T: Setting>(&mut self, value: &Spanned<DeValue<'_>>) -> Option<T> {
        let what = format!("{} is not {}", shown(value.get_ref()), T::WANTED);
        self.wrong(value.span(), what, T::advice(value.get_ref()));
        None
    }
}

/// Reads one option of `table`. `None` if a needed one is missing or wrong.
pub fn take<T: Setting>(
    table: &Table<'_, '_>,
    name: &'static str,
    rule: Rule<T>,
    reader: &mut Reader,
) -> Option<At<T>> {
    reader.path.push(name);
    let taken = take_inner(table, name, rule, reader);
    reader.path.pop();
    taken
}

fn take_inner<T: Setting>(
    table: &Table<'_, '_>,
    name: &'static str,
    rule: Rule<T>,
    reader: &mut Reader,
) -> Option<At<T>> {
    let mut origin = Origin::Default;
    if let Some(value) = table.inner.get(name) {
        let troubles_before = reader.troubles.len();
        let place = Place::from(value.span());
        origin = Origin::Damaged(place);
        if let Some(read) = T::read(value, reader) {
            match rule
                .bounds
                .as_ref()
                .filter(|b| (b.outside)(&read, &b.least, &b.most))
            {
                None => {
                    if reader.troubles.len() == troubles_before {
                        origin = Origin::Written(place);
                    }
                    return Some(At {
                        value: read,
                        origin,
                    });
                }
                Some(bounds) => {
                    let text = |value: &T| value.write().unwrap_or_default();
                    let what = format!("{} is out of bounds", shown(value.get_ref()));
                    let instead =
                        format!("write {} to {}", text(&bounds.least), text(&bounds.most));
                    reader.wrong(place, what, instead);
                }
            }
        }
    }
    let small_site = rule
        .small_site
        .filter(|_| reader.preset == Preset::SmallSite);
    let value = match (small_site, rule.otherwise) {
        (Some(value), _) | (None, Otherwise::Is(value) | Otherwise::Words(value, _)) => value,
        (None, Otherwise::Options) => T::absent(reader)?,
        (None, Otherwise::Needed) => {
            if origin == Origin::Default {
                reader.wrong(
                    table.place,
                    "is missing".to_owned(),
                    format!("add `{name} = …`, {}", T::WANTED),
                );
            }
            return None;
        }
    };
    Some(At { value, origin })
}

/// A table of the file with the place to name when something is missing from it.
#[derive(Debug)]
pub struct Table<'t, 'i> {
    inner: &'t DeTable<'i>,
    place: Place,
}

impl<'t, 'i> Table<'t, 'i> {
    /// A table that the file has.
    pub fn new(inner: &'t DeTable<'i>, place: impl Into<Place>) -> Self {
        Self {
            inner,
            place: place.into(),
        }
    }

    /// Reports each key that is not among `names`.
    pub fn report_unknown(&self, names: &[&'static str], reader: &mut Reader) {
        for key in self.inner.keys() {
            let name = key.get_ref().as_ref();
            if names.contains(&name) {
                continue;
            }
            let here = reader.option();
            let instead = advice_for_unknown(name, &here, names);
            let what = if here.is_empty() {
                format!("there is no option or section {name:?}")
            } else {
                format!("there is no option {name:?} in this section")
            };
            reader.wrong(key.span(), what, instead);
        }
    }
}

/// What was probably meant by an unknown key.
fn advice_for_unknown(name: &str, here: &str, names: &[&'static str]) -> String {
    if matches!(name, "password" | "secret" | "passwd") {
        return "write the secret into a file of mode 0600 and name that: `password_file = \"…\"`"
            .to_owned();
    }
    let normal = name.to_ascii_lowercase().replace('-', "_");
    let nearest = names
        .iter()
        .map(|known| (distance(&normal, known), *known))
        .min();
    if let Some((steps, known)) = nearest
        && steps <= known.len().div_ceil(3).min(3)
    {
        return format!("did you mean `{known}`?");
    }
    let elsewhere = super::options::sections()
        .into_iter()
        .find(|section| section.path != here && section.options.iter().any(|o| o.name == normal));
    if let Some(section) = elsewhere {
        return if section.path.is_empty() {
            format!("`{normal}` stands at the top of the file, before the first section")
        } else if section.repeated {
            format!("`{normal}` belongs to [[{}]]", section.path)
        } else {
            format!("`{normal}` belongs to [{}]", section.path)
        };
    }
    format!("known here: {}", names.join(", "))
}

/// Levenshtein's distance. Names are short, so the plain table will do; a long
/// key of the operator costs one row of a known name's length a letter.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Longest text of a value that a report repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// A value as a report shows it, without control characters.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() > SHOWN_CHARS_MAX => {
            let head: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            format!("{head:?}…")
        }
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("segmentsize", "segment_size"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn unknown_keys_get_advice() {
        let check = |name: &str, here: &str, names: &[&'static str], part: &str| {
            let advice = advice_for_unknown(name, here, names);
            assert!(advice.contains(part), "{name}: {advice}");
        };
        let spool = ["directory", "segment_size", "size_max", "free_min"];
        check(
            "segment-size",
            "spool",
            &spool,
            "did you mean `segment_size`",
        );
        check("maxsize", "spool", &spool, "known here");
        check("size_mx", "spool", &spool, "did you mean `size_max`");
        check("hostname", "spool", &spool, "at the top of the file");
        check("sessions", "spool", &spool, "belongs to [limits]");
        check("next_hop", "spool", &spool, "belongs to [[route]]");
        check("password", "spool", &spool, "password_file");
        check("whatever", "spool", &spool, "known here: directory,");
    }
}
