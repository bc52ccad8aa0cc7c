//! The web page, the metrics and the two questions of a supervisor, over HTTP.
//!
//! On the control core's thread, by axum on hyper: nothing of it is on the way of a
//! message. Files of the page lie beside this one and are part of the program.
//!
//! # Who may do what
//!
//! - Who knows the token may do everything; it comes as `Authorization: Bearer …`, which
//!   no other site can make a browser send. There are no cookies.
//! - On a loopback address anybody on this machine may look. On another address looking
//!   takes the token too; only the files of the page and the health are free.
//! - An action is a POST. A request whose `Host` is a name that is not ours is refused:
//!   a foreign page whose name was turned to this address would have such a one.
//! - The page loads nothing from elsewhere and runs no script but its own, by its
//!   Content-Security-Policy. What came from a peer is put into it as text.
//!
//! # Limits
//!
//! `CONNECTIONS_MAX` connections, each for at most `CONNECTION_TIME_MAX`;
//! `HEADER_TIME_MAX` for a request to come, `ANSWER_TIME_MAX` for its answer;
//! `BODY_BYTES_MAX` octets of an action.
//!
//! What this module does not do: no TLS. Beyond this machine it belongs behind a proxy
//! that has it, or in a tunnel.

mod board;
mod metrics;
mod search;
mod token;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::config;
use crate::core::admin::{Change, Command, LinkCommand, Reason, Refused, Response as Answer};
use crate::report::Fact;
use crate::runtime::clock::Clock;
use crate::runtime::control::Control;
use crate::runtime::log::report_control;

use self::board::{Board, REFRESH};
use self::search::Search;
pub use self::token::Token;

/// Browsers open six each; a scraper one.
const CONNECTIONS_MAX: usize = 64;

/// A connection that lasts longer is closed between two requests, so that none stays
/// for ever.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(600);

/// How long the request that is under way may still take then.
const LAST_REQUEST_TIME_MAX: Duration = Duration::from_secs(15);

/// How long a request may take to come, and a connection may be silent.
const HEADER_TIME_MAX: Duration = Duration::from_secs(30);

/// How long an answer may take; the cores take no more than five seconds.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest body of an action: a name and a few words.
const BODY_BYTES_MAX: usize = 4096;

/// Actions that wait for the control core.
const ASKS_MAX: usize = 16;

/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

const HTML: &str = include_str!("page.html");
const CSS: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const ICON: &str = include_str!("icon.svg");

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// What the page is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where it is served, and by which token.
    pub web: config::Web,
    /// Our name: one under which it may be asked for.
    pub hostname: String,
}

/// A question to the control core.
struct Ask {
    command: Command,
    answer: oneshot::Sender<Answer>,
}

/// What requests have in common.
struct Site {
    address: IpAddr,
    hostname: String,
    token: Token,
    clock: Clock,
    board: Board,
    search: Search,
    asks: mpsc::Sender<Ask>,
    /// Something was done: the board is out of date.
    changed: Notify,
}

/// Serves the page from now on. Without it mail goes on, and the operator is told.
pub fn start(control: &Control, clock: Clock, setup: Setup) {
    let Setup { web, hostname } = setup;
    let failed = |why: &str| {
        let what = format!(
            "the web page at {} is not served: {why}; mail goes on, the commands `turnspool \
             status` and `turnspool top` show the same",
            web.address
        );
        report_control(&Fact::Trouble { what });
    };
    let token = match Token::open(&web.token) {
        Ok(token) => token,
        Err(why) => return failed(&why),
    };
    let listener = match listen(web.address) {
        Ok(listener) => listener,
        Err(error) => return failed(&error.to_string()),
    };
    report_control(&Fact::WebPage {
        address: web.address,
        token_file: web.token.path().display().to_string(),
    });
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let site = Arc::new(Site {
        address: web.address.ip(),
        board: Board::new(hostname.clone()),
        search: Search::default(),
        hostname,
        token,
        clock,
        asks,
        changed: Notify::new(),
    });
    tokio::task::spawn_local(put_asks(control.clone(), asked));
    tokio::task::spawn_local(keep_up(control.clone(), Arc::clone(&site)));
    tokio::task::spawn_local(accept(listener, router(site)));
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Puts questions to the control core, each in its own task: one may take seconds.
async fn put_asks(control: Control, mut asked: mpsc::Receiver<Ask>) {
    while let Some(Ask { command, answer }) = asked.recv().await {
        let control = control.clone();
        tokio::task::spawn_local(async move {
            // Who asked may have gone meanwhile.
            let _ = answer.send(control.ask(command).await);
        });
    }
}

/// Keeps the board up to date, for ever.
async fn keep_up(control: Control, site: Arc<Site>) {
    loop {
        if let Answer::Status(status) = control.ask(Command::Status).await {
            site.board.put(site.clock.now(), *status);
        }
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            () = site.changed.notified() => {}
        }
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::task::spawn_local(async move {
                    serve(stream, router).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A browser that has gone, or speaks no HTTP, is nobody's concern.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(CONNECTION_TIME_MAX) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_REQUEST_TIME_MAX, connection).await;
}

fn router(site: Arc<Site>) -> Router {
    let free = Router::new()
        .route(
            "/",
            get(|| async { file("text/html; charset=utf-8", HTML) }),
        )
        .route(
            "/page.css",
            get(|| async { file("text/css; charset=utf-8", CSS) }),
        )
        .route(
            "/page.js",
            get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }),
        )
        .route("/icon.svg", get(|| async { file("image/svg+xml", ICON) }))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready));
    let look = Router::new()
        .route("/live", get(live))
        .route("/metrics", get(scrape))
        .route("/find", post(search::find))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&site), may_look));
    let act = Router::new()
        .route("/action", post(act))
        .route("/token", post(|| async { "yes\n" }))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&site), may_act));
    free.merge(look)
        .merge(act)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard))
        .with_state(site)
}

