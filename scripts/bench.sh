#!/usr/bin/env bash
# Measures pg_clip on a temporary server: see `make bench`.
#
#   bench.sh [PART…]    parts: latency bulk breakdown search concurrency auto_embed zero_shot relevance duplicates service render;
#                       all of them by default. Writes results to target/bench/*.json. The part `render` writes tables and
#                       plots from them into docs/. PG_CLIP_BENCH_ROUNDS=1 shortens the part `service`
#   bench.sh quick      measures the embedded model in a minute, and prints some lines
#   bench.sh tight      measures the recall in tables with tight groups, in ten minutes, and prints a table
#   bench.sh scale      measures indexes that need less memory, and writes docs/operations/scale.md. PG_CLIP_BENCH_ROWS=10000
#                       selects the numbers of rows, PG_CLIP_BENCH_MEMORY=6GB the memory to build an index
#   bench.sh providers  compares OpenVINO in bf16 with ONNX Runtime's own kernels, on one core, and prints a table
#
# Installs its requirements into target/python (torch and transformers, some gigabytes) or, for quick, target/python-quick.
# The server and its models are in TMPDIR, by default /tmp: up to 15 GB, which must be on a disk, not in memory.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }

scratch=$(mktemp -d "${TMPDIR:-/tmp}/pg_clip-bench.XXXXXX")
chmod 755 "$scratch"
trap 'scripts/cluster.sh stop "$scratch/cluster"; rm -rf "$scratch"' EXIT

# start SETTING…: starts a server, and exports the variables that clients need.
start() {
    scripts/cluster.sh start "$scratch/cluster" "$@"
    # shellcheck disable=SC2046 # NAME=VALUE, without spaces
    export $(scripts/cluster.sh env "$scratch/cluster")
    PATH=$("${PG_CONFIG:-pg_config}" --bindir):$PATH
    psql -Xqc 'CREATE EXTENSION pg_clip CASCADE' 2>/dev/null
}

# The measured programs are built already. This records their commit, because a commit during the run is not measured.
PG_CLIP_BENCH_COMMIT=$(git rev-parse --short HEAD)
export PG_CLIP_BENCH_COMMIT

if [ "${1:-}" = providers ]; then
    scripts/setup.sh --openvino
    scripts/test/full_size.sh make vit-b-32
    cargo build --quiet --release --target-dir target --package clip --example providers
    models=$scratch/models openvino=target/openvino/libonnxruntime.so
    pgclip() { target/release/pgclip --model-path "$models" --onnxruntime "$openvino" "$@"; }
    pgclip add vit-b-32 target/full-size/vit-b-32 >/dev/null
    pgclip quantize vit-b-32 --weights bf16 --provider openvino
    # Sessions map prepared files, which are not private memory. Here each process loads its own copy.
    rm -rf "$models"/*/prepared
    taskset -c 0 target/release/examples/providers "$openvino" "$models" vit-b-32:cpu vit-b-32:openvino vit-b-32-bf16:openvino
    exit
fi

case ${1:-} in quick | tight | scale)
    scripts/dev/environment.sh target/python-quick benches/requirements-quick.txt
    start "maintenance_work_mem = '2GB'" "shared_buffers = '1GB'" "wal_level = minimal" "max_wal_senders = 0" "max_wal_size = '32GB'"
    target/python-quick/bin/python "benches/$1.py"
    exit
    ;;
esac

scripts/dev/environment.sh target/python tests/fixtures/requirements.txt benches/requirements.txt
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(latency bulk breakdown search concurrency auto_embed zero_shot relevance duplicates service render)

if [ "${parts[*]}" != render ]; then
    step "Creating the missing models"
    scripts/test/full_size.sh make vit-b-32
    cargo build --quiet --release --target-dir target --package clip --example pixels
    export PG_CLIP_BENCH_MODELS=$scratch/models
    # A library with more providers is in the directory of their name, next to the library of the sessions.
    runtime=$scratch/lib/libonnxruntime.so
    install -D target/onnxruntime/libonnxruntime.so "$runtime"
    pgclip() { target/release/pgclip --model-path "$scratch/models" --onnxruntime "$runtime" "$@"; }
    mkdir -p target/bench
    {
        pgclip add emoji models/emoji
        pgclip add vit-b-32 target/full-size/vit-b-32 --logit-scale 100
    } >/dev/null
    case " ${parts[*]} " in *" latency "*)
        scripts/test/full_size.sh make vit-l-14
        {
            pgclip add vit-b-32-private target/full-size/vit-b-32
            rm -rf "$scratch/models/vit-b-32-private/prepared"
            pgclip add vit-l-14 target/full-size/vit-l-14
        } >/dev/null
        ;;
    esac
    case " ${parts[*]} " in *" bulk "* | *" service "*)
        photos=../shared/data/images/photos
        samples=()
        [ ! -d "$photos" ] || samples=(--images "$photos")
        pgclip --json quantize vit-b-32 "${samples[@]}" >target/bench/quantize.json
        ;;
    esac
    case " ${parts[*]} " in *" service "*)
        scripts/setup.sh --openvino
        cp -r target/openvino "$scratch/lib"
        pgclip quantize vit-b-32 --weights bf16 --provider openvino
        ;;
    esac
    # Loading a million rows must measure the index, not the WAL.
    start "clip.model_path = '$scratch/models'" "clip.onnxruntime_path = '$runtime'" "shared_buffers = '1GB'" "max_connections = 100" "wal_level = minimal" \
        "max_wal_senders = 0" "max_wal_size = '32GB'" "synchronous_commit = off" "client_min_messages = error"
fi
for part in "${parts[@]}"; do
    step "$part"
    # Only a server that has preloaded the library can supervise a service.
    if [ "$part" = service ]; then
        # The restart is a crash, and commits are not synchronous.
        psql -Xqc "ALTER SYSTEM SET shared_preload_libraries = 'pg_clip'" -c CHECKPOINT
        scripts/cluster.sh restart "$scratch/cluster"
    fi
    target/python/bin/python "benches/$part.py"
done
