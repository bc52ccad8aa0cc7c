# A server that is killed while its pppd runs, a pppd that does not end, and a stranger that has
# the number of one that has.
. /files/common.sh
: > /tmp/site.log
relay isp.example /tmp/isp/left > /tmp/isp/left.toml
cat >> /tmp/isp/left.toml <<'C'
[[listener]]
address = "0.0.0.0:2525"
[relay]
networks = ["10.9.0.0/24"]
[[route]]
domain = "b.example"
next_hop = "discard"
C
site() { relay site.example /tmp/site/left; cat <<C
[[listener]]
address = "127.0.0.1:2526"
[delivery]
mode = "smarthost"
$(far_smarthost)
[[link]]
name = "isp"
kind = "pppd"
entry = "$2"
go_up = { messages = 1 }
hang_up = { idle = "$1" }
dial = { pause = "1s", tries = 2 }
budget = { per = "day", seconds = 3600, bytes = "10MiB" }
C
}
site 1h isp > /tmp/open.toml
site 1s isp > /tmp/short.toml
site 1h deaf > /tmp/deaf.toml
# Nobody at the far end says a word.
printf 'pty "sleep 600"\nnoauth\nlocal\nnodefaultroute\nlcp-max-configure 1000\n' > /etc/ppp/peers/deaf

far $T serve --config /tmp/isp/left.toml > /tmp/isp.log 2>&1 &
provider=$!
send() { (printf 'EHLO c\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n'; sleep 1; printf 'Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n') | nc 127.0.0.1 2526 | grep '^250 2.0.0 ' || fail "no 250"; }
delivered() { grep -c discarded /tmp/isp.log; }
up() { /sbin/ip -br address show ppp0 2>/dev/null | grep -q 10.9.0.1; }
ours() { $T link status --config $C --json | grep -q "\"ours\": $1"; }
spent() { $T link status --config $C --json | sed -n "s/.*\"$1_spent\": \([0-9]*\).*/\1/p" | head -n 1; }
# The pppd that was started with this entry.
caller() { for p in /proc/[0-9]*; do case "$(tr "\0" " " < $p/cmdline 2>/dev/null)" in */pppd\ call\ $1*) echo ${p#/proc/}; return;; esac; done; }
lives() { kill -0 $1 2>/dev/null && ! grep -q '^State:.Z' /proc/$1/status 2>/dev/null; }
kept_up() { grep -q '"up":true' /tmp/site/left/links.json; }
crash() { wait_for kept_up "it is not kept that it is up"; kill -9 $site; wait $site; }

say "what a killed server left up is taken over, charged, and hung up behind the mail"
start /tmp/open.toml
$T link up --config $C
wait_for up "not up"
first=$(caller isp)
crash
up && lives "$first" || fail "it is gone with the server"
away=$(cut -d. -f1 /proc/uptime)
wait_for '[ "$(cut -d. -f1 /proc/uptime)" -ge $((away + 4)) ]' "no time passes"
sed 's,1h,20s,' /tmp/open.toml > /tmp/taken.toml
start /tmp/taken.toml
wait_for 'ours true' "not taken over"
[ "$(caller isp)" = "$first" ] || fail "another pppd"
[ "$(spent seconds)" -ge 4 ] || fail "not charged: $(spent seconds) s"
send
wait_for '[ "$(delivered)" = 1 ]' "not delivered"
wait_for '[ "$(spent octets)" -gt 500 ]' "octets are not counted: $(spent octets)"
wait_for gone "not hung up"
wait_for "! lives $first" "pppd is still there"
wait_for "$T link history --config $C --json | grep -q '\"messages\": 1'" "no history"
$T link history --config $C | tee /tmp/history
grep -q 'we opened it earlier' /tmp/history || fail "the history does not say so"
grep -q '"left_open":null' /tmp/site/left/links.json || grep -vq left_open /tmp/site/left/links.json || fail "still kept"
stop

say "a pppd that has ended meanwhile is nobody's"
start /tmp/open.toml
$T link up --config $C
wait_for up "not up"
first=$(caller isp)
crash
kill $first
wait_for gone "pppd does not end"
sed 's,1h,5s,' /tmp/open.toml > /tmp/again.toml
start /tmp/again.toml
send
wait_for '[ "$(delivered)" = 2 ]' "not dialled again"
wait_for gone "not hung up"
stop

say "a stranger with its number lives"
start /tmp/open.toml
$T link up --config $C
wait_for up "not up"
crash
start /tmp/open.toml
wait_for 'ours true' "not taken over"
first=$(caller isp)
kill -STOP $site
kill -9 $first
wait_for "! lives $first" "pppd lives"
wait_for gone "the line stays"
# Its number is the next one that is given out.
stranger() { n=0; while [ $n -lt 50 ]; do n=$((n+1)); echo $((first - 1)) > /proc/sys/kernel/ns_last_pid
  setsid sleep 600 & sleep 0.2; [ "$(tr '\0' ' ' < /proc/$first/cmdline 2>/dev/null)" = "sleep 600 " ] && return 0; kill $!; done; fail "no such number"; }
stranger
kill -CONT $site
wait_for "grep -q 'pppd has ended' /tmp/site.log" "a stranger is taken for it"
stop
lives $first || fail "a stranger was killed"
kill $first
gone || fail "left open"

say "a pppd that does not end is killed: a dial that is called off"
start /tmp/deaf.toml
$T link up --config $C
wait_for '[ -n "$(caller deaf)" ]' "it does not dial"
first=$(caller deaf)
kill -STOP $first
$T link down --config $C
wait_for "! lives $first" "it lives"
wait_for "$T link status --config $C | grep -q '^isp: down'" "not down"
grep -q "pppd (process $first).* was killed" /tmp/site.log || fail "nobody is told"
stop

say "and by a stop, one that was taken over"
start /tmp/open.toml
$T link up --config $C
wait_for up "not up"
crash
start /tmp/open.toml
wait_for 'ours true' "not taken over"
first=$(caller isp)
kill -STOP $first
stop
lives $first && fail "it lives"
wait_for gone "left open"
grep -q "pppd (process $first).* was killed" /tmp/site.log || fail "nobody is told"
kill $provider; wait $provider
grep link /tmp/site.log | cut -c1-200
say "all of it"
