#!/usr/bin/env bash
# Compares embeddings of image files with embeddings of the same images as Pillow reads them. Prints the cosine of each.
#
#   reported.sh [DIRECTORY…]   all files in these directories; by default the difficult files of the reference data
#
# Pillow 13 reads a file, applies its EXIF orientation, drops its alpha channel, and saves it as PNG. pg_clip embeds both, on a
# temporary server with the installed extension (PG_CONFIG selects the server). Prints a line per file: the cosine, or the
# SQLSTATE with DETAIL, and Pillow's description of the file. Fails if a cosine is below 0.999. Also fails if pg_clip rejects a
# file of a supported format that Pillow reads, except for the reasons that docs/design/exactness.md lists. Fetches Pillow into
# target/python-quick.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ $# -gt 0 ] || set -- ../shared/data/reported ../shared/data/images/odd
for folder; do
    [ -d "$folder" ] || { echo "reported.sh: there is no directory $folder." "Name one with images: scripts/test/reported.sh DIRECTORY" >&2; exit 1; }
done

pgclip=$("${PG_CONFIG:-pg_config}" --bindir)/pgclip
[ -x "$pgclip" ] || { echo "reported.sh: pg_clip is not installed in this server. Run: make all install" >&2; exit 1; }

scripts/dev/environment.sh target/python-quick benches/requirements-quick.txt

cluster=$(mktemp -d "${TMPDIR:-/tmp}/pg_clip-reported.XXXXXX")
trap 'scripts/cluster.sh stop "$cluster"; rm -rf "$cluster"' EXIT
scripts/cluster.sh start "$cluster" "clip.model_path = '$cluster/models'"
# Random weights make small differences of pixels visible.
"$pgclip" --model-path "$cluster/models" add wide tests/fixtures/models/wide --license MIT >/dev/null
scripts/cluster.sh psql "$cluster" -X --quiet --set ON_ERROR_STOP=1 --command 'CREATE EXTENSION pg_clip CASCADE' 2>/dev/null

mapfile -t variables < <(scripts/cluster.sh env "$cluster")
env "${variables[@]}" target/python-quick/bin/python scripts/test/reported.py "$@"
