//! Everybody's mailboxes.

use std::io;

use crate::core::{ControlNotice, CoreId, Notice, Operation};
use crate::runtime::mailbox::Mailbox;

/// One mailbox for the control core and one for each data core.
#[derive(Debug)]
pub struct Mailboxes {
    control: Mailbox<ControlNotice>,
    data: Vec<Mailbox<Notice>>,
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
    pub fn data(&self, core: CoreId) -> &Mailbox<Notice> {
        &self.data[usize::from(core.0)]
    }

    /// All data cores.
    pub fn data_cores(&self) -> impl Iterator<Item = CoreId> {
        (0..self.data.len()).map(|n| CoreId(u8::try_from(n).expect("at most DATA_CORES_MAX")))
    }

    /// Leaves what a data core tells another thread.
    ///
    /// # Errors
    /// Gives the operation back when the mailbox is full.
    pub fn deliver(&self, from: CoreId, operation: Operation) -> Result<(), Operation> {
        match operation {
            Operation::TellControl(notice) => {
                self.control.push(notice).map_err(Operation::TellControl)
            }
            Operation::TellCore { core, notice } => self
                .data(core)
                .push(notice)
                .map_err(|notice| Operation::TellCore { core, notice }),
            Operation::Stopped => self
                .control
                .push(ControlNotice::Stopped { core: from })
                .map_err(|_| Operation::Stopped),
            other => unreachable!("{other:?} is not for a mailbox"),
        }
    }
}
