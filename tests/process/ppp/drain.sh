# Turnspool at both ends of a real line: the site dials by pppd, asks the provider at the far
# end for its mail by ETRN and ATRN, and hangs up; and a line that breaks in the middle.
. /files/common.sh
: > /tmp/site.log
MAIL=/tmp/site/mail
mkdir -p $MAIL/cur $MAIL/new $MAIL/tmp
printf 'swordfish\n' > /tmp/branch; chmod 600 /tmp/branch
awk 'BEGIN { for (i = 0; i < 60; i++) printf "%064d\r\n", i }' > /tmp/body

relay isp.example /tmp/isp/drain > /tmp/isp/drain.toml
cat >> /tmp/isp/drain.toml <<'C'
[[listener]]
address = "0.0.0.0:2525"
[[listener]]
address = "0.0.0.0:366"
role = "odmr"
tls = "starttls"
[tls]
certificate = "/files/isp.pem"
key = "/files/isp.key"
# In one session, so that one loses its answers when the line breaks.
[delivery]
connections_per_destination = 1
[relay]
networks = ["10.9.0.0/24"]
[[customer]]
name = "branch"
domains = ["branch.example"]
deliver_to = "10.9.0.1:2525"
user = "branch"
password_file = "/tmp/branch"
release = { clients = ["10.9.0.1"] }
[[route]]
domain = "b.example"
next_hop = "discard"
C
site() { relay site.example /tmp/site/drain; cat <<C
[[listener]]
address = "127.0.0.1:2526"
# The line's own address: it is there only while the line is.
[[listener]]
address = "10.9.0.1:2525"
when = "link-up"
[relay]
domains = ["branch.example"]
[[route]]
domain = "branch.example"
next_hop = "maildir:$MAIL"
[delivery]
mode = "smarthost"
routes_in_smarthost_mode = true
$(far_smarthost)
[[link]]
name = "isp"
kind = "pppd"
entry = "isp"
# Else private addresses, as these are, are reached without it.
local = ["127.0.0.0/8"]
go_up = { messages = 3 }
hang_up = { idle = "1s" }
dial = { pause = "1s", tries = 3 }
[[collect]]
names = ["branch.example"]
$1
C
}
site 'kind = "etrn"
server = "10.9.0.2:2525"' > /tmp/etrn.toml
site 'kind = "atrn"
server = "10.9.0.2:366"
tls = "starttls"
user = "branch"
password_file = "/tmp/branch"' > /tmp/atrn.toml
export SSL_CERT_FILE=/files/ca.pem

