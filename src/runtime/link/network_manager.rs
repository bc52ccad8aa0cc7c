//! A link that is a connection of NetworkManager, by D-Bus.
//!
//! The connection is named by its id, as `nmcli connection` shows it. NetworkManager keeps
//! its user name and password. What we activated we deactivate; what was active before is
//! told as a presence, and may be taken over then: a server that ended without a stop has
//! left it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::sync::Mutex;
use zbus::zvariant::{DynamicType, Type};
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant, fdo};

use super::Meter;
use super::interfaces::Interfaces;
use crate::core::online::LinkEvent;
use crate::link::controller::{DialFailure, Hope, Presence};

const NAME: &str = "org.freedesktop.NetworkManager";
const PATH: &str = "/org/freedesktop/NetworkManager";
const SETTINGS_PATH: &str = "/org/freedesktop/NetworkManager/Settings";
const SETTINGS: &str = "org.freedesktop.NetworkManager.Settings";
const PROFILE: &str = "org.freedesktop.NetworkManager.Settings.Connection";
const ACTIVE: &str = "org.freedesktop.NetworkManager.Connection.Active";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const DEVICE: &str = "org.freedesktop.NetworkManager.Device";

/// `NM_ACTIVE_CONNECTION_STATE_ACTIVATED`.
const ACTIVATED: u32 = 2;
/// `NM_ACTIVE_CONNECTION_STATE_DEACTIVATING`, and 4 is that it has been.
const DEACTIVATING: u32 = 3;

/// How often an activation is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// Longest time for one question.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How long a deactivation may take: below the patience of the machine.
const DOWN_LIMIT: Duration = Duration::from_secs(25);
/// A signal may be lost with the bus: look so often in any case.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Signals come in bursts.
const SETTLE: Duration = Duration::from_millis(50);

pub(super) struct NetworkManager {
    /// Its id.
    connection: String,
    interfaces: Option<Interfaces>,
    bus: RefCell<Option<Connection>>,
    /// The active connection that we made.
    ours: RefCell<Option<Ours>>,
    /// The active connection with our id that was last seen, whoever made it.
    seen: RefCell<Option<OwnedObjectPath>>,
    /// Held while we have asked for one and it is not known yet.
    asking: Rc<Mutex<()>>,
}

#[derive(Clone)]
struct Ours {
    path: OwnedObjectPath,
    /// It was activated; before that it is the dial's.
    up: bool,
}

impl NetworkManager {
    pub(super) fn new(connection: String, interfaces: Option<Interfaces>) -> Self {
        Self {
            connection,
            interfaces,
            bus: RefCell::new(None),
            ours: RefCell::new(None),
            seen: RefCell::new(None),
            asking: Rc::default(),
        }
    }

    pub(super) async fn dial(self: &Rc<Self>) -> Result<(), DialFailure> {
        let failure = |why: String, hope| DialFailure { why, hope };
        let bus = self.bus().await.map_err(|why| failure(why, Hope::Again))?;
        let profile = self
            .profile(&bus)
            .await
            .map_err(|why| failure(why, Hope::Again))?;
        let Some(profile) = profile else {
            let why = format!("NetworkManager has no connection {:?}", self.connection);
            return Err(failure(why, Hope::NotSoon));
        };
        let asked = tokio::task::spawn_local(Rc::clone(self).ask_for(bus.clone(), profile));
        let path = asked
            .await
            .unwrap_or_else(|error| Err(in_words(error)))
            .map_err(|why| failure(why, Hope::Again))?;
        loop {
            match state(&bus, &path).await {
                Ok(Some(ACTIVATED)) => break,
                Ok(None | Some(DEACTIVATING..)) => {
                    self.ours.borrow_mut().take();
                    let why = format!(
                        "NetworkManager could not activate {:?}; its journal says why",
                        self.connection
                    );
                    return Err(failure(why, Hope::Again));
                }
                // It may be busy: how long that may last the machine says.
                Ok(Some(_)) | Err(_) => tokio::time::sleep(LOOK_PAUSE).await,
            }
        }
        if let Some(ours) = &mut *self.ours.borrow_mut() {
            ours.up = true;
        }
        Ok(())
    }

