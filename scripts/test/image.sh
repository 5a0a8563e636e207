#!/usr/bin/env bash
# Builds the images of both Dockerfiles with buildah, starts them, and searches emoji. Needs root, buildah and debootstrap.
#
# A clean Debian with its own packages replaces the official images: so this tests our steps, not those images. Debian has
# PostgreSQL 18 in the suite testing. All images and containers are in target/debootstrap/image, which is removed at the end.
# target/debootstrap/image-target keeps the compiled crates for the next run.
set -euo pipefail
cd "$(dirname "$0")/../.."

major=18 suite=testing
work=$PWD/target/debootstrap/image
archives=$PWD/target/debootstrap/archives
compiled=$PWD/target/debootstrap/image-target

step() { echo "check_image: $*"; }

fail() {
    printf 'check_image: %s\n' "$@" >&2
    exit 1
}

fail_with_log() {
    tail -n 30 "$work/log" >&2
    fail "$@"
}

command -v buildah >/dev/null || fail "buildah is not installed." "Run: apt-get install buildah"
trap 'rm -rf --one-file-system "$work"' EXIT
rm -rf --one-file-system "$work"
mkdir -p "$work" "$archives" "$compiled"

# No image of this machine is used or changed. The driver vfs needs no privileges on file systems.
image() { buildah --storage-driver vfs --root "$work/images" --runroot "$work/run" "$@"; }

# ---- replacements of the official images

# make_image NAME DIRECTORY VARIABLE=VALUE…: creates an image from a directory, and removes the directory.
make_image() {
    local name=$1 directory=$2 container mounted variables=() variable
    shift 2
    for variable in "$@"; do variables+=(--env "$variable"); done
    container=$(image from scratch)
    mounted=$(image mount "$container")
    cp -a --reflink=auto "$directory/." "$mounted"
    rm -rf --one-file-system "$directory"
    image config "${variables[@]}" "$container"
    image commit --rm --quiet "$container" "$name" >/dev/null
}

