address 203.0.113.9
names <<'NAMES'
spool.isp A 127.0.0.2
branch MX 10 mail.branch
branch MX 20 spool.isp
mail.branch A 203.0.113.9
NAMES
authority
certificate spool.isp.example key.pem fullchain.pem
# The server that is there before says who is the customer's.
dpkg --install /shared/turnspool.deb
server branch <<'TOML'
hostname = "mail.branch.example"
spool = { directory = "/run/branch/spool", segment_size = "1MiB", size_max = "100MiB", free_min = "1MiB" }
relay = { domains = ["branch.example"] }
cores = { data = 1 }
[[listener]]
address = "203.0.113.9:25"
[[route]]
domain = "branch.example"
next_hop = "maildir:/run/branch/mail"
TOML
printf '#!/bin/sh\n' >/usr/local/sbin/dial-island
chmod 0755 /usr/local/sbin/dial-island
walk backup-spool '' 127.0.0.2
holds "the customer has its mail" has_come /run/branch/mail 'To: anna@branch.example'
