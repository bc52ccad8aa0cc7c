//! A spool directory in which anything was changed: bits, sectors, lengths, whole files.
//! A start keeps what was not hit, says what it could not read, puts it aside, and goes
//! on; what is delivered is what was accepted; `spool verify` says the same.
//!
//! Most cases go through the program's own code in this process, some through the
//! program itself. `TURNSPOOL_DAMAGE_CASES` makes more, `TURNSPOOL_SEED` repeats.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use spool_format::{
    CHUNK_BODY_OFFSET, Item, LogId, Record as _, RecordKind, SEGMENT_HEADER_BYTES, Scanner,
    SealRecord, SegmentHeader, SegmentPlace,
};
use turnspool::mail::QueueId;
use turnspool::runtime::spool_id;
use turnspool::spool::message::StoredMessage;
use turnspool::spool::recovery::{Restart, read_directory};
use turnspool::spool::segment::{Directory, OpenSegments, parse_name};

use crate::harness::message::{Random, assert_identical};
use crate::harness::sink::EVERYTHING;
use crate::harness::{Relay, Setup, Sink, eventually, place};
use crate::kill::seed;
use crate::ledger::Ledger;

/// Cases in this process, without [`CASES_VARIABLE`].
const CASES: u64 = 200;
const CASES_VARIABLE: &str = "TURNSPOOL_DAMAGE_CASES";
/// Cases with the program.
const PROGRAM_CASES: u64 = 16;
/// Messages: every third is held.
const MESSAGES: u64 = 75;

const SETTINGS: &str = "segment_size = \"1MiB\"\nfree_min = \"1MiB\"";

/// A spool that the program has made, and what is in it.
struct Sound {
    directory: PathBuf,
    ledger: Ledger,
    /// By queue id as it is shown.
    numbers: BTreeMap<String, u64>,
    /// Where the records of each message lie: files, from the spool directory, and octets.
    parts: BTreeMap<String, Vec<(PathBuf, Range<u64>)>>,
}

fn is_held(number: u64) -> bool {
    number.is_multiple_of(3)
}

fn setup(hop: std::net::SocketAddr) -> Setup {
    Setup::to(hop)
        .held("held.example")
        .spool(SETTINGS)
        // A mail that waits is tried when the test has started the next hop.
        .retry("first = \"1s\"\nfactor = 1.0\nlongest = \"1s\"\ngive_up = \"1h\"\nwarn = \"0s\"")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let relative = file.strip_prefix(from).expect("below it");
        let target = to.join(relative);
        fs::create_dir_all(target.parent().expect("it has one")).expect("a directory");
        fs::copy(&file, &target).expect("it is copied");
    }
}

impl Sound {
    fn new(seed: u64, keep: &Path) -> Self {
        let ledger = Ledger::new(seed);
        let mut relay = setup(place::next_address()).start();
        let mut numbers = BTreeMap::new();
        let mut client = relay.client();
        for _ in 0..MESSAGES {
            let number = ledger.begin();
            let to = if is_held(number.0) {
                "<b@held.example>"
            } else {
                "<b@b.example>"
            };
            let id = client.send("<>", &[to], &ledger.text(number));
            numbers.insert(id, number.0);
        }
        // Some are tried in vain, some were deleted by the operator: so there are records
        // of all kinds.
        let gone: Vec<String> = numbers.keys().step_by(9).cloned().collect();
        for id in &gone {
            let finished = relay.run(&["queue", "delete", id]);
            assert_eq!(finished.code, Some(0), "{finished:?}");
            numbers.remove(id);
        }
        relay.stop();
        let directory = keep.join("sound");
        copy(&relay.spool_directory(), &directory);
        let parts = parts(&directory, &numbers);
        assert_eq!(parts.len(), numbers.len(), "all are found");
        Self {
            directory,
            ledger,
            numbers,
            parts,
        }
    }
}

