# What an administrator does with the package. Run by main.rs, in a root of its own.
export DEBIAN_FRONTEND=noninteractive

# Tells what holds; ends the script where it does not.
holds() {
    local what=$1
    shift
    "$@" || { echo "does not hold: $what" >&2; exit 1; }
    echo "$what"
}
is() { [ "$(stat --format '%U:%G %a' "$1")" = "$2" ]; }
# Looks for half a minute.
soon() { for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; return 1; }

# Nothing may start by itself here: there is no service manager.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d

dpkg --install /shared/turnspool.deb
holds "there is a user" getent passwd turnspool
holds "the spool is the user's alone" is /var/spool/turnspool "turnspool:turnspool 700"
holds "whoever sends finds the server" is /etc/turnspool "root:root 755"
holds "the unit is there" test -f /lib/systemd/system/turnspool.service
holds "the unit is sound" systemd-analyze verify --man=no /lib/systemd/system/turnspool.service
holds "the port unit is sound" systemd-analyze verify --man=no /lib/systemd/system/turnspool.socket
holds "the configuration is good" turnspool check /etc/turnspool/turnspool.toml
for role in relay backup-spool site-gateway; do
    example=$(ls /usr/share/doc/turnspool/examples/$role.toml*)
    holds "example $role is good" turnspool check <(zcat -f "$example")
done
for page in turnspool.1 turnspool-queue-list.1 turnspool.toml.5; do
    file=$(ls /usr/share/man/man?/$page.gz)
    holds "page $page has no mistakes" test -z "$(zcat "$file" | man --warnings=w -l - 2>&1 >/dev/null)"
done
holds "bash completes" bash -c '. /usr/share/bash-completion/completions/turnspool && complete -p turnspool'

# As the unit starts it: its command, its user, its directories, its right to bind ports.
unit=/lib/systemd/system/turnspool.service
command=$(sed --quiet 's/^ExecStart=//p' $unit)
user=$(sed --quiet 's/^User=//p' $unit)
install --directory --owner="$user" --group="$user" /run/turnspool
start() {
    setpriv --reuid="$user" --regid="$user" --init-groups --no-new-privs \
        --bounding-set=-all,+net_bind_service --inh-caps=+net_bind_service \
        --ambient-caps=+net_bind_service $command 2>>/shared/log &
    server=$!
    holds "it starts" soon turnspool status --config /etc/turnspool/turnspool.toml
}
start
send() {
    printf 'From: a@here.example\r\nTo: b@there.example\r\n\r\n%s\r\n' "$1" |
        curl --silent --show-error smtp://127.0.0.1:2525 --mail-from a@here.example \
            --mail-rcpt b@there.example --upload-file -
}
holds "it takes mail" send first
ln --symbolic /usr/bin/turnspool /usr/local/bin/sendmail
sendmail() {
    printf 'Subject: %s\n\ntext\n' "$1" |
        setpriv --reuid=nobody --regid=nogroup --clear-groups /usr/local/bin/sendmail b@there.example
}
queued() { turnspool queue list --json --config /etc/turnspool/turnspool.toml | grep --count .; }
holds "the mail waits, there is no DNS" test "$(queued)" = 1
holds "a program of any user sends" sendmail second
holds "that waits too" test "$(queued)" = 2
kill -HUP $server
holds "it reads its configuration again" soon grep configured /shared/log
kill $server
wait $server
start
holds "the mail is there again" test "$(queued)" = 2
kill $server
wait $server

# A newer one over it changes nothing that is the administrator's.
echo '# mine' >>/etc/turnspool/turnspool.toml
dpkg --install /shared/turnspool.deb
holds "an upgrade keeps the configuration" grep --quiet '# mine' /etc/turnspool/turnspool.toml

dpkg --remove turnspool
holds "a removal keeps the configuration" test -f /etc/turnspool/turnspool.toml
holds "a removal keeps the mail" test -n "$(ls /var/spool/turnspool)"
holds "the program is gone" test ! -e /usr/bin/turnspool
dpkg --purge turnspool 2>&1 | tee /shared/purge
holds "a purge says that mail may wait" grep --quiet "mail may still wait" /shared/purge
holds "a purge keeps mail" test -n "$(ls /var/spool/turnspool)"
holds "a purge keeps whose the mail is" getent passwd turnspool
holds "the configuration is gone" test ! -e /etc/turnspool/turnspool.toml

# Without mail nothing stays.
dpkg --install /shared/turnspool.deb
rm --recursive --force /var/spool/turnspool/*
dpkg --purge turnspool
holds "an empty spool goes" test ! -e /var/spool/turnspool
holds "the user goes" bash -c '! getent passwd turnspool'
echo purged
