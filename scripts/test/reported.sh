#!/usr/bin/env bash
# Compares images as pg_clip embeds them with the same images as Pillow reads them: prints the cosine of each.
#
#   reported.sh [FOLDER…]   all files in these directories; without one, those of the reference data that are known for trouble
#
# Pillow 13 reads a file, turns it upright and saves it as PNG with its alpha dropped; pg_clip embeds both, on a throw-away
# server with the extension as it is installed (PG_CONFIG says of which server). A line per file: the cosine, or the SQLSTATE
# with DETAIL, and what Pillow makes of the file. Fails where a cosine is below 0.999, and where a file that Pillow reads is
# rejected although its format is supported, but for the reasons that docs/design/exactness.md lists. Fetches Pillow into
# target/python-quick.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ $# -gt 0 ] || set -- ../shared/data/reported ../shared/data/images/odd
for folder; do
    [ -d "$folder" ] || { echo "reported.sh: there is no folder $folder." "Name one with images: scripts/test/reported.sh FOLDER" >&2; exit 1; }
done

pgclip=$("${PG_CONFIG:-pg_config}" --bindir)/pgclip
[ -x "$pgclip" ] || { echo "reported.sh: pg_clip is not installed in this server. Run: make all install" >&2; exit 1; }

scripts/dev/environment.sh target/python-quick benches/requirements-quick.txt

cluster=$(mktemp -d "${TMPDIR:-/tmp}/pg_clip-reported.XXXXXX")
trap 'scripts/cluster.sh stop "$cluster"; rm -rf "$cluster"' EXIT
scripts/cluster.sh start "$cluster" "clip.model_path = '$cluster/models'"
# Random weights: small differences of pixels show.
"$pgclip" --model-path "$cluster/models" add wide tests/fixtures/models/wide --license MIT >/dev/null
scripts/cluster.sh psql "$cluster" -X --quiet --set ON_ERROR_STOP=1 --command 'CREATE EXTENSION pg_clip CASCADE' 2>/dev/null

mapfile -t variables < <(scripts/cluster.sh env "$cluster")
env "${variables[@]}" target/python-quick/bin/python scripts/test/reported.py "$@"