/// What holds for every request and every answer.
async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let mut response = if site.is_called(request.headers()) {
        match tokio::time::timeout(ANSWER_TIME_MAX, next.run(request)).await {
            Ok(response) => response,
            Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "that took too long"),
        }
    } else {
        let what = "this server does not go by that name: use its address, localhost, or the \
                    hostname of its configuration";
        refuse(StatusCode::MISDIRECTED_REQUEST, what)
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    response
}

async fn may_look(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    if site.address.is_loopback() || site.knows_token(request.headers()) {
        next.run(request).await
    } else {
        refuse(StatusCode::UNAUTHORIZED, TOKEN_WANTED)
    }
}

async fn may_act(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "an action is a POST");
    }
    if !is_same_origin(request.headers()) {
        return refuse(StatusCode::FORBIDDEN, "an action comes from our own page");
    }
    if site.knows_token(request.headers()) {
        next.run(request).await
    } else {
        refuse(StatusCode::UNAUTHORIZED, TOKEN_WANTED)
    }
}

const TOKEN_WANTED: &str = "this takes the token that `turnspool web` prints";

impl Site {
    /// Whether the client means us, by address or by a name of ours.
    fn is_called(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(header::HOST).and_then(|h| h.to_str().ok()) else {
            return false;
        };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let inner = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        inner.unwrap_or(name).parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || name.eq_ignore_ascii_case(&self.hostname)
    }

    fn knows_token(&self, headers: &HeaderMap) -> bool {
        let claimed = headers.get(header::AUTHORIZATION);
        let claimed = claimed.and_then(|value| value.to_str().ok());
        let claimed = claimed.and_then(|value| value.split_once(' '));
        claimed.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && self.token.is(token.trim())
        })
    }

    /// Has the control core do something.
    async fn ask(&self, command: Command) -> Answer {
        let answer = self.put(command).await;
        self.changed.notify_one();
        answer
    }

    /// Puts a question to the control core.
    async fn put(&self, command: Command) -> Answer {
        let (answer, answered) = oneshot::channel();
        let later = || Answer::refused(Reason::Later, "the server is busy or stopping; try again");
        // Not waited for: a browser's user tries again.
        if self.asks.try_send(Ask { command, answer }).is_err() {
            return later();
        }
        answered.await.unwrap_or_else(|_| later())
    }
}

/// A browser says where a request comes from; a program says nothing.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(HeaderValue::to_str);
    let Some(origin) = text(header::ORIGIN) else {
        return true;
    };
    let (Ok(origin), Some(Ok(host))) = (origin, text(header::HOST)) else {
        return false;
    };
    // Behind a proxy with TLS the scheme is another one.
    let ours = origin.strip_prefix("http://");
    ours.or_else(|| origin.strip_prefix("https://")) == Some(host)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

fn json(status: StatusCode, text: impl Into<Body>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, text.into()).into_response()
}

fn refuse(status: StatusCode, what: &str) -> Response {
    json(status, serde_json::json!({ "error": what }).to_string())
}

fn refused(why: &Refused) -> Response {
    let status = match why.reason {
        Reason::Request | Reason::Configuration => StatusCode::BAD_REQUEST,
        Reason::NotFound => StatusCode::NOT_FOUND,
        Reason::Failed => StatusCode::CONFLICT,
        Reason::Later => StatusCode::SERVICE_UNAVAILABLE,
    };
    refuse(status, &why.text)
}

