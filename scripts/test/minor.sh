#!/usr/bin/env bash
# Builds pg_clip for the earliest and the latest minor release of this machine's PostgreSQL that Debian has, and tests each
# build on both servers. Needs no root: it unpacks the servers into a temporary directory. Fails with a message if Debian has
# only one release.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
    printf 'minor.sh: %s\n' "$@" >&2
    exit 1
}

major=$("${PG_CONFIG:-pg_config}" --version | grep -oE '[0-9]+' | head -n 1)
mapfile -t versions < <(apt-cache madison "postgresql-$major" | cut -d '|' -f 2 | tr -d ' ' | sort -uV)
[ ${#versions[@]} -gt 0 ] || fail "apt has no package of PostgreSQL $major." "Run: apt-get update"
[ ${#versions[@]} -gt 1 ] || fail "not run: Debian has no other minor release of PostgreSQL $major than ${versions[0]}."
old=${versions[0]} new=${versions[-1]}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# The servers run as another user.
chmod 755 "$scratch"
log=target/test_minor.log

pg_config_of() { echo "$scratch/$1/usr/lib/postgresql/$major/bin/pg_config"; }

logged() { "$@" >"$log" 2>&1 || { tail -n 40 "$log" >&2; fail "failed: $*" "The complete output is in $log."; }; }

# Unpacks a server into its own directory: a server finds its files relative to its program.
unpack() {
    local version=$1 packages=$scratch/packages package
    mkdir -p "$packages"
    for package in postgresql postgresql-client postgresql-server-dev; do
        (cd "$packages" && apt-get -q download "$package-$major=$version") || return
    done
    for package in "$packages"/*"_${version}_"*.deb; do dpkg-deb -x "$package" "$scratch/$version" || return; done
}

# build VERSION: builds pg_clip for it, installs pg_clip there, and keeps the library.
build() {
    local version=$1 pg_config
    pg_config=$(pg_config_of "$version")
    scripts/setup.sh "$pg_config" && make all PG_CONFIG="$pg_config" && make install LINKDIR= PG_CONFIG="$pg_config" &&
        cp target/release/libpg_clip.so "$scratch/$version.so"
}

for version in "$old" "$new"; do
    logged unpack "$version"
    logged build "$version"
done

# try BUILT SERVER: tests the library that was built for one server on another server.
try() {
    local pg_config
    pg_config=$(pg_config_of "$2")
    install -m 755 "$scratch/$1.so" "$("$pg_config" --pkglibdir)/pg_clip.so" || return
    PG_CONFIG=$pg_config cargo test --release --target-dir target -p e2e --test regress --test auto_embed --test queue --test backend
}

for pair in "$old $old" "$old $new" "$new $new" "$new $old"; do
    read -r built server <<<"$pair"
    logged try "$built" "$server"
    passed=$(grep -c '^test .* ok$' "$log" || true)
    [ "$passed" -gt 0 ] || fail "no test was run." "See $log"
    echo "test_minor: built for $built, on a server of $server: $passed tests passed"
done
