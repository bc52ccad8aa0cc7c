//! `turnspool web`: where the web page is, and its token.

use std::io::Write;

use clap::Args;

use super::{Exit, Failure, Global, print_json};
use crate::runtime::web::Token;

/// Prints the address of the web page, with its token.
#[derive(Debug, Args)]
pub(super) struct Web {}

impl Web {
    /// Reads the configuration and the token's file; the server is not asked.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let Some(web) = global.config()?.admin.web else {
            let text = "the configuration has no web page\n    write `web = \"127.0.0.1:8025\"` \
                        under [admin], and restart the server";
            return Err(Failure::new(Exit::Failed, text));
        };
        let token = Token::read(&web.token).map_err(|why| {
            let text = format!(
                "{why}\n    the server makes the token when it starts; only its user may read it"
            );
            Failure::new(Exit::Failed, text)
        })?;
        let address = format!("http://{}/", web.address);
        if global.json {
            let token = token.reveal();
            print_json(
                out,
                &serde_json::json!({ "address": address, "token": token }),
            )?;
        } else {
            // Behind the number sign: a browser keeps it to itself.
            writeln!(out, "{address}#token={}", token.reveal())?;
        }
        Ok(Exit::Done)
    }
}