fn parts(
    directory: &Path,
    numbers: &BTreeMap<String, u64>,
) -> BTreeMap<String, Vec<(PathBuf, Range<u64>)>> {
    let mut parts = BTreeMap::new();
    for file in files(directory) {
        let Some(place) = place_of(&file, "segment") else {
            continue;
        };
        let octets = fs::read(&file).expect("it is read");
        let header = SegmentHeader::decode(&octets, place).expect("it is sound");
        for item in Scanner::new(&octets, &header) {
            let Item::Record {
                offset,
                kind: RecordKind::Seal,
                payload,
            } = item
            else {
                continue;
            };
            let seal = SealRecord::decode(payload).expect("it is sound");
            let id = QueueId::from_u64(seal.queue_id).to_string();
            if !numbers.contains_key(&id) {
                continue;
            }
            let path = |segment| {
                let name = turnspool::spool::segment::file_name(
                    segment,
                    turnspool::spool::segment::FileKind::Segment,
                );
                PathBuf::from("log-00").join(name)
            };
            // Headers and padding of records are counted in, and a little of what follows.
            let around = |offset: u32, octets: u32| {
                u64::from(offset - CHUNK_BODY_OFFSET as u32)..u64::from(offset + octets + 8)
            };
            let mut of_message = vec![
                (
                    path(place.segment),
                    around(offset.0, payload.len() as u32 + 40),
                ),
                (
                    path(seal.envelope.segment),
                    around(seal.envelope.offset.0, 400),
                ),
            ];
            for extent in seal.extents.iter() {
                of_message.push((path(extent.segment), around(extent.offset.0, extent.length)));
            }
            parts.insert(id, of_message);
        }
    }
    parts
}

fn place_of(file: &Path, extension: &str) -> Option<SegmentPlace> {
    let name = file.file_name()?.to_str()?;
    let (segment, _) = parse_name(name)?;
    name.ends_with(extension).then_some(SegmentPlace {
        log: LogId(0),
        segment,
    })
}

/// What was done to a directory.
#[derive(Debug, Default)]
struct Done {
    words: Vec<String>,
    /// Octets that may be others now.
    hit: Vec<(PathBuf, Range<u64>)>,
    /// A file is gone: nobody can say what was in it.
    removed: bool,
}

fn hurt(random: &mut Random, directory: &Path) -> Done {
    let mut done = Done::default();
    for _ in 0..=random.below(3) {
        let all = files(directory);
        let file = &all[random.below(all.len() as u64) as usize];
        let relative = file.strip_prefix(directory).expect("below it").to_owned();
        let mut octets = fs::read(file).expect("it is read");
        let length = octets.len() as u64;
        // Where something is written, more often than behind it.
        let used = octets.iter().rposition(|&octet| octet != 0).unwrap_or(0) as u64 + 1;
        let at = match random.below(6) {
            0 => random.below(length.max(1)),
            1 => random.below(length.clamp(1, SEGMENT_HEADER_BYTES as u64)),
            _ => random.below(used),
        };
        let (range, what) = match random.below(8) {
            0..4 => {
                if let Some(octet) = octets.get_mut(at as usize) {
                    *octet ^= 1 << random.below(8);
                }
                (at..at + 1, "a bit flipped")
            }
            4 => {
                let sector = at / 512 * 512;
                let end = (sector + 512 * (1 + random.below(16))).min(length);
                octets[sector as usize..end as usize].fill(0);
                (sector..end, "sectors of zeros")
            }
            5 => {
                let end = (at + 1 + random.below(3000)).min(length);
                for octet in &mut octets[at as usize..end as usize] {
                    *octet = random.next() as u8;
                }
                (at..end, "noise")
            }
            6 => {
                octets.truncate(at as usize);
                (at..u64::MAX, "cut")
            }
            _ => {
                done.removed = true;
                (0..u64::MAX, "removed")
            }
        };
        done.words
            .push(format!("{} {range:?} {what}", relative.display()));
        if what == "removed" {
            fs::remove_file(file).expect("it is removed");
        } else {
            fs::write(file, &octets).expect("it is written");
        }
        done.hit.push((relative, range));
    }
    done
}

