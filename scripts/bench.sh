#!/usr/bin/env bash
# Measures, on a throw-away server: `make bench` says how.
#
#   bench.sh [PART…]    parts: latency bulk breakdown search concurrency auto_embed zero_shot relevance duplicates render; without any, all. Results go to
#                       target/bench/*.json, from there `render` writes tables and plots into docs/
#   bench.sh quick      a minute, on the embedded model; prints some lines
#
# Installs what it needs into target/python (torch and transformers, some gigabytes) or, for quick, target/python-quick.
# The server and its models are in TMPDIR, else /tmp: up to 15 GB, which must be a disk's, not memory's.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }

scratch=$(mktemp -d "${TMPDIR:-/tmp}/pg_clip-bench.XXXXXX")
chmod 755 "$scratch"
trap 'scripts/cluster.sh stop "$scratch/cluster"; rm -rf "$scratch"' EXIT

# start SETTING…: a server, and the variables that clients need.
start() {
    scripts/cluster.sh start "$scratch/cluster" "$@"
    # shellcheck disable=SC2046 # NAME=VALUE, without spaces
    export $(scripts/cluster.sh env "$scratch/cluster")
    PATH=$("${PG_CONFIG:-pg_config}" --bindir):$PATH
    psql -Xqc 'CREATE EXTENSION pg_clip CASCADE' 2>/dev/null
}

if [ "${1:-}" = quick ]; then
    scripts/dev/environment.sh target/python-quick benches/requirements-quick.txt
    start
    target/python-quick/bin/python benches/quick.py
    exit
fi

scripts/dev/environment.sh target/python tests/fixtures/requirements.txt benches/requirements.txt
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(latency bulk breakdown search concurrency auto_embed zero_shot relevance duplicates render)

if [ "${parts[*]}" != render ]; then
    step "Making the models, if they are not there"
    scripts/test/full_size.sh make vit-b-32
    scripts/test/full_size.sh make vit-l-14
    cargo build --quiet --release --target-dir target --package clip --example pixels
    export PG_CLIP_BENCH_MODELS=$scratch/models
    pgclip() { target/release/pgclip --model-path "$scratch/models" --onnxruntime target/onnxruntime/libonnxruntime.so "$@"; }
    mkdir -p target/bench
    # The build under test is older than a commit that is made meanwhile.
    PG_CLIP_BENCH_COMMIT=$(git rev-parse --short HEAD)
    export PG_CLIP_BENCH_COMMIT
    {
        pgclip add emoji models/emoji
        pgclip add vit-b-32 target/full-size/vit-b-32 --logit-scale 100
    } >/dev/null
    case " ${parts[*]} " in *" latency "*)
        {
            pgclip add vit-b-32-private target/full-size/vit-b-32
            rm -rf "$scratch/models/vit-b-32-private/prepared"
            pgclip add vit-l-14 target/full-size/vit-l-14
        } >/dev/null
        ;;
    esac
    case " ${parts[*]} " in *" bulk "*)
        photos=../shared/data/images/photos
        samples=()
        [ ! -d "$photos" ] || samples=(--images "$photos")
        pgclip --json quantize vit-b-32 "${samples[@]}" >target/bench/quantize.json
        ;;
    esac
    # Loading a million rows shall measure the index, not the log.
    start "clip.model_path = '$scratch/models'" "shared_buffers = '1GB'" "max_connections = 100" "wal_level = minimal" \
        "max_wal_senders = 0" "max_wal_size = '32GB'" "synchronous_commit = off" "client_min_messages = error"
fi
for part in "${parts[@]}"; do
    step "$part"
    target/python/bin/python "benches/$part.py"
done
