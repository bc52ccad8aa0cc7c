//! Exim, one process a connection, configured by one file.

use crate::peer::{ONWARD_NAME, PASSWORD, TlsOut, USER, Wanted};
use crate::root::Root;

/// Writes its configuration, and gives the script that starts it.
pub(crate) fn configure(root: &Root, wanted: &Wanted<'_>) -> String {
    root.users(&[("Debian-exim", 64_801, "/var/spool/exim4")]);
    let tls_in = if wanted.tls_in {
        // The key is root's alone, and Exim reads it as its own user.
        "tls_advertise_hosts = *\n\
         tls_certificate = /shared/peer.pem\ntls_privatekey = /etc/exim4/peer.key\n"
    } else {
        "tls_advertise_hosts =\n"
    };
    let tls_out = match wanted.tls_out {
        TlsOut::Never => "  hosts_avoid_tls = *\n",
        TlsOut::Verified => {
            "  hosts_require_tls = *\n  tls_verify_hosts = *\n\
             \x20 tls_verify_certificates = /shared/ca.pem\n"
        }
    };
    let (may, authenticators_in) = if wanted.auth_in {
        (
            "  accept authenticated = *\n  deny message = not without AUTH\n",
            format!(
                "plain_in:\n  driver = plaintext\n  public_name = PLAIN\n  server_prompts = :\n\
                 \x20 server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}\
                 {{eq{{$auth3}}{{{PASSWORD}}}}}}}}}\n  server_set_id = $auth2\n\
                 cram_in:\n  driver = cram_md5\n  public_name = CRAM-MD5\n\
                 \x20 server_secret = ${{if eq{{$auth1}}{{{USER}}}{{{PASSWORD}}}fail}}\n\
                 \x20 server_set_id = $auth1\n"
            ),
        )
    } else {
        ("  accept\n", String::new())
    };
    let (must, authenticators_out) = match wanted.auth_out {
        Some(password) => (
            "  hosts_require_auth = *\n",
            format!(
                "cram_out:\n  driver = cram_md5\n  public_name = CRAM-MD5\n\
                 \x20 client_name = {USER}\n  client_secret = {password}\n\
                 plain_out:\n  driver = plaintext\n  public_name = PLAIN\n\
                 \x20 client_send = ^{USER}^{password}\n"
            ),
        ),
        None => ("", String::new()),
    };
    let (ip, port) = (wanted.listen.ip(), wanted.listen.port());
    let onward = wanted.onward.port();
    let configuration = format!(
        "primary_hostname = exim.example\nlocal_interfaces = {ip}\ndaemon_smtp_ports = {port}\n\
         disable_ipv6 = true\nkeep_environment =\nhost_lookup =\nrfc1413_query_timeout = 0s\n\
         log_file_path = /shared/%slog\npid_file_path = /shared/pid\n\
         dsn_advertise_hosts = *\nsmtputf8_advertise_hosts = *\nchunking_advertise_hosts = *\n\
         message_size_limit = 100M\nlog_selector = +all\n{tls_in}\
         acl_smtp_rcpt = acl_rcpt\nacl_smtp_data = acl_data\n\
         begin acl\nacl_rcpt:\n\
         \x20 deny local_parts = refused\n       message = 550 5.1.1 nobody here\n\
         \x20 defer local_parts = deferred\n        message = 450 4.2.1 later\n{may}\
         acl_data:\n  accept\n\
         begin routers\nsmart:\n  driver = manualroute\n  transport = out\n  self = send\n\
         \x20 route_list = * {ONWARD_NAME} byname\n\
         begin transports\nout:\n  driver = smtp\n  port = {onward}\n  allow_localhost\n\
         \x20 hosts_try_dane =\n  dnssec_request_domains =\n{tls_out}{must}\
         begin retry\n* * F,1h,1s\n\
         begin authenticators\n{authenticators_in}{authenticators_out}"
    );
    root.write("etc/exim4/exim4.conf", &configuration);
    let own = "mkdir -p /var/spool/exim4 /var/log/exim4\n\
        chown Debian-exim:Debian-exim /var/spool/exim4 /var/log/exim4\n\
        install -o Debian-exim -m 600 /shared/peer.key /etc/exim4/peer.key\n";
    format!("set -e\n{own}exec /usr/sbin/exim4 -bdf -q1s")
}
