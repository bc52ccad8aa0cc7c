address 127.0.0.2
address 127.0.0.3
address 192.168.1.1
address 192.168.1.10
names <<'NAMES'
spool.isp A 127.0.0.2
smtp.isp A 127.0.0.3
NAMES
dpkg --install /shared/turnspool.deb
server isp <<'TOML'
hostname = "spool.isp.example"
spool = { directory = "/run/isp/spool", segment_size = "1MiB", size_max = "100MiB", free_min = "1MiB" }
cores = { data = 1 }
[[listener]]
address = "127.0.0.2:25"
[[customer]]
name = "branch"
domains = ["branch.example"]
deliver_to = "100.64.0.2:2525"
release = { auth = false, clients = ["127.0.0.0/8", "100.64.0.2"] }
TOML
swaks --server 127.0.0.2 --to anna@branch.example >/run/isp/swaks
server post <<'TOML'
hostname = "mail.branch.example"
spool = { directory = "/run/post/spool", segment_size = "1MiB", size_max = "100MiB", free_min = "1MiB" }
relay = { domains = ["branch.example"] }
cores = { data = 1 }
[[listener]]
address = "192.168.1.10:25"
[[route]]
domain = "branch.example"
next_hop = "maildir:/run/post/mail"
TOML
# This kernel may have no PPP: what Turnspool sees of pppd is a program, its words, and an
# interface. tests/process/pppd.rs has a real one.
cat >/usr/sbin/pppd <<'PPPD'
#!/bin/bash
[ "$*" = "call isp nodetach" ] || exit 2
echo "Using interface ppp0"
ip link add ppp0 type veth peer name modem && ip address add 100.64.0.2/32 dev ppp0 &&
    ip link set ppp0 up && ip link set modem up
echo "local  IP address 100.64.0.2"
trap 'ip link delete ppp0; exit 5' TERM
while sleep 0.1; do :; done
PPPD
chmod 0755 /usr/sbin/pppd
walk site-pppd ''
holds "anna has her mail" has_come /run/post/mail 'To: anna@branch.example'
