#!/usr/bin/env bash
# Installs the requirements of pg_clip's build and tests: server and headers, libclang, pgvector, ONNX Runtime.
#
#   setup.sh [PG_CONFIG [PACKAGE…]]     PACKAGE: further Debian packages that some tests need
#   setup.sh --openvino                 only fetches the ONNX Runtime with OpenVINO, into target/openvino
#
# Installs only missing or outdated requirements, and reports each step. Works as root, or as a user with sudo.
set -euo pipefail

only_openvino=
if [ "${1:-}" = --openvino ]; then
    only_openvino=1
    shift
fi

# A relative PG_CONFIG is relative to the caller's directory, so it is resolved before the directory changes.
asked_for=${1:-${PG_CONFIG:-pg_config}}
more=("${@:2}")
PG_CONFIG=$(command -v "$asked_for" || true)
[ -z "$PG_CONFIG" ] || PG_CONFIG=$(realpath --no-symlinks "$PG_CONFIG")
cd "$(dirname "$0")/.."

# Releases before the advised one have memory bugs. The script still keeps such a release if the server has one.
least_pgvector=0.8.0
advised_pgvector=0.8.7
# If Debian's own package is older: the script builds the source package of these suites, tried in this order.
newer_suites="sid testing stable"

scratch=$(mktemp -d)
clean_up() {
    rm -rf "$scratch"
    allow_main_cluster
}
trap clean_up EXIT

say() { echo "setup: $*"; }

warn() { printf 'setup: %s\n' "$@" >&2; }

fail() {
    warn "$@"
    exit 1
}

# fail_with_log LOG MESSAGE…: prints the end of the log first, then the message.
fail_with_log() {
    tail -n 20 "$1" >&2
    shift
    fail "$@"
}

