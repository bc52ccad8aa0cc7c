//! `turnspool check`: everything that is wrong with a configuration file.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Exit, Failure, Global, print_json};
use crate::config::report::{Finding, Report};
use crate::config::surroundings::Surroundings;
use crate::config::{self, Config};
use crate::route::CustomerName;
use crate::runtime::recipients;

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
        let report = match config::load(file, &Surroundings::of_this_process()) {
            Ok(config) => lists(file, &config),
            Err(report) => Some(report),
        };
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

/// What is wrong with the files that stand beside the configuration, and are read anew
/// while the server runs.
fn lists(file: &Path, config: &Config) -> Option<Report> {
    let finding = |(customer, what): (CustomerName, String)| Finding {
        position: None,
        option: "customer.recipients_file".to_owned(),
        what: format!("of \"{customer}\": {what}"),
        instead: "mend the line; one address a line".to_owned(),
    };
    let findings: Vec<_> = recipients::faults(config)
        .into_iter()
        .map(finding)
        .collect();
    (!findings.is_empty()).then(|| Report {
        file: file.to_owned(),
        findings,
    })
}

fn count(report: &Report) -> String {
    match report.findings.len() {
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    }
}
