//! A link that is a connection of NetworkManager, by D-Bus.
//!
//! The connection is named by its id, as `nmcli connection` shows it. NetworkManager keeps
//! its user name and password. What we activated we deactivate; what was active before is
//! told as a presence, and may be taken over then: a server that ended without a stop has
//! left it.
//!
//! A NetworkManager that starts again keeps some connections up, under other paths, and gives
//! their paths to others. So what is ours is known by its UUID. What was told as lost, since
//! there was no NetworkManager for some time, is deactivated if it is there again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant};

use bus::{BUS, CALL_LIMIT, all_active, call, in_words, manager, property, state};

use super::Meter;
use super::interfaces::Interfaces;
use crate::core::online::LinkEvent;
use crate::link::controller::{DialFailure, Hope, Presence};

mod bus;

const NAME: &str = "org.freedesktop.NetworkManager";
const PATH: &str = "/org/freedesktop/NetworkManager";
const SETTINGS_PATH: &str = "/org/freedesktop/NetworkManager/Settings";
const SETTINGS: &str = "org.freedesktop.NetworkManager.Settings";
const PROFILE: &str = "org.freedesktop.NetworkManager.Settings.Connection";
const ACTIVE: &str = "org.freedesktop.NetworkManager.Connection.Active";
const DEVICE: &str = "org.freedesktop.NetworkManager.Device";

/// `NM_ACTIVE_CONNECTION_STATE_ACTIVATED`.
const ACTIVATED: u32 = 2;
/// `NM_ACTIVE_CONNECTION_STATE_DEACTIVATING`, and 4 is that it has been.
const DEACTIVATING: u32 = 3;

/// There is no NetworkManager: a sentence.
const GONE: &str = "there is no NetworkManager any more";

/// How often an activation is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// How long a deactivation may take: below the patience of the machine.
const DOWN_LIMIT: Duration = Duration::from_secs(25);
/// How long there may be no NetworkManager until what it had brought up is taken for lost:
/// an update starts it again within seconds.
const ABSENCE_MAX: Duration = Duration::from_secs(20);
/// How often it is looked for meanwhile.
const ABSENT_PAUSE: Duration = Duration::from_secs(2);
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
    seen: RefCell<Option<Active>>,
    /// Told as lost, though nobody could say so.
    lost: RefCell<Option<Lost>>,
    /// The NetworkManager that was there when it was last looked for: its name on the bus.
    manager: RefCell<Option<String>>,
    /// Since when there is none, or one that does not have ours yet.
    absent_since: Cell<Option<Instant>>,
    /// Held while we have asked for one and it is not known yet.
    asking: Rc<Mutex<()>>,
    /// What we asked for and could not deactivate is not ours any more.
    given_up: Cell<bool>,
}

#[derive(Clone)]
struct Ours {
    active: Active,
    /// Who made it, by its own name on the bus: its path is of that one only.
    manager: Option<String>,
    /// It was activated; before that it is the dial's.
    up: bool,
}

/// What was told as lost, and may come again with its NetworkManager.
#[derive(Clone)]
struct Lost {
    uuid: String,
    /// Since when there is a NetworkManager again.
    manager_since: Option<Instant>,
}

impl Lost {
    const fn new(uuid: String) -> Self {
        Self {
            uuid,
            manager_since: None,
        }
    }
}

/// An active connection. Its path may be another's when NetworkManager has started again.
#[derive(Clone, PartialEq, Eq)]
struct Active {
    path: OwnedObjectPath,
    uuid: String,
}

/// A stored connection.
struct Profile {
    path: OwnedObjectPath,
    uuid: String,
}

impl NetworkManager {
    pub(super) fn new(connection: String, interfaces: Option<Interfaces>) -> Self {
        Self {
            connection,
            interfaces,
            bus: RefCell::new(None),
            ours: RefCell::new(None),
            seen: RefCell::new(None),
            lost: RefCell::new(None),
            manager: RefCell::new(None),
            absent_since: Cell::new(None),
            asking: Rc::default(),
            given_up: Cell::new(false),
        }
    }

