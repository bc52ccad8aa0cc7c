//! `turnspool man [COMMAND…]`: manual pages, from the same declarations as `--help`; and
//! turnspool.toml(5), from those of the options.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_mangen::Man as Page;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::{CommandLine, Exit, Failure};
use crate::config;
use crate::config::declaration::SectionInfo;

/// The name of the page about the configuration.
const CONFIGURATION: &str = "turnspool.toml";

/// Prints a manual page, to be read by `man -l -`.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Of a subcommand, such as `queue list`; or turnspool.toml
    command: Vec<String>,
    /// Writes all pages into a directory, as a package wants them
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "command")]
    into: Option<PathBuf>,
}

impl Man {
    /// Exit 2 for a command that there is not.
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut page = CommandLine::command();
        page.build();
        if let Some(directory) = &self.into {
            let failed = |error: std::io::Error| {
                let text = format!("man: writing into {} failed: {error}", directory.display());
                Failure::new(Exit::Failed, text)
            };
            write_page(directory, &format!("{CONFIGURATION}.5"), &options()).map_err(failed)?;
            write_pages(directory, &page, "turnspool").map_err(failed)?;
            return Ok(Exit::Done);
        }
        if self.command == [CONFIGURATION] {
            out.write_all(options().as_bytes())?;
            return Ok(Exit::Done);
        }
        let mut name = "turnspool".to_owned();
        for word in &self.command {
            let Some(inner) = page.find_subcommand(word) else {
                let text = format!("man: there is no command `{name} {}`", word.escape_debug());
                return Err(Failure::new(Exit::Usage, text));
            };
            page = inner.clone();
            name = format!("{name} {word}");
        }
        out.write_all(&command(page, &name)?)?;
        Ok(Exit::Done)
    }
}

/// The page of a command.
fn command(page: clap::Command, name: &str) -> std::io::Result<Vec<u8>> {
    let page = page.display_name(name.replace(' ', "-"));
    let mut text = Vec::new();
    Page::new(page).render(&mut text)?;
    Ok(text)
}

/// The pages of a command and of all below it that `--help` shows.
fn write_pages(directory: &Path, page: &clap::Command, name: &str) -> std::io::Result<()> {
    let text = command(page.clone(), name)?;
    write_page(
        directory,
        &format!("{}.1", name.replace(' ', "-")),
        &String::from_utf8_lossy(&text),
    )?;
    let shown = |inner: &&clap::Command| !inner.is_hide_set() && inner.get_name() != "help";
    for inner in page.get_subcommands().filter(shown) {
        write_pages(directory, inner, &format!("{name} {}", inner.get_name()))?;
    }
    Ok(())
}

fn write_page(directory: &Path, name: &str, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join(name), text)
}

/// turnspool.toml(5).
fn options() -> String {
    let mut page = Roff::new();
    page.control("TH", [CONFIGURATION, "5", "", "turnspool", ""]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!(
        "{CONFIGURATION} - configuration of turnspool"
    ))]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([
        roman("One file in TOML. Every option may be left out but those marked as required. "),
        bold("turnspool check"),
        roman(" finds everything that is wrong with a file, "),
        bold("turnspool example"),
        roman(
            " prints one to begin with. Times are written \"90s\", \"10m\", \"4h\", \"20d\"; \
             sizes \"64MiB\". Secrets are in files of their own.",
        ),
    ]);
    for section in config::options::sections() {
        page.control("SH", [heading(&section).as_str()]);
        page.text([roman(config::example::paragraph(section.doc))]);
        for option in section
            .options
            .iter()
            .filter(|option| option.section.is_none())
        {
            page.control("TP", []);
            page.text([bold(option.name)]);
            let (about, notes) = config::example::described(option);
            page.text([roman(about), roman(" "), italic(format!("[{notes}]"))]);
        }
    }
    page.to_roff()
}

fn heading(section: &SectionInfo) -> String {
    match (section.path, section.repeated) {
        ("", _) => "TOP OF THE FILE".to_owned(),
        (path, false) => format!("[{path}]"),
        (path, true) => format!("[[{path}]]"),
    }
}
