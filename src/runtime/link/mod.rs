//! The drivers of links: what really dials, hangs up and watches.
//!
//! The link's machine ([`crate::link::controller`]) says what is to be done, a driver does
//! it and tells what became of it. All run on the control core.
//!
//! - A dial is a task; to hang up ends that task first, and with it the programs it has
//!   started.
//! - Only connections that we did *not* open are told as a presence. What we opened ends
//!   with the outcome of a hang-up, or is told as lost.
//! - Programs get no descriptor of ours, no shell, and have a process group of their own;
//!   a password never stands in their arguments (`program`).

use std::cell::RefCell;
use std::rc::Rc;

use tokio::task::AbortHandle;

use crate::config;
use crate::core::control::ControlCompletion;
use crate::core::online::{LinkEvent, LinkOperation};
use crate::link::LinkId;
use crate::link::controller::{DialFailure, Hope, Presence};
use crate::report::Fact;
use crate::runtime::control::Control;
use crate::runtime::log::report_control;

mod command;
mod interfaces;
pub mod memory;
mod network_manager;
mod pppd;
mod process;
pub(in crate::runtime) mod program;

use command::Command;
use interfaces::Interfaces;
use network_manager::NetworkManager;
use pppd::Pppd;

/// The drivers, in the order of the configuration.
pub struct Drivers {
    all: Vec<Rc<Driver>>,
    /// The dials that are under way.
    dials: RefCell<Vec<Option<AbortHandle>>>,
}

enum Driver {
    /// Nothing brings it up or down.
    Permanent(Meter),
    Command(Command),
    Pppd(Rc<Pppd>),
    NetworkManager(Rc<NetworkManager>),
    External {
        interface: String,
        meter: Meter,
    },
    OnDemand(Meter),
}

/// Where octets are counted.
#[derive(Clone)]
struct Meter {
    interface: Option<String>,
    interfaces: Option<Interfaces>,
}

impl Meter {
    async fn read(&self) -> Option<u64> {
        let (name, interfaces) = (self.interface.as_ref()?, self.interfaces.as_ref()?);
        Some(interfaces.find(name).await?.octets)
    }
}

impl Drivers {
    /// Makes the drivers. Must be called on the control core's thread.
    #[must_use]
    pub fn new(links: &[config::Link]) -> Self {
        let interfaces = if links.is_empty() {
            None
        } else {
            match Interfaces::open() {
                Ok(interfaces) => Some(interfaces),
                Err(error) => {
                    let what = format!(
                        "watching the network's interfaces failed ({error}); links that others \
                         open are not seen, octets are not counted"
                    );
                    report_control(&Fact::Trouble { what });
                    None
                }
            }
        };
        let meter = |interface: &Option<String>| Meter {
            interface: interface.clone(),
            interfaces: interfaces.clone(),
        };
        let all = links.iter().map(|link| {
            Rc::new(match &link.driver {
                config::Driver::Permanent { interface } => Driver::Permanent(meter(interface)),
                config::Driver::Command {
                    up,
                    down,
                    status,
                    login,
                    interface,
                } => Driver::Command(Command::new(
                    up.clone(),
                    down.clone(),
                    status.clone(),
                    login.clone(),
                    meter(interface),
                )),
                config::Driver::Pppd { entry, login } => Driver::Pppd(Rc::new(Pppd::new(
                    entry.clone(),
                    login.clone(),
                    interfaces.clone(),
                ))),
                config::Driver::NetworkManager { connection } => Driver::NetworkManager(Rc::new(
                    NetworkManager::new(connection.clone(), interfaces.clone()),
                )),
                config::Driver::External { interface } => Driver::External {
                    interface: interface.clone(),
                    meter: meter(&Some(interface.clone())),
                },
                config::Driver::OnDemand { interface } => Driver::OnDemand(meter(interface)),
            })
        });
        let all: Vec<_> = all.collect();
        Self {
            dials: RefCell::new(vec![None; all.len()]),
            all,
        }
    }

    /// Begins to watch, for ever.
    pub fn watch(&self, control: &Control) {
        for (place, driver) in self.all.iter().enumerate() {
            let link = LinkId(u8::try_from(place).expect("few links"));
            let (driver, control) = (Rc::clone(driver), control.clone());
            tokio::task::spawn_local(async move {
                let tell = |event| control.turn(ControlCompletion::Link { link, event });
                driver.watch(&tell).await;
            });
        }
    }