# message NUMBER RECIPIENT
message() { printf 'Subject: %s\r\nMessage-ID: <%s@world.example>\r\n\r\n' "$1" "$1"; cat /tmp/body; }
# session FIRST LAST RECIPIENT: what a client says who has these messages for one.
session() {
  printf 'EHLO client.example\r\n'
  for n in $(seq "$1" "$2"); do
    message "$n" > /tmp/message
    printf 'MAIL FROM:<a@world.example>\r\nRCPT TO:<%s>\r\nBDAT %d LAST\r\n' "$3" "$(wc -c < /tmp/message)"
    cat /tmp/message
  done
  printf 'QUIT\r\n'
}
taken() { [ "$(grep -c '^250 2.0.0 ')" = "$1" ] || fail "not taken"; }
held() { session "$1" "$2" b@branch.example | far nc 127.0.0.1 2525 | taken $(($2 - $1 + 1)); }
sent() { session "$1" "$2" a@b.example | nc 127.0.0.1 2526 | taken $(($2 - $1 + 1)); }
arrived() { ls $MAIL/new | wc -l; }
at_provider() { far $T status --config /tmp/isp/drain.toml --json | sed -n 's/.*"messages": \([0-9]*\).*/\1/p' | head -n 1; }
outings() { $T link history --config $C --json | grep -c '"began_millis"'; }
down() { gone && $T link status --config $C | grep -q '^isp: down'; }
subjects() { cat $MAIL/new/* | tr -d '\r' | sed -n 's/^Subject: //p' | sort -n; }
# all FIRST LAST TWICE: the messages are there, intact, each once, and at most so many of them
# twice.
all() {
  [ "$(subjects | uniq | tr '\n' ' ')" = "$(seq "$1" "$2" | tr '\n' ' ')" ] || fail "not all: $(subjects | tr '\n' ' ')"
  [ "$(($(arrived) - ($2 - $1 + 1)))" -le "$3" ] || fail "$(arrived) files for messages $1 to $2"
  [ -z "$(subjects | uniq -d | while read -r n; do subjects | grep -cx "$n"; done | grep -v '^2$')" ] || fail "more than twice: $(subjects | tr '\n' ' ')"
  whole=$(tr -d '\r' < /tmp/body | md5sum)
  for file in $MAIL/new/*; do
    [ "$(tr -d '\r' < "$file" | sed '1,/^$/d' | md5sum)" = "$whole" ] || fail "$file is not what was sent"
  done
  rm $MAIL/new/*
}

/sbin/ip netns exec isp $T serve --config /tmp/isp/drain.toml > /tmp/isp.log 2>&1 &
provider=$!
wait_for "far $T status --config /tmp/isp/drain.toml >/dev/null 2>&1" "the provider's relay does not start"

say "mail brings the line up, the provider is asked by ETRN, and all comes"
start /tmp/etrn.toml
held 1 12
sent 1 3
wait_for '[ "$(outings)" = 1 ] && down' "not hung up"
all 1 12 0
[ "$(grep -c discarded /tmp/isp.log)" = 3 ] || fail "what the site sent has not come"
grep -q 'the provider has called from 10.9.0.2, and is done' /tmp/site.log || fail "nobody called"
$T link history --config $C | tee /tmp/history
grep -q 'messages: 3 (.*) sent, 12 (.*) received' /tmp/history || fail "the history does not say so"

# broken FIRST LAST: the line is slow, and breaks when a third of the octets have come.
broken() {
  echo 'rate 40kbit' > /tmp/netem
  held "$1" "$2"
  before=$(outings)
  $T collect --config $C > /tmp/collected 2>&1 &
  collecting=$!
  octets=$((($2 - $1 + 1) * $(wc -c < /tmp/body) / 3))
  # Without a process for each look: on a busy machine a look would take seconds.
  come=0 n=0
  until [ "$come" -ge $octets ]; do
    n=$((n+1)); [ $n -lt 4000 ] || fail "nothing comes: $come octets"
    sleep 0.02
    read -r come 2>/dev/null < /sys/class/net/ppp0/statistics/rx_bytes || come=0
  done
  break_line
  wait_for 'grep -q "dialling failed: .*; 2 of 3 in 1 s" /tmp/site.log' "no word of the next dial"
  taken=$(arrived)
  # Not before: on a fast line the rest would be there in no time.
  rm /tmp/netem
  wait $collecting
  cat /tmp/collected
  say "$taken of $(($2 - $1 + 1)) had come"
  [ "$taken" -gt 0 ] && [ "$taken" -lt $(($2 - $1 + 1)) ] || fail "it did not break in the middle"
  wait_for '[ "$(outings)" -ge $((before + 2)) ] && down' "not hung up again"
}

say "the line breaks in the middle"
broken 101 124
# Which of them the site had taken is not known to the provider where the line has swallowed
# the answer: how many these are depends on how fast the machine is. It says so of each.
all 101 124 "$(grep -c 'not confirmed, so it may be delivered twice' /tmp/isp.log)"

stop
say "by ATRN under TLS"
start /tmp/atrn.toml
held 201 203
$T collect --config $C || fail "nothing was collected"
wait_for down "not hung up"
all 201 203 0
stop
kill $provider; wait $provider
grep -q swordfish /tmp/site.log /tmp/isp.log && fail "the password is in a log"
grep 'link\|collect' /tmp/site.log | cut -c1-200
say "all of it"
