#!/usr/bin/env bash
# Demonstrates pg_clip on a temporary server, and removes the server afterwards.
#
#   demo.sh [--keep]    --keep: keeps the server for experiments
#
# `make demo` builds and installs pg_clip first.
set -euo pipefail
cd "$(dirname "$0")/.."

keep=
case ${1:-} in
--keep) keep=yes ;;
'') ;;
*) echo "usage: scripts/demo.sh [--keep]" >&2; exit 2 ;;
esac

step() { printf '\033[1m== %s\033[0m\n' "$*"; }

fail() {
    printf 'demo: %s\n' "$@" >&2
    exit 1
}

is_installed() {
    local pg_config=${PG_CONFIG:-pg_config}
    command -v "$pg_config" >/dev/null && [ -e "$("$pg_config" --pkglibdir)/pg_clip.so" ] &&
        [ -e "$("$pg_config" --sharedir)/extension/pg_clip.control" ]
}

is_installed || fail "pg_clip is not installed in this server." "Run: make demo"

cluster=$(mktemp -d "${TMPDIR:-/tmp}/pg_clip-demo.XXXXXX")
trap 'scripts/cluster.sh stop "$cluster"; rm -rf "$cluster"' EXIT

step "Starting a temporary server in $cluster"
scripts/cluster.sh start "$cluster" || fail "the server did not start. Its output is above."

step "Running examples/demo.sql"
scripts/cluster.sh psql "$cluster" -X --quiet --set ON_ERROR_STOP=1 --pset pager=off --file examples/demo.sql </dev/null ||
    fail "examples/demo.sql failed: see the message above." "After a change of the sources, run: make demo"

if [ -n "$keep" ]; then
    trap - EXIT
    step "The server is still running"
    # The commands must name a server that is not the one on the PATH.
    prefix=${PG_CONFIG:+PG_CONFIG=$PG_CONFIG }
    echo "Connect:  ${prefix}scripts/cluster.sh psql $cluster"
    echo "Stop it:  ${prefix}scripts/cluster.sh stop $cluster"
else
    step "The server is stopped and removed"
    echo "To keep the server for experiments:  scripts/demo.sh --keep"
fi