# at_least LEAST VERSION: a missing version is too old.
at_least() { [ -n "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Fails before the work begins, because the output of the work goes to a log.
require_root() {
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || fail "$1 needs root." "Run this as root, or install sudo."
}

# A server in a user's home directory needs no root.
is_server_writable() { [ -w "$("$PG_CONFIG" --pkglibdir)" ] && [ -w "$("$PG_CONFIG" --sharedir)/extension" ]; }

check_rust() {
    local least version
    least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    command -v cargo >/dev/null ||
        fail "cargo is missing." "Install Rust $least or newer: with rustup, or your distribution's package if it is new enough."
    version=$(rustc --version | cut -d ' ' -f 2)
    at_least "$least" "$version" || fail "Rust $version is too old, pg_clip needs $least." "Run: rustup update stable"
    # pgrx formats the bindings to the server's headers with rustfmt. A minimal toolchain has no rustfmt, but has rustup's
    # proxy.
    rustfmt --version >/dev/null 2>&1 ||
        fail "rustfmt is missing. The build needs it." "Run: rustup component add rustfmt (or install your distribution's rustfmt)"
}

# ---- apt

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

version_of_package() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || true; }

update_lists() {
    [ ! -e "$scratch/apt.log" ] || return 0
    # A broken third-party source may not matter: the installation itself fails if it does.
    as_root apt-get -q update >"$scratch/apt.log" 2>&1 </dev/null || true
}

apt_install() {
    require_root "installing $*"
    say "installing $*"
    update_lists
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 \
        install --no-install-recommends "$@" >>"$scratch/apt.log" 2>&1 </dev/null ||
        fail_with_log "$scratch/apt.log" "apt-get could not install $*." \
            "Fix the errors above (often: apt-get --fix-broken install), then run this again."
}

install_if_missing() {
    local package missing=()
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

# Prints the major release of PG_CONFIG, else of the newest installed server, else of the distribution's own package.
server_major() {
    if [ -n "$PG_CONFIG" ]; then
        "$PG_CONFIG" --version | grep -oE '[0-9]+' | head -n 1
    elif compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then
        printf '%s\n' /usr/lib/postgresql/*/bin/postgres | cut -d / -f 5 | sort -n | tail -n 1
    else
        apt-cache depends postgresql | grep -oE 'postgresql-[0-9]+' | grep -oE '[0-9]+' | head -n 1
    fi
}

# Debian's package starts a server called main when it is installed. pg_clip does not need that server.
createcluster=/etc/postgresql-common/createcluster.conf
no_main_cluster='create_main_cluster = false # while pg_clip is set up'

forbid_main_cluster() {
    install_if_missing postgresql-common
    echo "$no_main_cluster" | as_root tee -a "$createcluster" >/dev/null
}

allow_main_cluster() {
    ! grep -qsx "$no_main_cluster" "$createcluster" || as_root sed -i "/^$no_main_cluster\$/d" "$createcluster"
}

# Installs server and headers together: a library that was built with the headers of a later minor release may not load in an
# earlier one.
install_server() {
    local major server headers
    [ -n "$(server_major)" ] || { require_root "installing PostgreSQL"; update_lists; }
    major=$(server_major)
    [[ $major =~ ^1[5-8]$ ]] || fail "PostgreSQL ${major:-(unknown)} is not supported. Supported are 15 to 18." "Name another server: make PG_CONFIG=…"
    server=postgresql-$major headers=postgresql-server-dev-$major
    if ! is_installed "$server"; then
        forbid_main_cluster
        apt_install "$server" "$headers"
        allow_main_cluster
    elif ! is_installed "$headers" || [ "$(version_of_package "$server")" != "$(version_of_package "$headers")" ]; then
        say "server and headers must be of the same minor release; if the server is upgraded, its clusters restart"
        apt_install "$server" "$headers"
    fi
    PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/$major/bin/pg_config}
}

is_from_debian() { [[ $("$PG_CONFIG" --bindir) == /usr/lib/postgresql/* ]]; }

prepare_with_apt() {
    if [ -z "$PG_CONFIG" ] && [ "$asked_for" != pg_config ]; then
        fail "there is no $asked_for." "Give the path of the server's pg_config."
    fi
    install_if_missing build-essential pkg-config libclang-dev strace python3-venv "${more[@]}"
    if [ -z "$PG_CONFIG" ] || is_from_debian; then
        install_server
    fi
    install_pgvector
    [ -e "$(onnxruntime_library)" ] || find_pip >/dev/null || install_if_missing python3-pip
}

# ---- no apt

has_headers() { [ -n "$PG_CONFIG" ] && [ -e "$("$PG_CONFIG" --includedir-server)/postgres.h" ]; }

has_libclang() { [ -n "${LIBCLANG_PATH:-}" ] || ldconfig -p 2>/dev/null | grep -q 'libclang[-.]' || command -v llvm-config >/dev/null; }

check_without_apt() {
    local missing=()
    has_headers || missing+=("PostgreSQL 15 to 18 with its server headers (set PG_CONFIG if pg_config is not on the PATH)")
    command -v cc >/dev/null || missing+=("a C compiler, called cc")
    command -v make >/dev/null || missing+=("GNU make")
    [ ${#more[@]} = 0 ] || missing+=("these programs, by their names in Debian: ${more[*]}")
    has_libclang || missing+=("libclang (part of clang or LLVM)")
    at_least $least_pgvector "$(installed_pgvector)" || missing+=("pgvector $advised_pgvector or newer, in that server")
    [ -e "$(onnxruntime_library)" ] || find_pip >/dev/null ||
        missing+=("python3 with pip, to fetch ONNX Runtime; or a libonnxruntime.so of 1.22 or newer, as $(onnxruntime_library)")
    [ ${#missing[@]} = 0 ] || fail "there is no apt here. Install these, then run this again:" "${missing[@]/#/  - }"
}

# ---- pgvector

installed_pgvector() {
    [ -z "$PG_CONFIG" ] ||
        sed -n "s/^default_version = '\(.*\)'/\1/p" "$("$PG_CONFIG" --sharedir)/extension/vector.control" 2>/dev/null || true
}

# Prints the version of the package that apt would install, without Debian's revision.
packaged_pgvector() {
    ! is_from_debian || apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([0-9.]*\).*/\1/p'
}

install_pgvector() {
    local package packaged
    ! at_least $least_pgvector "$(installed_pgvector)" || return 0
    is_server_writable || require_root "installing pgvector"
    update_lists
    package=postgresql-$(server_major)-pgvector
    packaged=$(packaged_pgvector "$package")
    if at_least $advised_pgvector "$packaged"; then
        apt_install "$package"
    elif fetch_pgvector_source; then
        build_pgvector
    elif at_least $least_pgvector "$packaged"; then
        apt_install "$package"
    else
        warn "the mirrors of apt have no source of pgvector $least_pgvector or newer."
        fail "Install pgvector into this server by hand (make install PG_CONFIG=$PG_CONFIG), then run this again."
    fi
}

# Unpacks a source package of a newer suite into $scratch/pgvector.
fetch_pgvector_source() {
    local mirror suite
    # The mirror from which this machine gets Debian itself.
    # shellcheck disable=SC2016 # $(REPO_URI) is apt's own
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
    [ -n "$mirror" ] || return 1
    for suite in $newer_suites; do
        say "fetching pgvector's source package of Debian $suite"
        rm -rf "$scratch/pgvector"
        apt_source "$mirror" "$suite" >"$scratch/source.log" 2>&1 && return
        warn "the source package of Debian $suite could not be fetched: $(grep -m 1 '^E:' "$scratch/source.log" || tail -n 1 "$scratch/source.log")"
    done
    return 1
}

# Uses its own lists and caches: the system's apt stays unchanged, and no root is needed. apt checks signatures as always, but
# not their age, because a mirror may be outdated.
apt_source() {
    local own=$scratch/apt-$2 options
    mkdir -p "$own/lists/partial" "$own/archives/partial"
    echo "deb-src [check-valid-until=no signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $1 $2 main" >"$own/sources.list"
    options=(-q -o Dir::Etc::sourcelist="$own/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$own/lists"
        -o Dir::Cache="$own" -o APT::Sandbox::User="$(id -un)" -o APT::Update::Error-Mode=any)
    apt-get "${options[@]}" update || return
    (cd "$own" && apt-get "${options[@]}" source pgvector) || return
    mv "$own"/pgvector-*/ "$scratch/pgvector"
}

build_pgvector() {
    # Plain flags: by default the library runs only on the kind of processor that built it. The second build for the JIT is left
    # out.
    local build=(make -s -C "$scratch/pgvector" OPTFLAGS="" with_llvm=no PG_CONFIG="$PG_CONFIG")
    local installer=as_root
    ! is_server_writable || installer=
    say "building pgvector"
    "${build[@]}" -j "$(nproc)" >"$scratch/pgvector.log" 2>&1 ||
        fail_with_log "$scratch/pgvector.log" "pgvector could not be built." "Install it by hand, then run this again."
    $installer "${build[@]}" install >"$scratch/pgvector.log" 2>&1 ||
        fail_with_log "$scratch/pgvector.log" "pgvector could not be installed into the server." "Install it by hand, then run this again."
}

# ---- ONNX Runtime

onnxruntime_library() { echo target/onnxruntime/libonnxruntime.so; }

# wanted_version REQUIREMENTS: prints the version of the only package in a requirements file.
wanted_version() { sed -n 's/^[a-z-]*==\([0-9.]*\).*/\1/p' "$1"; }

# The first Python on the PATH may have no pip.
find_pip() {
    local python
    for python in python3 /usr/bin/python3; do
        "$python" -m pip --version >/dev/null 2>&1 && echo "$python" && return
    done
    return 1
}

# fetch_wheel REQUIREMENTS: unpacks a Python package, for any Python, into $scratch/wheel/content. The libraries in it do not
# depend on Python.
fetch_wheel() {
    local wheel=$scratch/wheel python
    python=$(find_pip) || return
    rm -rf "$wheel"
    "$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --implementation cp --python-version 3.12 --platform "manylinux_2_28_$(uname -m)" --dest "$wheel" -r "$1" || return
    "$python" -m zipfile -e "$wheel"/*.whl "$wheel/content"
}

# replace DIRECTORY: puts the directory $scratch/NAME in the place of target/NAME.
replace() {
    mkdir -p "$(dirname "$1")"
    rm -rf "$1"
    mv "$scratch/$(basename "$1")" "$1"
}

fetch_onnxruntime() {
    local version into content=$scratch/wheel/content
    version=$(wanted_version scripts/dev/onnxruntime.txt) into=$(dirname "$(onnxruntime_library)")
    # A library without this mark was installed by hand, so the script keeps it.
    if [ -e "$into/libonnxruntime.so" ] && { [ ! -e "$into/VERSION" ] || [ "$(cat "$into/VERSION")" = "$version" ]; }; then
        return
    fi
    say "fetching ONNX Runtime $version"
    fetch_wheel scripts/dev/onnxruntime.txt ||
        fail "ONNX Runtime $version could not be fetched for $(uname -m)." \
            "Put a libonnxruntime.so of 1.22 or newer into $into, then run this again."
    install -D -m 755 "$content/onnxruntime/capi/libonnxruntime.so.$version" "$scratch/onnxruntime/libonnxruntime.so"
    install -m 644 "$content/onnxruntime/LICENSE" "$content/onnxruntime/ThirdPartyNotices.txt" "$scratch/onnxruntime"
    echo "$version" >"$scratch/onnxruntime/VERSION"
    replace "$into"
}

# ---- OpenVINO

# The libraries that a processor needs: not those for GPUs and NPUs, and not Python's.
openvino_libraries=(libonnxruntime_providers_shared.so libonnxruntime_providers_openvino.so libopenvino.so.2541
    libopenvino_onnx_frontend.so.2541 libopenvino_intel_cpu_plugin.so libtbb.so.12)

fetch_openvino() {
    local version into=target/openvino content=$scratch/wheel/content
    version=$(wanted_version scripts/dev/openvino.txt)
    if [ "$(cat "$into/VERSION" 2>/dev/null)" = "$version" ]; then
        say "ready: $into/libonnxruntime.so, ONNX Runtime $version with OpenVINO"
        return
    fi
    find_pip >/dev/null || fail "python3 with pip is missing. It fetches OpenVINO."
    say "fetching ONNX Runtime $version with OpenVINO"
    fetch_wheel scripts/dev/openvino.txt ||
        fail "ONNX Runtime $version with OpenVINO could not be fetched for $(uname -m)." \
            "It is published for x86-64. On other processors, the embedding service uses the provider cpu."
    install -D -m 755 "$content/onnxruntime/capi/libonnxruntime.so.$version" "$scratch/openvino/libonnxruntime.so"
    (cd "$content/onnxruntime/capi" && install -m 755 "${openvino_libraries[@]}" "$scratch/openvino")
    install -m 644 "$content/onnxruntime/LICENSE" "$content/onnxruntime/ThirdPartyNotices.txt" scripts/dev/openvino-licenses.txt \
        "$scratch/openvino"
    echo "$version" >"$scratch/openvino/VERSION"
    replace "$into"
    say "ready: $into/libonnxruntime.so, ONNX Runtime $version with OpenVINO"
}

summary() {
    local vector
    vector=$(installed_pgvector)
    say "ready: $("$PG_CONFIG" --version), pgvector $vector, ONNX Runtime $(cat target/onnxruntime/VERSION 2>/dev/null || echo "(installed by hand)")"
    at_least $advised_pgvector "$vector" ||
        warn "pgvector $advised_pgvector or newer is advised for production servers: $vector has known memory bugs."
}

if [ -n "$only_openvino" ]; then
    fetch_openvino
    exit
fi
check_rust
if command -v apt-get >/dev/null; then
    prepare_with_apt
else
    check_without_apt
fi
fetch_onnxruntime
summary
