//! How a fact becomes a line of text.
//!
//! Two facts are told of each message that passes, so this is on its way: the subscriber's
//! own format looks at each character by itself, through two layers, for what could steer
//! a terminal. A fact has nothing of that in it (`report` sees to it), and is written as it
//! is; the lines look the same. Events of libraries go by the subscriber's own format.

use std::cell::Cell;
use std::fmt;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The target of facts, by which they are known here.
pub(super) const TARGET: &str = "turnspool";

/// Lines of text.
pub(super) struct TextLines {
    others: Format<Full>,
}

impl TextLines {
    pub(super) fn new() -> Self {
        let others = tracing_subscriber::fmt::format();
        Self {
            others: others.with_target(false).with_ansi(false),
        }
    }
}

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() != TARGET {
            return self.others.format_event(context, writer, event);
        }
        write_time(&mut writer, SystemTime::now())?;
        writer.write_str(match *event.metadata().level() {
            Level::ERROR => " ERROR ",
            Level::WARN => "  WARN ",
            Level::INFO => "  INFO ",
            Level::DEBUG => " DEBUG ",
            Level::TRACE => " TRACE ",
        })?;
        let mut fields = Fields {
            writer: &mut writer,
            result: Ok(()),
        };
        event.record(&mut fields);
        fields.result?;
        writer.write_char('\n')
    }
}

/// The sentence, and behind it the fields.
struct Fields<'a, 'w> {
    writer: &'a mut Writer<'w>,
    result: fmt::Result,
}

impl Fields<'_, '_> {
    fn name(&mut self, field: &Field) -> fmt::Result {
        self.writer.write_char(' ')?;
        self.writer.write_str(field.name())?;
        self.writer.write_char('=')
    }
}

impl Visit for Fields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Names of facts: letters and hyphens.
        self.result = self
            .result
            .and_then(|()| self.name(field))
            .and_then(|()| self.writer.write_char('"'))
            .and_then(|()| self.writer.write_str(value))
            .and_then(|()| self.writer.write_char('"'));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.result.is_ok() && field.name() != "message" {
            self.result = self.name(field);
        }
        self.result = self.result.and_then(|()| write!(self.writer, "{value:?}"));
    }
}

/// A second since 1970, and how it is written.
type Second = (u64, [u8; SECOND_BYTES]);

/// `2026-11-28T22:57:06`
const SECOND_BYTES: usize = 19;

/// RFC 3339 with microseconds, in UTC. The calendar is asked once a second.
fn write_time(writer: &mut Writer<'_>, time: SystemTime) -> fmt::Result {
    thread_local! {
        static LAST: Cell<Second> = const { Cell::new((u64::MAX, [0; SECOND_BYTES])) };
    }
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let mut second = LAST.get();
    if second.0 != since.as_secs() {
        let text = i64::try_from(since.as_secs())
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
            .unwrap_or_default()
            .to_string();
        let digits = text.as_bytes().first_chunk().ok_or(fmt::Error)?;
        second = (since.as_secs(), *digits);
        LAST.set(second);
    }
    let mut octets = *b"....-..-..T..:..:...000000Z";
    octets[..SECOND_BYTES].copy_from_slice(&second.1);
    let mut rest = since.subsec_micros();
    for digit in octets[SECOND_BYTES + 1..SECOND_BYTES + 7].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    writer.write_str(std::str::from_utf8(&octets).map_err(|_| fmt::Error)?)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let check = |micros: u64, expected: &str| {
            let mut text = String::new();
            let time = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
            write_time(&mut Writer::new(&mut text), time).expect("a string takes all");
            assert_eq!(text, expected);
        };
        check(0, "1970-01-01T00:00:00.000000Z");
        check(1_795_906_626_018_871, "2026-11-28T22:57:06.018871Z");
        check(1_795_906_626_999_999, "2026-11-28T22:57:06.999999Z");
        check(1_795_906_627_000_000, "2026-11-28T22:57:07.000000Z");
    }

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one thread").extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Memory {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn say() {
        let none: Option<u8> = None;
        let id = Some(tracing::field::display("06"));
        tracing::event!(target: TARGET, Level::INFO, fact = "accepted", id = id, core = Some(0u8),
            "from <a@b.example>, {} octets", 7);
        tracing::event!(target: TARGET, Level::WARN, fact = "trouble", core = none, "it is so");
        tracing::event!(target: TARGET, Level::ERROR, fact = "log-closed", "no more");
        tracing::event!(target: "library", Level::WARN, answer = "\x1b[0m", "odd");
    }

    /// The lines without their times.
    fn said(memory: &Memory) -> Vec<String> {
        let octets = memory.0.lock().expect("one thread").clone();
        let text = String::from_utf8(octets).expect("text");
        text.lines().map(|line| line[27..].to_owned()).collect()
    }

    #[test]
    fn lines_look_as_the_subscriber_would_write_them() {
        let (ours, theirs) = (Memory::default(), Memory::default());
        let build = || {
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_target(false)
        };
        let subscriber = build()
            .with_writer(ours.clone())
            .event_format(TextLines::new());
        tracing::subscriber::with_default(subscriber.finish(), say);
        let subscriber = build().with_writer(theirs.clone());
        tracing::subscriber::with_default(subscriber.finish(), say);
        assert_eq!(said(&ours).len(), 4);
        assert_eq!(said(&ours), said(&theirs));
    }
}
