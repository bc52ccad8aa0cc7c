//! What is asked of NetworkManager over the bus, each within a time limit.

use std::time::Duration;

use serde::Deserialize;
use zbus::zvariant::{DynamicType, Type};
use zbus::{Connection, OwnedObjectPath, OwnedVariant, fdo};

use super::{ACTIVE, Active, NAME, PATH};

pub(super) const BUS: &str = "org.freedesktop.DBus";
const NO_OWNER: &str = "org.freedesktop.DBus.Error.NameHasNoOwner";
const BUS_PATH: &str = "/org/freedesktop/DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Longest time for one question.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The state of an active connection. `None`: it is gone.
///
/// # Errors
/// NetworkManager does not answer: that says nothing of the connection.
pub(super) async fn state(bus: &Connection, path: &OwnedObjectPath) -> Result<Option<u32>, String> {
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

/// What the bus says of an object that is gone. Of a NetworkManager that is gone it says
/// something else: some of what that has brought up stays, and is found again.
fn is_gone(error: &fdo::Error) -> bool {
    matches!(
        error,
        fdo::Error::UnknownObject(_)
            | fdo::Error::UnknownMethod(_)
            | fdo::Error::UnknownInterface(_)
    )
}

/// The NetworkManager that is there, by its own name on the bus.
pub(super) async fn manager(bus: &Connection) -> Result<Option<String>, String> {
    let called = bus.call_method(Some(BUS), BUS_PATH, Some(BUS), "GetNameOwner", &(NAME,));
    match tokio::time::timeout(CALL_LIMIT, called).await {
        Err(_) => Err("the bus does not answer".to_owned()),
        Ok(Err(zbus::Error::FDO(error))) if matches!(*error, fdo::Error::NameHasNoOwner(_)) => {
            Ok(None)
        }
        Ok(Err(zbus::Error::MethodError(name, ..))) if name.as_str() == NO_OWNER => Ok(None),
        Ok(reply) => {
            let reply = reply.map_err(in_words)?;
            reply.body().deserialize().map(Some).map_err(in_words)
        }
    }
}

/// What is active, whoever made it.
pub(super) async fn all_active(bus: &Connection) -> Result<Vec<Active>, String> {
    let manager = OwnedObjectPath::try_from(PATH).expect("a path");
    let all: Vec<OwnedObjectPath> = property(bus, &manager, NAME, "ActiveConnections").await?;
    let mut active = Vec::with_capacity(all.len());
    for path in all {
        match property(bus, &path, ACTIVE, "Uuid").await {
            Ok(uuid) => active.push(Active { path, uuid }),
            // It has gone since; no answer is another thing.
            Err(_) if state(bus, &path).await?.is_none() => {}
            Err(why) => return Err(why),
        }
    }
    Ok(active)
}

pub(super) async fn property<T>(
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

pub(super) async fn call<B, T>(
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

pub(super) fn in_words(error: impl std::fmt::Display) -> String {
    format!("NetworkManager: {error}")
}
