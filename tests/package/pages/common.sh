# A new user follows the page of a role, word for word: its files are written, its commands
# typed. What is around it, the name server, the provider, the customers, is made here; what
# the service manager does with the unit is done by hand. Run by main.rs, in a root of its
# own, before the script of a role.
export DEBIAN_FRONTEND=noninteractive
mkdir --parents /run/walk
cd /run/walk
cp /shared/turnspool.deb turnspool_0.1.0-1_amd64.deb
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d

holds() {
    local what=$1
    shift
    "$@" || {
        echo "does not hold: $what" >&2
        tail --lines=20 /shared/journal /run/*/log >&2
        exit 1
    }
    echo "$what"
}
# Looks for half a minute.
soon() { for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; return 1; }

# What this machine has not: a service manager, its journal, and a place to get packages from.
shim() { cat >"/usr/local/bin/$1"; chmod 0755 "/usr/local/bin/$1"; }
shim systemctl <<'SHIM'
#!/bin/bash
stop() { kill "$1" 2>/dev/null || return 0; while kill -0 "$1" 2>/dev/null; do sleep 0.05; done; }
server=$(cat /run/server 2>/dev/null)
case "$*" in
    --root=*) exec /usr/bin/systemctl "$@" ;;
    daemon-reload) ;;
    "reload turnspool") kill -HUP "$server" ;;
    "stop turnspool") stop "$server" ;;
    "restart turnspool" | "start turnspool")
        [ -z "$server" ] || stop "$server"
        install --directory --owner=turnspool --group=turnspool /run/turnspool
        command=$(sed --quiet 's/^ExecStart=//p' /lib/systemd/system/turnspool.service)
        capabilities=+net_bind_service
        # What pppd has by its file's mode, the one that stands for it has from here.
        [ ! -e /etc/systemd/system/turnspool.service.d/pppd.conf ] || capabilities+=,+net_admin
        setpriv --reuid=turnspool --regid=turnspool --init-groups --no-new-privs \
            --bounding-set=-all,$capabilities --inh-caps=$capabilities \
            --ambient-caps=$capabilities $command 2>>/shared/journal &
        echo $! >/run/server
        for _ in $(seq 300); do
            turnspool status --config /etc/turnspool/turnspool.toml >/dev/null 2>&1 && exit
            sleep 0.1
        done
        tail --lines=3 /shared/journal >&2
        exit 1
        ;;
    *) echo "systemctl $* is not known here" >&2; exit 1 ;;
esac
SHIM
shim journalctl <<'SHIM'
#!/bin/sh
tail --lines=20 /shared/journal
SHIM
shim apt <<'SHIM'
#!/bin/sh
[ "$1" = install ] && dpkg --install "$2"
SHIM

# The names of the world, all at addresses of this machine.
address() { ip address add "$1/32" dev lo; }
mkdir /run/nsd
cat >/run/nsd/conf <<'CONF'
server:
  ip-address: 127.0.0.53@53
  zonesdir: "/run/nsd"
  pidfile: ""
  xfrdfile: "/run/nsd/xfrd"
  zonelistfile: "/run/nsd/zones"
  username: ""
  logfile: "/run/nsd/log"
  server-count: 1
remote-control:
  control-enable: no
zone:
  name: "example"
  zonefile: "zone"
CONF
names() {
    printf '$ORIGIN example.\n$TTL 60\n@ SOA ns root 1 60 60 60 1\n@ NS ns\nns A 127.0.0.53\n' >/run/nsd/zone
    cat >>/run/nsd/zone
    nsd -d -c /run/nsd/conf >/dev/null 2>&1 &
    rm --force /etc/resolv.conf
    echo 'nameserver 127.0.0.53' >/etc/resolv.conf
    holds "there are names" soon getent hosts ns.example
}

# An authority that this machine trusts, and what it signs.
authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
        -subj '/CN=authority' -keyout /run/ca.key -out /run/ca.pem 2>/dev/null
    mkdir --parents /etc/ssl/certs
    cat /run/ca.pem >>/etc/ssl/certs/ca-certificates.crt
}
certificate() {
    local name=$1 key=$2 certificate=$3
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
        -keyout "$key" -out /run/request 2>/dev/null
    openssl x509 -req -in /run/request -CA /run/ca.pem -CAkey /run/ca.key -CAcreateserial -days 2 \
        -extfile <(echo "subjectAltName=DNS:$name") -out "$certificate" 2>/dev/null
}

# Another server: its directory with a Maildir, its configuration from standard input.
server() {
    mkdir --parents "/run/$1/mail/"{cur,new,tmp}
    cat >"/run/$1/toml"
    chown --recursive turnspool:turnspool "/run/$1"
    setpriv --reuid=turnspool --regid=turnspool --clear-groups --inh-caps=+net_bind_service \
        --ambient-caps=+net_bind_service turnspool serve --config "/run/$1/toml" 2>"/run/$1/log" &
    holds "there is $1" soon turnspool status --config "/run/$1/toml"
}
# Mail has come into a Maildir.
has_come() { soon grep --recursive --quiet "$2" "$1"; }

# Takes the page apart: each block a file with its number and its language.
take_apart() {
    awk '/^```/ { if (name) { close(name); name = "" } else { name = sprintf("%02d.%s", ++n, substr($0, 4)); printf "" >name }; next }
        name { print >name }' "$1"
}
# Does what stands there. What somebody is to type comes from `typed`. The one thing that is
# not taken word for word: where other servers have the same ports on this machine, as they
# have on theirs, nobody can have them at all addresses; `here` is the one that is left.
walk() {
    local page=$1 typed=$2 here=${3:-0.0.0.0} block
    take_apart "/shared/$page.md"
    printf '%s\n' "$typed" >typed
    for block in [0-9]*; do
        case $block in
            *.toml) sed "s/\"0\.0\.0\.0:/\"$here:/" "$block" >/etc/turnspool/turnspool.toml ;;
            *.sh)
                echo "--- $block"
                cat "$block"
                # One shell for all, as a person has it; and it stops where something fails.
                . "./$block" <typed
                ;;
        esac
    done
}
