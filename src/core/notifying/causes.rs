//! Why recipients were last put off: what their sender is told when the delivery is late,
//! and when it is given up.
//!
//! It is kept in memory only, and bounded: a hint for people. Where it is forgotten, the
//! notification says what happened without it.

use hashbrown::HashMap;

use crate::mail::{QueueId, RecipientIndex};

/// Recipients whose last cause is kept: some megabytes. Beyond it all are forgotten; of a
/// queue that long most waits for hosts that are dead, which `hosts` knows.
const CAUSES_MAX: usize = 16 * 1024;

/// Longest cause, in octets: a reply of one line.
const CAUSE_BYTES_MAX: usize = 300;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::core) struct Causes {
    of: HashMap<QueueId, Vec<(RecipientIndex, Box<str>)>>,
    count: usize,
}

impl Causes {
    /// A recipient was put off.
    pub(in crate::core) fn put_off(&mut self, queue_id: QueueId, index: RecipientIndex, why: &str) {
        let end = (0..=CAUSE_BYTES_MAX.min(why.len()))
            .rev()
            .find(|&end| why.is_char_boundary(end));
        let why: Box<str> = why[..end.unwrap_or(0)].into();
        if self.count >= CAUSES_MAX {
            self.of.clear();
            self.count = 0;
        }
        let of_message = self.of.entry(queue_id).or_default();
        match of_message.iter_mut().find(|(other, _)| *other == index) {
            Some((_, cause)) => *cause = why,
            None => {
                of_message.push((index, why));
                self.count += 1;
            }
        }
    }

    /// Why this one was last put off.
    pub(in crate::core) fn last(&self, queue_id: QueueId, index: RecipientIndex) -> Option<&str> {
        let of_message = self.of.get(&queue_id)?;
        let (_, why) = of_message.iter().find(|(other, _)| *other == index)?;
        Some(why)
    }

    /// Nobody is left to deliver to.
    pub(in crate::core) fn finished(&mut self, queue_id: QueueId) {
        if !self.of.is_empty()
            && let Some(gone) = self.of.remove(&queue_id)
        {
            self.count -= gone.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_and_no_more_than_may_be() {
        let mut causes = Causes::default();
        let (one, two) = (RecipientIndex(1), RecipientIndex(2));
        let id = |number| QueueId::new(0, number);
        causes.put_off(id(1), one, "first");
        causes.put_off(id(1), two, "other");
        causes.put_off(id(1), one, &"ü".repeat(CAUSE_BYTES_MAX));
        let last = causes.last(id(1), one).expect("it is there");
        assert!(last.len() <= CAUSE_BYTES_MAX && last.starts_with("üü"));
        assert_eq!(causes.last(id(1), two), Some("other"));
        assert_eq!(causes.last(id(2), two), None);
        causes.finished(id(1));
        assert_eq!((causes.last(id(1), two), causes.count), (None, 0));
        for number in 0..3 * CAUSES_MAX as u64 {
            causes.put_off(id(number), one, "x");
            assert!(causes.count <= CAUSES_MAX);
        }
    }
}