    /// Has the connection activated. A task of its own, and with no limit: where the dial was
    /// called off before the answer, the connection would be up, and nobody know that it is
    /// ours.
    async fn ask_for(
        self: Rc<Self>,
        bus: Connection,
        profile: OwnedObjectPath,
    ) -> Result<OwnedObjectPath, String> {
        let asking = Rc::clone(&self.asking);
        let _asking = asking.lock().await;
        let none = OwnedObjectPath::try_from("/").expect("a path");
        let body = (profile, none.clone(), none);
        let reply = bus.call_method(Some(NAME), PATH, Some(NAME), "ActivateConnection", &body);
        let path: OwnedObjectPath = (reply.await.map_err(in_words)?.body())
            .deserialize()
            .map_err(in_words)?;
        *self.ours.borrow_mut() = Some(Ours {
            path: path.clone(),
            up: false,
        });
        Ok(path)
    }

    /// What was seen is ours.
    pub(super) fn take_over(&self) {
        let seen = self.seen.borrow_mut().take();
        *self.ours.borrow_mut() = seen.map(|path| Ours { path, up: true });
    }

    pub(super) async fn hang_up(&self) -> Result<(), String> {
        let answered = tokio::time::timeout(DOWN_LIMIT, self.asking.lock()).await;
        let Ok(_answered) = answered else {
            return Err("NetworkManager does not say what became of the activation".to_owned());
        };
        let Some(Ours { path, .. }) = self.ours.borrow().clone() else {
            return Ok(());
        };
        let bus = self.bus().await?;
        // It may be gone already: whether it is, the state says.
        let asked: Result<(), String> =
            call(&bus, PATH, NAME, "DeactivateConnection", &(path.clone(),)).await;
        let gone = async {
            while state(&bus, &path)
                .await?
                .is_some_and(|state| state <= DEACTIVATING)
            {
                if let Err(why) = &asked {
                    return Err(why.clone());
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            Ok(())
        };
        match tokio::time::timeout(DOWN_LIMIT, gone).await {
            Ok(Ok(())) => {
                self.ours.borrow_mut().take();
                Ok(())
            }
            Ok(Err(why)) => Err(why),
            Err(_) => Err("NetworkManager takes too long to deactivate it".to_owned()),
        }
    }

    pub(super) async fn meter(&self) -> Option<u64> {
        let bus = self.bus().await.ok()?;
        let path = self.ours.borrow().as_ref().map(|ours| ours.path.clone());
        let path = match path {
            Some(path) => path,
            None => self.active(&bus).await.ok()?.into_iter().next()?,
        };
        let devices: Vec<OwnedObjectPath> = property(&bus, &path, ACTIVE, "Devices").await.ok()?;
        let device = devices.first()?;
        let mut interface: String = property(&bus, device, DEVICE, "IpInterface")
            .await
            .unwrap_or_default();
        if interface.is_empty() {
            interface = property(&bus, device, DEVICE, "Interface").await.ok()?;
        }
        let meter = Meter {
            interface: Some(interface),
            interfaces: self.interfaces.clone(),
        };
        meter.read().await
    }

    /// Tells what NetworkManager does without us.
    pub(super) async fn watch(&self, tell: &dyn Fn(LinkEvent)) {
        loop {
            // NetworkManager, or the bus, may come later, or again.
            let _ = self.watch_bus(tell).await;
            self.bus.borrow_mut().take();
            tokio::time::sleep(LOOK_INTERVAL / 10).await;
        }
    }

    async fn watch_bus(&self, tell: &dyn Fn(LinkEvent)) -> Result<(), String> {
        let bus = self.bus().await?;
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(NAME)
            .build()
            .map_err(in_words)?;
        let signals = MessageStream::for_match_rule(rule, &bus, None);
        let mut signals = signals.await.map_err(in_words)?;
        loop {
            self.look(&bus, tell).await?;
            if let Ok(None) = tokio::time::timeout(LOOK_INTERVAL, signals.next()).await {
                return Err("the bus is gone".to_owned());
            }
            tokio::time::sleep(SETTLE).await;
            // One look is enough for all that has come.
            while let Some(Some(_)) = futures_util::FutureExt::now_or_never(signals.next()) {}
        }
    }

    async fn look(&self, bus: &Connection, tell: &dyn Fn(LinkEvent)) -> Result<(), String> {
        let ours = self.ours.borrow().clone();
        if let Some(Ours { path, up: true }) = ours {
            let state = state(bus, &path).await?;
            let still = self
                .ours
                .borrow()
                .as_ref()
                .is_some_and(|ours| ours.path == path);
            if still && state.is_none_or(|state| state >= DEACTIVATING) {
                self.ours.borrow_mut().take();
                tell(LinkEvent::Lost(
                    "NetworkManager says that it is down".to_owned(),
                ));
            }
            return Ok(());
        }
        let seen = self.active(bus).await?.into_iter().next();
        let selected = seen.is_some();
        let other = match &self.interfaces {
            Some(interfaces) => interfaces.has_default_route().await,
            None => false,
        };
        // What we began meanwhile is no presence.
        if self.ours.borrow().is_none() {
            *self.seen.borrow_mut() = seen;
            tell(LinkEvent::Presence(match (selected, other) {
                (true, _) => Presence::Selected,
                (false, true) => Presence::Other,
                (false, false) => Presence::None,
            }));
        }
        Ok(())
    }

    /// Active connections with our id that are up.
    async fn active(&self, bus: &Connection) -> Result<Vec<OwnedObjectPath>, String> {
        let manager = OwnedObjectPath::try_from(PATH).expect("a path");
        let all: Vec<OwnedObjectPath> = property(bus, &manager, NAME, "ActiveConnections").await?;
        let mut ours = Vec::new();
        for path in all {
            let id: Result<String, _> = property(bus, &path, ACTIVE, "Id").await;
            if id.is_ok_and(|id| id == self.connection)
                && state(bus, &path).await? == Some(ACTIVATED)
            {
                ours.push(path);
            }
        }
        Ok(ours)
    }

    /// The stored connection with our id.
    async fn profile(&self, bus: &Connection) -> Result<Option<OwnedObjectPath>, String> {
        type Profile =
            std::collections::HashMap<String, std::collections::HashMap<String, OwnedVariant>>;
        let all: Vec<OwnedObjectPath> =
            call(bus, SETTINGS_PATH, SETTINGS, "ListConnections", &()).await?;
        for path in all {
            let profile: Profile = call(bus, path.as_str(), PROFILE, "GetSettings", &()).await?;
            let id = profile
                .get("connection")
                .and_then(|section| section.get("id"));
            let id = id.and_then(|id| <&str>::try_from(id).ok());
            if id == Some(self.connection.as_str()) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    async fn bus(&self) -> Result<Connection, String> {
        if let Some(bus) = &*self.bus.borrow() {
            return Ok(bus.clone());
        }
        let bus = Connection::system()
            .await
            .map_err(|error| format!("the system's D-Bus does not answer: {error}"))?;
        *self.bus.borrow_mut() = Some(bus.clone());
        Ok(bus)
    }
}

/// The state of an active connection. `None`: it is gone.
///
/// # Errors
/// NetworkManager does not answer: that says nothing of the connection.
async fn state(bus: &Connection, path: &OwnedObjectPath) -> Result<Option<u32>, String> {
    let called = bus.call_method(
        Some(NAME),
        path,
        Some(PROPERTIES),
        "Get",
        &(ACTIVE, "State"),
    );
    let reply = match tokio::time::timeout(CALL_LIMIT, called).await {
        Err(_) => return Err("NetworkManager does not answer".to_owned()),
        Ok(Err(zbus::Error::FDO(error))) if is_gone(&error) => return Ok(None),
        Ok(reply) => reply.map_err(in_words)?,
    };
    let value: OwnedVariant = reply.body().deserialize().map_err(in_words)?;
    let state = u32::try_from(value).map_err(in_words)?;
    Ok(Some(state))
}

/// What the bus says of an object that is gone, and of a NetworkManager that is: what it has
/// brought up goes with it.
fn is_gone(error: &fdo::Error) -> bool {
    matches!(
        error,
        fdo::Error::UnknownObject(_)
            | fdo::Error::UnknownMethod(_)
            | fdo::Error::UnknownInterface(_)
            | fdo::Error::ServiceUnknown(_)
            | fdo::Error::NameHasNoOwner(_)
    )
}

async fn property<T>(
    bus: &Connection,
    path: &OwnedObjectPath,
    interface: &str,
    name: &str,
) -> Result<T, String>
where
    T: TryFrom<OwnedVariant>,
    T::Error: std::fmt::Display,
{
    let body = (interface, name);
    let value: OwnedVariant = call(bus, path.as_str(), PROPERTIES, "Get", &body).await?;
    T::try_from(value).map_err(|error| format!("NetworkManager's {name}: {error}"))
}

async fn call<B, T>(
    bus: &Connection,
    path: &str,
    interface: &str,
    method: &str,
    body: &B,
) -> Result<T, String>
where
    B: serde::Serialize + DynamicType,
    T: for<'d> Deserialize<'d> + Type,
{
    let called = bus.call_method(Some(NAME), path, Some(interface), method, body);
    let reply = tokio::time::timeout(CALL_LIMIT, called)
        .await
        .map_err(|_| format!("NetworkManager does not answer {method}"))?
        .map_err(in_words)?;
    reply.body().deserialize().map_err(in_words)
}

fn in_words(error: impl std::fmt::Display) -> String {
    format!("NetworkManager: {error}")
}
