//! The network's interfaces, by rtnetlink: which are up, what passed them, and when that
//! changes.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use tokio::sync::Notify;

/// Changes come in bursts: an interface, its address, its routes.
const SETTLE: Duration = Duration::from_millis(50);

/// A change may be lost when the kernel's queue is full: look so often in any case.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// A handle on the kernel's tables.
#[derive(Clone)]
pub(super) struct Interfaces {
    handle: Handle,
    changed: Rc<Notify>,
}

/// An interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Interface {
    /// It is up, has a carrier and an address that reaches beyond the wire.
    pub(super) carries: bool,
    /// Octets that passed it, in both directions.
    pub(super) octets: u64,
}

impl Interfaces {
    /// Begins to listen to the kernel.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn open() -> io::Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, handle, mut messages) = new_multicast_connection(&groups)?;
        tokio::task::spawn_local(connection);
        let changed = Rc::new(Notify::new());
        let notify = Rc::clone(&changed);
        tokio::task::spawn_local(async move {
            while messages.next().await.is_some() {
                notify.notify_waiters();
            }
        });
        Ok(Self { handle, changed })
    }

    /// Calls `look` now and after each change, for ever.
    pub(super) async fn watch(&self, look: impl AsyncFn(&Self)) {
        loop {
            // Registered before looking: a change meanwhile is not missed.
            let changed = self.changed.notified();
            look(self).await;
            let _ = tokio::time::timeout(LOOK_INTERVAL, changed).await;
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// An interface by its name. `None`: there is no such, or the kernel does not answer.
    pub(super) async fn find(&self, name: &str) -> Option<Interface> {
        let request = self.handle.link().get().match_name(name.to_owned());
        let message = std::pin::pin!(request.execute()).try_next().await.ok()??;
        let index = message.header.index;
        let flags = message.header.flags;
        let up = flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp);
        Some(Interface {
            carries: up && self.has_address(index).await,
            octets: octets(&message),
        })
    }

    /// Whether there is an interface that is up and has one other end: a PPP line is one.
    pub(super) async fn has_point_to_point(&self) -> bool {
        let mut links = std::pin::pin!(self.handle.link().get().execute());
        while let Ok(Some(link)) = links.try_next().await {
            let flags = link.header.flags;
            if flags.contains(LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Pointopoint) {
                return true;
            }
        }
        false
    }

    /// Whether there is a way to everywhere.
    pub(super) async fn has_default_route(&self) -> bool {
        let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
        self.has_default(v4).await || self.has_default(v6).await
    }

    async fn has_default(&self, family: RouteMessage) -> bool {
        let mut routes = std::pin::pin!(self.handle.route().get(family).execute());
        while let Ok(Some(route)) = routes.try_next().await {
            let everywhere = route.header.destination_prefix_length == 0;
            let leads = route.attributes.iter().any(|attribute| {
                matches!(
                    attribute,
                    RouteAttribute::Oif(_) | RouteAttribute::MultiPath(_)
                )
            });
            // Unreachable routes to everywhere lead nowhere; those of IPv6 go out of lo.
            let unicast = route.header.kind == rtnetlink::packet_route::route::RouteType::Unicast;
            if everywhere && leads && unicast {
                return true;
            }
        }
        false
    }

    async fn has_address(&self, index: u32) -> bool {
        let request = self.handle.address().get().set_link_index_filter(index);
        let mut addresses = std::pin::pin!(request.execute());
        while let Ok(Some(address)) = addresses.try_next().await {
            if address.header.scope != AddressScope::Link {
                return true;
            }
        }
        false
    }
}

fn octets(message: &LinkMessage) -> u64 {
    let counted = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats.rx_bytes.wrapping_add(stats.tx_bytes)),
            _ => None,
        });
    counted.unwrap_or(0)
}
