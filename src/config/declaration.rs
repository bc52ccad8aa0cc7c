//! How a section of the file is declared, in one place.
//!
//! `section!` declares a section as a struct: each option with its type, its
//! documentation, its default and its bounds. From that one text come the reader,
//! the reference that `turnspool example` prints, and the list that the tests walk.

use super::setting::Setting;

/// What an option has without a line in the file.
#[derive(Clone, Debug)]
pub(super) enum Otherwise<T> {
    /// This value.
    Is(T),
    /// This value, which the reference puts in words.
    Words(T, &'static str),
    /// What its own options have: a section.
    Options,
    /// Nothing: the line must be there.
    Needed,
}

/// Default and bounds of an option.
#[derive(Debug)]
pub struct Rule<T> {
    pub(super) otherwise: Otherwise<T>,
    pub(super) small_site: Option<T>,
    pub(super) bounds: Option<Bounds<T>>,
}

/// See [`Rule::within`].
#[derive(Debug)]
pub(super) struct Bounds<T> {
    pub(super) least: T,
    pub(super) most: T,
    /// A plain function, so that only rules with bounds need an order.
    pub(super) outside: fn(&T, &T, &T) -> bool,
}

impl<T> Rule<T> {
    const fn from(otherwise: Otherwise<T>) -> Self {
        Self {
            otherwise,
            small_site: None,
            bounds: None,
        }
    }

    /// The default under `preset = "small-site"`.
    pub fn small_site(mut self, value: T) -> Self {
        self.small_site = Some(value);
        self
    }

    /// The least and the most that is taken.
    pub fn within(mut self, least: T, most: T) -> Self
    where
        T: PartialOrd,
    {
        self.bounds = Some(Bounds {
            least,
            most,
            outside: |value, least, most| value < least || value > most,
        });
        self
    }
}

/// An option with a default.
pub const fn is<T>(value: T) -> Rule<T> {
    Rule::from(Otherwise::Is(value))
}

/// An option whose default the reference explains in words.
pub const fn otherwise<T>(value: T, words: &'static str) -> Rule<T> {
    Rule::from(Otherwise::Words(value, words))
}

/// An option that may be left out; `words` say what happens then.
pub const fn unset<T>(words: &'static str) -> Rule<Option<T>> {
    Rule::from(Otherwise::Words(None, words))
}

/// A list that is empty unless written; `words` say what that means.
pub const fn none<T>(words: &'static str) -> Rule<Vec<T>> {
    Rule::from(Otherwise::Words(Vec::new(), words))
}

/// A section, which has the defaults of its options.
pub const fn options<T>() -> Rule<T> {
    Rule::from(Otherwise::Options)
}

/// An option that must be written.
pub const fn needed<T>() -> Rule<T> {
    Rule::from(Otherwise::Needed)
}

/// One option, described.
#[derive(Clone, Debug)]
pub struct OptionInfo {
    /// The key.
    pub name: &'static str,
    /// The paragraph, one element a line.
    pub doc: &'static [&'static str],
    /// What kind of value, with an article.
    pub wanted: &'static str,
    /// Some value as TOML.
    pub sample: String,
    /// The default as TOML; `None` where there is none to write.
    pub default: Option<String>,
    /// The default in words: "required", "the system's host name".
    pub default_words: Option<&'static str>,
    /// The default under `preset = "small-site"`, as TOML.
    pub small_site: Option<String>,
    /// Least and most, as TOML.
    pub bounds: Option<(String, String)>,
    /// The options inside.
    pub section: Option<SectionInfo>,
}

/// One section, described.
#[derive(Clone, Debug)]
pub struct SectionInfo {
    /// `spool`, `delivery.smarthost`; empty for the file itself.
    pub path: &'static str,
    /// The paragraph, one element a line.
    pub doc: &'static [&'static str],
    /// Written as `[[path]]`, any number of times.
    pub repeated: bool,
    /// In the order of declaration.
    pub options: Vec<OptionInfo>,
}

impl OptionInfo {
    /// From its declaration.
    pub fn new<T: Setting>(
        name: &'static str,
        doc: &'static [&'static str],
        rule: &Rule<T>,
    ) -> Self {
        let (default, default_words) = match &rule.otherwise {
            Otherwise::Is(value) => (value.write(), None),
            Otherwise::Words(value, words) => (value.write(), Some(*words)),
            Otherwise::Options => (None, None),
            Otherwise::Needed => (None, Some("required")),
        };
        Self {
            name,
            doc,
            wanted: T::WANTED,
            sample: T::sample(),
            default,
            default_words,
            small_site: rule.small_site.as_ref().and_then(Setting::write),
            bounds: rule
                .bounds
                .as_ref()
                .and_then(|bounds| bounds.least.write().zip(bounds.most.write())),
            section: T::section(),
        }
    }
}

