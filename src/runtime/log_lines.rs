//! Log lines on their way to standard error or a file.
//!
//! A write per line costs more than making the line. Lines are gathered and leave
//! together, after `GATHER` at the latest, by a thread of their own; so a data core
//! never waits for a terminal or a full pipe, until `GATHERED_BYTES_MAX` wait.
//! What is gathered leaves before the process exits ([`LogLines::flush`]), also
//! when a thread panics.
//!
//! Each thread gathers in a place of its own: data cores that write two lines a message
//! share nothing by it, neither a lock that another one has nor a line of the cache. The
//! writing thread puts the lines in the order of their times, which they begin with.
//!
//! A file that cannot be written to, since its disk is full, stops nothing: what it
//! does not take is counted, and told when it takes lines again.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for company. An operator who watches does not notice.
const GATHER: Duration = Duration::from_millis(20);

/// Octets of one place that wait at most. Then whoever has a line to write waits: a log
/// with holes would be worse than a slow relay.
const GATHERED_BYTES_MAX: usize = 4 << 20;

/// The operator's group may read a log, the world may not: it names who writes to whom.
const FILE_MODE: u32 = 0o640;

/// Places to gather in: for each data core of a usual machine one, and for the control
/// core. Where there are more threads, some share one.
const PLACES: usize = 32;

/// Octets at the beginning of a line that hold its time, in text and in JSON
/// (`{"timestamp":"` and 27 more).
const TIME_BYTES: usize = 41;

/// Lines, one behind the other, and where each ends: a line may have several.
#[derive(Debug, Default)]
struct Lines {
    octets: Vec<u8>,
    ends: Vec<usize>,
}

impl Lines {
    fn push(&mut self, line: &[u8]) {
        self.octets.extend_from_slice(line);
        self.ends.push(self.octets.len());
    }

    fn clear(&mut self) {
        self.octets.clear();
        self.ends.clear();
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins
            .zip(&self.ends)
            .map(|(begin, &end)| &self.octets[begin..end])
    }
}

/// Where the lines of a thread gather. On a line of the cache of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place {
    lines: Mutex<Lines>,
    /// They were taken to be written.
    emptied: Condvar,
}

#[derive(Debug)]
struct Inner {
    places: [Place; PLACES],
    /// The writing thread waits for `filled`. Nearly always only read.
    asleep: AtomicBool,
    /// How often it has written all that it found.
    rounds: Mutex<u64>,
    /// There is something to write, or somebody waits for a round.
    filled: Condvar,
    /// A round is over.
    written: Condvar,
    /// The file was moved away: what is written from now on goes to a new one.
    reopen: AtomicBool,
}

/// Where the writing thread writes to.
enum Sink {
    Stderr,
    File { path: PathBuf, file: File },
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).append(true).mode(FILE_MODE).open(path)
}

impl Sink {
    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().write_all(octets),
            Self::File { file, .. } => file.write_all(octets),
        }
    }

    /// Without a new file the old one is written to, wherever it is now.
    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, file } = self {
            *file = open(path)?;
        }
        Ok(())
    }
}

/// Where log lines go.
#[derive(Clone, Debug)]
pub struct LogLines(Arc<Inner>);

impl LogLines {
    /// Lines to standard error.
    ///
    /// # Errors
    /// The writing thread could not be started.
    pub fn to_stderr() -> io::Result<Self> {
        Self::start(Sink::Stderr)
    }