    /// Begins an operation of a link.
    pub fn perform(&self, control: &Control, link: LinkId, operation: LinkOperation) {
        let place = usize::from(link.0);
        let driver = Rc::clone(&self.all[place]);
        let control = control.clone();
        let tell = move |event| control.turn(ControlCompletion::Link { link, event });
        match operation {
            LinkOperation::Dial => {
                let task = tokio::task::spawn_local(async move {
                    let later = tell.clone();
                    let lost = move |why| later(LinkEvent::Lost(why));
                    tell(LinkEvent::Dialled(driver.dial(lost).await));
                });
                self.dials.borrow_mut()[place] = Some(task.abort_handle());
            }
            LinkOperation::HangUp => {
                if let Some(dial) = self.dials.borrow_mut()[place].take() {
                    dial.abort();
                }
                tokio::task::spawn_local(async move {
                    tell(LinkEvent::HungUp(driver.hang_up().await));
                });
            }
            LinkOperation::TakeOver => driver.take_over(),
            LinkOperation::GiveUp => driver.give_up(),
            LinkOperation::Measure => {
                tokio::task::spawn_local(async move {
                    tell(LinkEvent::Metered(driver.meter().await));
                });
            }
        }
    }
}

impl Driver {
    /// Dials; `lost` is told when the line breaks later.
    async fn dial(&self, lost: impl Fn(String) + 'static) -> Result<(), DialFailure> {
        match self {
            Self::Command(command) => command.dial().await,
            Self::Pppd(pppd) => pppd.dial(lost).await,
            Self::NetworkManager(manager) => manager.dial().await,
            // What we send makes the router dial.
            Self::OnDemand(_) => Ok(()),
            Self::Permanent(_) | Self::External { .. } => Err(DialFailure {
                why: "this link is not ours to dial".to_owned(),
                hope: Hope::NotSoon,
            }),
        }
    }

    /// What was just seen is ours.
    fn take_over(&self) {
        match self {
            Self::Command(command) => command.take_over(),
            Self::Pppd(pppd) => pppd.take_over(),
            Self::NetworkManager(manager) => manager.take_over(),
            Self::OnDemand(_) | Self::Permanent(_) | Self::External { .. } => {}
        }
    }

    /// What may be there is not ours any more.
    fn give_up(&self) {
        match self {
            Self::Command(command) => command.give_up(),
            Self::Pppd(pppd) => pppd.give_up(),
            Self::NetworkManager(manager) => manager.give_up(),
            Self::OnDemand(_) | Self::Permanent(_) | Self::External { .. } => {}
        }
    }

    async fn hang_up(&self) -> Result<(), String> {
        match self {
            Self::Command(command) => command.hang_up().await,
            Self::Pppd(pppd) => pppd.hang_up().await,
            Self::NetworkManager(manager) => manager.hang_up().await,
            // The router does, when nothing is sent any more.
            Self::OnDemand(_) | Self::Permanent(_) | Self::External { .. } => Ok(()),
        }
    }

    async fn meter(&self) -> Option<u64> {
        match self {
            Self::Command(command) => command.meter().await,
            Self::Pppd(pppd) => pppd.meter().await,
            Self::NetworkManager(manager) => manager.meter().await,
            Self::OnDemand(meter) | Self::Permanent(meter) | Self::External { meter, .. } => {
                meter.read().await
            }
        }
    }

    /// Tells what happens without us, for ever.
    async fn watch(&self, tell: &dyn Fn(LinkEvent)) {
        match self {
            Self::Permanent(_) => tell(LinkEvent::Presence(Presence::Selected)),
            Self::Command(command) => command.watch(tell).await,
            Self::Pppd(pppd) => pppd.watch(tell).await,
            Self::NetworkManager(manager) => manager.watch(tell).await,
            Self::External { interface, meter } => {
                let Some(interfaces) = &meter.interfaces else {
                    return;
                };
                interfaces
                    .watch(async |interfaces| {
                        let found = interfaces.find(interface).await;
                        let up = found.is_some_and(|found| found.carries);
                        tell(LinkEvent::Presence(if up {
                            Presence::Selected
                        } else {
                            Presence::None
                        }));
                    })
                    .await;
            }
            // That its interface is there says nothing of the line behind the router, which
            // hangs up by itself: nothing of it is left open.
            Self::OnDemand(_) => tell(LinkEvent::Presence(Presence::None)),
        }
    }
}
