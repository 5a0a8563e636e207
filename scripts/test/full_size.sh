#!/usr/bin/env bash
# Creates and tests models of full size with random weights. Cost and numerics are realistic, and no published weights are needed.
#
#   full_size.sh make SHAPE     create target/full-size/SHAPE (vit-b-32: 600 MB, vit-l-14: 1.7 GB), if it is missing
#   full_size.sh test           run the exactness tests at the size of ViT-B/32, compared with transformers
#
# Needs OpenAI's tokenizer.json and tokenizer_config.json, which are not part of the project: PG_CLIP_TOKENIZER names
# their directory. Fetches torch and transformers into target/python (some gigabytes).
set -euo pipefail
cd "$(dirname "$0")/../.."

tokenizer=${PG_CLIP_TOKENIZER:-../shared/data/tokenizer/clip-vit-base-patch32}

make_model() {
    local model=target/full-size/$1
    [ ! -e "$model/onnx/vision_model.onnx" ] || return 0
    [ -e "$tokenizer/tokenizer.json" ] || {
        echo "full_size.sh: set PG_CLIP_TOKENIZER to a directory with CLIP's tokenizer.json and tokenizer_config.json." >&2
        exit 1
    }
    scripts/dev/environment.sh target/python tests/fixtures/requirements.txt
    # Only the tests need the results of transformers, and only at one size.
    local golden=()
    [ "$1" = vit-b-32 ] || golden=(--no-golden)
    target/python/bin/python tests/fixtures/make_full_size.py "$model" --tokenizer "$tokenizer" --shape "$1" "${golden[@]}"
}

case "${1:-} ${2:-}" in
"make vit-b-32" | "make vit-l-14") make_model "$2" ;;
"test ")
    make_model vit-b-32
    PG_CLIP_FULL_SIZE=$PWD/target/full-size/vit-b-32 \
        cargo test --release --target-dir target -p clip --test golden -- --nocapture full_size
    ;;
*)
    echo "usage: full_size.sh make vit-b-32|vit-l-14, or full_size.sh test" >&2
    exit 2
    ;;
esac
