//! What the collectors want of the control core.

use std::sync::Arc;

use crate::core::admin::Response;
use crate::core::collector::{Collector, Order, RunId};
use crate::core::control::ControlOperation;
use crate::core::fetching::Fetch;
use crate::core::summoning::Summons;
use crate::core::{AdminRequestId, CoreId, Notice};
use crate::report::Fact;

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Read the password and look up the server; answer with [`prepared`](super::Collectors::prepared).
    Prepare(RunId, Arc<Collector>),
    /// Hand this to a data core; its run comes back by [`over`](super::Collectors::over).
    Order(CoreId, Box<Order>),
    /// And this.
    Fetch(CoreId, Box<Fetch>),
    /// And this.
    Summon(CoreId, Box<Summons>),
    /// Run the program of a collector.
    Command(RunId, Arc<Collector>),
    /// A link is wanted, since something is due.
    WantLink,
    /// A link is wanted by the operator: now, or [`no_link`](super::Collectors::no_link).
    BringUp,
    /// Answer the operator.
    Answer(AdminRequestId, Response),
    /// Tell the operator.
    Report(Fact),
}

impl Output {
    /// As an operation, but for what is wanted of a link.
    pub(in crate::core) fn operation(self) -> Option<ControlOperation> {
        Some(match self {
            Self::Prepare(run, collector) => ControlOperation::PrepareCollecting { run, collector },
            Self::Command(run, collector) => ControlOperation::RunCommand { run, collector },
            Self::Order(core, order) => ControlOperation::Tell {
                core,
                notice: Notice::Collect(order),
            },
            Self::Fetch(core, fetch) => ControlOperation::Tell {
                core,
                notice: Notice::Fetch(fetch),
            },
            Self::Summon(core, summons) => ControlOperation::Tell {
                core,
                notice: Notice::Summon(summons),
            },
            Self::Answer(request, response) => ControlOperation::Answer { request, response },
            Self::Report(fact) => ControlOperation::Report(fact),
            Self::WantLink | Self::BringUp => return None,
        })
    }
}