/// Whether new mail is taken: for a supervisor or a balancer.
async fn ready(State(site): State<Arc<Site>>) -> Response {
    let trouble = match site.board.latest(site.clock.now()) {
        Ok(snapshot) => snapshot.status.live.readiness.trouble(),
        Err(why) => Some(why),
    };
    match trouble {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn live(State(site): State<Arc<Site>>) -> Response {
    match site.board.latest(site.clock.now()) {
        Ok(snapshot) => json(StatusCode::OK, snapshot.json().to_string()),
        Err(why) => refuse(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn scrape(State(site): State<Arc<Site>>) -> Response {
    let now = site.clock.now();
    match site.board.latest(now) {
        Ok(snapshot) => {
            let text = metrics::text(now.wall, &snapshot.status);
            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
        }
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// What the page can do.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
enum Action {
    /// Lets go what is held for a customer or a domain.
    Release { name: String },
    /// Lets go the mail for a next hop.
    ReleaseQueue { next_hop: String },
    /// Stops the mail for a next hop.
    HoldQueue { next_hop: String },
    /// Brings a link up.
    Dial { link: String },
    /// Takes a link down.
    HangUp { link: String },
}

impl Action {
    fn command(self) -> Command {
        match self {
            Self::Release { name } => Command::Release { name },
            Self::ReleaseQueue { next_hop } => Command::QueueSteer {
                next_hop,
                change: Change::Release,
            },
            Self::HoldQueue { next_hop } => Command::QueueSteer {
                next_hop,
                change: Change::Hold,
            },
            Self::Dial { link } => Command::Link(LinkCommand::Up { name: Some(link) }),
            Self::HangUp { link } => Command::Link(LinkCommand::Down { name: Some(link) }),
        }
    }

    /// Said when it is done, behind how much mail it concerns.
    const fn done(&self) -> &'static str {
        match self {
            Self::Release { .. } | Self::ReleaseQueue { .. } => "released",
            Self::HoldQueue { .. } => "held, until a release",
            Self::Dial { .. } => "the link is being brought up",
            Self::HangUp { .. } => "the link goes down, and stays so until it is dialled",
        }
    }
}

async fn act(State(site): State<Arc<Site>>, body: Bytes) -> Response {
    let action: Action = match serde_json::from_slice(&body) {
        Ok(action) => action,
        Err(error) => {
            let what = format!("this is no action: {error}");
            return refuse(StatusCode::BAD_REQUEST, &what);
        }
    };
    let done = action.done();
    let done = match site.ask(action.command()).await {
        Answer::Released(released) if released.messages == 1 => format!("1 message {done}"),
        Answer::Released(released) => format!("{} messages {done}", released.messages),
        Answer::Refused(why) => return refused(&why),
        _ => done.to_owned(),
    };
    json(
        StatusCode::OK,
        serde_json::json!({ "done": done }).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value")))
            .collect()
    }

    #[test]
    fn only_our_names_are_ours() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("web-token");
        let (asks, _asked) = mpsc::channel(1);
        let site = Site {
            address: [127, 0, 0, 1].into(),
            hostname: "relay.example".to_owned(),
            token: Token::open(&config::WebToken::Generated(path)).expect("a token"),
            clock: Clock::new(),
            board: Board::new("relay.example".to_owned()),
            search: Search::default(),
            asks,
            changed: Notify::new(),
        };
        let check = |host: &str, expected: bool| {
            let called = site.is_called(&headers(&[(header::HOST, host)]));
            assert_eq!(called, expected, "{host:?}");
        };
        check("127.0.0.1:8025", true);
        check("127.0.0.1", true);
        check("[::1]:8025", true);
        check("[::1]", true);
        check("localhost:8025", true);
        check("Relay.Example", true);
        check("evil.example", false);
        check("evil.example:8025", false);
        check("127.0.0.1.evil.example:8025", false);
        check("localhost.evil.example", false);
        check("", false);
        assert!(!site.is_called(&HeaderMap::new()));
        let token = site.token.reveal().to_owned();
        let knows = |value: &str| site.knows_token(&headers(&[(header::AUTHORIZATION, value)]));
        assert!(knows(&format!("Bearer {token}")));
        assert!(knows(&format!("bearer {token}")));
        assert!(!knows(&token));
        assert!(!knows(&format!("Basic {token}")));
        assert!(!knows("Bearer "));
        assert!(!site.knows_token(&HeaderMap::new()));
    }

    #[test]
    fn an_action_of_another_page_is_none() {
        let check = |origin: &str, expected: bool| {
            let headers = headers(&[(header::HOST, "127.0.0.1:8025"), (header::ORIGIN, origin)]);
            assert_eq!(is_same_origin(&headers), expected, "{origin:?}");
        };
        check("http://127.0.0.1:8025", true);
        check("https://127.0.0.1:8025", true);
        check("http://127.0.0.1:80", false);
        check("http://evil.example", false);
        check("null", false);
        assert!(is_same_origin(&HeaderMap::new()), "a program");
    }
}
