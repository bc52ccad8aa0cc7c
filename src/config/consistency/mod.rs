//! What single values cannot show: contradictions, missing partners, doubles,
//! and files that are not as they must be.
//!
//! A check blames a value that is written, and leaves damaged ones alone: they
//! have been reported.

mod auth;
mod customer;
mod route;
mod site;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::addresses::NextHop;
use super::certificate::{self, Blamed, KeyPair};
use super::options::{
    Delivery, DeliveryModeWord, File, ListenWhen, ListenerTls, Retry, SmarthostAuth,
    SmarthostSection, SmarthostTls,
};
use super::reader::At;
use super::report::{Place, Position, Trouble};
use super::surroundings::Surroundings;
use super::units::Bytes;
use super::{checked, secret};
use crate::route::{HostName, Scope};
use crate::tls;

/// Longest path of a Unix socket: `sun_path` without its final NUL (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Reports everything that is wrong between the values of `file`.
pub(super) fn check(
    file: &File,
    text: &str,
    surroundings: &Surroundings,
    troubles: &mut Vec<Trouble>,
) {
    let mut checks = Checks {
        text,
        surroundings,
        troubles,
    };
    checks.spool(file);
    checks.listeners(file);
    checks.tls(file);
    checks.relay(file);
    checks.users(file);
    checks.delivery(&file.delivery);
    checks.routes(file);
    checks.retry(&file.retry);
    checks.customers(file);
    for link in &**file.link {
        checks.link(link);
    }
    checks.unique("link.name", file.link.iter().map(|link| &link.name));
    for collect in &**file.collect {
        checks.collect(collect);
    }
    checks.collectors(&file.collect);
    checks.collected_domains(file);
    for row in &**file.schedule {
        checks.schedule(row);
    }
    checks.admin(file);
    checks.log(file);
}

struct Checks<'a> {
    text: &'a str,
    surroundings: &'a Surroundings,
    troubles: &'a mut Vec<Trouble>,
}

