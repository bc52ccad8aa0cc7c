//! Maildirs of a world: files by their names. What is linked and synced stays, also
//! when the program dies before it has heard of it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use turnspool::core::maildir::{Mail, MailboxFile};
use turnspool::maildir::Text;
use turnspool::spool::message::SegmentSource;

use crate::random::Random;

/// A message that has come to be in a mailbox.
#[derive(Debug)]
pub(crate) struct NewMail {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// With CRLF line ends, as it was sent.
    pub(crate) octets: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Mailboxes {
    names: BTreeSet<(PathBuf, String)>,
}

impl Mailboxes {
    /// Does what the shell does for each file. Once in so many a mailbox cannot be
    /// written; 0 for never.
    pub(crate) fn write(
        &mut self,
        mail: &Mail,
        spool: &impl SegmentSource,
        random: &mut Random,
        fails_in: u64,
    ) -> (Vec<Result<(), String>>, Vec<NewMail>) {
        let mut new = Vec::new();
        let mut result = Vec::new();
        for file in &mail.files {
            let there = self
                .names
                .contains(&(file.directory.clone(), file.name.clone()));
            if there {
                result.push(Ok(()));
            } else if random.one_in(fails_in) {
                result.push(Err("no space left on the device".to_owned()));
            } else {
                self.names
                    .insert((file.directory.clone(), file.name.clone()));
                new.push(read(mail, file, spool));
                result.push(Ok(()));
            }
        }
        (result, new)
    }
}

fn read(mail: &Mail, file: &MailboxFile, spool: &impl SegmentSource) -> NewMail {
    let mut out = Vec::new();
    let mut text = Text::new(mail.form);
    for (place, range) in &mail.extents {
        let view = spool.view(*place).expect("what is lent is there");
        text.feed(
            &view.bytes[range.start as usize..range.end as usize],
            &mut out,
        );
    }
    text.finish(&mut out);
    let header = String::from_utf8(file.header.clone()).expect("addresses of ours");
    let mut lines = header.lines();
    let from = lines
        .next()
        .and_then(|line| line.strip_prefix("Return-Path: <")?.strip_suffix('>'))
        .expect("the reverse-path is on top");
    let to = lines.map(|line| {
        line.strip_prefix("Delivered-To: ")
            .expect("then who has it")
            .to_owned()
    });
    let mut octets = Vec::new();
    for line in out.split_inclusive(|&octet| octet == b'\n') {
        octets.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        octets.extend_from_slice(b"\r\n");
    }
    NewMail {
        from: from.to_owned(),
        to: to.collect(),
        octets,
    }
}
