# Our debug binary in a machine with a real PPP stack: mail dials, goes over the line to a
# relay at its far end, and the line is hung up.
. /files/common.sh

# The far end demands a password that only its own file has.
printf 'site * "correct horse" *\n' > /tmp/isp/pap-secrets; chmod 600 /tmp/isp/pap-secrets
cat > /isp.sh <<'S'
mount --bind /tmp/isp/pap-secrets /etc/ppp/pap-secrets
exec /sbin/ip netns exec isp /usr/sbin/pppd notty auth require-pap nodetach local nodefaultroute noipv6 10.9.0.2:10.9.0.1
S
touch /etc/ppp/pap-secrets; chmod 600 /etc/ppp/pap-secrets
sed 's,^pty.*,pty "unshare -m /bin/sh /isp.sh",' /etc/ppp/peers/isp > /etc/ppp/peers/paid
printf 'correct horse\n' > /tmp/secret; printf 'wrong donkey\n' > /tmp/wrong; chmod 600 /tmp/secret /tmp/wrong

relay isp.example /tmp/isp/spool > /tmp/isp/t.toml
cat >> /tmp/isp/t.toml <<'C'
[[listener]]
address = "0.0.0.0:2525"
[relay]
networks = ["10.9.0.0/24"]
[[route]]
domain = "b.example"
next_hop = "discard"
C
link() { relay site.example /tmp/site/spool; cat <<C
[[listener]]
address = "127.0.0.1:2526"
[delivery]
mode = "smarthost"
$(far_smarthost)
$1
C
}
P='[[link]]
kind = "pppd"
go_up = { messages = 1 }
hang_up = { idle = "IDLE" }
dial = { pause = "1s", tries = 2 }
budget = { per = "day", seconds = 3600, bytes = "1MiB" }'
link "$P
name = \"isp\"
entry = \"isp\"" | sed 's,IDLE,1h,' > /tmp/open.toml
sed 's,1h,1s,' /tmp/open.toml > /tmp/short.toml
link "$P
name = \"isp\"
entry = \"paid\"
user = \"site\"
password_file = \"/tmp/secret\"" | sed 's,IDLE,1h,' > /tmp/paid.toml
sed 's,/tmp/secret,/tmp/wrong,' /tmp/paid.toml > /tmp/wrong.toml
link "$P
name = \"isp\"
entry = \"nosuch\"" | sed 's,IDLE,1h,' > /tmp/nosuch.toml

/sbin/ip netns exec isp $T serve --config /tmp/isp/t.toml > /tmp/isp.log 2>&1 &
provider=$!
send() { (printf 'EHLO c\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n'; sleep 1; printf 'Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n') | nc 127.0.0.1 2526 | grep '^250 2.0.0 ' || fail "no 250"; }
delivered() { grep -c discarded /tmp/isp.log; }

say "mail dials and hangs up"
start /tmp/short.toml
gone || fail "a line before there is mail"
send
wait_for '[ "$(delivered)" = 1 ]' "not delivered"
wait_for gone "not hung up"
wait_for "$T link history --config $C --json | grep -q '\"messages\": 1'" "no history"
$T link history --config $C; $T link status --config $C; $T link plan --config $C
$T link history --config $C --json | grep '"octets"' | grep -v ': 0,' || fail "octets were not counted"

stop

say "a line that breaks is noticed"
start /tmp/open.toml
$T link up --config $C
wait_for "/sbin/ip -br address show ppp0 2>/dev/null | grep -q 10.9.0.1" "not up"
before=$(grep -c 'link-down' /tmp/site.log)
break_line
wait_for '[ "$(grep -c link-down /tmp/site.log)" -gt "$before" ]' "not noticed"
wait_for gone "still there"
stop

say "what others dialled is used and left"
pppd call isp updetach >/dev/null || fail "pppd"
start /tmp/open.toml
send
wait_for '[ "$(delivered)" = 2 ]' "not delivered over the line of others"
$T link status --config $C --json | grep '"ours": false' || fail "taken for ours"
stop
gone && fail "it was closed"
kill $(cat /run/ppp0.pid /var/run/ppp0.pid 2>/dev/null | head -n 1); wait_for gone "the other line"

say "a stop hangs up"
start /tmp/open.toml
$T link up --config $C
wait_for "! gone" "not up"
stop
gone || fail "left open"

if ls /usr/lib/pppd/*/passwordfd.so >/dev/null 2>&1; then
say "a password through the plugin"
start /tmp/paid.toml
$T link up --config $C
wait_for "/sbin/ip -br address show ppp0 2>/dev/null | grep -q 10.9.0.1" "not up with the password"
for p in /proc/[0-9]*; do tr '\0' ' ' < $p/cmdline 2>/dev/null; echo; done | grep -v grep | grep 'correct horse' && fail "the password is in the arguments"
stop
start /tmp/wrong.toml
$T link up --config $C
wait_for "grep -q 'user name and password' /tmp/site.log" "no words for a wrong password"
stop
fi

say "an entry that is not there"
start /tmp/nosuch.toml
$T link up --config $C
wait_for "grep -q 'an option of the entry is wrong' /tmp/site.log" "no words for a missing entry"
stop
grep -q 'correct horse' /tmp/site.log && fail "the password is in the log"
grep link /tmp/site.log | cut -c1-160
kill $provider; wait $provider
say "all of it"
