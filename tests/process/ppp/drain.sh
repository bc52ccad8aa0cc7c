# Our program on both sides of a real line: a provider that holds mail, a site that dials,
# sends its own, asks for it by ETRN, drains and hangs up; over a slow line, over one that
# breaks in the middle of the drain, and with a provider that does not call.
say() { echo "== $*"; }
fail() { say "FAILED: $*"; echo "-- site"; cut -c1-300 /tmp/d/site.log; echo "-- provider"; tail -n 40 /tmp/d/isp.log | cut -c1-300; exit 1; }
T=/usr/bin/turnspool
isp() { /sbin/ip netns exec isp "$@"; }
wait_for() { n=0; until eval "$1"; do n=$((n+1)); [ $n -lt 300 ] || fail "$2"; sleep 0.2; done; }
gone() { ! /sbin/ip link show ppp0 >/dev/null 2>&1; }
downs() { grep -c 'link isp: down: ' /tmp/d/site.log; }
told() { grep -q "$1" /tmp/d/site.log; }
mkdir -p /tmp/d/isp /tmp/d/site /tmp/d/mail/cur /tmp/d/mail/new /tmp/d/mail/tmp

cat > /tmp/d/isp.toml <<'C'
hostname = "spool.isp.example"
[spool]
directory = "/tmp/d/isp/spool"
segment_size = "4MiB"
free_min = "1MiB"
[cores]
data = 1
[[listener]]
address = "0.0.0.0:2525"
[[listener]]
address = "0.0.0.0:366"
role = "odmr"
tls = "starttls"
[tls]
certificate = "/files/isp.pem"
key = "/files/isp.key"
[relay]
networks = ["127.0.0.0/8", "10.9.0.0/24"]
[[route]]
domain = "world.example"
next_hop = "discard"
[[customer]]
name = "branch"
domains = ["branch.example"]
deliver_to = "10.9.0.1:2526"
user = "branch"
password_file = "/tmp/d/secret"
release = { clients = ["10.9.0.0/24"] }
C
cat > /tmp/d/site.toml <<'C'
hostname = "gw.branch.example"
[spool]
directory = "/tmp/d/site/spool"
segment_size = "4MiB"
free_min = "1MiB"
[cores]
data = 1
[[listener]]
address = "127.0.0.1:2526"
[[listener]]
address = "10.9.0.1:2526"
when = "link-up"
[relay]
domains = ["branch.example"]
[delivery]
mode = "smarthost"
routes_in_smarthost_mode = true
[[delivery.smarthost]]
host = "10.9.0.2"
port = 2525
tls = "none"
[[route]]
domain = "branch.example"
next_hop = "maildir:/tmp/d/mail"
[[link]]
name = "isp"
kind = "pppd"
entry = "isp"
local = ["127.0.0.0/8"]
go_up = { age = "1s" }
hang_up = { idle = "2s" }
dial = { pause = "1s", tries = 2, series_pause = "5m" }
[[collect]]
name = "provider"
kind = "etrn"
server = "10.9.0.2:2525"
names = ["branch.example"]
wait = "10s"
C
sed '/^\[\[collect/,$d' /tmp/d/site.toml > /tmp/d/turned.toml
cat >> /tmp/d/turned.toml <<'C'
[[collect]]
name = "turned"
kind = "atrn"
server = "10.9.0.2"
tls = "starttls"
user = "branch"
password_file = "/tmp/d/secret"
names = ["branch.example"]
C
printf 'swordfish\n' > /tmp/d/secret; chmod 600 /tmp/d/secret
# COUNT messages of 20 kB into the host where it is run; PREFIX is their subject.
cat > /tmp/d/put.sh <<'S'
count=$1 prefix=$2 to=$3 port=$4
body=$(dd if=/dev/zero bs=1000 count=20 2>/dev/null | tr '\0' 'x' | fold -w 78)
{ printf 'EHLO c\r\n'; sleep 2
  i=0; while [ $i -lt "$count" ]; do
    printf 'Subject: %s-%s.\r\n\r\n' "$prefix" "$i" > /tmp/d/one
    printf '%s\n' "$body" | sed 's/$/\r/' >> /tmp/d/one
    printf 'MAIL FROM:<a@c.example>\r\nRCPT TO:<%s>\r\nBDAT %s LAST\r\n' "$to" "$(wc -c < /tmp/d/one)"
    cat /tmp/d/one; i=$((i+1))
  done; printf 'QUIT\r\n'; sleep 2; } | nc 127.0.0.1 "$port" | grep -c '^250 2.0.0 '
