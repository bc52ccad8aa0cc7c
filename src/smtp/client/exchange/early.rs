//! Answers that come before that has left which they answer.

use super::{Exchange, Expected};
use crate::smtp::answer::{Answer, Class};
use crate::smtp::client::wire::Wire;

impl Exchange {
    /// Of a flight we hear only when all of it has left, and the first are answered before: a
    /// peer that offers flights, and says yes, is believed.
    pub(in crate::smtp::client) fn believes_early(&self, answer: &Answer<'_>) -> bool {
        self.peer.flight.is_some() && answer.code.class() == Class::Positive
    }

    /// True if the answer says that a content arrived which has not left yet.
    pub(in crate::smtp::client) fn is_too_early(&self, answer: &Answer<'_>, wire: &Wire) -> bool {
        self.expected.front() == Some(&Expected::End)
            && self.peer.flight.is_none()
            && answer.code.class() == Class::Positive
            && self
                .queue
                .front()
                .and_then(|oldest| oldest.end)
                .is_some_and(|end| !wire.is_sent(end))
    }
}
