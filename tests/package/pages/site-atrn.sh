address 127.0.0.2
address 127.0.0.3
names <<'NAMES'
spool.isp A 127.0.0.2
smtp.isp A 127.0.0.3
NAMES
authority
dpkg --install /shared/turnspool.deb
mkdir /run/isp
certificate spool.isp.example /run/isp/spool-key.pem /run/isp/spool-cert.pem
certificate smtp.isp.example /run/isp/key.pem /run/isp/cert.pem
chmod 0600 /run/isp/*key.pem
echo 'secret-of-the-ship' | install -m 0600 /dev/stdin /run/isp/ship.secret
server isp <<'TOML'
hostname = "spool.isp.example"
spool = { directory = "/run/isp/spool", segment_size = "1MiB", size_max = "100MiB", free_min = "1MiB" }
tls = { certificate = "/run/isp/spool-cert.pem", key = "/run/isp/spool-key.pem" }
cores = { data = 1 }
[[listener]]
address = "127.0.0.2:25"
[[listener]]
address = "127.0.0.2:366"
role = "odmr"
tls = "starttls"
[[customer]]
name = "ship"
domains = ["ship.example"]
deliver_to = "caller"
user = "ship"
password_file = "/run/isp/ship.secret"
TOML
swaks --server 127.0.0.2 --to captain@ship.example >/run/isp/swaks
# The line, and the mail server of the site.
ip link add wwan0 type veth peer name modem
ip address add 100.64.0.2/32 dev wwan0
ip link set wwan0 up
ip link set modem up
mkdir --parents /run/dovecot /run/mail
chown nobody:nogroup /run/dovecot /run/mail
cat >/run/dovecot.conf <<'CONF'
base_dir = /run/dovecot
state_dir = /run/dovecot
log_path = /run/dovecot/log
protocols = lmtp
ssl = no
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = nobody
mail_location = maildir:/run/mail/%n
first_valid_uid = 1
first_valid_gid = 1
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = allow_all_users=yes home=/run/mail/%n uid=65534 gid=65534
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
service lmtp {
  chroot =
  user = nobody
  unix_listener lmtp {
    mode = 0666
  }
}
service auth {
  chroot =
  user = nobody
  unix_listener auth-userdb {
    mode = 0666
  }
}
service auth-worker {
  user = nobody
}
CONF
setpriv --reuid=nobody --regid=nogroup --clear-groups dovecot -F -c /run/dovecot.conf &
holds "there is Dovecot" soon test -S /run/dovecot/lmtp
walk site-atrn 'secret-of-the-ship' 127.0.0.1
holds "the captain has its mail" has_come /run/mail 'To: captain@ship.example'
