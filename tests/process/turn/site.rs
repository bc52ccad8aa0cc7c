//! A relay that holds mail for two customers, and the host of one that calls it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tempfile::TempDir;

use crate::harness::message::message;
use crate::harness::{PATIENCE, Relay, Setup, place};

pub(super) const SECRET: &str = "swordfish";

/// A relay that holds mail for two customers.
pub(super) struct Provider {
    pub(super) relay: Relay,
    pub(super) odmr: SocketAddr,
    _secrets: TempDir,
}

pub(super) fn secret_file(directory: &Path, name: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, SECRET).expect("a file of ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    path.display().to_string()
}

impl Provider {
    pub(super) fn start(cores: u8) -> Self {
        Self::start_with(cores, "", "")
    }

    /// With these lines of the listener for customers, and these sections.
    pub(super) fn start_with(cores: u8, listener: &str, sections: &str) -> Self {
        let secrets = tempfile::tempdir().expect("a directory");
        let odmr = place::next_address();
        let customer = |name: &str, domains: &str| {
            let file = secret_file(secrets.path(), name);
            format!(
                "[[customer]]\nname = \"{name}\"\ndomains = [{domains}]\ndeliver_to = \"mx\"\n\
                 user = \"{name}\"\npassword_file = \"{file}\"\n"
            )
        };
        let listener = format!("[[listener]]\naddress = \"{odmr}\"\nrole = \"odmr\"\n{listener}\n");
        let branch = customer("branch", "\"a.example\", \"b.example\"");
        let other = customer("other", "\"c.example\"");
        let relay = Setup::new()
            .cores(cores)
            .sections(&format!("{listener}{branch}{other}{sections}"))
            .start();
        Self {
            relay,
            odmr,
            _secrets: secrets,
        }
    }

    /// So many messages for a domain, each over a connection of its own, so that all data
    /// cores get some. Their subjects.
    pub(super) fn hold(&self, domain: &str, count: usize) -> Vec<String> {
        let subject = |n| format!("{domain}-{n}");
        for n in 0..count {
            self.hold_one(domain, &subject(n));
        }
        (0..count).map(subject).collect()
    }

    pub(super) fn hold_one(&self, domain: &str, subject: &str) {
        let mail = message(subject, "held for the customer");
        let recipient = format!("<x@{domain}>");
        let mut client = self.relay.client();
        client.send("<a@sender.example>", &[&recipient], &mail);
    }

    pub(super) fn call(&self, user: &str) -> Site {
        let mut site = Site::connect(self.odmr);
        site.authenticate(user);
        site
    }

    /// The subjects of all that is held at these domains, or at all.
    pub(super) fn collect(&self, user: &str, domains: &str) -> Vec<String> {
        let mut site = self.call(user);
        site.expect(&format!("ATRN {domains}"), 250);
        site.take(usize::MAX)
    }
}

/// In clear or under TLS.
pub(super) trait Line: Read + Write {}

impl<T: Read + Write> Line for T {}

/// A customer's host.
pub(crate) struct Site {
    stream: BufReader<Box<dyn Line>>,
    /// Text of EHLO behind the turn.
    pub(super) extensions: &'static str,
    /// MAIL and RCPT, as they came behind the turn.
    pub(super) envelope: Vec<String>,
}

impl Site {
    pub(super) fn new(line: Box<dyn Line>) -> Self {
        Self {
            stream: BufReader::new(line),
            extensions: "",
            envelope: Vec::new(),
        }
    }

