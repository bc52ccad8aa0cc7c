use spool_format::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, SpoolUuid};

use super::*;

const MIB: u32 = 1 << 20;

fn directory() -> (tempfile::TempDir, Directory) {
    let place = tempfile::tempdir().unwrap();
    let directory = Directory::open(&place.path().join("log-0"), LogId(0)).unwrap();
    (place, directory)
}

fn header(segment: u32) -> SegmentHeader {
    SegmentHeader {
        spool: SpoolUuid([7; 16]),
        place: place(segment),
        epoch: Epoch(1000 + u64::from(segment)),
        previous_epoch: Epoch(0),
        created_ms: 5,
        segment_bytes: MIB,
    }
}

fn place(segment: u32) -> SegmentPlace {
    SegmentPlace {
        log: LogId(0),
        segment: SegmentId(segment),
    }
}

/// Segments are prepared by the control core, and used by a data core.
const _: fn() = || {
    fn can_be_shared<T: Send + Sync>() {}
    can_be_shared::<Directory>();
    can_be_shared::<Segment>();
};

fn fault<T: fmt::Debug>(result: Result<T, FileError>) -> FileFault {
    result.unwrap_err().fault
}

#[test]
fn names_are_read_as_they_are_written() {
    for number in [0, 17, u32::MAX] {
        for kind in FileKind::ALL {
            let name = file_name(SegmentId(number), kind);
            assert_eq!(parse_name(&name), Some((SegmentId(number), kind)), "{name}");
        }
    }
    let strange = [
        "",
        ".",
        "..",
        "17.segment",
        "00000000017.segment",
        "0000000017",
        "0000000017.segment.bak",
        "4294967296.segment",
        "+000000017.segment",
        "0000000017.SEGMENT",
    ];
    for name in strange {
        assert_eq!(parse_name(name), None, "{name}");
    }
}

#[test]
fn a_directory_has_one_user() {
    let (place, directory) = directory();
    let second = Directory::open(&place.path().join("log-0"), LogId(0));
    assert_eq!(fault(second), FileFault::InUse);
    drop(directory);
    Directory::open(&place.path().join("log-0"), LogId(0)).unwrap();
}

#[test]
fn what_is_written_is_read_through_the_map_and_after_opening_again() {
    let (_place, directory) = directory();
    for (number, fill) in [(1, Fill::Allocated), (2, Fill::Zeroed)] {
        let id = SegmentId(number);
        let segment = directory.prepare(&header(number), fill).unwrap();
        let first = SEGMENT_HEADER_BYTES as u32;
        let shown = segment.bytes(0..first).unwrap();
        assert_eq!(
            SegmentHeader::decode(shown, place(number)),
            Ok(header(number))
        );
        assert_eq!(segment.bytes(0..first + 1), None, "not written yet");
        let (mut at, all) = (
            8192,
            [Durability::None, Durability::Range, Durability::File],
        );
        for durability in all {
            segment
                .write(Offset(at), b"0123456789", durability)
                .unwrap();
            at += 10;
            assert_eq!(segment.bytes(at - 10..at), Some(&b"0123456789"[..]));
        }
        assert_eq!(segment.contents().len(), 8192 + 30);
        let again = directory.open_segment(id).unwrap();
        assert_eq!(again.size_bytes(), MIB);
        assert_eq!(again.bytes(8192..8202), Some(&b"0123456789"[..]));
        assert_eq!(again.contents().len(), MIB as usize);
        let reversed = Range { start: 2, end: 1 };
        assert_eq!(
            (again.bytes(MIB..MIB + 1), again.bytes(reversed)),
            (None, None)
        );
        let mut buffer = [1; 12];
        assert_eq!(again.read(Offset(8212), &mut buffer).unwrap(), 12);
        assert_eq!(&buffer, b"0123456789\0\0");
        assert_eq!(again.read(Offset(MIB - 2), &mut buffer).unwrap(), 2);
        again.warm(0..u32::MAX);
    }
    let listing = directory.list().unwrap();
    assert_eq!(listing.segments, [SegmentId(1), SegmentId(2)]);
}

