//! Reloads of the configuration, one at a time: the shell reads the files on a helper
//! thread, which with ten thousand customers takes a third of a second.
//!
//! Invariant: who asks while one is under way is answered by the next, which reads what
//! the files are then.

use crate::core::AdminRequestId;

/// See the module.
#[derive(Default)]
pub(super) struct Reloads {
    /// Who asked for the one that is under way.
    under_way: Option<Vec<AdminRequestId>>,
    /// Who asked meanwhile.
    next: Option<Vec<AdminRequestId>>,
}

/// Whether the configuration is to be read now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Load {
    /// It is.
    Now,
    /// Not now.
    Later,
}

impl Reloads {
    /// Somebody wants one, the operator or a signal.
    pub(super) fn want(&mut self, asker: Option<AdminRequestId>) -> Load {
        match &mut self.under_way {
            None => {
                self.under_way = Some(asker.into_iter().collect());
                Load::Now
            }
            Some(_) => {
                self.next.get_or_insert_default().extend(asker);
                Load::Later
            }
        }
    }

    /// The one under way is over: who is told, and whether the next one begins.
    pub(super) fn over(&mut self) -> (Vec<AdminRequestId>, Load) {
        let told = self.under_way.take().unwrap_or_default();
        self.under_way = self.next.take();
        let load = match self.under_way {
            Some(_) => Load::Now,
            None => Load::Later,
        };
        (told, load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_late_is_answered_by_the_next() {
        let mut reloads = Reloads::default();
        let asker = |number| Some(AdminRequestId(number));
        assert_eq!(reloads.want(asker(1)), Load::Now);
        assert_eq!(reloads.want(None), Load::Later);
        assert_eq!(reloads.want(asker(2)), Load::Later);
        assert_eq!(reloads.want(asker(3)), Load::Later);
        assert_eq!(reloads.over(), (vec![AdminRequestId(1)], Load::Now));
        let (told, load) = reloads.over();
        assert_eq!(told, [AdminRequestId(2), AdminRequestId(3)]);
        assert_eq!(load, Load::Later);
        assert_eq!(reloads.want(None), Load::Now);
        assert_eq!(reloads.over(), (Vec::new(), Load::Later));
    }
}