S
put() { [ "$(isp sh /tmp/d/put.sh "$1" "$2" b@branch.example 2525)" = "$1" ] || fail "the provider did not take $1"; }
write() { [ "$(sh /tmp/d/put.sh 1 "$1" b@world.example 2526)" = 1 ] || fail "the site did not take it"; }
# Different messages that have come.
come() { cat /tmp/d/mail/new/* 2>/dev/null | grep "^Subject: $1-" | sort -u | wc -l; }
provider() { isp $T serve --config /tmp/d/isp.toml >> /tmp/d/isp.log 2>&1 & provider=$!
  wait_for "isp $T status --config /tmp/d/isp.toml >/dev/null 2>&1" "the provider does not start"; }
site() { C=$1; SSL_CERT_FILE=/files/ca.pem $T serve --config $C >> /tmp/d/site.log 2>&1 & site=$!
  wait_for "$T status --config $C >/dev/null 2>&1" "the site does not start"; }
link() { $T link "$@" --config $C; }

say "a drain over a line of 600 ms there and back"
echo 'delay 600ms' > /tmp/netem
provider; put 20 slow
site /tmp/d/site.toml; gone || fail "a line before there is mail"
write own
wait_for '[ "$(come slow)" = 20 ]' "not all has come"
wait_for 'told "the provider has called from 10.9.0.2, and is done"' "it does not know that the provider is done"
wait_for gone "not hung up"
wait_for 'told "no work for 2 s"' "why it hung up is not said"
grep -q discarded /tmp/d/isp.log || fail "its own mail did not go"
[ "$(ls /tmp/d/mail/new | wc -l)" = 20 ] || fail "doubled over a line that did not break"
link history

say "a line that breaks in the middle of a drain"
echo 'delay 50ms rate 2mbit' > /tmp/netem
put 60 broken
before=$(downs)
link up
wait_for '[ "$(come broken)" -ge 3 ]' "nothing comes"
isp sh -c 'for p in /proc/[0-9]*; do case "$(tr "\0" " " < $p/cmdline 2>/dev/null)" in *"pppd notty"*) kill ${p#/proc/};; esac; done'
wait_for '[ "$(downs)" -gt "$before" ]' "that it broke is not said"
broke=$(come broken); say "$broke of 60 had come"
[ "$broke" -lt 60 ] || fail "it broke too late to prove anything"
# What the site has to do then: it is asked again with the next time on line.
wait_for gone "still there"
n=0; until [ "$(come broken)" = 60 ]; do
  n=$((n+1)); [ $n -lt 30 ] || fail "the rest does not come: $(come broken) of 60"
  link up >/dev/null 2>&1; sleep 3
done
doubled=$(( $(cat /tmp/d/mail/new/* | grep -c '^Subject: broken-') - 60 ))
[ "$doubled" -le 2 ] || fail "$doubled doubled"
wait_for gone "not hung up"

say "the same by ATRN under TLS: the provider needs no way to us"
kill $site; wait $site
echo 'delay 300ms' > /tmp/netem
put 10 turned
site /tmp/d/turned.toml
write own-too
wait_for '[ "$(come turned)" = 10 ]' "not all has come over the turned connection"
wait_for 'told "collector turned (10.9.0.2:366): 10 collected"' "what it collected is not said"
wait_for gone "not hung up"
kill $site; wait $site
site /tmp/d/site.toml

say "a provider that does not call"
rm -f /tmp/netem
stop_isp() { kill $provider; wait $provider; }
stop_isp; sed 's,10.9.0.1:2526,10.9.0.1:9,' /tmp/d/isp.toml > /tmp/d/deaf.toml; cp /tmp/d/deaf.toml /tmp/d/isp.toml
provider; put 1 deaf
link up
wait_for 'told "nobody has called within 10 s, although there is mail"' "that nobody called is not said"
wait_for gone "not hung up"

kill $site; wait $site; stop_isp
grep -v -e ' accepted' -e delivered /tmp/d/site.log | tail -n 60 | cut -c1-260
say "all of it"
