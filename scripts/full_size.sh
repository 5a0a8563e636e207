#!/usr/bin/env bash
# The exactness tests at full size: random weights in the shape of ViT-B/32, and what transformers makes of them.
# Needs OpenAI's tokenizer.json and tokenizer_config.json, which are not part of the project: PG_CLIP_TOKENIZER names
# their folder. Fetches torch and transformers into target/python (some gigabytes), writes 600 MB into target/full-size.
set -euo pipefail
cd "$(dirname "$0")/.."

tokenizer=${PG_CLIP_TOKENIZER:-../shared/data/tokenizer/clip-vit-base-patch32}
[ -e "$tokenizer/tokenizer.json" ] || {
    echo "full_size.sh: set PG_CLIP_TOKENIZER to a folder with CLIP's tokenizer.json and tokenizer_config.json." >&2
    exit 1
}
model=$PWD/target/full-size/vit-b-32
if [ ! -e "$model/golden.json" ]; then
    [ -e target/python/bin/python ] || python3 -m venv target/python
    target/python/bin/pip install --quiet --requirement tests/fixtures/requirements.txt
    target/python/bin/python tests/fixtures/make_full_size.py "$model" --tokenizer "$tokenizer"
fi
PG_CLIP_FULL_SIZE=$model cargo test --release --target-dir target -p clip --test golden -- --nocapture full_size
