//! How collectors and links work together: what the one wants is told to the other, until
//! neither wants anything.

use super::ControlCore;
use crate::core::collectors::Output;
use crate::time::Now;

impl ControlCore {
    pub(super) fn collect_over_links(&mut self, now: Now) {
        loop {
            // Data cores hear of a link before they hear of what goes over it.
            self.operations
                .extend(std::iter::from_fn(|| self.online.poll()));
            self.collectors.line(now, self.online.line());
            // Behind the word on the link: what is due now must not begin over one that has
            // just gone.
            self.collectors.timer(now);
            let wanted = self.online.wanted();
            self.collectors.run(now, &wanted);
            let mut moved = false;
            while let Some(output) = self.collectors.poll() {
                match output {
                    Output::WantLink => {
                        moved = true;
                        self.online.collector_is_due(now);
                    }
                    Output::BringUp => {
                        moved = true;
                        if let Err(why) = self.online.bring_up(now) {
                            self.collectors.no_link(&why);
                        }
                    }
                    output => self.operations.extend(output.operation()),
                }
            }
            self.online.occupied(now, self.collectors.is_busy(now));
            if !moved {
                break;
            }
        }
        if self.collectors.is_asked_for_link() && !self.online.is_coming(now) {
            self.collectors
                .no_link("it could not be brought up; the log says why");
            while let Some(output) = self.collectors.poll() {
                self.operations.extend(output.operation());
            }
        }
    }
}
