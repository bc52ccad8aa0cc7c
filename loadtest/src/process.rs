//! What a process and its descendants cost, from /proc: CPU, memory, octets
//! written. Only Linux has it, and only Linux has the ring.

use std::collections::{HashMap, HashSet};
use std::fs;

/// A server to watch: its processes, perhaps a device.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Watch {
    /// Process of the server, for its CPU, memory and disk octets; its
    /// descendants are counted with it. May be given several times.
    #[arg(long = "pid")]
    pub pids: Vec<u32>,
    /// All processes that descend from this one, without it, are the server.
    #[arg(skip)]
    pub(crate) own_descendants: bool,
    /// Block device of the server's spool (as in /proc/diskstats, "vda"), for
    /// the octets that really reach it. Synced before and after.
    #[arg(long)]
    pub disk: Option<String>,
}

/// Counters at one moment.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time, children that were waited for included.
    pub(crate) cpu_seconds: f64,
    /// Octets that the processes caused to be written (`write_bytes`).
    pub(crate) written_bytes: u64,
    /// Octets that the device took.
    pub(crate) device_bytes: Option<u64>,
    /// Resident memory.
    pub(crate) resident_bytes: u64,
}

impl Watch {
    /// Whether there is anything to watch.
    pub(crate) fn any(&self) -> bool {
        !self.pids.is_empty() || self.own_descendants || self.disk.is_some()
    }

    /// The counters now. What cannot be read (a process that has gone, another
    /// user's) counts as nothing.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        if let Some(disk) = &self.disk {
            // The counter is of what reached the device, not of what waits.
            rustix::fs::sync();
            usage.device_bytes = fs::read_to_string("/proc/diskstats")
                .ok()
                .and_then(|text| device(&text, disk));
        }
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let mut processes = descendants(&self.pids);
        if self.own_descendants {
            processes.extend(Self::descendants());
            // Of those that have ended and were waited for.
            let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
            if let Some(stat) = parse_stat(&own) {
                usage.cpu_seconds += stat.ticks_of_children as f64 / ticks;
            }
        }
        for pid in processes {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
            if let Some(stat) = read("stat").ok().as_deref().and_then(parse_stat) {
                usage.cpu_seconds += (stat.ticks + stat.ticks_of_children) as f64 / ticks;
            }
            usage.written_bytes += field(&read("io").unwrap_or_default(), "write_bytes:");
            usage.resident_bytes += field(&read("status").unwrap_or_default(), "VmRSS:") * 1024;
        }
        usage
    }

    /// The processes that descend from this one, without it.
    pub(crate) fn descendants() -> HashSet<u32> {
        let own = std::process::id();
        let mut all = descendants(&[own]);
        all.remove(&own);
        all
    }
}

/// The processes `pids` and all that descend from them.
fn descendants(pids: &[u32]) -> HashSet<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(stat) = parse_stat(&stat) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut all = HashSet::new();
    let mut to_visit = pids.to_vec();
    while let Some(pid) = to_visit.pop() {
        if all.insert(pid) {
            to_visit.extend(children.get(&pid).into_iter().flatten());
        }
    }
    all
}

struct Stat {
    parent: u32,
    /// User and system.
    ticks: u64,
    /// The same of children that were waited for.
    ticks_of_children: u64,
}

/// proc(5): the command in parentheses may contain anything, parentheses too.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        // utime, stime; cutime, cstime
        ticks: number(11)? + number(12)?,
        ticks_of_children: number(13)? + number(14)?,
    })
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn device(text: &str, name: &str) -> Option<u64> {
    let fields = text
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&name))?;
    // Always sectors of 512 octets, whatever the device's are.
    fields
        .get(9)?
        .parse::<u64>()
        .ok()
        .map(|sectors| sectors * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_nasty_command() {
        let line = "7 (a) b (c)) S 3 7 7 0 -1 0 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        let stat = parse_stat(line).unwrap();
        assert_eq!(
            (stat.parent, stat.ticks, stat.ticks_of_children),
            (3, 30, 70)
        );
        assert!(parse_stat("7 (a").is_none());
    }

    #[test]
    fn fields_and_devices() {
        assert_eq!(field("VmPeak: 9 kB\nVmRSS:\t 12 kB\n", "VmRSS:"), 12);
        let text = "254 0 vda 1 2 3 4 5 6 100 8\n254 1 vda1 1 2 3 4 5 6 9 8\n";
        assert_eq!(device(text, "vda1"), Some(9 * 512));
        assert_eq!(device(text, "sda"), None);
    }

    #[test]
    fn our_own_process_has_memory() {
        let watch = Watch {
            pids: vec![std::process::id()],
            ..Watch::default()
        };
        assert!(watch.usage().resident_bytes > 0);
    }
}