    pub(super) fn greeted(mut self) -> Self {
        assert!(self.line().starts_with("220 "));
        self.expect("EHLO site.example", 250);
        self
    }

    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(Box::new(tcp(address))).greeted()
    }

    pub(super) fn under_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self::new(tls(Box::new(tcp(address)), config)).greeted()
    }

    pub(super) fn start_tls(mut self, config: &Arc<ClientConfig>) -> Self {
        self.expect("STARTTLS", 220);
        assert!(self.stream.buffer().is_empty());
        let mut site = Self::new(tls(self.stream.into_inner(), config));
        site.expect("EHLO site.example", 250);
        site
    }

    pub(crate) fn say(&mut self, text: &str) {
        let written = self.stream.get_mut().write_all(text.as_bytes());
        written.expect("the relay listens");
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        line
    }

    pub(crate) fn reply(&mut self) -> (u16, String) {
        loop {
            let line = self.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                let code = line.get(..3).and_then(|code| code.parse().ok());
                return (code.unwrap_or(0), line);
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, command: &str, code: u16) -> String {
        self.say(&format!("{command}\r\n"));
        let (got, line) = self.reply();
        assert_eq!(got, code, "{command}: {line}");
        line
    }

    pub(crate) fn authenticate(&mut self, user: &str) {
        let (code, line) = self.log_in("CRAM-MD5", user, SECRET);
        assert_eq!(code, 235, "{line}");
    }

    /// AUTH by this mechanism: the last reply.
    pub(super) fn log_in(&mut self, mechanism: &str, user: &str, password: &str) -> (u16, String) {
        if mechanism == "PLAIN" {
            let response = BASE64.encode(format!("\0{user}\0{password}"));
            self.say(&format!("AUTH PLAIN {response}\r\n"));
            return self.reply();
        }
        self.say(&format!("AUTH {mechanism}\r\n"));
        let challenge = match self.challenge() {
            Ok(challenge) => challenge,
            Err(refused) => return refused,
        };
        let response = match mechanism {
            "CRAM-MD5" => {
                let digest = hmac::<Hmac<md5::Md5>>(password.as_bytes(), challenge.as_bytes());
                let digest: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
                format!("{user} {digest}")
            }
            "SCRAM-SHA-256" => match self.scram(user, password) {
                Ok(last) => last,
                Err(refused) => return refused,
            },
            "LOGIN" => {
                self.say(&format!("{}\r\n", BASE64.encode(user)));
                match self.challenge() {
                    Ok(_) => password.to_owned(),
                    Err(refused) => return refused,
                }
            }
            other => panic!("{other} is not known here"),
        };
        self.say(&format!("{}\r\n", BASE64.encode(response)));
        self.reply()
    }

    fn challenge(&mut self) -> Result<String, (u16, String)> {
        let (code, line) = self.reply();
        if code != 334 {
            return Err((code, line));
        }
        let challenge = BASE64.decode(line[4..].trim()).expect("base64");
        Ok(String::from_utf8(challenge).expect("text"))
    }

    /// RFC 5802 §3 behind the empty challenge, until the server has proved that it knows
    /// the password too; what is left to be said is empty then.
    fn scram(&mut self, user: &str, password: &str) -> Result<String, (u16, String)> {
        type Mac = Hmac<sha2::Sha256>;
        let first = format!("n={user},r=0123456789abcdef");
        self.say(&format!("{}\r\n", BASE64.encode(format!("n,,{first}"))));
        let challenge = self.challenge()?;
        let field = |name: &str| {
            let fields = challenge.split(',');
            let mut values = fields.filter_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            values.next().expect("a field of SCRAM").to_owned()
        };
        let (nonce, salt, count) = (field("r"), field("s"), field("i"));
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<sha2::Sha256>(
            password.as_bytes(),
            &BASE64.decode(salt).expect("base64"),
            count.parse().expect("a number"),
            &mut salted,
        );
        let client_key = hmac::<Mac>(&salted, b"Client Key");
        let stored_key = <sha2::Sha256 as sha2::Digest>::digest(&client_key);
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{first},{challenge},{without_proof}");
        let signature = hmac::<Mac>(&stored_key, signed.as_bytes());
        let proof: Vec<u8> = (client_key.iter().zip(&signature))
            .map(|(key, signature)| key ^ signature)
            .collect();
        let last = format!("{without_proof},p={}", BASE64.encode(proof));
        self.say(&format!("{}\r\n", BASE64.encode(last)));
        let verifier = self.challenge()?;
        let server_key = hmac::<Mac>(&salted, b"Server Key");
        let expected = BASE64.encode(hmac::<Mac>(&server_key, signed.as_bytes()));
        assert_eq!(verifier, format!("v={expected}"));
        Ok(String::new())
    }

    /// Behind the 250: takes at most so many messages, and says 221 or hangs up. The
    /// subjects of those that it acknowledged.
    pub(crate) fn take(&mut self, most: usize) -> Vec<String> {
        self.say("220 site.example\r\n");
        let mut subjects = Vec::new();
        loop {
            let line = self.line();
            let reply = match line.get(..4).unwrap_or_default() {
                "DATA" => {
                    self.say("354 go on\r\n");
                    subjects.push(self.text());
                    "250 taken\r\n".to_owned()
                }
                "QUIT" => {
                    self.say("221 bye\r\n");
                    let mut rest = Vec::new();
                    self.stream.read_to_end(&mut rest).expect("the end");
                    assert_eq!(rest, b"", "nothing comes behind QUIT");
                    return subjects;
                }
                "" => return subjects,
                verb => {
                    if matches!(verb, "MAIL" | "RCPT") {
                        self.envelope.push(line.trim_end().to_owned());
                    }
                    self.answer(verb)
                }
            };
            self.say(&reply);
            if subjects.len() >= most {
                return subjects;
            }
        }
    }

    /// Until the relay closes the connection.
    pub(super) fn read_over(mut self) {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
    }

    /// To what moves no mail.
    pub(crate) fn answer(&self, verb: &str) -> String {
        match verb {
            "EHLO" => format!("250-site.example\r\n{}250 8BITMIME\r\n", self.extensions),
            _ => "250 ok\r\n".to_owned(),
        }
    }

    /// The subject of a message by DATA.
    pub(super) fn text(&mut self) -> String {
        let mut subject = String::new();
        loop {
            let line = self.line();
            match line.strip_prefix("Subject: ") {
                Some(text) => text.trim_end().clone_into(&mut subject),
                None if line == ".\r\n" || line.is_empty() => return subject,
                None => {}
            }
        }
    }
}

pub(super) fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

pub(super) fn tls(line: Box<dyn Line>, config: &Arc<ClientConfig>) -> Box<dyn Line> {
    let name = ServerName::try_from("relay.example").expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
    Box::new(StreamOwned::new(session, line))
}

fn hmac<M: KeyInit + hmac::Mac>(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

pub(super) fn sorted(mut subjects: Vec<String>) -> Vec<String> {
    subjects.sort_unstable();
    subjects
}
