//! `turnspool check`: everything that is wrong with a configuration file.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Exit, Failure, Global, print_json};
use crate::config::surroundings::Surroundings;
use crate::config::{self, report::Report};

/// Checks a configuration file.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The file; --config names it too
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Facts<'a> {
    file: String,
    errors: Vec<Fact<'a>>,
}

#[derive(Serialize)]
struct Fact<'a> {
    line: Option<usize>,
    column: Option<usize>,
    option: &'a str,
    what: &'a str,
    instead: &'a str,
}

impl Check {
    /// Exit 2 if anything is wrong.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let Some(file) = self.file.as_ref().or(global.config.as_ref()) else {
            return Err(Failure::new(
                Exit::Usage,
                "check: which file? Name it: turnspool check FILE",
            ));
        };
        let report = config::load(file, &Surroundings::of_this_process()).err();
        let findings = report.as_ref().map_or(&[][..], |report| &report.findings);
        if global.json {
            let errors = findings.iter().map(|finding| Fact {
                line: finding.position.map(|position| position.line),
                column: finding.position.map(|position| position.column),
                option: &finding.option,
                what: &finding.what,
                instead: &finding.instead,
            });
            let facts = Facts {
                file: file.display().to_string(),
                errors: errors.collect(),
            };
            print_json(out, &facts)?;
        } else {
            match &report {
                None => writeln!(out, "{}: no errors", super::shown(file))?,
                Some(report) => writeln!(out, "{report}\n\n{}", count(report))?,
            }
        }
        Ok(if report.is_none() {
            Exit::Done
        } else {
            Exit::Usage
        })
    }
}

fn count(report: &Report) -> String {
    match report.findings.len() {
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    }
}
