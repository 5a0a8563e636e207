#!/usr/bin/env bash
# Make ready what pg_clip is built and tested with: server and headers, libclang, pgvector, ONNX Runtime.
# Does only what is missing, and says what it does. Works as root, or as a user with sudo.
set -euo pipefail
cd "$(dirname "$0")/.."

# pgvector 0.8.0 is what pg_clip needs; 0.8.7 is advised, because earlier ones have memory bugs.
least_pgvector=0.8.0
wanted_pgvector=0.8.6
# Where a mirror lists a newer source but does not hold it: the last one that was built here, by its hash.
pinned_pgvector=0.8.6
pinned_pgvector_sha256=25c9b78cfdaa43c66788d7490246ac24e4fe1c86f19c4b60c089b723f84a4a0d
# The oldest Rust that the dependencies build with.
least_rust=1.95

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"

say() { printf '\033[1m%s\033[0m\n' "pg_clip: $*"; }

fail() {
    printf 'pg_clip: %s\n' "$@" >&2
    exit 1
}

at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo --preserve-env=DEBIAN_FRONTEND "$@"
    else
        fail "root is needed for: $*" "Run this as root, or install sudo."
    fi
}

what_to_install() {
    fail "this is not a Debian-like system, or a package cannot be had. Install these, then run make again:" \
        "  PostgreSQL 15 to 18 with its server headers (pg_config --includedir-server)" \
        "  a C compiler, make, pkg-config, and libclang (for bindgen)" \
        "  pgvector $least_pgvector or newer, into that server" \
        "  python3 with pip (it fetches ONNX Runtime), or ONNX Runtime 1.22 or newer with clip.onnxruntime_path set"
}

check_rust() {
    command -v cargo >/dev/null || fail "cargo is missing." \
        "Install Rust $least_rust or newer with rustup, or your distribution's package if it is that new."
    local version
    version=$(rustc --version | cut -d ' ' -f 2)
    at_least "$least_rust" "$version" || fail "Rust $version is too old; $least_rust is needed." "Run: rustup update"
}