# Imitates the official image: user 999, no cluster, gosu, and an entry point that initializes the data directory and drops
# root.
make_postgres_image() {
    local root=$work/postgres
    scripts/test/clean_debian.sh make "$root" "$suite"
    # A machine with its own certificate authorities reaches the registries through them.
    mkdir -p "$root/usr/local/share/ca-certificates" "$root/docker-entrypoint-initdb.d"
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
    # shellcheck disable=SC2016 # $1 belongs to the inner shell
    scripts/test/clean_debian.sh run "$root" sh -euc '
        groupadd -r postgres --gid=999
        useradd -r -g postgres --uid=999 --home-dir=/var/lib/postgresql --shell=/bin/bash postgres
        install -d -o postgres -g postgres -m 1777 /var/lib/postgresql /var/lib/postgresql/data
        apt-get -q update
        apt-get -qy install --no-install-recommends postgresql-common gosu
        sed -ri "s/#(create_main_cluster) .*/\1 = false/" /etc/postgresql-common/createcluster.conf
        apt-get -qy install --no-install-recommends postgresql-$1
        install -d -o postgres -g postgres -m 3777 /run/postgresql
        rm -rf /var/lib/apt/lists/*' sh "$major" >"$work/log" 2>&1 || fail_with_log "the replacement of the official image could not be created."
    cat >"$root/usr/local/bin/docker-entrypoint.sh" <<'END'
#!/usr/bin/env bash
set -euo pipefail
[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    chown -R postgres "$PGDATA" /run/postgresql
    exec gosu postgres "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    chmod 700 "$PGDATA" || true
    initdb --username=postgres --auth-host=scram-sha-256 --pwfile=<(echo "${POSTGRES_PASSWORD:?is not set}")
fi
exec "$@"
END
    chmod 755 "$root/usr/local/bin/docker-entrypoint.sh"
    make_image localhost/postgres "$root" PG_MAJOR="$major" PGDATA=/var/lib/postgresql/data LANG=C.UTF-8 \
        PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/$major/bin"
}

# Copies this machine's toolchain in the state of the official image: without rustfmt, and with a rustup that can add only
# rustfmt.
make_rust_image() {
    local root=$work/rust toolchain=$work/rust/usr/local/rustup/toolchains/this program
    scripts/test/clean_debian.sh make "$root"
    mkdir -p "$toolchain" "$root/usr/local/cargo/bin"
    tar -C "$(rustc --print sysroot)" --exclude=./share -c . | tar -C "$toolchain" -x
    mv "$toolchain/bin/rustfmt" "$toolchain/rustfmt"
    for program in cargo rustc rustdoc rustfmt; do
        ln -s "/usr/local/rustup/toolchains/this/bin/$program" "$root/usr/local/cargo/bin/$program"
    done
    cat >"$root/usr/local/cargo/bin/rustup" <<'END'
#!/bin/sh
[ "$*" = "component add rustfmt" ] || exit 1
cd /usr/local/rustup/toolchains/this && mv rustfmt bin/rustfmt
END
    chmod 755 "$root/usr/local/cargo/bin/rustup"
    make_image localhost/rust "$root" PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
}

# ---- use of an image

# configuration IMAGE TEMPLATE: prints a part of the configuration of an image.
configuration() { image inspect --type image --format "$2" "$1"; }

# contents IMAGE: prints the directory with the files of a new container.
contents() { image mount "$(image from "$1")"; }

# search NAME EXPECTED DIRECTORY VARIABLE=VALUE… -- COMMAND…: COMMAND starts a server in the directory. When the image's health
# check succeeds, runs the statements in /search, and compares their output.
search() {
    local name=$1 expected=$2$'\npostgres' root=$3 variables=()
    shift 3
    while [ "$1" != -- ]; do
        variables+=("$1")
        shift
    done
    shift
    # PGPORT is random, because the directories share the network with this machine.
    # shellcheck disable=SC2016 # the variables belong to the inner shell
    scripts/test/clean_debian.sh run "$root" env "${variables[@]}" PGPORT=$((20000 + RANDOM % 20000)) POSTGRES_PASSWORD=secret \
        bash -euc '
            healthcheck=$1
            shift
            "$@" >/tmp/log 2>&1 </dev/null &
            tries=0
            until $healthcheck; do
                tries=$((tries + 1))
                [ $tries -lt 120 ] && kill -0 $! || { cat /tmp/log >&2; exit 1; }
                sleep 0.5
            done
            cat /tmp/log >&2
            cp /search/* /tmp
            psql="psql -h /run/postgresql -U postgres -X --quiet --tuples-only --no-align --set ON_ERROR_STOP=1"
            $psql --file /tmp/search.sql
            stat -c %U "/proc/$(head -n 1 "$PGDATA/postmaster.pid")"
            kill -INT $!
            wait $!' bash "$healthcheck" "$@" >"$work/found" 2>"$work/log" </dev/null || fail_with_log "$name: the image does not work."
    [ "$(cat "$work/found")" = "$expected" ] || fail_with_log "$name: the image returned other rows:" "$(cat "$work/found")"
    sed -n "s/^pg_clip:/check_image: $name:/p" "$work/log"
    step "$name: passed"
}

# ---- the image

step "creating the replacements of the official images"
make_postgres_image
make_rust_image
step "building the image"
image build --quiet --isolation chroot --format docker --tag localhost/pg_clip \
    --volume "$archives:/var/cache/apt/archives" --volume "$compiled:/usr/local/src/pg_clip/target" \
    --build-arg PG_MAJOR="$major" --build-arg POSTGRES_IMAGE=localhost/postgres --build-arg RUST_IMAGE=localhost/rust . \
    >"$work/log" 2>&1 </dev/null || fail_with_log "the image could not be built."

root=$(contents localhost/pg_clip)
mkdir "$root/search"
cat >"$root/search/search.sql" <<'END'
SELECT setting || '/pg_clip/examples/emoji.sql' AS script FROM pg_config WHERE name = 'SHAREDIR' \gset
\i :script
CREATE ROLE visitor;
GRANT SELECT ON emoji TO visitor;
SET ROLE visitor;
SELECT name FROM emoji ORDER BY embedding <=> (SELECT clip_embed_text('musical instrument')) LIMIT 1;
END
mapfile -t variables < <(configuration localhost/pg_clip '{{range .Docker.Config.Env}}{{println .}}{{end}}' | grep .)
healthcheck=$(configuration localhost/pg_clip '{{range .Docker.Config.Healthcheck.Test}}{{.}} {{end}}')
[[ $healthcheck == "CMD "* ]] || fail "the image has no health check."
healthcheck=${healthcheck#CMD }
mapfile -t start < <(configuration localhost/pg_clip '{{range .Docker.Config.Entrypoint}}{{println .}}{{end}}{{range .Docker.Config.Cmd}}{{println .}}{{end}}' | grep .)
# shellcheck disable=SC2016 # a template, not variables
volumes=$(configuration localhost/pg_clip '{{range $path, $nothing := .Docker.Config.Volumes}}{{$path}} {{end}}')
as_user=(setpriv --reuid postgres --regid postgres --clear-groups)
writable="/tmp /run/postgresql /var/lib/postgresql/data $volumes"
found="musical keyboard"
CLEAN_DEBIAN_VOLUMES=$writable search "as root, read-only" "$found" "$root" "${variables[@]}" -- "${start[@]}"
CLEAN_DEBIAN_VOLUMES=$writable search "--user postgres, read-only" "$found" "$root" "${variables[@]}" -- "${as_user[@]}" "${start[@]}"
search "as root" "$found" "$root" "${variables[@]}" -- "${start[@]}"

# ---- the extension image

step "building the extension image"
image build --quiet --isolation chroot --format docker --tag localhost/pg_clip-extension --file docker/extension.Dockerfile \
    --build-arg PG_MAJOR="$major" --build-arg IMAGE=localhost/pg_clip . >"$work/log" 2>&1 </dev/null ||
    fail_with_log "the extension image could not be built."

# Imitates a pod of CloudNativePG: a server without pgvector and pg_clip, and a read-only directory for each extension image.
pod=$(contents localhost/postgres)
mkdir -p "$pod/extensions/vector/lib" "$pod/extensions/vector/share/extension" "$pod/extensions/models/share/pg_clip" "$pod/search"
cp "$root/usr/lib/postgresql/$major/lib/vector.so" "$pod/extensions/vector/lib"
cp "$root/usr/share/postgresql/$major/extension"/vector* "$pod/extensions/vector/share/extension"
cp -a "$(contents localhost/pg_clip-extension)" "$pod/extensions/pg_clip"
# A model in an image of its own.
# shellcheck disable=SC2016 # the variable belongs to the inner shell
scripts/test/clean_debian.sh run "$pod" sh -euc '
    PATH=/extensions/pg_clip/bin:$PATH
    pgclip export emoji /tmp/emoji.tar
    pgclip --model-path /extensions/models/share/pg_clip/models add second /tmp/emoji.tar' >"$work/log" 2>&1 ||
    fail_with_log "a model could not be copied with the pgclip of the extension image."
cat >"$pod/search/search.sql" <<'END'
\set pg_clip_emoji /extensions/pg_clip/share/pg_clip/examples/emoji.tsv
\i /extensions/pg_clip/share/pg_clip/examples/emoji.sql
CREATE ROLE visitor;
GRANT SELECT ON emoji TO visitor;
SET ROLE visitor;
SELECT name FROM emoji ORDER BY embedding <=> (SELECT clip_embed_text('musical instrument')) LIMIT 1;
SELECT name, prepared FROM clip_models ORDER BY name;
SELECT name FROM emoji ORDER BY embedding <=> (SELECT clip_embed_text('musical instrument', 'second')) LIMIT 1;
END
# The settings are those of the operator, which adds a directory for each extension, and those of examples/cloudnative-pg.
cat >"$pod/search/start.sh" <<'END'
set -euo pipefail
initdb --username=postgres --auth-host=scram-sha-256 --pwfile=<(echo secret)
/extensions/pg_clip/bin/pgclip --prepared-path /var/lib/postgresql/data/pg_clip prepare emoji
path=/extensions/vector/@:/extensions/pg_clip/@:/extensions/models/@
exec postgres -c "extension_control_path=\$system:${path//@/share}" -c "dynamic_library_path=\$libdir:${path//@/lib}" \
    -c clip.prepared_path=/var/lib/postgresql/data/pg_clip -c unix_socket_directories=/run/postgresql
END
mapfile -t variables < <(configuration localhost/postgres '{{range .Docker.Config.Env}}{{println .}}{{end}}' | grep .)
CLEAN_DEBIAN_VOLUMES="/tmp /run/postgresql /var/lib/postgresql/data" \
    search "extension image, read-only" $'musical keyboard\nemoji|t\nsecond|f\nmusical keyboard' "$pod" \
    "${variables[@]}" PGDATA=/var/lib/postgresql/data/pgdata -- "${as_user[@]}" bash /search/start.sh
step "both images were built, and all searches passed"