impl Checks<'_> {
    /// Blames `value`.
    fn wrong<T>(
        &mut self,
        option: &str,
        value: &At<T>,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.wrong_at(option, value.place(), what, instead);
    }

    fn wrong_at(
        &mut self,
        option: &str,
        place: Option<Place>,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.troubles.push(Trouble {
            place,
            option: option.to_owned(),
            what: what.into(),
            instead: instead.into(),
        });
    }

    /// Of two values that must be in order, the one that is written is blamed, of
    /// two written ones the first argument.
    fn in_order<T: PartialOrd>(
        &mut self,
        (small_name, small): (&str, &At<T>),
        (large_name, large): (&str, &At<T>),
        instead: &str,
    ) {
        let comparable = small.is_sound() && large.is_sound();
        if !comparable || small.value <= large.value {
            return;
        }
        let short = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        if small.is_written() {
            let what = format!("is more than `{}`", short(large_name));
            self.wrong(small_name, small, what, instead);
        } else if large.is_written() {
            let what = format!("is less than `{}`", short(small_name));
            self.wrong(large_name, large, what, instead);
        }
    }

    /// No two values alike. The second is blamed.
    fn unique<'v, T>(&mut self, option: &str, values: impl Iterator<Item = &'v At<T>>)
    where
        T: Hash + Eq + std::fmt::Display + 'v,
    {
        let mut seen: HashMap<&T, Option<Place>> = HashMap::new();
        for value in values.filter(|value| value.is_sound()) {
            match seen.get(&value.value) {
                None => {
                    seen.insert(&value.value, value.place());
                }
                Some(first) => {
                    let instead = match first {
                        Some(place) => {
                            let line = Position::of(self.text, place.start).line;
                            format!("remove one of the two; the first is in line {line}")
                        }
                        None => "remove one of the two".to_owned(),
                    };
                    let what = format!("{} is here twice", value.value);
                    self.wrong(option, value, what, instead);
                }
            }
        }
    }

    /// User and password come together; the file is looked at, if it is used.
    fn login(
        &mut self,
        section: &str,
        user: &At<Option<String>>,
        password_file: &At<Option<PathBuf>>,
    ) {
        let user_name = format!("{section}.user");
        let file_name = format!("{section}.password_file");
        match (&**user, &**password_file) {
            (Some(_), None) if password_file.is_sound() => {
                let instead = "add `password_file = \"…\"`, a file of mode 0600";
                self.wrong(&user_name, user, "has no password", instead);
            }
            (None, Some(_)) if user.is_sound() => {
                let instead = "add `user = \"…\"`";
                self.wrong(&file_name, password_file, "has no user name", instead);
            }
            _ => {}
        }
        if let Some(path) = &**password_file
            && let Err((what, instead)) = secret::check(path, self.surroundings)
        {
            self.wrong(&file_name, password_file, what, instead);
        }
    }

    fn spool(&mut self, file: &File) {
        let spool = &file.spool;
        // Each data core has its share, in which fewer than four segments leave no room for
        // mail beside the one that is filled and the two that are kept so that it can drain.
        let cores = checked::data_cores(file, self.surroundings);
        let segment_size = *spool.segment_size;
        let least = Bytes(segment_size.0.saturating_mul(4 * u64::from(cores)));
        if let Some(size_max) = &*spool.size_max
            && spool.segment_size.is_sound()
            && size_max.0 < least.0
        {
            let instead = format!(
                "write at least {least}, four segments of {segment_size} for each data core"
            );
            self.wrong("spool.size_max", &spool.size_max, "is too small", instead);
        }
        let message_size = &file.limits.message_size;
        if let Some(size_max) = &*spool.size_max
            && message_size.is_sound()
            && message_size.0 > size_max.0 / 2
        {
            let what = "is more than half of `spool.size_max`";
            let instead = "write less, or more for `spool.size_max`";
            let blamed = if message_size.is_written() {
                message_size.place()
            } else {
                spool.size_max.place()
            };
            self.wrong_at("limits.message_size", blamed, what, instead);
        }
    }

    fn listeners(&mut self, file: &File) {
        let limits = &file.limits;
        if limits.sessions_per_client.is_written() {
            self.in_order(
                ("limits.sessions_per_client", &limits.sessions_per_client),
                ("limits.sessions", &limits.sessions),
                "write at most as many for one client as for all together",
            );
        }
        self.unique("listener.address", file.listener.iter().map(|l| &l.address));
        for listener in &**file.listener {
            if *listener.tls != ListenerTls::None && !file.tls.is_written() {
                let instead = "add [tls] with `certificate` and `key`";
                self.wrong("listener.tls", &listener.tls, "has no certificate", instead);
            }
            if *listener.when == ListenWhen::LinkUp && !file.link.is_written() {
                let instead = "add a [[link]], or write \"always\"";
                self.wrong("listener.when", &listener.when, "there is no link", instead);
            }
            if *listener.when == ListenWhen::Schedule && !file.schedule.is_written() {
                let instead = "add a [[schedule]], or write \"always\"";
                self.wrong(
                    "listener.when",
                    &listener.when,
                    "there is no schedule",
                    instead,
                );
            }
        }
    }

    fn tls(&mut self, file: &File) {
        let Some(tls) = &*file.tls else {
            return;
        };
        let pair = KeyPair::new(&tls.certificate, &tls.key, self.surroundings);
        self.key_pair("tls", &pair, tls.certificate.place(), tls.key.place());
        if let Some(path) = &*tls.client_ca
            && let Err((what, instead)) = authorities(path)
        {
            self.wrong("tls.client_ca", &tls.client_ca, what, instead);
        }
    }

    /// Looks at the files of a certificate and its key.
    fn key_pair(
        &mut self,
        section: &str,
        pair: &KeyPair,
        certificate: Option<Place>,
        key: Option<Place>,
    ) {
        if let Err(trouble) = pair.load() {
            let (name, place) = match trouble.blamed {
                Blamed::Certificate => ("certificate", certificate),
                Blamed::Key => ("key", key),
            };
            let option = format!("{section}.{name}");
            self.wrong_at(&option, place, trouble.what, trouble.instead);
        }
    }

    /// How TLS is used towards a smarthost.
    fn smarthost_tls(&mut self, smarthost: &SmarthostSection) {
        const SECTION: &str = "delivery.smarthost";
        let clear = *smarthost.tls == SmarthostTls::None && smarthost.tls.is_sound();
        if clear && *smarthost.implicit_tls == Some(true) {
            let what = "contradicts `tls = \"none\"`";
            let instead = "remove it, or write `tls = \"required\"` or \"verified\"";
            let option = format!("{SECTION}.implicit_tls");
            self.wrong(&option, &smarthost.implicit_tls, what, instead);
        }
        match (&*smarthost.certificate, &*smarthost.key) {
            (Some(certificate), Some(key)) => {
                let pair = KeyPair::new(certificate, key, self.surroundings);
                let places = (smarthost.certificate.place(), smarthost.key.place());
                self.key_pair(SECTION, &pair, places.0, places.1);
            }
            (Some(_), None) if smarthost.key.is_sound() => {
                let instead = "add `key = \"…\"`, a file of mode 0600";
                let option = format!("{SECTION}.certificate");
                self.wrong(&option, &smarthost.certificate, "has no key", instead);
            }
            (None, Some(_)) if smarthost.certificate.is_sound() => {
                let instead = "add `certificate = \"…\"`";
                let option = format!("{SECTION}.key");
                self.wrong(&option, &smarthost.key, "has no certificate", instead);
            }
            _ => {}
        }
    }

    fn relay(&mut self, file: &File) {
        let relay = &file.relay;
        for network in relay.networks.iter().filter(|network| network.is_anybody()) {
            let what = format!("{network} would make this an open relay");
            let instead = "list the networks of your own clients; for mail to your own domains \
                           write `domains`";
            self.wrong("relay.networks", &relay.networks, what, instead);
        }
        let held = |domain: &Scope| {
            let named = |pattern: &Scope| covers(pattern, domain);
            file.route.iter().any(|route| named(&route.domain))
                || file.customer.iter().any(|c| c.domains.iter().any(named))
        };
        // A route that was dropped because it is wrong must not be missed here.
        if file.route.is_sound() && file.customer.is_sound() {
            for domain in relay.domains.iter().filter(|domain| !held(domain)) {
                let what = format!("{domain} has no route: its mail would come back to us");
                let instead = format!("add [[route]] with domain = \"{domain}\"");
                self.wrong("relay.domains", &relay.domains, what, instead);
            }
        }
    }

    fn delivery(&mut self, delivery: &Delivery) {
        if delivery.connections_per_destination.is_written() {
            self.in_order(
                (
                    "delivery.connections_per_destination",
                    &delivery.connections_per_destination,
                ),
                ("delivery.connections", &delivery.connections),
                "write at most as many for one destination as for all together",
            );
        }
        let smarthost_mode = *delivery.mode != DeliveryModeWord::Mx;
        if smarthost_mode && delivery.smarthost.is_empty() && delivery.smarthost.is_sound() {
            let instead = "add [[delivery.smarthost]] with `host = \"…\"`";
            self.wrong(
                "delivery.mode",
                &delivery.mode,
                "there is no smarthost",
                instead,
            );
        }
        if !smarthost_mode && delivery.smarthost.is_written() && delivery.mode.is_sound() {
            let what = "is never used: the mode is \"mx\"";
            let instead = "add `mode = \"smarthost\"` to [delivery]";
            self.wrong("delivery.smarthost", &delivery.smarthost, what, instead);
        }
        let routes = &delivery.routes_in_smarthost_mode;
        if **routes && *delivery.mode == DeliveryModeWord::Mx && delivery.mode.is_sound() {
            let what = "says nothing: the mode is \"mx\", where static routes always count";
            let instead = "remove it, or add `mode = \"smarthost\"`";
            self.wrong("delivery.routes_in_smarthost_mode", routes, what, instead);
        }
        for smarthost in &**delivery.smarthost {
            let section = "delivery.smarthost";
            match *smarthost.auth {
                SmarthostAuth::External => self.smarthost_external(smarthost),
                SmarthostAuth::Password => {
                    self.login(section, &smarthost.user, &smarthost.password_file);
                }
            }
            self.smarthost_tls(smarthost);
            self.smarthost_user(smarthost);
        }
    }

    fn routes(&mut self, file: &File) {
        self.unique("route.domain", file.route.iter().map(|route| &route.domain));
        self.route_policies(file);
        for route in &**file.route {
            let NextHop::Smtp {
                host: HostName::Address(address),
                port,
            } = &*route.next_hop
            else {
                continue;
            };
            let ours = |listener: IpAddr, listens: u16| {
                listens == *port
                    && (listener == *address
                        || (listener.is_unspecified() && address.is_loopback()))
            };
            let listeners = file.listener.iter().map(|l| *l.address);
            let default = (!file.listener.is_written()).then_some(checked::LISTENER_DEFAULT);
            if listeners.chain(default).any(|l| ours(l.ip(), l.port())) {
                let what = "leads back to our own listener";
                let instead = "write the address of another server";
                self.wrong("route.next_hop", &route.next_hop, what, instead);
            }
        }
        // The smarthost gets everything, so routes would be read and not obeyed.
        let delivery = &file.delivery;
        let ignored = *delivery.mode == DeliveryModeWord::Smarthost
            && !*delivery.routes_in_smarthost_mode
            && delivery.routes_in_smarthost_mode.is_sound();
        if ignored && file.route.is_written() && !delivery.routes_in_smarthost_mode.is_written() {
            let what = "is not obeyed: in smarthost mode the smarthost gets everything";
            let instead = "add `routes_in_smarthost_mode = true` to [delivery]; or `= false`, if \
                           that is what you want";
            self.wrong("route", &file.route, what, instead);
        }
    }

    fn retry(&mut self, retry: &Retry) {
        let fixed = retry.tries.is_written() || retry.every.is_written();
        let growing = writes_growing_intervals(retry);
        if fixed && growing {
            let (option, place) = if retry.tries.is_written() {
                ("retry.tries", retry.tries.place())
            } else {
                ("retry.every", retry.every.place())
            };
            let what = "contradicts `first`, `factor`, `longest` and `give_up`";
            let instead = "write either tries and every, or growing intervals";
            self.wrong_at(option, place, what, instead);
        } else if retry.tries.is_some() && retry.every.is_none() && retry.every.is_sound() {
            let instead = "add `every = \"5m\"`";
            self.wrong("retry.tries", &retry.tries, "has no interval", instead);
        } else if retry.every.is_some() && retry.tries.is_none() && retry.tries.is_sound() {
            let instead = "add `tries = 5`";
            self.wrong(
                "retry.every",
                &retry.every,
                "has no number of tries",
                instead,
            );
        }
        if fixed && !growing {
            return;
        }
        self.in_order(
            ("retry.first", &retry.first),
            ("retry.longest", &retry.longest),
            "write `longest` as long as `first` or longer",
        );
        self.in_order(
            ("retry.first", &retry.first),
            ("retry.give_up", &retry.give_up),
            "write a `give_up` that leaves time for a second try",
        );
        self.in_order(
            ("retry.warn", &retry.warn),
            ("retry.give_up", &retry.give_up),
            "write a `warn` before `give_up`, or \"0s\" for no notice of delay",
        );
    }

    /// Programs are named by their whole path: no shell and no `$PATH` decide.
    fn program(&mut self, option: &str, command: &At<Vec<String>>) {
        if let Some(program) = command.first()
            && !program.starts_with('/')
        {
            let what = format!("{program:?} is no whole path");
            let instead = "write the program with its path, then its arguments, each as a text \
                           of its own";
            self.wrong(option, command, what, instead);
        }
    }

    fn admin(&mut self, file: &File) {
        let socket = checked::admin_socket(file, self.surroundings);
        if socket.as_os_str().as_bytes().len() > SOCKET_PATH_BYTES_MAX {
            let what = format!(
                "{} is too long for a Unix socket ({SOCKET_PATH_BYTES_MAX} octets)",
                socket.display()
            );
            let instead = "write a shorter path, such as \"/run/turnspool/admin.sock\"";
            let place = file.admin.socket.place().or(file.spool.directory.place());
            self.wrong_at("admin.socket", place, what, instead);
        }
        let admin = &file.admin;
        if let Some(web) = &*admin.web
            && !web.ip().is_loopback()
            && admin.web_token_file.is_none()
        {
            let what = format!("others can reach {web}, and there is no token of yours");
            let instead = "write a loopback address, such as \"127.0.0.1:8025\"; or add \
                           `web_token_file = \"…\"`, and a proxy with TLS before the page";
            self.wrong("admin.web", &admin.web, what, instead);
        }
        if let Some(path) = &*admin.web_token_file {
            let option = "admin.web_token_file";
            if let Err((what, instead)) = secret::check(path, self.surroundings) {
                self.wrong(option, &admin.web_token_file, what, instead);
            }
        }
    }

    fn log(&mut self, file: &File) {
        let to = &file.log.to;
        let word = matches!(to.as_str(), "stderr" | "journald");
        if !word && to.is_sound() && !to.contains('/') {
            let what = format!(
                "{:?} is neither \"stderr\" nor \"journald\" nor a path",
                to.value
            );
            let instead = format!(
                "for a file in the current directory write \"./{}\"",
                to.value
            );
            self.wrong("log.to", to, what, instead);
        }
        let directory = Path::new(to.as_str()).parent();
        let directory = directory.filter(|d| !word && to.contains('/') && !d.is_dir());
        if let Some(directory) = directory.filter(|_| to.is_sound()) {
            let what = format!("there is no directory {}", directory.display());
            let instead = "make it, for the user of the server, or name another one";
            self.wrong("log.to", to, what, instead);
        }
    }
}