has_packages() { dpkg-query -W -f '${Status}\n' "$@" 2>/dev/null | grep -c 'ok installed' | grep -qx $#; }

install_packages() {
    has_packages "$@" && return
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get update -q >"$scratch/apt.log" 2>&1 || true
    as_root apt-get install -y -q --no-install-recommends "$@" >>"$scratch/apt.log" 2>&1 ||
        { tail -n 20 "$scratch/apt.log" >&2; what_to_install; }
}

# Debian starts a server called main with the package. Where there is none yet, none is wanted.
without_main_cluster() {
    [ -e /etc/postgresql-common/createcluster.conf ] && return
    as_root mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
}

install_server() {
    local major
    if [ -n "${PG_CONFIG:-}" ] && [ -e "$("$PG_CONFIG" --includedir-server)/postgres.h" ] && ! has_headers_package; then
        return
    fi
    major=$(pg_major)
    without_main_cluster
    # Both at once: an extension built with newer headers may not load in an older minor release.
    install_packages build-essential pkg-config libclang-dev "postgresql-$major" "postgresql-server-dev-$major"
    same_minor "$major" && return
    say "bringing server and headers to the same minor release"
    as_root apt-get install -y -q --no-install-recommends "postgresql-$major" "postgresql-server-dev-$major" \
        >"$scratch/apt.log" 2>&1 || { tail -n 20 "$scratch/apt.log" >&2; what_to_install; }
}

# Whether the server that PG_CONFIG names comes from Debian's packages.
has_headers_package() { "$PG_CONFIG" --bindir | grep -q '^/usr/lib/postgresql/'; }

same_minor() {
    local versions
    versions=$(dpkg-query -W -f '${Version}\n' "postgresql-$1" "postgresql-server-dev-$1" | sort -u | wc -l)
    [ "$versions" = 1 ]
}

pg_major() {
    local found
    if command -v "${PG_CONFIG:-pg_config}" >/dev/null; then
        found=$("${PG_CONFIG:-pg_config}" --version)
        echo "$found" | grep -oE '[0-9]+' | head -n 1
    else
        apt-cache depends postgresql | grep -oE 'postgresql-[0-9]+' | grep -oE '[0-9]+' | head -n 1
    fi
}

installed_pgvector() {
    sed -n "s/^default_version = '\(.*\)'/\1/p" "$("$PG_CONFIG" --sharedir)/extension/vector.control" 2>/dev/null || true
}

# The source package of a suite, by a private list: the system's own apt configuration stays as it is.
pgvector_of_suite() {
    local list="$scratch/$1" mirror key
    mirror=$(debian_mirror)
    key=$(grep -hoE '/usr/share/keyrings/debian[^] ]*' -r /etc/apt/sources.list.d /etc/apt/sources.list 2>/dev/null | head -n 1)
    mkdir -p "$list/lists/partial" "$list/source"
    echo "deb-src ${key:+[signed-by=$key] }$mirror $1 main" >"$list/sources.list"
    local apt=(apt-get -q -o "Dir::Etc::sourcelist=$list/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$list/lists" -o "Dir::Cache=$list" -o "APT::Sandbox::User=")
    "${apt[@]}" update >"$list/log" 2>&1 &&
        (cd "$list/source" && "${apt[@]}" source --download-only pgvector >>"$list/log" 2>&1) &&
        tar -xzf "$list"/source/pgvector_*.orig.tar.gz -C "$list/source" --strip-components 1 && echo "$list/source"
}

debian_mirror() {
    grep -hoE 'https?://[^ ]*/debian/?( |$)' -r /etc/apt/sources.list.d /etc/apt/sources.list 2>/dev/null | head -n 1 | tr -d ' '
}

pgvector_pinned() {
    local into="$scratch/pinned"
    mkdir -p "$into"
    python3 - "$(debian_mirror)/pool/main/p/pgvector/pgvector_$pinned_pgvector.orig.tar.gz" "$into/source.tar.gz" <<'PYTHON' 2>/dev/null &&
import sys, urllib.request
urllib.request.urlretrieve(sys.argv[1], sys.argv[2])
PYTHON
        echo "$pinned_pgvector_sha256  $into/source.tar.gz" | sha256sum --check --quiet - >/dev/null 2>&1 &&
        tar -xzf "$into/source.tar.gz" -C "$into" --strip-components 1 && echo "$into"
}

install_pgvector() {
    local version source
    version=$(installed_pgvector)
    [ -n "$version" ] && at_least "$wanted_pgvector" "$version" && return
    say "building pgvector from Debian's source package"
    install_packages dpkg-dev python3
    source=$(pgvector_of_suite sid || pgvector_pinned || pgvector_of_suite trixie) || {
        [ -n "$version" ] && at_least "$least_pgvector" "$version" && return
        fail "the source of pgvector cannot be fetched." "Install pgvector $least_pgvector or newer by hand, then run make again."
    }
    # No -march=native: the library may run on another machine.
    make -C "$source" -s OPTFLAGS="" PG_CONFIG="$PG_CONFIG" >"$scratch/pgvector.log" 2>&1 ||
        { tail -n 20 "$scratch/pgvector.log" >&2; fail "pgvector does not build."; }
    as_root make -C "$source" -s install PG_CONFIG="$PG_CONFIG" >"$scratch/pgvector.log" 2>&1 ||
        { tail -n 20 "$scratch/pgvector.log" >&2; fail "pgvector cannot be installed."; }
    say "pgvector $(installed_pgvector) is installed"
}

fetch_onnxruntime() {
    local into=target/onnxruntime version
    version=$(sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' scripts/onnxruntime.txt)
    [ -e "$into/$version" ] && return
    say "fetching ONNX Runtime $version"
    python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
    local machine
    machine=$(uname -m)
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --implementation cp --python-version 3.12 --platform "manylinux_2_28_$machine" --platform "manylinux_2_27_$machine" \
        --dest "$scratch/wheel" -r scripts/onnxruntime.txt ||
        fail "ONNX Runtime $version cannot be fetched for $machine." \
            "Put a libonnxruntime.so of 1.22 or newer into $into, or set clip.onnxruntime_path."
    python3 -m zipfile -e "$scratch"/wheel/*.whl "$scratch/wheel/content"
    rm -rf "$into" && mkdir -p "$into"
    install -m 755 "$scratch/wheel/content/onnxruntime/capi/libonnxruntime.so.$version" "$into/libonnxruntime.so"
    install -m 644 "$scratch/wheel/content/onnxruntime/"{LICENSE,ThirdPartyNotices.txt} "$into"
    touch "$into/$version"
}

check_rust
if command -v apt-get >/dev/null; then
    install_server
fi
: "${PG_CONFIG:=pg_config}"
command -v "$PG_CONFIG" >/dev/null && [ -e "$("$PG_CONFIG" --includedir-server)/postgres.h" ] || what_to_install
install_pgvector
fetch_onnxruntime