    pub(super) async fn dial(self: &Rc<Self>) -> Result<(), DialFailure> {
        let failure = |why: String, hope| DialFailure { why, hope };
        self.given_up.set(false);
        let bus = self.bus().await.map_err(|why| failure(why, Hope::Again))?;
        let profile = self
            .profile(&bus)
            .await
            .map_err(|why| failure(why, Hope::Again))?;
        let Some(profile) = profile else {
            let why = format!("NetworkManager has no connection {:?}", self.connection);
            return Err(failure(why, Hope::NotSoon));
        };
        self.lost.borrow_mut().take();
        let asked = tokio::task::spawn_local(Rc::clone(self).ask_for(bus.clone(), profile));
        let active = asked
            .await
            .unwrap_or_else(|error| Err(in_words(error)))
            .map_err(|why| failure(why, Hope::Again))?;
        loop {
            match state(&bus, &active.path).await {
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
                Ok(Some(_)) => tokio::time::sleep(LOOK_PAUSE).await,
                Err(_) if manager(&bus).await == Ok(None) => {
                    self.ours.borrow_mut().take();
                    *self.lost.borrow_mut() = Some(Lost::new(active.uuid));
                    return Err(failure(GONE.to_owned(), Hope::Again));
                }
                Err(_) => tokio::time::sleep(LOOK_PAUSE).await,
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
    async fn ask_for(self: Rc<Self>, bus: Connection, profile: Profile) -> Result<Active, String> {
        let asking = Rc::clone(&self.asking);
        let _asking = asking.lock().await;
        let none = OwnedObjectPath::try_from("/").expect("a path");
        let body = (profile.path, none.clone(), none);
        let manager = manager(&bus).await?;
        let reply = bus.call_method(Some(NAME), PATH, Some(NAME), "ActivateConnection", &body);
        let path: OwnedObjectPath = (reply.await.map_err(in_words)?.body())
            .deserialize()
            .map_err(in_words)?;
        let uuid = profile.uuid;
        let active = Active { path, uuid };
        // One that nobody waits for any more is seen as any other.
        if !self.given_up.get() {
            *self.ours.borrow_mut() = Some(Ours {
                active: active.clone(),
                manager,
                up: false,
            });
        }
        Ok(active)
    }

    /// What was seen is ours.
    pub(super) fn take_over(&self) {
        let seen = self.seen.borrow_mut().take();
        let manager = self.manager.borrow().clone();
        *self.ours.borrow_mut() = seen.map(|active| Ours {
            active,
            manager,
            up: true,
        });
    }

    /// What is active with our id is told as a presence from now on.
    pub(super) fn give_up(&self) {
        self.given_up.set(true);
        self.ours.borrow_mut().take();
    }

    pub(super) async fn hang_up(&self) -> Result<(), String> {
        let answered = tokio::time::timeout(DOWN_LIMIT, self.asking.lock()).await;
        let Ok(_answered) = answered else {
            return Err("NetworkManager does not say what became of the activation".to_owned());
        };
        if self.ours.borrow().is_none() {
            return Ok(());
        }
        let gone = async {
            let bus = self.bus().await?;
            let Some((path, _)) = self.find_ours(&bus).await? else {
                return Ok(());
            };
            // It may be gone already: whether it is, the state says.
            let asked: Result<(), String> =
                call(&bus, PATH, NAME, "DeactivateConnection", &(path,)).await;
            while self.find_ours(&bus).await?.is_some() {
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
        let path = self
            .ours
            .borrow()
            .as_ref()
            .map(|ours| ours.active.path.clone());
        let path = match path {
            Some(path) => path,
            None => self.active(&bus).await.ok()?.into_iter().next()?.path,
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
            tokio::time::sleep(ABSENT_PAUSE).await;
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
        let signals = signals.await.map_err(in_words)?;
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(BUS)
            .member("NameOwnerChanged")
            .arg(0, NAME)
            .build()
            .map_err(in_words)?;
        let comes_and_goes = MessageStream::for_match_rule(rule, &bus, None);
        let comes_and_goes = comes_and_goes.await.map_err(in_words)?;
        let mut signals = futures_util::stream::select(signals, comes_and_goes);
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
        let manager = manager(bus).await?;
        let before = self.manager.replace(manager.clone());
        if manager.is_none() || before.is_some_and(|before| Some(before) != manager) {
            let since = self.absent_since.get().unwrap_or_else(Instant::now);
            self.absent_since.set(Some(since));
        }
        if let Some(Ours {
            active, up: true, ..
        }) = ours
        {
            return self
                .look_for_ours(bus, &active, manager.is_some(), tell)
                .await;
        }
        if manager.is_none() {
            return Err(GONE.to_owned());
        }
        self.absent_since.set(None);
        self.take_down_what_was_lost(bus).await?;
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

    /// Tells if what we activated is down, or must be taken for it. An error: not yet.
    async fn look_for_ours(
        &self,
        bus: &Connection,
        active: &Active,
        is_there: bool,
        tell: &dyn Fn(LinkEvent),
    ) -> Result<(), String> {
        let found = if is_there {
            self.find_ours(bus).await?
        } else {
            None
        };
        if found.is_some() {
            self.absent_since.set(None);
        }
        let absent_since = self.absent_since.get();
        if absent_since.is_some_and(|since| since.elapsed() < ABSENCE_MAX) {
            return Err(GONE.to_owned());
        }
        let still = self
            .ours
            .borrow()
            .as_ref()
            .is_some_and(|ours| ours.active.uuid == active.uuid);
        if still && found.is_none_or(|(_, state)| state >= DEACTIVATING) {
            self.ours.borrow_mut().take();
            let why = if is_there {
                "NetworkManager says that it is down"
            } else {
                *self.lost.borrow_mut() = Some(Lost::new(active.uuid.clone()));
                GONE
            };
            tell(LinkEvent::Lost(why.to_owned()));
        }
        Ok(())
    }

    /// Where ours is, and its state, if it is up or goes up or down.
    ///
    /// # Errors
    /// NetworkManager does not say.
    async fn find_ours(&self, bus: &Connection) -> Result<Option<(OwnedObjectPath, u32)>, String> {
        let Some(ours) = self.ours.borrow().clone() else {
            return Ok(None);
        };
        let manager = manager(bus).await?;
        let all = all_active(bus).await?;
        let known = all.iter().find(|active| **active == ours.active);
        let found = known.or_else(|| {
            let is_another = manager != ours.manager;
            let mut all = all.iter().filter(|_| is_another);
            all.find(|active| active.uuid == ours.active.uuid)
        });
        let Some(found) = found else {
            return Ok(None);
        };
        let state = state(bus, &found.path).await?;
        let Some(state) = state.filter(|state| *state <= DEACTIVATING) else {
            return Ok(None);
        };
        if let Some(known) = &mut *self.ours.borrow_mut() {
            (known.active, known.manager) = (found.clone(), manager);
        }
        Ok(Some((found.path.clone(), state)))
    }

    /// The machine takes it for down, and it was ours: as somebody else's it would be up, and
    /// cost, for ever. What is activated long after NetworkManager began is somebody else's.
    async fn take_down_what_was_lost(&self, bus: &Connection) -> Result<(), String> {
        let Some(lost) = self.lost.borrow().clone() else {
            return Ok(());
        };
        let since = lost.manager_since.unwrap_or_else(Instant::now);
        if since.elapsed() > ABSENCE_MAX {
            self.lost.borrow_mut().take();
            return Ok(());
        }
        for active in all_active(bus).await? {
            if active.uuid == lost.uuid {
                let () = call(bus, PATH, NAME, "DeactivateConnection", &(active.path,)).await?;
                self.lost.borrow_mut().take();
                return Ok(());
            }
        }
        if let Some(lost) = &mut *self.lost.borrow_mut() {
            lost.manager_since = Some(since);
        }
        Ok(())
    }

    /// Active connections with our id that are up.
    async fn active(&self, bus: &Connection) -> Result<Vec<Active>, String> {
        let mut ours = Vec::new();
        for active in all_active(bus).await? {
            let id: Result<String, _> = property(bus, &active.path, ACTIVE, "Id").await;
            if id.is_ok_and(|id| id == self.connection)
                && state(bus, &active.path).await? == Some(ACTIVATED)
            {
                ours.push(active);
            }
        }
        Ok(ours)
    }

    /// The stored connection with our id.
    async fn profile(&self, bus: &Connection) -> Result<Option<Profile>, String> {
        type Sections =
            std::collections::HashMap<String, std::collections::HashMap<String, OwnedVariant>>;
        let all: Vec<OwnedObjectPath> =
            call(bus, SETTINGS_PATH, SETTINGS, "ListConnections", &()).await?;
        for path in all {
            let sections: Sections = call(bus, path.as_str(), PROFILE, "GetSettings", &()).await?;
            let of = |name| {
                let value = sections.get("connection")?.get(name)?;
                <&str>::try_from(value).ok()
            };
            if let (Some(id), Some(uuid)) = (of("id"), of("uuid"))
                && id == self.connection
            {
                let uuid = uuid.to_owned();
                return Ok(Some(Profile { path, uuid }));
            }
        }
        Ok(None)
    }

    async fn bus(&self) -> Result<Connection, String> {
        if let Some(bus) = &*self.bus.borrow() {
            return Ok(bus.clone());
        }
        let bus = tokio::time::timeout(CALL_LIMIT, Connection::system())
            .await
            .map_err(|_| "the system's D-Bus does not answer".to_owned())?
            .map_err(|error| format!("the system's D-Bus does not answer: {error}"))?;
        *self.bus.borrow_mut() = Some(bus.clone());
        Ok(bus)
    }
}