impl Done {
    /// Nothing of this was hit, nor a header, without which nothing of a segment is read.
    fn spares(&self, parts: &[(PathBuf, Range<u64>)]) -> bool {
        parts.iter().all(|(file, part)| {
            self.hit.iter().all(|(hit, range)| {
                let overlaps = range.start < part.end && part.start < range.end;
                let header = range.start < SEGMENT_HEADER_BYTES as u64;
                hit != file || !(overlaps || header)
            })
        })
    }
}

/// Starts in this process, as far as the queue; gives the messages that are whole.
fn start(directory: &Path) -> BTreeSet<String> {
    let log = LogId(0);
    // A program that another test is starting has a copy of the lock until it is that
    // program.
    let path = directory.join("log-00");
    let opened = eventually("the directory is opened", || {
        Directory::open(&path, log).ok()
    });
    let opened = Arc::new(opened);
    let identified = spool_id::identify(directory, [&opened]).expect("whose it is");
    let mut restart = Restart::new(Some(identified.spool));
    let facts = read_directory(&mut restart, &opened).expect("it is read");
    for error in facts.errors {
        assert!(!error.to_string().is_empty());
    }
    let restarted = restart.finish();
    assert!(restarted.refusal().is_none(), "damage is no newer version");
    for facts in restarted.reports() {
        assert!(!facts.to_string().is_empty());
    }
    let identity = turnspool::spool::log::Identity {
        spool: identified.spool,
        log,
    };
    let settings = turnspool::spool::log::Settings {
        segment_bytes: 1 << 20,
        size_max: u64::MAX,
        free_min: 0,
    };
    let mut open = OpenSegments::default();
    for facts in restarted.segments(&[log]) {
        // What cannot be opened is told, and its messages wait.
        if let Ok(segment) = opened.open_segment(facts.place.segment) {
            open.insert(Arc::new(segment));
        }
    }
    // It goes on from there.
    let went_on = restarted.log(identity, settings, &[log], 7, 1 << 30);
    let owned = [log];
    let messages = restarted.messages(&owned);
    let whole = messages.filter(|message| {
        let read = StoredMessage::read(&open, message.seal);
        read.is_ok_and(|stored| stored.verify(&open, message.seal).is_ok())
    });
    let whole: BTreeSet<String> = whole
        .map(|message| QueueId::from_u64(message.queue_id).to_string())
        .collect();
    assert!(went_on.messages_count() >= whole.len());
    whole
}

fn verify(directory: &Path) -> Value {
    let words = ["turnspool", "--json", "spool", "verify"].map(OsString::from);
    let words = words.into_iter().chain([directory.as_os_str().to_owned()]);
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let exit = turnspool::cli::run_with(words, &mut out, &mut errors);
    let facts: Value = serde_json::from_slice(&out).unwrap_or_else(|error| {
        let errors = String::from_utf8_lossy(&errors);
        panic!("{error}: {exit:?} {errors}")
    });
    let failed = exit == turnspool::cli::Exit::Failed;
    assert_eq!(facts["damaged"], failed, "{facts}");
    facts
}

