//! Segments that deliveries are sending from.
//!
//! A segment may die while a delivery sends from it: the message was carried forward,
//! or answered before all of it had left. `reclaim` does not tell of it before the last
//! reader has gone; here the shell is kept from forgetting it, whatever the log says.
//!
//! Invariant: no [`Operation::Forget`](crate::core::Operation::Forget) while a reader is
//! there, and exactly one for each dead segment.

use hashbrown::HashMap;
use spool_format::SegmentPlace;

/// A segment with readers.
#[derive(Debug, Default)]
struct Loan {
    readers: u32,
    dead: bool,
}

/// See the module. As large as there are segments that are being sent from.
#[derive(Debug, Default)]
pub(super) struct Lending {
    loans: HashMap<SegmentPlace, Loan>,
}

/// What is to be done with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a dead segment is forgotten"]
pub(super) enum Forget {
    /// Nobody needs it.
    Now,
    /// Somebody does, or it is not dead.
    NotNow,
}

impl Lending {
    /// One more reader.
    pub(super) fn lend(&mut self, segment: SegmentPlace) {
        self.loans.entry(segment).or_default().readers += 1;
    }

    /// One reader less.
    pub(super) fn take_back(&mut self, segment: SegmentPlace) -> Forget {
        let loan = self.loans.get_mut(&segment).expect("it was lent");
        loan.readers -= 1;
        if loan.readers > 0 {
            return Forget::NotNow;
        }
        let dead = loan.dead;
        self.loans.remove(&segment);
        if dead { Forget::Now } else { Forget::NotNow }
    }

    /// It is dead: nobody will begin to read it.
    pub(super) fn dead(&mut self, segment: SegmentPlace) -> Forget {
        match self.loans.get_mut(&segment) {
            None => Forget::Now,
            Some(loan) => {
                loan.dead = true;
                Forget::NotNow
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool_format::{LogId, SegmentId};

    #[test]
    fn a_dead_segment_is_forgotten_behind_its_last_reader() {
        let place = |segment| SegmentPlace {
            log: LogId(0),
            segment: SegmentId(segment),
        };
        let mut lending = Lending::default();
        lending.lend(place(1));
        lending.lend(place(1));
        lending.lend(place(2));
        assert_eq!(lending.dead(place(1)), Forget::NotNow);
        assert_eq!(lending.take_back(place(1)), Forget::NotNow);
        assert_eq!(lending.take_back(place(1)), Forget::Now);
        assert_eq!(lending.take_back(place(2)), Forget::NotNow);
        assert_eq!(lending.dead(place(2)), Forget::Now);
        assert!(lending.loans.is_empty());
    }
}
