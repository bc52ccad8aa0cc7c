//! Postfix; who sends is known to it by way of Dovecot.

use std::path::Path;

use crate::harness::skipped;
use crate::peer::{ONWARD_NAME, PASSWORD, TlsOut, USER, Wanted};
use crate::root::Root;

/// A root with the Postfix of this machine.
pub(crate) fn root() -> Option<Root> {
    for program in ["/usr/lib/postfix/sbin/master", "/usr/sbin/dovecot"] {
        if !Path::new(program).exists() {
            skipped(&format!("Postfix: there is no {program}"));
            return None;
        }
    }
    Root::new("postfix", false)
}

/// Writes its configuration, and gives the script that starts it.
pub(crate) fn configure(root: &Root, wanted: &Wanted<'_>) -> String {
    let mut lines = String::new();
    if wanted.tls_in {
        lines.push_str(
            "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = /shared/peer.pem\n\
             smtpd_tls_key_file = /shared/peer.key\n",
        );
    }
    lines.push_str(match wanted.tls_out {
        TlsOut::Never => "smtp_tls_security_level = none\n",
        TlsOut::Verified => {
            "smtp_tls_security_level = secure\nsmtp_tls_CAfile = /shared/ca.pem\n\
             smtp_tls_secure_cert_match = hostname\n"
        }
    });
    let mut start = String::new();
    if wanted.auth_in {
        lines.push_str(
            "mynetworks =\nsmtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\n\
             smtpd_sasl_path = private/auth\n",
        );
        root.write("etc/users", &format!("{USER}:{{PLAIN}}{PASSWORD}\n"));
        root.write(
            "etc/dovecot/dovecot.conf",
            "protocols =\nssl = no\nlog_path = /shared/dovecot-log\n\
             auth_mechanisms = plain login cram-md5 scram-sha-256\n\
             passdb {\n driver = passwd-file\n args = /etc/users\n}\n\
             userdb {\n driver = static\n args = uid=65534 gid=65534 home=/\n}\n\
             service auth {\n unix_listener /var/spool/postfix/private/auth {\n mode = 0666\n }\n}\n",
        );
        start.push_str("/usr/sbin/dovecot\n");
    } else {
        lines.push_str("mynetworks = 127.0.0.0/8\n");
    }
    if let Some(password) = wanted.auth_out {
        let line = format!(
            "[{ONWARD_NAME}]:{} {USER}:{password}\n",
            wanted.onward.port()
        );
        root.write("etc/postfix/secrets", &line);
        lines.push_str(
            "smtp_sasl_auth_enable = yes\nsmtp_sasl_security_options = noanonymous\n\
             smtp_sasl_password_maps = texthash:/etc/postfix/secrets\n",
        );
    }
    if let Some(domain) = wanted.held {
        lines.push_str(&format!(
            "fast_flush_domains = {domain}\ndefer_transports = smtp\n"
        ));
    }
    let onward = wanted.onward.port();
    let configuration = format!(
        "compatibility_level = 3.6\nmaillog_file = /dev/stdout\n\
         queue_directory = /var/spool/postfix\ndata_directory = /var/lib/postfix\n\
         command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\n\
         myhostname = postfix.example\nmydestination =\ninet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\nalias_maps =\nalias_database =\n\
         local_header_rewrite_clients =\nsmtp_host_lookup = native\n\
         relayhost = [{ONWARD_NAME}]:{onward}\nmessage_size_limit = 104857600\n\
         minimal_backoff_time = 1s\nqueue_run_delay = 1s\nsmtpd_peername_lookup = no\n\
         smtpd_recipient_restrictions = check_recipient_access inline:{{\
         {{refused@b.example = 550 5.1.1 nobody here}}, \
         {{deferred@b.example = 450 4.2.1 later}}}}, \
         permit_mynetworks, permit_sasl_authenticated, reject\n\
         smtpd_relay_restrictions =\n{lines}"
    );
    root.write("etc/postfix/main.cf", &configuration);
    let listen = wanted.listen;
    let services = format!(
        "{listen} inet n - n - - smtpd\n\
         pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\nrewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\nflush unix n - n 1000? 0 flush\ndefer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\nerror unix - - n - - error\n\
         retry unix - - n - - error\nsmtp unix - - n - - smtp\n\
         anvil unix - - n - 1 anvil\npostlog unix-dgram n - n - 1 postlogd\n\
         proxymap unix - - n - - proxymap\ntlsmgr unix - - n 1000? 1 tlsmgr\n"
    );
    root.write("etc/postfix/master.cf", &services);
    // What the package makes only for who answered its questions.
    let queue = "for name in hold trace; do \
         install -d -m 700 -o postfix /var/spool/postfix/$name; done\n";
    format!("set -e\n{queue}{start}exec /usr/sbin/postfix start-fg")
}
