//! What is said in the session, for the operator who wants to see it.

use super::{Asked, Phase, Reading, Session};
use crate::pop3::session::Output;
use crate::wire::transcript::Spoken;

impl Session {
    /// From now on it is recorded what is said; see [`Session::take_record`].
    pub fn record(&mut self) {
        self.record = Some(Box::default());
    }

    /// What was said since the last time, if it is recorded.
    pub fn take_record(&mut self) -> Vec<Spoken> {
        (self.record.as_mut()).map_or_else(Vec::new, |record| record.take())
    }

    /// Sends commands that hold no secret.
    pub(super) fn put(&mut self, octets: Vec<u8>) {
        if let Some(record) = &mut self.record {
            record.commands(&octets);
        }
        self.outputs.push_back(Output::Send(octets));
    }

    /// Sends lines by which we log in.
    pub(super) fn put_login(&mut self, octets: Vec<u8>) {
        if let Some(record) = &mut self.record {
            record.login(&octets);
        }
        self.outputs.push_back(Output::Send(octets));
    }

    /// A line of the server outside of message text.
    pub(super) fn heard(&mut self, line: &[u8]) {
        let Some(record) = &mut self.record else {
            return;
        };
        match (&self.reading, &self.phase) {
            (Reading::Lines(_), _) if self.asked.front() == Some(&Asked::Capa) => {
                record.reply(line);
            }
            (Reading::Lines(_), _) if line == b"." => record.listing_ended(),
            (Reading::Lines(_), _) => record.listed(line),
            (_, Phase::Login(_)) => record.login_reply(line),
            _ => record.reply(line),
        }
    }

    /// A message came.
    pub(super) fn heard_text(&mut self, octets: u64) {
        if let Some(record) = &mut self.record {
            record.text(octets);
        }
    }
}