#[test]
fn what_was_not_hit_is_kept_and_the_rest_is_told() {
    let cases = std::env::var(CASES_VARIABLE).ok();
    let cases = cases.map_or(CASES, |text| text.parse().expect("a whole number"));
    let seed = seed();
    let keep = tempfile::tempdir().expect("a directory");
    let sound = Sound::new(seed, keep.path());
    let whole: BTreeSet<String> = sound.numbers.keys().cloned().collect();
    let (mut lost, mut with_damage) = (0, 0);
    for case in 0..=cases {
        let mut random = Random(seed ^ case.wrapping_mul(0xD134_2543_DE82_EF95));
        let directory = keep.path().join("case");
        copy(&sound.directory, &directory);
        let done = match case {
            0 => Done::default(),
            _ => hurt(&mut random, &directory),
        };
        let words = format!("TURNSPOOL_SEED={seed}, case {case}: {:?}", done.words);
        let context = Context(&words);
        let told = files(&directory.join("log-00"))
            .iter()
            .any(|file| place_of(file, "segment").is_some())
            .then(|| verify(&directory));
        let found = start(&directory);
        for (id, parts) in &sound.parts {
            assert!(
                found.contains(id) || !done.spares(parts),
                "{words}: message {id} was not hit and is gone"
            );
        }
        for id in &found {
            // What was deleted can come back when the record that says so is hit.
            assert!(whole.contains(id) || case > 0, "{words}: {id} is new");
        }
        if let Some(told) = told {
            assert_eq!(
                told["bodies_checked"],
                found.len(),
                "{words}: verify and the start disagree: {told}"
            );
            let gone = whole.difference(&found).count();
            assert!(
                gone == 0 || told["damaged"] == true || done.removed,
                "{words}: {gone} are gone, and verify says nothing: {told}"
            );
            with_damage += u64::from(told["damaged"] == true);
            lost += gone;
        }
        // A start is no change to what is there.
        assert_eq!(start(&directory), found, "{words}");
        fs::remove_dir_all(&directory).expect("it is ours");
        drop(context);
    }
    eprintln!(
        "{cases} cases: damage told in {with_damage}, {lost} messages lost with what was hit"
    );
    assert!(
        with_damage > cases / 4 && lost > 0,
        "the test tests nothing"
    );
}

/// Says which case it was, when something in the program's code panics.
struct Context<'a>(&'a str);

impl Drop for Context<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in {}", self.0);
        }
    }
}

#[test]
fn the_program_starts_delivers_what_is_whole_and_goes_on() {
    let seed = seed();
    let keep = tempfile::tempdir().expect("a directory");
    let sound = Sound::new(seed, keep.path());
    for case in 0..PROGRAM_CASES {
        let mut random = Random(seed ^ case.wrapping_mul(0xA076_1D64_78BD_642F));
        let directory = keep.path().join(format!("case-{case}"));
        copy(&sound.directory, &directory);
        let done = hurt(&mut random, &directory);
        eprintln!("case {case}: {:?}", done.words);
        let look = keep.path().join("look");
        copy(&directory, &look);
        let whole = start(&look);
        fs::remove_dir_all(&look).expect("it is ours");
        let hop = place::next_address();
        let mut relay = setup(hop).spool_directory(&directory).start();
        check(&sound, &mut relay, hop, &whole);
        // Told once: the second start finds nothing new, and everything that is left.
        let aside = relay.log().matches(" is set aside as ").count();
        relay.start_again();
        assert_eq!(relay.log().matches(" is set aside as ").count(), aside);
        relay.stop();
    }
}

fn check(sound: &Sound, relay: &mut Relay, hop: std::net::SocketAddr, whole: &BTreeSet<String>) {
    let queued: BTreeSet<String> = relay.queued().into_iter().collect();
    let missing: Vec<_> = whole.difference(&queued).collect();
    assert!(missing.is_empty(), "whole, and not queued: {missing:?}");
    let expected: BTreeSet<u64> = (whole.iter())
        .filter_map(|id| sound.numbers.get(id).copied())
        .filter(|number| !is_held(*number))
        .collect();
    let mut client = relay.client();
    let text = b"X-Number: 1000000\r\nSubject: new\r\n\r\nnew\r\n";
    client.send("<>", &["<b@b.example>"], text);
    let sink = Sink::at(hop, EVERYTHING, []);
    eventually("what is whole is delivered, and what is new", || {
        let mail = sink.mail();
        let got: BTreeSet<u64> = mail.iter().map(|mail| Ledger::number(mail).0).collect();
        (expected.is_subset(&got) && got.contains(&1_000_000)).then_some(())
    });
    for mail in sink.mail() {
        let number = Ledger::number(&mail);
        if number.0 != 1_000_000 {
            assert_identical(&mail.octets, &sound.ledger.text(number));
        }
    }
    relay.stop();
}

