# What the scripts have in common.
say() { echo "== $*"; }
fail() { say "FAILED: $*"; tail -n 60 /tmp/site.log; say "the far end"; tail -n 40 /tmp/isp.log; exit 1; }
T=/usr/bin/turnspool
# wait_for CONDITION WHAT [PAUSE]
wait_for() { n=0; until eval "$1"; do n=$((n+1)); [ $n -lt 1500 ] || fail "$2"; sleep ${3:-0.2}; done; }
far() { /sbin/ip netns exec isp "$@"; }
start() { $T serve --config $1 >> /tmp/site.log 2>&1 & site=$!; C=$1
  wait_for "$T status --config $C >/dev/null 2>&1" "the site's relay does not start"; }
stop() { kill $site; wait $site; }
gone() { ! /sbin/ip link show ppp0 >/dev/null 2>&1; }
# The far end goes without a word, as with a modem that is switched off. `read` starts no
# process, and leaves out the NUL between the arguments.
break_line() {
  for process in /proc/[0-9]*; do
    arguments=
    { read -r arguments < $process/cmdline; } 2>/dev/null
    case $arguments in *pppdnotty*) kill -KILL ${process#/proc/};; esac
  done
}
# relay NAME SPOOL: how the configuration of a small relay begins.
relay() { cat <<C
hostname = "$1"
[spool]
directory = "$2"
segment_size = "1MiB"
free_min = "1MiB"
[cores]
data = 1
C
}
# The far end as the site's only way out.
far_smarthost() { cat <<C
[[delivery.smarthost]]
host = "10.9.0.2"
port = 2525
tls = "none"
C
}
mkdir -p /tmp/isp /tmp/site