#[test]
fn who_reads_on_finds_what_comes_next_in_memory() {
    // Not where temporary files may live in memory only.
    let program = std::env::current_exe().unwrap();
    let place = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let directory = Directory::open(&place.path().join("log-0"), LogId(0)).unwrap();
    let segment = directory.prepare(&header(1), Fill::Allocated).unwrap();
    let text = vec![b'm'; MIB as usize - 8192];
    segment
        .write(Offset(8192), &text, Durability::File)
        .unwrap();
    assert!(segment.is_warm(8192..MIB), "it was written just now");
    rustix::fs::fadvise(segment.as_fd(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let far = 600 << 10..700 << 10;
    if segment.is_warm(far.clone()) {
        eprintln!("skipped: this file system keeps everything in memory");
        return;
    }
    // The seal of one message, the envelope of the next: towards the end.
    for offset in [8192, 12 << 10, 16 << 10] {
        segment.fetch(offset..offset + 2048).unwrap();
    }
    let begin = std::time::Instant::now();
    while !segment.is_warm(far.clone()) {
        assert!(begin.elapsed().as_secs() < 60, "nobody asked for it");
        std::thread::yield_now();
    }
}

#[test]
#[should_panic(expected = "below its frontier")]
fn what_can_be_read_is_not_written_again() {
    let (_place, directory) = directory();
    let segment = directory.prepare(&header(1), Fill::Allocated).unwrap();
    let _ = segment.write(Offset(0), b"x", Durability::None);
}

#[test]
fn a_dead_segment_becomes_a_later_one_only_when_nobody_reads_it() {
    let (_place, directory) = directory();
    let id = SegmentId(1);
    let segment = directory.prepare(&header(1), Fill::Allocated).unwrap();
    segment
        .write(Offset(8192), b"old", Durability::File)
        .unwrap();
    directory.write_summary(id, b"summary").unwrap();
    let segment = Arc::new(segment);
    let reader = Arc::clone(&segment);
    let (segment, _) = segment.retire(&directory).unwrap_err();
    drop(reader);
    segment.retire(&directory).map_err(|(_, e)| e).unwrap();
    assert_eq!(directory.list().unwrap().spares, [id]);
    assert_eq!(directory.read_summary(id).unwrap(), None);
    let larger = SegmentHeader {
        segment_bytes: 2 * MIB,
        ..header(9)
    };
    let other_size = directory.reuse(id, larger);
    assert_eq!(fault(other_size), FileFault::Malformed);
    let again = directory.reuse(id, header(9)).unwrap();
    let expected = SegmentHeader {
        previous_epoch: header(1).epoch,
        ..header(9)
    };
    let shown = SegmentHeader::decode(again.contents(), place(9));
    assert_eq!(shown, Ok(expected));
    again
        .write(Offset(8192), b"new", Durability::Range)
        .unwrap();
    assert_eq!(again.bytes(8192..8195), Some(&b"new"[..]));
    let listing = directory.list().unwrap();
    assert_eq!(
        (listing.segments, listing.spares),
        (vec![SegmentId(9)], vec![])
    );
}

/// What a socket has been given is what its peer gets, whatever becomes of the file: a host
/// that reads slowly must not be sent what others wrote.
#[test]
fn what_a_socket_was_given_stays_as_it_was() {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};
    let (_place, directory) = directory();
    let id = SegmentId(1);
    let segment = directory.prepare(&header(1), Fill::Allocated).unwrap();
    let behind_header = MIB as usize - SEGMENT_HEADER_BYTES;
    let (old, new) = (vec![b'o'; behind_header], vec![b'n'; behind_header]);
    let start = Offset(u32::try_from(SEGMENT_HEADER_BYTES).unwrap());
    segment.write(start, &old, Durability::File).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    sender.set_nonblocking(true).unwrap();
    let mut offset = u64::from(start.0);
    while offset < u64::from(MIB) {
        let left = usize::try_from(u64::from(MIB) - offset).unwrap();
        match rustix::fs::sendfile(&sender, segment.lend(), Some(&mut offset), left) {
            Ok(_) => {}
            Err(Errno::AGAIN) => break,
            Err(errno) => panic!("sendfile: {errno}"),
        }
    }
    // As when its process is killed: the system goes on with what the socket has.
    drop(sender);
    let segment = Arc::new(segment);
    match segment.retire(&directory) {
        Ok(()) => {}
        // A file system that is memory, for one.
        Err((_, error)) if error.os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
            directory.remove(id).unwrap();
            assert_eq!(directory.list().unwrap(), Listing::default());
            eprintln!("skipped: the file system cannot renew a segment");
            return;
        }
        Err((_, error)) => panic!("{error}"),
    }
    let again = directory.reuse(id, header(9)).unwrap();
    again.write(start, &new, Durability::File).unwrap();
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    assert!(!got.is_empty(), "nothing was on its way");
    assert!(got == old[..got.len()], "the peer got what others wrote");
    assert!(again.contents()[SEGMENT_HEADER_BYTES..] == new[..]);
    let listing = directory.list().unwrap();
    assert_eq!(listing.segments, [SegmentId(9)]);
    assert_eq!((listing.spares, listing.unfinished), (vec![], vec![]));
}

