//! Looking for queues by a text, over all that the cores have.
//!
//! Invariant: one question is with the cores at a time, however many pages look for
//! something; and what was answered within [`REFRESH`] is not asked again. So a filter that
//! is left in ten browsers costs a core no more than one that is typed into.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tokio::sync::Mutex;

use super::board::REFRESH;
use super::{Site, is_same_origin, json, refuse, refused};
use crate::core::admin::{Command, Response as Answer, Wanted};
use crate::time::Instant;

/// What was found last.
#[derive(Debug)]
struct Answered {
    text: String,
    at: Instant,
    json: Arc<str>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Search {
    last: Mutex<Option<Answered>>,
}

/// The queues that contain a text, which is the body.
pub(super) async fn find(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !is_same_origin(&headers) {
        return refuse(StatusCode::FORBIDDEN, "only our own page looks for queues");
    }
    let Ok(text) = str::from_utf8(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "what is looked for is no text");
    };
    let wanted = Wanted {
        text: text.to_owned(),
        from: 0,
    };
    if let Err(why) = wanted.limits() {
        return refuse(StatusCode::BAD_REQUEST, &why);
    }
    let mut last = site.search.last.lock().await;
    let is_fresh = |answered: &&Answered| {
        answered.text == text && site.clock.now().instant.since(answered.at) < REFRESH
    };
    if let Some(answered) = last.as_ref().filter(is_fresh) {
        return json(StatusCode::OK, answered.json.to_string());
    }
    match site.put(Command::Find(wanted)).await {
        Answer::Found(found) => {
            let json_text = serde_json::to_string(&found);
            let json_text: Arc<str> = json_text.expect("numbers and texts").into();
            *last = Some(Answered {
                text: text.to_owned(),
                at: site.clock.now().instant,
                json: Arc::clone(&json_text),
            });
            json(StatusCode::OK, json_text.to_string())
        }
        Answer::Refused(why) => refused(&why),
        _ => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the cores have said something else",
        ),
    }
}
