#!/usr/bin/env bash
# Runs the steps of the Dockerfile in directories, without a container engine, then starts the entry point and searches emoji.
# Needs root and debootstrap.
#
# A clean Debian with its own packages replaces the official images: so this tests our steps, not those images. The script
# supports only the instructions that the Dockerfile uses. Any other instruction is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { echo "check_image: $*"; }

fail() {
    printf 'check_image: %s\n' "$@" >&2
    exit 1
}

PG_CONFIG=${PG_CONFIG:-pg_config}
major=$("$PG_CONFIG" --version | grep -oE '[0-9]+' | head -n 1)
vector_version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" "$("$PG_CONFIG" --sharedir)/extension/vector.control") ||
    fail "pgvector is not installed here." "Run: make setup"
work=$PWD/target/debootstrap/image
trap 'rm -rf --one-file-system "$work"' EXIT
rm -rf "$work"
mkdir -p "$work"

# ---- replacements of the official images

# Builds a package of this machine's pgvector, in its own apt source.
make_pgvector_package() {
    local package=$work/vector root=$1 extension
    extension=$("$PG_CONFIG" --sharedir)/extension
    mkdir -p "$package/DEBIAN" "$package$extension" "$package$("$PG_CONFIG" --pkglibdir)" "$root/pgdg"
    cp "$("$PG_CONFIG" --pkglibdir)/vector.so" "$package$("$PG_CONFIG" --pkglibdir)"
    cp "$extension"/vector{.control,--*.sql} "$package$extension"
    printf '%s\n' "Package: postgresql-$major-pgvector" "Version: $vector_version-1" "Architecture: $(dpkg --print-architecture)" \
        'Maintainer: nobody <nobody@localhost>' 'Description: pgvector' >"$package/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$package" "$root/pgdg/pgvector.deb" >/dev/null
    (cd "$root/pgdg" && dpkg-scanpackages --multiversion . >Packages 2>/dev/null)
    echo 'deb [trusted=yes] file:/pgdg ./' >"$root/etc/apt/sources.list.d/pgdg.list"
}

# Imitates the official image: user 999, no cluster, gosu, and an entry point that initializes the data directory and drops
# root.
make_postgres_image() {
    local root=$1
    scripts/test/clean_debian.sh make "$root"
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
    make_pgvector_package "$root"
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
    printf '%s\n' "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/$major/bin" \
        "PG_MAJOR=$major" PGDATA=/var/lib/postgresql/data LANG=C.UTF-8 >"$root.env"
}

# Copies this machine's toolchain in the state of the official image: without rustfmt, and with a rustup that can add only
# rustfmt.
make_rust_image() {
    local root=$1 toolchain=$1/usr/local/rustup/toolchains/this program
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
    echo PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin >"$root.env"
}

# ---- the Dockerfile's instructions

fail_with_log() {
    tail -n 30 "$work/log" >&2
    fail "$@"
}

# Prints one instruction per line, without comments. Continued lines are joined.
instructions() { sed '/^[[:space:]]*#/d; /^[[:space:]]*$/d' Dockerfile | sed -e ':next' -e '/\\$/{N;s/\\\n[[:space:]]*/ /;b next' -e '}'; }

# Expands the variables of the stage in a text: those of ENV and ARG.
expand() {
    local variables=()
    mapfile -t variables <"$root.env"
    env -i "${variables[@]}" "${arguments[@]}" PATH="$(sed -n 's/^PATH=//p' "$root.env" | tail -n 1)" /bin/bash -c "printf '%s' \"$1\""
}

run() {
    local variables=()
    mapfile -t variables <"$root.env"
    scripts/test/clean_debian.sh run "$root" env "${variables[@]}" "${arguments[@]}" /bin/sh -c "cd $folder && $1" >"$work/log" 2>&1 </dev/null ||
        fail_with_log "this step failed: RUN $1"
}

begin_stage() {
    local image=$1
    root=$work/${3:-final} folder=/ arguments=()
    case $image in
    postgres:"$major"-bookworm) make_postgres_image "$root" ;;
    rust:*) make_rust_image "$root" ;;
    *)
        [ -d "$work/$image" ] || fail "there is no replacement of the image $image."
        cp -a --reflink=auto "$work/$image" "$root"
        cp "$work/$image.env" "$root.env"
        ;;
    esac
}