/// Declares a closed set of words as an enum with a [`Setting`].
macro_rules! words {
    ($(#[$meta:meta])* pub enum $Name:ident, $wanted:literal {
        $($(#[$variant_meta:meta])* $Variant:ident = $word:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $Name {
            $($(#[$variant_meta])* $Variant,)+
        }

        impl $Name {
            /// The words, in the order of declaration.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word in the file.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$Variant => $word,)+
                }
            }
        }

        impl $crate::config::setting::Setting for $Name {
            const WANTED: &'static str = $wanted;

            fn sample() -> String {
                format!("{:?}", Self::WORDS[0])
            }

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::config::reader::Reader,
            ) -> Option<Self> {
                match value.get_ref().as_str() {
                    $(Some($word) => Some(Self::$Variant),)+
                    _ => {
                        let what = $crate::config::declaration::not_a_word(value.get_ref(), $wanted);
                        reader.wrong(value.span(), what, Self::advice(value.get_ref()));
                        None
                    }
                }
            }

            fn advice(_value: &toml::de::DeValue<'_>) -> String {
                let words: Vec<String> = Self::WORDS.iter().map(|w| format!("{w:?}")).collect();
                format!("write one of {}", words.join(", "))
            }

            fn write(&self) -> Option<String> {
                Some(format!("{:?}", self.as_str()))
            }
        }
    };
}
pub(super) use words;

pub(super) fn not_a_word(value: &toml::de::DeValue<'_>, wanted: &str) -> String {
    format!("{} is not {wanted}", super::reader::shown(value))
}

/// Declares a section. Each field: documentation, name, type, rule.
macro_rules! section {
    ($(#[doc = $doc:literal])+ pub struct $Name:ident in $path:literal {
        $($(#[doc = $field_doc:literal])+ $field:ident: $ty:ty = $rule:expr;)+
    }) => {
        $(#[doc = $doc])+
        #[derive(Clone, PartialEq, Debug)]
        pub struct $Name {
            $($(#[doc = $field_doc])+ pub $field: $crate::config::reader::At<$ty>,)+
        }

        impl $Name {
            const NAMES: &'static [&'static str] =
                &[$($crate::config::declaration::bare(stringify!($field))),+];

            /// Reads a table, reporting everything that is wrong in it.
            pub fn from_table(
                table: &$crate::config::reader::Table<'_, '_>,
                reader: &mut $crate::config::reader::Reader,
            ) -> Option<Self> {
                table.report_unknown(Self::NAMES, reader);
                $(let $field: Option<$crate::config::reader::At<$ty>> =
                    $crate::config::reader::take(
                        table,
                        $crate::config::declaration::bare(stringify!($field)),
                        $rule,
                        reader,
                    );)+
                Some(Self { $($field: $field?,)+ })
            }
        }

        impl $crate::config::setting::Setting for $Name {
            const WANTED: &'static str = "a section";

            fn sample() -> String {
                "{}".to_owned()
            }

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::config::reader::Reader,
            ) -> Option<Self> {
                let toml::de::DeValue::Table(table) = value.get_ref() else {
                    let what = $crate::config::declaration::not_a_word(value.get_ref(), Self::WANTED);
                    reader.wrong(value.span(), what, Self::advice(value.get_ref()));
                    return None;
                };
                let table = $crate::config::reader::Table::new(table, value.span());
                Self::from_table(&table, reader)
            }

            fn advice(value: &toml::de::DeValue<'_>) -> String {
                if value.is_array() {
                    format!("write [{}] only once, in single brackets", $path)
                } else {
                    format!("write a section, [{}], or {{ name = value, … }}", $path)
                }
            }

            fn write(&self) -> Option<String> {
                None
            }

            fn absent(reader: &mut $crate::config::reader::Reader) -> Option<Self> {
                let empty = toml::de::DeTable::new();
                Self::from_table(&$crate::config::reader::Table::new(&empty, 0..0), reader)
            }

            fn section() -> Option<$crate::config::declaration::SectionInfo> {
                Some($crate::config::declaration::SectionInfo {
                    path: $path,
                    doc: &[$($doc),+],
                    repeated: false,
                    options: vec![$({
                        let rule: $crate::config::declaration::Rule<$ty> = $rule;
                        $crate::config::declaration::OptionInfo::new(
                            $crate::config::declaration::bare(stringify!($field)),
                            &[$($field_doc),+],
                            &rule,
                        )
                    }),+],
                })
            }
        }
    };
}
pub(super) use section;

/// A field's name as a key: `do` for `r#do`.
pub const fn bare(field: &'static str) -> &'static str {
    let bytes = field.as_bytes();
    if bytes.len() > 2 && bytes[0] == b'r' && bytes[1] == b'#' {
        field.split_at(2).1
    } else {
        field
    }
}
