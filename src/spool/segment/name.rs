//! What the files in the directory of a log are called.

use spool_format::SegmentId;

/// What a file in the directory of a log is, by its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileKind {
    /// Header and records.
    Segment,
    /// A sidecar for a faster restart.
    Summary,
    /// A segment that is being made.
    New,
    /// A summary that is being made.
    SummaryNew,
    /// A dead segment, kept to become a later one.
    Spare,
    /// A dead segment that gives up its pages, to become a spare.
    Renewing,
    /// Set aside for the operator.
    Damaged,
}

impl FileKind {
    pub(super) const ALL: [Self; 7] = [
        Self::Segment,
        Self::Summary,
        Self::New,
        Self::SummaryNew,
        Self::Spare,
        Self::Renewing,
        Self::Damaged,
    ];

    const fn extension(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Summary => "summary",
            Self::New => "new",
            Self::SummaryNew => "summary-new",
            Self::Spare => "spare",
            Self::Renewing => "renewing",
            Self::Damaged => "damaged",
        }
    }
}

/// The name of a file of segment `segment`. The inverse of [`parse_name`].
#[must_use]
pub fn file_name(segment: SegmentId, kind: FileKind) -> String {
    format!("{:010}.{}", segment.0, kind.extension())
}

/// What a name means; `None` for a name that we would not give.
#[must_use]
pub fn parse_name(name: &str) -> Option<(SegmentId, FileKind)> {
    let (digits, extension) = name.split_once('.')?;
    if digits.len() != 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let segment = SegmentId(digits.parse().ok()?);
    let kind = FileKind::ALL
        .into_iter()
        .find(|k| k.extension() == extension)?;
    Some((segment, kind))
}
