//! Fuzzing: parsers and whole sessions are fed with what nobody would send.
//!
//! `targets` says what is fed and what must hold. `corpus` has inputs for each target: those
//! with a name by hand, or because they have found a fault; those that are named by their
//! checksum from runs with coverage, the fewest that reach as much as all of these did. Here all of them are played, and some thousand mutations of them
//! from a seed that is printed. `TURNSPOOL_FUZZ_SECONDS` makes that longer, for each
//! target, with a seed of the clock; `TURNSPOOL_SEED` repeats a run.
//!
//! `tests/fuzz/run SECONDS` is guided by coverage (libFuzzer), with the same targets, and
//! `tests/fuzz/run minimise` makes the corpus anew from what that has found.

#[path = "../../spool-format/tests/common/mod.rs"]
mod common;
#[path = "../dialogues/login.rs"]
mod login;
#[allow(dead_code)]
#[path = "../dialogues/script.rs"]
mod script;
mod targets;
#[allow(dead_code)]
#[path = "../dialogues/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use targets::TARGETS;

/// Mutations of each target.
const MUTATIONS: u64 = 3000;
/// Longest input: sessions of some dozens of commands.
const OCTETS_MAX: usize = 4096;

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name);
    let entries = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let octets = std::fs::read(&path).expect("a file");
            (path, octets)
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    files
}

/// One change, of the kinds that find most: of bits, of lengths, of what stands where,
/// and parts of one input in another.
fn mutate(random: &mut Random, octets: &mut Vec<u8>, other: &[u8]) {
    const ODD: [u8; 14] = [
        0, 1, 0x7f, 0x80, 0xff, b'\r', b'\n', b'.', b' ', b'<', b'>', b'@', b'"', b'-',
    ];
    let at = random.below(octets.len() + 1);
    let end = (at + 1 + random.below(16)).min(octets.len());
    let from = random.below(other.len());
    let part = &other[from..(from + 1 + random.below(40)).min(other.len())];
    match random.below(8) {
        0 if at < octets.len() => octets[at] ^= 1 << random.below(8),
        1 if at < octets.len() => octets[at] = ODD[random.below(ODD.len())],
        2 => octets.insert(at, ODD[random.below(ODD.len())]),
        3 if at < end => drop(octets.drain(at..end)),
        4 if at < end => {
            let again = octets[at..end].to_vec();
            let times = 1 + random.below(30);
            let again = again.repeat(times);
            octets.splice(at..at, again);
        }
        5 => octets.truncate(at),
        6 => drop(octets.splice(at..at, part.iter().copied())),
        _ => {
            let end = (at + part.len()).min(octets.len());
            octets.splice(at..end, part.iter().copied());
        }
    }
    octets.truncate(OCTETS_MAX);
}

/// Runs one input. What found something is written where it can be taken from.
fn run(name: &str, target: fn(&[u8]), octets: &[u8], what: &str) {
    let caught = catch_unwind(AssertUnwindSafe(|| target(octets)));
    if caught.is_err() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("found-{name}"));
        let _ = std::fs::write(&path, octets);
        panic!(
            "{name}: {what}; the input is in {}: {}",
            path.display(),
            octets.escape_ascii()
        );
    }
}

#[test]
fn corpus_and_mutations() {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{name} is a whole number")),
        )
    };
    let long = number("TURNSPOOL_FUZZ_SECONDS").map(Duration::from_secs);
    let seed = number("TURNSPOOL_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        if long.is_some() {
            now.expect("after 1970").as_nanos() as u64
        } else {
            1
        }
    });
    eprintln!("TURNSPOOL_SEED={seed}");
    for &(name, target) in TARGETS {
        let files = corpus(name);
        for (path, octets) in &files {
            run(name, target, octets, &path.display().to_string());
        }
        let random = &mut Random(seed);
        let (begun, mut inputs) = (Instant::now(), 0);
        while long.map_or(inputs < MUTATIONS, |long| begun.elapsed() < long) {
            let mut octets = files[random.below(files.len())].1.clone();
            let other = &files[random.below(files.len())].1;
            for _ in 0..=random.below(6) {
                mutate(random, &mut octets, other);
            }
            run(
                name,
                target,
                &octets,
                &format!("seed {seed}, mutation {inputs}"),
            );
            inputs += 1;
        }
        eprintln!("{name}: {} files, {inputs} mutations", files.len());
    }
}

/// A directory that no target reads is a target that was renamed.
#[test]
fn the_corpus_belongs_to_targets() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for entry in std::fs::read_dir(directory).expect("the corpus") {
        let name = entry.expect("an entry").file_name();
        let known = TARGETS.iter().any(|(target, _)| name == *target);
        assert!(known, "no target is called {}", name.display());
    }
}

/// What `tests/fuzz/run minimise` keeps to: everybody who clones the repository has it all.
#[test]
fn the_corpus_is_small() {
    let script = include_str!("run");
    let limit = |name: &str| -> usize {
        let line = script.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.strip_prefix('=')?.parse().ok());
        number.unwrap_or_else(|| panic!("tests/fuzz/run sets {name}"))
    };
    let (octets_max, files_max) = (limit("INPUT_OCTETS_MAX"), limit("FILES_MAX"));
    for (target, _) in TARGETS {
        let files = corpus(target);
        let by_checksum = files.iter().filter(|(path, _)| {
            let name = path.file_name().expect("a file").as_encoded_bytes();
            name.len() == 40 && name.iter().all(u8::is_ascii_hexdigit)
        });
        let mut count = 0;
        for (path, octets) in by_checksum {
            count += 1;
            assert!(octets.len() <= octets_max, "{} is large", path.display());
        }
        assert!(count <= files_max, "{target} has {count} files");
    }
}
