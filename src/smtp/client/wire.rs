//! What is to leave, in order, and which commands have left already.
//!
//! Invariants: `answered ≤ handed ≤ asked` and `sent ≤ handed`, each a number of
//! commands (the greeting counts as the answer to the connection). An answer is
//! believed only if its command was handed out before: what comes earlier was not
//! meant for it. Once nothing leaves any more, its command must have left; a flight may
//! have been answered before that is known (`exchange::early`).

use super::job::Piece;
use crate::smtp::record::Record;

/// Room for the commands of one group, so that it grows once: RSET, MAIL and RCPT
/// with their parameters, DATA.
const GROUP_BYTES: usize = 320;

/// Collects pieces until the shell takes them.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// Ready to go before `text`.
    pieces: Vec<Piece>,
    /// Commands behind `pieces`, gathered into one piece.
    text: Vec<u8>,
    /// Octets in `pieces` and `text`.
    pending_bytes: u64,
    /// Octets taken by the shell that it has not reported as sent.
    handed_bytes: u64,
    asked: u64,
    handed: u64,
    sent: u64,
    answered: u64,
    /// What has not left never will.
    cut: bool,
    /// Boxed: hardly any session is recorded.
    pub(super) record: Option<Box<Record>>,
}

impl Wire {
    /// The greeting is awaited as if it had been asked for.
    pub(super) fn expect_greeting(&mut self) {
        self.asked += 1;
        self.handed = self.asked;
    }

    /// A command, its CRLF included. Returns its number.
    pub(super) fn command(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        self.octets(write);
        self.asked += 1;
        self.asked
    }

    /// The octets of a content, whose end is answered like a command.
    pub(super) fn content(&mut self, body: Option<Piece>, tail: &[u8]) -> u64 {
        if let Some(piece) = body {
            let octets = match &piece {
                Piece::Octets(octets) => octets.len() as u64,
                Piece::Body { range, .. } => range.end - range.start,
            };
            self.close_text();
            self.pieces.push(piece);
            self.pending_bytes += octets;
        }
        self.command(|out| out.extend_from_slice(tail))
    }

    /// Octets that belong to a command or content whose answer is counted elsewhere.
    pub(super) fn octets(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.text.len();
        if self.text.capacity() == 0 {
            self.text.reserve(GROUP_BYTES);
        }
        write(&mut self.text);
        if let Some(record) = &mut self.record
            && self.text.len() > before
        {
            record.commands(true, &self.text[before..]);
        }
        self.pending_bytes += (self.text.len() - before) as u64;
    }

    /// Nothing leaves any more: of what has left the answers may still come.
    pub(super) const fn cut(&mut self) {
        self.cut = true;
    }

    /// Whether [`Wire::cut`] was said.
    pub(super) const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Everything that is to leave now.
    pub(super) fn take(&mut self) -> Option<Vec<Piece>> {
        self.close_text();
        if self.pieces.is_empty() || self.cut {
            return None;
        }
        self.handed = self.asked;
        self.handed_bytes += std::mem::take(&mut self.pending_bytes);
        Some(std::mem::take(&mut self.pieces))
    }

    /// All that was taken has left.
    pub(super) fn sent(&mut self) {
        self.handed_bytes = 0;
        self.sent = self.handed;
    }

    /// Octets that have not left.
    pub(super) const fn unsent_bytes(&self) -> u64 {
        self.pending_bytes + self.handed_bytes
    }

    /// Octets that were taken since all had left.
    pub(super) const fn leaving_bytes(&self) -> u64 {
        self.handed_bytes
    }

    /// True if octets that were taken have not left.
    pub(super) const fn is_leaving(&self) -> bool {
        self.handed_bytes > 0
    }

    /// True if an answer now would be one to a command that the peer can know.
    pub(super) const fn awaits_answer(&self) -> bool {
        self.answered < self.handed
    }

    /// True if it would be one to a command that has certainly left.
    pub(super) const fn awaits_answer_to_sent(&self) -> bool {
        self.answered < self.sent
    }

    /// The next command in order has its whole answer.
    pub(super) fn answered(&mut self) {
        self.answered += 1;
        assert!(
            self.answered <= self.handed && self.handed <= self.asked,
            "answered {} ≤ handed {} ≤ asked {}",
            self.answered,
            self.handed,
            self.asked
        );
    }

    /// True if the command of this number was handed out.
    pub(super) const fn is_handed(&self, number: u64) -> bool {
        number <= self.handed
    }

    /// True if the command of this number has left.
    pub(super) const fn is_sent(&self, number: u64) -> bool {
        number <= self.sent
    }

    fn close_text(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.pieces.push(Piece::Octets(text));
        }
    }
}
