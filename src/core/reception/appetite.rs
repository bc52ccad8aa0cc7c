//! What a session takes in now, and what it waits for first.

use super::{InputEnd, Reception};
use crate::core::common::Common;
use crate::core::flow::{Appetite, NoSpool};
use crate::smtp::server::Input;
use crate::time::Now;

/// What is kept of what a client has sent while a pause keeps its answer back: as much as a
/// large group of commands. Who has sent more does not wait for answers.
const PAUSED_BYTES_MAX: usize = 16 << 10;

impl Reception {
    /// Who brings a large message lets those go first who wait for the disk: they would wait
    /// for all of it, whole or not.
    pub(super) fn lets_others_go_first(&self, common: &Common) -> bool {
        let incoming = self.incoming.as_ref();
        incoming.is_some_and(|incoming| incoming.is_large()) && common.log.is_crowded()
    }

    /// The log takes nothing more of a message for now.
    pub(super) fn waits_for_log(&self, common: &Common) -> bool {
        self.incoming.is_some() && !common.log.takes_mail()
    }

    /// Tells the session that the client will send no more, unless it waits for us. Who does
    /// not wait out a pause is dismissed at once: most of these are gone, and would keep
    /// their places, of which a client has so many and no more, for as long as a pause takes,
    /// or all of them.
    pub(super) fn end_input(&mut self, now: Now, common: &mut Common) {
        let goes_on = self.unread.len() > PAUSED_BYTES_MAX;
        if self.session.is_paused() && (goes_on || self.input == InputEnd::Closed) {
            self.input = InputEnd::Told;
            self.say(now, common, Input::Impatient);
            self.unread = Box::default();
            return;
        }
        let waits_for_us = self.session.deadline().is_none();
        if self.input == InputEnd::Closed && self.unread.is_empty() && !waits_for_us {
            self.input = InputEnd::Told;
            self.say(now, common, Input::PeerClosed);
        }
    }

    /// Asks for what can be done now.
    pub(super) fn settle(&mut self, common: &mut Common) {
        let appetite = if self.lets_others_go_first(common) {
            common.crowded.push_back(self.flow.connection());
            Appetite::Sated
        } else if self.waits_for_log(common) {
            common.stalled.push(self.flow.connection());
            Appetite::Sated
        } else if self.input == InputEnd::Open
            && (self.unread.is_empty() || self.session.is_paused())
        {
            Appetite::Hungry
        } else {
            Appetite::Sated
        };
        self.flow
            .advance(appetite, &NoSpool, &mut common.operations);
        if self.flow.is_closed() {
            self.drop_incoming(common);
        }
    }
}
