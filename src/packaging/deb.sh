#!/bin/bash
# Builds the Debian package, target/debian/turnspool_VERSION_ARCHITECTURE.deb.
#   src/packaging/deb.sh             of a release build
#   src/packaging/deb.sh PROFILE     of what is built in this profile already
# Needs cargo-deb: cargo install cargo-deb --locked
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${1:-release}
case $profile in
    release)
        [ $# -gt 0 ] || cargo build --release --package turnspool
        built=release ;;
    dev) built=debug ;;
    *) built=$profile ;;
esac
target=${CARGO_TARGET_DIR:-target}
program=$target/$built/turnspool
made=target/packaging
rm -rf "$made"
mkdir -p "$made/examples"
# Pages, completions and examples come from the program itself.
"$program" man --into "$made/man"
for shell in bash zsh fish; do
    "$program" completions "$shell" >"$made/turnspool.$shell"
done
for role in relay backup-spool site-gateway; do
    "$program" example "$role" >"$made/examples/$role.toml"
    "$program" check "$made/examples/$role.toml" >/dev/null
done
cargo deb --package turnspool --no-build --profile "$profile" --quiet ${DEB_OPTIONS:-}
