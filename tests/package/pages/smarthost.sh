address 127.0.0.3
names <<'NAMES'
smtp.isp A 127.0.0.3
NAMES
authority
dpkg --install /shared/turnspool.deb
mkdir /run/isp
certificate smtp.isp.example /run/isp/key.pem /run/isp/cert.pem
chmod 0600 /run/isp/key.pem
echo 'secret-of-the-office' | turnspool user add /run/isp/users office
server isp <<'TOML'
hostname = "smtp.isp.example"
spool = { directory = "/run/isp/spool", segment_size = "1MiB", size_max = "100MiB", free_min = "1MiB" }
relay = { users_file = "/run/isp/users" }
tls = { certificate = "/run/isp/cert.pem", key = "/run/isp/key.pem" }
cores = { data = 1 }
[[listener]]
address = "127.0.0.3:587"
role = "submission"
tls = "starttls"
[[route]]
domain = ".example"
next_hop = "maildir:/run/isp/mail"
TOML
walk smarthost 'secret-of-the-office'
holds "the smarthost has the mail" has_come /run/isp/mail 'To: somebody@elsewhere.example'
holds "the log tells that" soon grep --quiet delivered /shared/journal