#[test]
fn removing_setting_aside_and_cleaning() {
    let (place, directory) = directory();
    for number in 1..=3 {
        directory.prepare(&header(number), Fill::Allocated).unwrap();
        directory.write_summary(SegmentId(number), b"s").unwrap();
    }
    directory.remove(SegmentId(1)).unwrap();
    directory.set_aside(SegmentId(2)).unwrap();
    for name in [
        "0000000008.new",
        "0000000003.summary-new",
        "0000000009.summary",
        "notes",
    ] {
        std::fs::write(place.path().join("log-0").join(name), b"x").unwrap();
    }
    let mut listing = directory.list().unwrap();
    assert_eq!(listing.segments, [SegmentId(3)]);
    assert_eq!(listing.damaged, [SegmentId(2)]);
    assert_eq!(listing.foreign, ["notes"]);
    assert_eq!(listing.unfinished.len(), 2);
    directory.clean(&mut listing).unwrap();
    let listing = directory.list().unwrap();
    assert_eq!(listing.unfinished, []);
    assert_eq!(listing.summaries, [SegmentId(3)]);
    assert_eq!(listing.foreign, ["notes"]);
    assert_eq!(
        fault(directory.open_segment(SegmentId(1))),
        FileFault::Missing
    );
}

/// On a full disk there is no other file instead.
#[test]
fn a_renewal_that_a_crash_has_cut_off_is_finished() {
    let (place, directory) = directory();
    let path = |name: &str| place.path().join("log-0").join(name);
    let segment = directory.prepare(&header(1), Fill::Allocated).unwrap();
    let start = u32::try_from(SEGMENT_HEADER_BYTES).unwrap();
    segment
        .write(Offset(start), b"octets of others", Durability::File)
        .unwrap();
    drop(segment);
    std::fs::rename(path("0000000001.segment"), path("0000000001.renewing")).unwrap();
    std::fs::write(path("0000000002.renewing"), b"of no use").unwrap();
    let mut listing = directory.list().unwrap();
    assert_eq!(listing.spares, []);
    directory.clean(&mut listing).unwrap();
    if listing.spares.is_empty() {
        // As on a file system that is memory: gone, and not in anybody's way.
        assert_eq!(directory.list().unwrap(), Listing::default());
        eprintln!("skipped: the file system cannot renew a segment");
        return;
    }
    assert_eq!(listing.spares, [SegmentId(1)]);
    let found = directory.list().unwrap();
    assert_eq!(
        (found.spares, found.unfinished),
        (vec![SegmentId(1)], vec![])
    );
    let again = directory.reuse(SegmentId(1), header(9)).unwrap();
    let shown = SegmentHeader::decode(again.contents(), self::place(9));
    assert_eq!(shown, Ok(header(9)));
    let octets = std::fs::read(path("0000000009.segment")).unwrap();
    assert_eq!(octets.len(), MIB as usize);
    assert!(
        octets[SEGMENT_HEADER_BYTES..]
            .iter()
            .all(|&octet| octet == 0)
    );
}

