//! A real browser: Debian's Chromium without a screen, driven through chromedriver by
//! the WebDriver protocol (W3C, "WebDriver").

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Answer, request};
use super::skipped;
use super::waiting::eventually;

/// The name under which WebDriver gives elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One browser at a time in a process of tests: two would be slower than one behind the
/// other, and would want the same port.
static ONE: Mutex<()> = Mutex::new(());

/// A window. Closed when dropped.
pub(crate) struct Browser {
    address: SocketAddr,
    session: String,
    driver: Child,
    _profile: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Browser {
    /// `None` if there is no browser here; then the test says that it was skipped.
    #[track_caller]
    pub(crate) fn open() -> Option<Self> {
        let there = |program: &str| Path::new("/usr/bin").join(program).exists();
        if !there("chromium") || !there("chromedriver") {
            skipped("no chromium and chromedriver here (packages chromium, chromium-driver)");
            return None;
        }
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let profile = tempfile::tempdir().expect("a directory");
        // chromedriver listens at 127.0.0.1 only; its port is this process's own.
        let port = 10_000 + (std::process::id() % 10_000) as u16;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let driver = Command::new("chromedriver")
            .arg(format!("--port={}", address.port()))
            .arg("--silent")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let mut browser = Self {
            address,
            session: String::new(),
            driver,
            _profile: profile,
            _turn: turn,
        };
        eventually("chromedriver is ready", || {
            let answer = request(address, "GET", "/status", &[], "")?;
            (answer.json()["value"]["ready"] == true).then_some(())
        });
        let data = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--force-device-scale-factor=1",
            data.as_str(),
        ];
        let options = json!({ "args": arguments, "binary": "/usr/bin/chromium" });
        let capabilities = json!({
            "capabilities": { "alwaysMatch": {
                "goog:chromeOptions": options,
                "goog:loggingPrefs": { "browser": "ALL" },
            } }
        });
        let opened = browser.call("POST", "/session", &capabilities);
        let session = opened["sessionId"].as_str().expect("a session");
        browser.session = format!("/session/{session}");
        Some(browser)
    }

    /// One command; it must succeed.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.try_call(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path} {body}: {answer:?}");
        answer.json()["value"].clone()
    }

    #[track_caller]
    fn try_call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let path = format!("{}{path}", self.session);
        let body = match method {
            "GET" | "DELETE" => String::new(),
            _ => body.to_string(),
        };
        request(self.address, method, &path, &[], &body).expect("chromedriver answers")
    }

    #[track_caller]
    pub(crate) fn go(&self, url: &str) {
        self.call("POST", "/url", &json!({ "url": url }));
    }

    /// Goes there; false if nobody answers.
    #[track_caller]
    pub(crate) fn try_go(&self, url: &str) -> bool {
        self.try_call("POST", "/url", &json!({ "url": url })).status == 200
    }

    /// Runs a function body in the page.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        let body = json!({ "script": script, "args": [] });
        self.call("POST", "/execute/sync", &body)
    }

    #[track_caller]
    fn element(&self, css: &str) -> String {
        let body = json!({ "using": "css selector", "value": css });
        let found = self.call("POST", "/element", &body);
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    /// Waits until an element is there and shows this.
    #[track_caller]
    pub(crate) fn wait_for(&self, css: &str, text: &str) {
        let script = format!(
            "return Array.from(document.querySelectorAll({}), e => e.innerText).join('\\n')",
            json!(css)
        );
        eventually(&format!("{css} shows {text:?}"), || {
            let shown = self.run(&script);
            shown.as_str()?.contains(text).then_some(())
        });
    }

    /// Presses a mouse button on an element.
    #[track_caller]
    pub(crate) fn click(&self, css: &str) {
        let path = format!("/element/{}/click", self.element(css));
        self.call("POST", &path, &json!({}));
    }

    /// Types into whatever has the focus in an element.
    #[track_caller]
    pub(crate) fn type_into(&self, css: &str, text: &str) {
        let path = format!("/element/{}/value", self.element(css));
        self.call("POST", &path, &json!({ "text": text }));
    }

    /// A command of Chromium's own protocol.
    #[track_caller]
    pub(crate) fn tell(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.call("POST", "/goog/cdp/execute", &body)
    }

    /// A window of this size; `scheme` is "light" or "dark".
    #[track_caller]
    pub(crate) fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false
        });
        self.tell("Emulation.setDeviceMetricsOverride", &size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.tell(
            "Emulation.setEmulatedMedia",
            &json!({ "features": features }),
        );
    }

    /// Keeps a picture, where somebody wants to look at some: in the directory that
    /// `TURNSPOOL_SCREENSHOTS` names.
    #[track_caller]
    pub(crate) fn picture(&self, name: &str) {
        use base64::Engine as _;
        let Some(directory) = std::env::var_os("TURNSPOOL_SCREENSHOTS") else {
            return;
        };
        let picture = self.call("GET", "/screenshot", &Value::Null);
        let text = picture.as_str().expect("a picture");
        let octets = base64::engine::general_purpose::STANDARD.decode(text);
        let path = Path::new(&directory).join(format!("{name}.png"));
        std::fs::write(path, octets.expect("base64")).expect("it is written");
    }

    /// What the page wrote to its console: errors of the script, and what its policy
    /// has stopped.
    #[track_caller]
    pub(crate) fn console(&self) -> Vec<String> {
        let lines = self.call("POST", "/se/log", &json!({ "type": "browser" }));
        let lines = lines.as_array().cloned().unwrap_or_default();
        let text = |line: &Value| line["message"].as_str().unwrap_or_default().to_owned();
        lines.iter().map(text).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let session = self.session.clone();
            let _ = request(self.address, "DELETE", &session, &[], "");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