    /// Lines to the end of a file.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        Self::start(Sink::File {
            path: path.to_owned(),
            file: open(path)?,
        })
    }

    fn start(sink: Sink) -> io::Result<Self> {
        let lines = Self(Arc::new(Inner {
            places: std::array::from_fn(|_| Place::default()),
            asleep: AtomicBool::new(false),
            rounds: Mutex::new(0),
            filled: Condvar::new(),
            written: Condvar::new(),
            reopen: AtomicBool::new(false),
        }));
        let writer = lines.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.write(sink))?;
        Ok(lines)
    }

    /// Waits until everything gathered so far is written.
    pub fn flush(&self) {
        let mut rounds = lock(&self.0.rounds);
        // The round that is under way may have passed the newest line.
        let enough = *rounds + 2;
        while *rounds < enough {
            self.0.asleep.store(false, Ordering::Relaxed);
            self.0.filled.notify_one();
            let waited = self.0.written.wait_timeout(rounds, GATHER);
            rounds = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The file was moved away, as logrotate does. Once what is being written now is out,
    /// nothing more goes to the old one.
    pub fn reopen(&self) {
        self.0.reopen.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn write(&self, mut sink: Sink) {
        let mut lost: u64 = 0;
        let mut taken: Vec<Lines> = (0..PLACES).map(|_| Lines::default()).collect();
        let mut together = Vec::new();
        loop {
            if !self.take(&mut taken) {
                self.sleep(&mut taken);
            }
            together.clear();
            let octets = in_order(&taken, &mut together);
            if self.0.reopen.swap(false, Ordering::Relaxed)
                && let Err(error) = sink.reopen()
            {
                let what = format!("reopening the log failed ({error}); the old file is used\n");
                put(&mut sink, what.as_bytes(), &mut lost);
            }
            put(&mut sink, octets, &mut lost);
            taken.iter_mut().for_each(Lines::clear);
            *lock(&self.0.rounds) += 1;
            self.0.written.notify_all();
            std::thread::sleep(GATHER);
        }
    }

    /// Takes what has gathered. False if that is nothing.
    fn take(&self, taken: &mut [Lines]) -> bool {
        let mut some = false;
        for (place, taken) in self.0.places.iter().zip(taken) {
            std::mem::swap(&mut *lock(&place.lines), taken);
            if !taken.octets.is_empty() {
                some = true;
                place.emptied.notify_all();
            }
        }
        some
    }

    /// Waits until there is something to do, or somebody wants to know that there is
    /// nothing.
    fn sleep(&self, taken: &mut [Lines]) {
        let mut rounds = lock(&self.0.rounds);
        self.0.asleep.store(true, Ordering::Relaxed);
        // Whoever adds a line behind this look has taken the lock of its place behind it,
        // and so sees that we sleep. Whoever wants a new file takes this lock.
        if self.take(taken) || self.0.reopen.load(Ordering::Relaxed) {
            self.0.asleep.store(false, Ordering::Relaxed);
        }
        while self.0.asleep.load(Ordering::Relaxed) {
            rounds = (self.0.filled.wait(rounds)).unwrap_or_else(PoisonError::into_inner);
        }
        drop(rounds);
        if taken.iter().all(|lines| lines.octets.is_empty()) {
            self.take(taken);
        }
    }

    fn wake(&self) {
        // Under the lock: between its look and its wait the writing thread has it.
        let rounds = lock(&self.0.rounds);
        self.0.asleep.store(false, Ordering::Relaxed);
        drop(rounds);
        self.0.filled.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of this thread, given when it writes its first line.
fn place_number() -> usize {
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NUMBER.get().unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % PLACES;
        NUMBER.set(Some(number));
        number
    })
}

/// All lines by their times; `room` is used where they are of several threads.
fn in_order<'a>(taken: &'a [Lines], room: &'a mut Vec<u8>) -> &'a [u8] {
    let mut filled = taken.iter().filter(|lines| !lines.octets.is_empty());
    let (first, second) = (filled.next(), filled.next());
    match (first, second) {
        (None, _) => &[],
        (Some(one), None) => &one.octets,
        (Some(_), Some(_)) => {
            let mut sources: Vec<_> = taken.iter().map(|lines| lines.iter().peekable()).collect();
            loop {
                let heads = sources.iter_mut().enumerate().filter_map(|(i, lines)| {
                    let line = lines.peek().copied()?;
                    Some((&line[..line.len().min(TIME_BYTES)], i))
                });
                let Some((_, earliest)) = heads.min() else {
                    return room;
                };
                room.extend_from_slice(sources[earliest].next().expect("it was looked at"));
            }
        }
    }
}

/// Writes lines, or counts them: a log that cannot be written has nobody to tell.
fn put(sink: &mut Sink, lines: &[u8], lost: &mut u64) {
    if lines.is_empty() {
        return;
    }
    if *lost > 0 && sink.write(lost_line(*lost).as_bytes()).is_ok() {
        *lost = 0;
    }
    if sink.write(lines).is_err() {
        *lost += memchr::memchr_iter(b'\n', lines).count() as u64;
    }
}

/// For people: whoever reads JSON finds that it is none, and looks.
fn lost_line(lost: u64) -> String {
    format!("log-lost: the log could not be written to; up to {lost} lines are lost\n")
}

impl Write for &LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let place = &self.0.places[place_number()];
        let mut lines = lock(&place.lines);
        // The writing thread was woken for the first of them.
        while lines.octets.len() > GATHERED_BYTES_MAX {
            lines = (place.emptied.wait(lines)).unwrap_or_else(PoisonError::into_inner);
        }
        lines.push(line);
        drop(lines);
        if self.0.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = &'a LogLines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn flushed_lines_are_in_the_file_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let lines = LogLines::to_file(&path).expect("a log");
        let expected: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        for line in expected.split_inclusive('\n') {
            (&lines).write_all(line.as_bytes()).expect("room");
        }
        lines.flush();
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), expected);
    }

    #[test]
    fn lines_of_several_threads_are_there_once_and_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let lines = LogLines::to_file(&path).expect("a log");
        let next = Mutex::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let mut next = next.lock().expect("nobody panics");
                        let line = format!("{next:041} of a thread\nand more of it\n");
                        (&lines).write_all(line.as_bytes()).expect("room");
                        *next += 1;
                    }
                });
            }
        });
        lines.flush();
        let text = std::fs::read_to_string(&path).expect("the file");
        let mut expected = String::new();
        for number in 0..8000 {
            expected += &format!("{number:041} of a thread\nand more of it\n");
        }
        // In order within what leaves together; a thread may be late by one round.
        let mut sorted: Vec<_> = text.split_inclusive("it\n").collect();
        sorted.sort_unstable();
        assert_eq!(sorted.concat(), expected);
    }

    #[test]
    fn a_round_is_in_the_order_of_times() {
        let check = |threads: &[&[&str]], expected: &str| {
            let taken = threads.iter().map(|thread| {
                let mut lines = Lines::default();
                thread.iter().for_each(|line| lines.push(line.as_bytes()));
                lines
            });
            let taken: Vec<_> = taken.collect();
            let mut room = Vec::new();
            assert_eq!(in_order(&taken, &mut room), expected.as_bytes());
        };
        check(&[], "");
        check(&[&[], &["1 a\n", "3 c\n"], &[]], "1 a\n3 c\n");
        check(
            &[&["2 b\nmore\n", "4 d\n"], &["1 a\n", "3 c\n"]],
            "1 a\n2 b\nmore\n3 c\n4 d\n",
        );
        check(&[&["1 y\n"], &["1 x\n"]], "1 x\n1 y\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let lines = LogLines::to_file(&path).expect("a log");
        (&lines).write_all(b"one\n").expect("room");
        lines.flush();
        std::fs::rename(&path, &moved).expect("it is moved");
        (&lines).write_all(b"two\n").expect("room");
        lines.flush();
        lines.reopen();
        (&lines).write_all(b"three\n").expect("room");
        lines.flush();
        let read = |path: &Path| std::fs::read_to_string(path).expect("the file");
        assert_eq!(
            (read(&moved), read(&path)),
            ("one\ntwo\n".into(), "three\n".into())
        );
        let mode = std::fs::metadata(&path)
            .expect("the file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777 & !FILE_MODE, 0, "nobody else may read it");
        // Also if nobody has anything to say.
        std::fs::rename(&path, &moved).expect("it is moved");
        lines.reopen();
        lines.flush();
        assert_eq!(read(&path), "");
    }

    #[test]
    fn a_full_disk_stops_nobody() {
        let full = Path::new("/dev/full");
        let lines = LogLines::to_file(full).expect("it opens");
        for _ in 0..1000 {
            (&lines).write_all(&[b'x'; 10_000]).expect("it is taken");
        }
        lines.flush();
    }
}