copy() {
    local from=$work/context sources source destination
    if [[ $1 == --from=* ]]; then
        from=$work/${1#--from=}
        shift
    fi
    sources=("${@:1:$#-1}") destination=${!#}
    [[ $destination == /* ]] || destination=$folder/$destination
    for source in "${sources[@]}"; do
        # Copied files belong to root.
        if [ -d "$from/$source" ]; then
            mkdir -p "$root/$destination"
            tar -C "$from/$source" -c . | tar -C "$root/$destination" --owner=0 --group=0 --no-overwrite-dir -x -p --no-same-owner
        else
            [[ $destination != */ ]] || mkdir -p "$root/$destination"
            cp --preserve=mode "$from/$source" "$root/$destination"
        fi
    done
}

carry_out() {
    local instruction rest expanded words name
    while read -r instruction rest; do
        step "$instruction $rest"
        case $instruction in
        FROM)
            root=$work/global arguments=()
            expanded=$(expand "$rest")
            mapfile -t words < <(xargs -n 1 <<<"$expanded")
            begin_stage "${words[0]}" AS "${words[2]:-}"
            ;;
        ARG)
            name=${rest%%=*}
            if [ -z "$root" ]; then
                [ "$name" != PG_MAJOR ] || rest=PG_MAJOR=$major
                echo "$rest" >>"$work/global.env"
            else
                arguments+=("$name=${!name:-${rest#"$name"=}}")
            fi
            ;;
        ENV)
            expanded=$(expand "$rest")
            xargs -n 1 <<<"$expanded" >>"$root.env"
            ;;
        WORKDIR)
            folder=$(expand "$rest")
            mkdir -p "$root$folder"
            ;;
        COPY)
            expanded=$(expand "$rest")
            mapfile -t words < <(xargs -n 1 <<<"$expanded")
            copy "${words[@]}"
            ;;
        RUN) run "$rest" ;;
        VOLUME) volumes+=" $rest" ;;
        HEALTHCHECK) healthcheck=$(as_words "${rest#*CMD }") ;;
        ENTRYPOINT) entrypoint=$(as_words "$rest") ;;
        CMD) command=$(as_words "$rest") ;;
        *) fail "the instruction $instruction is not supported." "Add it to scripts/test/image.sh." ;;
        esac
    done < <(instructions)
}

# Prints ["a", "b"] as a b
as_words() { sed 's/^\[//; s/\]$//; s/", *"/" "/g' <<<"$1" | xargs; }

# ---- use of the result

# start_and_search NAME COMMAND…: COMMAND starts the entry point.
start_and_search() {
    local name=$1 expected=$'musical keyboard\npostgres' variables=()
    shift
    mapfile -t variables <"$root.env"
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
            grep "^pg_clip:" /tmp/log >&2
            cp /search/* /tmp
            psql="psql -h /run/postgresql -U postgres -X --quiet --tuples-only --no-align --set ON_ERROR_STOP=1"
            $psql --file /tmp/search.sql
            stat -c %U "/proc/$(head -n 1 "$PGDATA/postmaster.pid")"
            kill -INT $!
            wait $!' bash "$healthcheck" "$@" >"$work/found" 2>"$work/log" </dev/null || fail_with_log "$name: the image does not work."
    [ "$(cat "$work/found")" = "$expected" ] || fail "$name: the image returned other rows:" "$(cat "$work/found")"
    sed -n "s/^pg_clip:/check_image: $name:/p" "$work/log"
    step "$name: passed"
}

mkdir "$work/context"
tar -c --anchored --exclude-from=<(sed 's#^#./#' .dockerignore) . | tar -C "$work/context" -x
: >"$work/global.env"
root='' volumes='' healthcheck='' entrypoint='' command='' folder=/ arguments=()
carry_out

mkdir "$root/search"
cat >"$root/search/search.sql" <<'END'
SELECT setting || '/pg_clip/examples/emoji.sql' AS script FROM pg_config WHERE name = 'SHAREDIR' \gset
\i :script
SELECT name FROM emoji ORDER BY embedding <=> (SELECT clip_embed_text('musical instrument')) LIMIT 1;
END
read -ra start <<<"$entrypoint $command"
as_user=(setpriv --reuid postgres --regid postgres --clear-groups)
CLEAN_DEBIAN_VOLUMES="/tmp /run/postgresql /var/lib/postgresql/data$volumes" start_and_search "as root, read-only" "${start[@]}"
CLEAN_DEBIAN_VOLUMES="/tmp /run/postgresql /var/lib/postgresql/data$volumes" start_and_search "--user postgres, read-only" "${as_user[@]}" "${start[@]}"
start_and_search "as root" "${start[@]}"
step "all steps and the searches passed. No image was built: that needs a container engine."
