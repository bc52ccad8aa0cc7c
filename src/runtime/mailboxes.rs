//! Everybody's mailboxes.

use std::io;
use std::os::fd::OwnedFd;

use crate::core::turn::Baton;
use crate::core::{ControlNotice, CoreId, Notice, Operation};
use crate::runtime::mailbox::Mailbox;

/// What is left for a data core.
#[derive(Debug)]
pub enum Letter {
    /// A notice.
    Notice(Notice),
    /// A connection, with the session on it.
    HandOver {
        /// The session.
        baton: Box<Baton>,
        /// The connection. A descriptor is the process's, and of no thread.
        socket: OwnedFd,
    },
}

/// What a data core's shell leaves with others.
#[derive(Debug)]
pub enum Outbound {
    /// As the core said.
    Operation(Operation),
    /// A connection for another core.
    HandOver {
        /// To whom.
        core: CoreId,
        /// The session.
        baton: Box<Baton>,
        /// The connection.
        socket: OwnedFd,
    },
}

/// One mailbox for the control core and one for each data core.
#[derive(Debug)]
pub struct Mailboxes {
    control: Mailbox<ControlNotice>,
    data: Vec<Mailbox<Letter>>,
}

impl Mailboxes {
    /// Empty ones, for so many data cores.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new(data_cores: usize) -> io::Result<Self> {
        let data = (0..data_cores)
            .map(|_| Mailbox::new())
            .collect::<io::Result<_>>()?;
        Ok(Self {
            control: Mailbox::new()?,
            data,
        })
    }

    /// The control core's.
    pub fn control(&self) -> &Mailbox<ControlNotice> {
        &self.control
    }

    /// A data core's.
    pub fn data(&self, core: CoreId) -> &Mailbox<Letter> {
        &self.data[usize::from(core.0)]
    }

    /// All data cores.
    pub fn data_cores(&self) -> impl Iterator<Item = CoreId> {
        (0..self.data.len()).map(|n| CoreId(u8::try_from(n).expect("at most DATA_CORES_MAX")))
    }

    /// Leaves what a data core tells another thread.
    ///
    /// # Errors
    /// Gives it back when the mailbox is full.
    pub fn deliver(&self, from: CoreId, outbound: Outbound) -> Result<(), Box<Outbound>> {
        let back = match outbound {
            Outbound::HandOver {
                core,
                baton,
                socket,
            } => match self.data(core).push(Letter::HandOver { baton, socket }) {
                Err(Letter::HandOver { baton, socket }) => Outbound::HandOver {
                    core,
                    baton,
                    socket,
                },
                Ok(()) | Err(Letter::Notice(_)) => return Ok(()),
            },
            Outbound::Operation(Operation::TellControl(notice)) => {
                match self.control.push(notice) {
                    Err(notice) => Outbound::Operation(Operation::TellControl(notice)),
                    Ok(()) => return Ok(()),
                }
            }
            Outbound::Operation(Operation::TellCore { core, notice }) => {
                match self.notify(core, notice) {
                    Err(notice) => Outbound::Operation(Operation::TellCore { core, notice }),
                    Ok(()) => return Ok(()),
                }
            }
            Outbound::Operation(Operation::Stopped) => {
                match self.control.push(ControlNotice::Stopped { core: from }) {
                    Err(_) => Outbound::Operation(Operation::Stopped),
                    Ok(()) => return Ok(()),
                }
            }
            Outbound::Operation(other) => unreachable!("{other:?} is not for a mailbox"),
        };
        Err(Box::new(back))
    }

    /// Leaves a notice with a data core.
    ///
    /// # Errors
    /// Gives it back when the mailbox is full.
    pub fn notify(&self, core: CoreId, notice: Notice) -> Result<(), Notice> {
        let pushed = self.data(core).push(Letter::Notice(notice));
        pushed.map_err(|letter| match letter {
            Letter::Notice(notice) => notice,
            Letter::HandOver { .. } => unreachable!("it was a notice"),
        })
    }
}
