//! Processes as the kernel shows them (proc(5)): also those that are not our children.
//!
//! A number is given out again when its process has gone and was waited for. So a process is
//! known by its number and by when it began, and no signal is sent to a number alone.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::Instant;

use crate::report::Fact;
use crate::runtime::log::report_control;

/// How often a process that was told to end is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// How long what a program has started may take to end when the program itself has.
const REST_PATIENCE: Duration = Duration::from_secs(2);
/// How long the kernel may take to end what was killed. One that waits for a device takes
/// longer, and nothing ends it sooner.
pub(super) const KILLED_PATIENCE: Duration = Duration::from_secs(2);

/// The leader of a process group, and no other that has its number later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Leader {
    number: u32,
    /// Ticks since the boot.
    began: u64,
}

impl Leader {
    /// The process with this number, if it leads a group of its own.
    pub(super) fn of(number: u32) -> Option<Self> {
        let stat = Stat::of(number)?;
        let began = stat.began;
        (stat.group == number).then_some(Self { number, began })
    }

    pub(super) const fn number(self) -> u32 {
        self.number
    }

    /// As the kernel shows it: also if it has ended and was not waited for.
    fn stat(self) -> Option<Stat> {
        Stat::of(self.number).filter(|stat| stat.began == self.began)
    }

    /// Whether it is there and has not ended.
    pub(super) fn is_running(self) -> bool {
        self.stat().is_some_and(|stat| stat.is_running())
    }

    /// Signals its group. As long as the kernel shows the leader, nobody else has its number.
    pub(super) fn signal(self, signal: Signal) {
        let number = i32::try_from(self.number).ok().and_then(Pid::from_raw);
        if let (Some(group), Some(_)) = (number, self.stat()) {
            // It may be gone already: then it is as it should be.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Whether another of its group is there.
    fn has_others(self) -> bool {
        let mut others = numbers().filter(|number| *number != self.number);
        others.any(|number| {
            Stat::of(number).is_some_and(|stat| stat.group == self.number && stat.is_running())
        })
    }

    /// Tells the group to end, and kills what of it has not after that time. Whoever is to
    /// know of it is told by the name. It must not be waited for meanwhile.
    ///
    /// # Errors
    /// A sentence: it was killed, and does not end.
    pub(super) async fn end(self, name: &str, patience: Duration) -> Result<(), String> {
        self.signal(Signal::TERM);
        if self.has_ended_within(patience).await {
            return Ok(());
        }
        self.signal(Signal::KILL);
        let number = self.number;
        if self.has_ended_within(KILLED_PATIENCE).await {
            let seconds = patience.as_secs();
            let what = format!(
                "{name} (process {number}), or what it has started, had not ended {seconds} s after \
                 it was told to, and was killed"
            );
            report_control(&Fact::Trouble { what });
            return Ok(());
        }
        Err(format!(
            "{name} (process {number}) does not end although it was killed"
        ))
    }

    async fn has_ended_within(self, patience: Duration) -> bool {
        let mut until = Instant::now() + patience;
        let mut had_ended = false;
        loop {
            if !self.is_running() {
                // Of one that was waited for, nobody can say who is of its group.
                if self.stat().is_none() || !self.has_others() {
                    return true;
                }
                if !std::mem::replace(&mut had_ended, true) {
                    until = until.min(Instant::now() + REST_PATIENCE);
                }
            }
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

/// What `/proc/NUMBER/stat` says.
struct Stat {
    state: char,
    group: u32,
    began: u64,
}

impl Stat {
    fn of(process: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }

    fn parse(line: &str) -> Option<Self> {
        // Behind the name, which may hold anything, in parentheses.
        let (_, rest) = line.rsplit_once(") ")?;
        let words: Vec<&str> = rest.split(' ').collect();
        Some(Self {
            state: words.first()?.chars().next()?,
            group: words.get(2)?.parse().ok()?,
            began: words.get(19)?.parse().ok()?,
        })
    }

    /// Z and X: it has ended.
    const fn is_running(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// All processes.
pub(super) fn numbers() -> impl Iterator<Item = u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok())
}

/// The process group of a process.
pub(super) fn group_of(process: u32) -> Option<u32> {
    Stat::of(process).map(|stat| stat.group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let line = "4711 (a) Z 1 1 (b) S 1 4710 4709 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 815 9 9";
        let stat = Stat::parse(line).expect("it is one");
        assert_eq!((stat.state, stat.group, stat.began), ('S', 4710, 815));
        assert!(Stat::parse("4711 (a)").is_none());
    }

    /// The number of one that has gone may be a stranger's.
    #[test]
    fn another_process_with_its_number_is_not_it() {
        use std::os::unix::process::CommandExt as _;
        let mut sleep = std::process::Command::new("sleep");
        let mut stranger = sleep.arg("1000").process_group(0).spawn().expect("sleep");
        let real = Leader::of(stranger.id()).expect("it leads its group");
        assert!(real.is_running());
        let before = Leader {
            began: real.began - 1,
            ..real
        };
        assert!(!before.is_running());
        before.signal(Signal::KILL);
        let now = stranger.try_wait().expect("it is ours");
        assert_eq!(now, None, "a stranger was killed");
        real.signal(Signal::KILL);
        stranger.wait().expect("it is ours");
        assert!(!real.is_running());
    }

    #[test]
    fn who_does_not_lead_a_group_is_no_leader() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn();
        let child = child.as_mut().expect("sleep");
        assert_eq!(Leader::of(child.id()), None);
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }
}