/// What is wrong with a file of authorities, and what to do.
fn authorities(path: &Path) -> Result<(), (String, String)> {
    let instead = || "name a PEM file with the certificates of the authorities".to_owned();
    let pem = certificate::read(path).map_err(|error| {
        (
            format!("{} cannot be read: {error}", path.display()),
            instead(),
        )
    })?;
    tls::check_authorities(&pem).map_err(|what| {
        (
            format!("{} cannot be used: {what}", path.display()),
            instead(),
        )
    })
}

/// True if mail for all of `domain` takes the way of `pattern`.
fn covers(pattern: &Scope, domain: &Scope) -> bool {
    let below = |name: &str, apex: &str| {
        name.strip_suffix(apex)
            .is_some_and(|rest| rest.ends_with('.'))
    };
    match (pattern, domain) {
        (Scope::Name(a), Scope::Name(b)) => a == b,
        (Scope::Name(_), Scope::Below(_)) => false,
        (Scope::Below(apex), Scope::Name(name)) => below(name.as_str(), apex.as_str()),
        (Scope::Below(apex), Scope::Below(name)) => {
            apex == name || below(name.as_str(), apex.as_str())
        }
    }
}

/// True if the file asks for growing intervals.
pub(super) fn writes_growing_intervals(retry: &Retry) -> bool {
    retry.first.is_written()
        || retry.factor.is_written()
        || retry.longest.is_written()
        || retry.give_up.is_written()
}