/// A text that is not what was accepted goes nowhere, and its sender hears of it.
#[test]
fn the_sender_of_a_damaged_message_is_told() {
    const WORDS: &str = "words that stand nowhere else";
    let hop = place::next_address();
    let mut relay = setup(hop).start();
    let mut client = relay.client();
    for (subject, body) in [("sound", "this is sound"), ("hit", WORDS)] {
        let text = crate::harness::message::message(subject, body);
        client.send("<a@client.example>", &["<b@b.example>"], &text);
    }
    relay.stop();
    let mut hit = 0;
    for file in files(&relay.spool_directory()) {
        let mut octets = fs::read(&file).expect("it is read");
        let found = octets
            .windows(WORDS.len())
            .position(|part| part == WORDS.as_bytes());
        if let Some(at) = found {
            octets[at] ^= 1;
            fs::write(&file, &octets).expect("it is written");
            hit += 1;
        }
    }
    assert_eq!(hit, 1, "it is in one place");
    let sink = Sink::at(hop, EVERYTHING, []);
    relay.start_again();
    let mail = sink.wait_for(2);
    relay.wait_until_empty();
    assert_eq!(sink.count(), 2);
    let to = |address: &str| {
        let to = |mail: &&crate::harness::sink::Mail| mail.recipients[0].contains(address);
        let found = mail.iter().find(to);
        found.unwrap_or_else(|| panic!("nothing for {address}: {mail:?}"))
    };
    let sound = crate::harness::message::message("sound", "this is sound");
    assert_identical(&to("b@b.example").octets, &sound);
    let report = String::from_utf8_lossy(&to("a@client.example").octets).into_owned();
    assert!(report.contains("Status: 5.3.0"), "{report}");
    let log = relay.log();
    assert!(log.contains("its sender is told"), "{log}");
    relay.stop();
}

/// Without an envelope there is nobody to tell but the operator, and nothing to wait for.
#[test]
fn a_message_without_its_envelope_is_ended_and_told_of_once() {
    const SENDER: &[u8] = b"nobody-else@client.example";
    let hop = place::next_address();
    let mut relay = setup(hop).start();
    let mut client = relay.client();
    for (sender, subject) in [
        ("<a@client.example>", "sound"),
        ("<nobody-else@client.example>", "hit"),
        ("<a@client.example>", "held"),
    ] {
        let text = crate::harness::message::message(subject, "this is sound");
        let to = match subject {
            "held" => "<b@held.example>",
            _ => "<b@b.example>",
        };
        client.send(sender, &[to], &text);
    }
    relay.stop();
    let mut hit = 0;
    for file in files(&relay.spool_directory()) {
        let mut octets = fs::read(&file).expect("it is read");
        let found = (octets.windows(SENDER.len())).position(|part| part == SENDER);
        if let Some(at) = found {
            octets[at] ^= 1;
            fs::write(&file, &octets).expect("it is written");
            hit += 1;
        }
    }
    assert_eq!(hit, 1, "the envelope is in one place");
    relay.start_again();
    // The next hop does not answer: it is ended without it.
    eventually("it is ended", || {
        relay.log().contains("so it is ended").then_some(())
    });
    assert_eq!(relay.queued().len(), 2, "the others wait");
    relay.stop();
    relay.start_again();
    let log = relay.log();
    assert_eq!(log.matches("so it is ended").count(), 1, "{log}");
    let sink = Sink::at(hop, EVERYTHING, []);
    sink.wait_for(1);
    // The reply to what has come may still be on its way.
    eventually("held mail is held", || {
        (relay.queued().len() == 1).then_some(())
    });
    assert_eq!(sink.count(), 1);
    relay.stop();
}
