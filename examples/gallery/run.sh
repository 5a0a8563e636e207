#!/usr/bin/env bash
# Starts the gallery on a temporary database server, until Ctrl-C stops both. `make gallery` builds and installs pg_clip first.
#
#   GALLERY_PHOTOS=DIR  loads the images of a directory instead of the sample images
#   GALLERY_MODEL=NAME  embeds them with this model; the sample model emoji does not know photographs
#   PORT=8080           the port of the web server
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
    printf 'gallery: %s\n' "$@" >&2
    exit 1
}

for program in node npm; do
    command -v "$program" >/dev/null || fail "the program $program is missing." "Install Node.js 20 or newer, with npm."
done
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || fail "this Node.js is too old." "Install Node.js 20 or newer."
photos=$(realpath "${GALLERY_PHOTOS:-examples/emoji.tsv}")
[ -r "$photos" ] || fail "$photos cannot be read."

(cd examples/gallery && npm ci --omit=dev --no-audit --no-fund --loglevel=error >/dev/null) || fail "npm could not install the packages."

server=
cluster=$(mktemp -d "${TMPDIR:-/tmp}/pg_clip-gallery.XXXXXX")
stop() {
    trap '' INT TERM
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    scripts/cluster.sh stop "$cluster"
    rm -rf "$cluster"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

scripts/cluster.sh start "$cluster" "shared_preload_libraries = 'pg_clip'" || fail "the database server did not start. Its output is above."
run_sql() { scripts/cluster.sh psql "$cluster" --no-psqlrc --quiet --set ON_ERROR_STOP=1 "$@" >/dev/null; }
run_sql --command 'CREATE DATABASE gallery'
run_sql --dbname gallery --file examples/gallery/schema.sql
[ -z "${GALLERY_MODEL:-}" ] || run_sql --dbname gallery --set model="$GALLERY_MODEL" <<<"CALL clip_reembed('photo', 'embedding', :'model');" ||
    fail "the model $GALLERY_MODEL cannot be used." "List the models: pgclip list"

socket=$(scripts/cluster.sh env "$cluster" | sed -n 's/^PGHOST=//p')
DATABASE_URL="postgres://gallery_app@/gallery?host=$socket&port=5432"
export DATABASE_URL
echo "Loading ${GALLERY_PHOTOS:-the sample images} …"
node examples/gallery/server/load.js "$photos"
node examples/gallery/server/main.js &
server=$!
echo "Ctrl-C stops the gallery and removes its database."
wait "$server"
