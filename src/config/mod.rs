//! The configuration: file → raw → checked.
//!
//! - The text becomes toml's tree, with a place for each key and value. A broken
//!   line is reported and skipped.
//! - `options` declares each option once: name, type, default, bounds,
//!   documentation. Reading the tree gives an [`options::File`], in which each
//!   value is good in itself and remembers its place.
//! - `consistency` looks at what single values cannot show. Then [`Config`] is
//!   built: plain values in which nothing is left to check.
//!
//! Invariants: *a trouble never hides another*: one run reports all of them, each
//! with its place and what to write instead. Nothing written or left out makes an open
//! relay.
//!
//! What this module does not do: it opens no socket, makes no directory, and
//! keeps no secret. Of the world it reads the file, and looks at files of secrets and
//! certificates.

pub mod addresses;
pub mod certificate;
mod checked;
mod consistency;
pub mod declaration;
pub mod example;
pub mod options;
pub mod reader;
pub mod report;
pub mod retention;
pub mod secret;
pub mod setting;
pub mod surroundings;
pub mod units;
pub mod users;

use std::path::Path;

use toml::de::DeTable;

pub use checked::{
    ADMIN_SOCKET_NAME, Admin, Collector, Config, Cores, Customer, CustomerRelease, Delivery,
    DeliveryMode, Dns, DomainMailbox, Driver, LISTENER_DEFAULT, Limits, Link, ListenWhen, Listener,
    ListenerRole, ListenerTls, Log, LogDetail, LogFormat, LogTarget, Login, Mailbox, Means,
    Process, Provider, Relay, Retry, Route, SPOOL_DIRECTORY_DEFAULT, Smarthost, SmarthostLogin,
    SmarthostTls, Spool, Tls, WEB_TOKEN_NAME, WakeUp, Web, WebToken, Whose,
};

use reader::{Preset, Reader, Table};
use report::{Position, Report, Trouble};
use surroundings::Surroundings;

/// Largest configuration file. Ten thousand customers take about 3 MB.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// Reads and checks a file. The file is read anew by every call, so that a reload
/// is the same as a start.
///
/// # Errors
/// Everything that is wrong.
pub fn load(file: &Path, surroundings: &Surroundings) -> Result<Config, Report> {
    let text = read(file).map_err(|(what, instead)| {
        let trouble = Trouble {
            place: None,
            option: String::new(),
            what,
            instead,
        };
        Report::new(file, "", vec![trouble])
    })?;
    parse(file, &text, surroundings)
}

fn read(file: &Path) -> Result<String, (String, String)> {
    use std::io::Read as _;
    let unreadable = |error: std::io::Error| {
        let instead = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "let the user read it who runs this; the server's own user has to, for a reload"
            }
            _ => "name an existing file by --config; `turnspool example relay` prints one",
        };
        (format!("cannot be read: {error}"), instead.to_owned())
    };
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .map_err(unreadable)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let what = format!("is larger than {FILE_BYTES_MAX} octets");
        return Err((what, "is this the configuration file?".to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..offset]
            .iter()
            .filter(|&&b| b == b'\n')
            .count();
        (
            format!("line {line} is not UTF-8"),
            "save the file as UTF-8 text".to_owned(),
        )
    })
}

/// The configuration of a start without a file: a safe relay on loopback.
///
/// # Panics
/// Never: a test parses the empty text.
#[must_use]
pub fn without_file(surroundings: &Surroundings) -> Config {
    match parse(Path::new("(no file)"), "", surroundings) {
        Ok(config) => config,
        Err(report) => panic!("the defaults contradict one another: {report}"),
    }
}

/// Checks a text. `file` is what the report calls it.
///
/// # Errors
/// Everything that is wrong.
pub fn parse(file: &Path, text: &str, surroundings: &Surroundings) -> Result<Config, Report> {
    let (tree, syntax) = DeTable::parse_recoverable(text);
    let preset = match tree
        .get_ref()
        .get("preset")
        .and_then(|v| v.get_ref().as_str())
    {
        Some("small-site") => Preset::SmallSite,
        _ => Preset::Spool,
    };
    let mut reader = Reader::new(preset);
    let table = Table::new(tree.get_ref(), tree.span());
    let raw = options::File::from_table(&table, &mut reader)
        .expect("every option of the file itself has a default");
    let mut troubles = reader.troubles;
    consistency::check(&raw, text, surroundings, &mut troubles);
    if !syntax.is_empty() {
        // What the recovering parser made of a broken line is not the operator's.
        let broken: Vec<usize> = syntax
            .iter()
            .map(|error| Position::of(text, error.span().map_or(0, |span| span.start)).line)
            .collect();
        troubles.retain(|trouble| {
            let line = trouble
                .place
                .map(|place| Position::of(text, place.start).line);
            line.is_none_or(|line| !broken.contains(&line))
        });
        troubles.extend(syntax.iter().map(syntax_trouble));
    }
    if troubles.is_empty() {
        Ok(checked::build(&raw, surroundings))
    } else {
        Err(Report::new(file, text, troubles))
    }
}

fn syntax_trouble(error: &toml::de::Error) -> Trouble {
    Trouble {
        place: Some(error.span().unwrap_or(0..0).into()),
        option: String::new(),
        what: format!("this is not TOML: {}", error.message()),
        instead: "write `name = value`, with texts, times and sizes in \"quotation marks\""
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
