//! OpenSMTPD, with the grammar of its configuration since 6.4.

use crate::peer::{ONWARD_NAME, TlsOut, USER, Wanted};
use crate::root::Root;

/// Writes its configuration, and gives the script that starts it.
pub(crate) fn configure(root: &Root, wanted: &Wanted<'_>) -> String {
    root.users(&[
        ("opensmtpd", 64_802, "/var/lib/opensmtpd/empty"),
        ("opensmtpq", 64_803, "/var/lib/opensmtpd/empty"),
    ]);
    // Its resolver asks the DNS first otherwise, and waits.
    root.write("etc/resolv.conf", "lookup file\nnameserver 127.0.0.1\n");
    root.write("etc/mailname", "opensmtpd.example\n");
    let listen = if wanted.tls_in { " tls pki peer" } else { "" };
    assert!(!wanted.auth_in, "no test asks for it");
    let label = if wanted.auth_out.is_some() {
        "onward@"
    } else {
        ""
    };
    let (scheme, tls) = match wanted.tls_out {
        TlsOut::Never => ("smtp+notls", ""),
        TlsOut::Verified => ("smtp+tls", " ca authority tls"),
    };
    let auth = match wanted.auth_out {
        Some(password) => {
            root.write("etc/secrets", &format!("onward {USER}:{password}\n"));
            " auth <secrets>"
        }
        None => {
            root.write("etc/secrets", "nobody nobody:nothing\n");
            ""
        }
    };
    let (ip, port, onward) = (
        wanted.listen.ip(),
        wanted.listen.port(),
        wanted.onward.port(),
    );
    let configuration = format!(
        "pki peer cert \"/shared/peer.pem\"\npki peer key \"/shared/peer.key\"\n\
         ca authority cert \"/shared/ca.pem\"\n\
         table secrets \"/etc/secrets\"\n\
         smtp max-message-size \"100M\"\n\
         mta max-deferred 100\nqueue ttl 1h\n\
         filter later phase rcpt-to match rcpt-to {{ \"deferred@b.example\" }} \
         reject \"450 4.2.1 later\"\n\
         filter nobody phase rcpt-to match rcpt-to {{ \"refused@b.example\" }} \
         reject \"550 5.1.1 nobody here\"\n\
         filter both chain {{ later, nobody }}\n\
         listen on {ip} port {port}{listen} hostname opensmtpd.example filter both\n\
         action onward relay host \"{scheme}://{label}{ONWARD_NAME}:{onward}\"{tls}{auth}\n\
         match from any for any action onward\n"
    );
    root.write("etc/smtpd.conf", &configuration);
    "set -e\nchmod 640 /etc/secrets\nchown root:opensmtpd /etc/secrets\n\
     mkdir -p /var/spool/smtpd\nchmod 711 /var/spool/smtpd\n\
     exec /usr/sbin/smtpd -d -v"
        .to_owned()
}