#[test]
fn a_file_that_is_no_segment_is_an_error_and_not_a_signal() {
    let (place, directory) = directory();
    let path = place
        .path()
        .join("log-0")
        .join(file_name(SegmentId(4), FileKind::Segment));
    std::fs::write(&path, b"").unwrap();
    let error = directory.open_segment(SegmentId(4)).unwrap_err();
    assert_eq!(error.fault, FileFault::Malformed);
    let text = error.to_string();
    assert!(text.starts_with("spool: opening /"), "{text}");
    assert!(text.ends_with("; the rest of the spool is used"), "{text}");
}

#[test]
fn what_was_never_written_is_read_as_zeros() {
    use std::os::unix::fs::FileExt as _;
    let check = |fill: Fill, written: &[(u64, usize)]| {
        let (_place, directory) = directory();
        let id = SegmentId(1);
        directory.prepare(&header(1), fill).unwrap();
        let path = directory.path_of(id, FileKind::Segment);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        for &(at, octets) in written {
            file.write_all_at(&vec![b'x'; octets], at).unwrap();
        }
        let expected = std::fs::read(&path).unwrap();
        assert_eq!(expected.len(), MIB as usize);
        // Into a buffer that is too small, and into one in which others were.
        let mut buffer = vec![b'y'; 5];
        for _ in 0..2 {
            directory.read_segment(id, usize::MAX, &mut buffer).unwrap();
            assert!(buffer == expected, "{fill:?} {written:?}");
            buffer.fill(b'y');
        }
        directory.read_segment(id, 100, &mut buffer).unwrap();
        assert_eq!(buffer, expected[..100]);
    };
    let last = u64::from(MIB) - 1;
    for fill in [Fill::Allocated, Fill::Zeroed] {
        check(fill, &[]);
        check(fill, &[(4096, 1), (8191, 2), (300_000, 100_000)]);
        check(fill, &[(last, 1)]);
        check(fill, &[(0, MIB as usize)]);
    }
}

#[test]
fn a_full_disk_is_told_as_such() {
    let error = FileError::new("allocating", PathBuf::from("/x"), Errno::NOSPC);
    assert_eq!(error.fault, FileFault::NoSpace);
    let expected = "spool: allocating /x: No space left on device (os error 28); \
                        new mail is refused with 452 until there is room";
    assert_eq!(error.to_string(), expected);
}

/// To make it a spare its name was changed, and the device did not store that. Whoever then
/// removed it, with a sync that ends well, would not know more.
#[test]
fn a_name_that_is_not_stored_is_told_from_one_that_was_not_changed() {
    let (_place, mut directory) = directory();
    let segment = Arc::new(directory.prepare(&header(1), Fill::Allocated).unwrap());
    let read = Arc::clone(&segment);
    let (segment, error) = segment.retire(&directory).unwrap_err();
    assert_eq!(error.fault, FileFault::Malformed, "somebody reads it");
    drop(read);
    // A handle by which names are changed, and nothing is synced.
    let path = directory.path().to_owned();
    let flags = rustix::fs::OFlags::PATH;
    directory.handle = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
    let (_, error) = segment.retire(&directory).unwrap_err();
    assert_eq!(error.fault, FileFault::NotStored, "{error}");
    assert!(path.join(file_name(SegmentId(1), FileKind::Spare)).exists());
}
