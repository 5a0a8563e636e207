#!/usr/bin/env bash
# Searches inputs that break the core, with libFuzzer and AddressSanitizer.
#
#   fuzz.sh [SECONDS [TARGET…]]    fuzzes each target for that time (default: 7200, all targets), one after the other
#   fuzz.sh minimise [TARGET…]     packs the smallest set of the found inputs with the same coverage into fuzz/corpus
#
# Starts from fuzz/corpus, from earlier findings in target/fuzz, from the fixtures, and from the reference data if they are
# available. Keeps inputs that break a target in target/fuzz/TARGET.crashes, and then fails. Prints a line for each target,
# with the sum of all runs on this machine, which target/fuzz/runs records.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo_fuzz=0.13.2
data=../shared/data
seconds=${1:-7200}
shift $(($# > 0))
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs fuzz/targets/*.rs)

# The sanitizer needs unstable options of the compiler.
export RUSTC_BOOTSTRAP=1
export PATH=$PWD/target/fuzz/bin:$PATH
cargo-fuzz --version >/dev/null 2>&1 || cargo install -q --locked --root target/fuzz "cargo-fuzz@$cargo_fuzz"

programs=target/fuzz/build/$(rustc -vV | sed -n 's/^host: //p')/release
scratch=$(mktemp -d --tmpdir=/dev/shm 2>/dev/null || mktemp -d) seeds=$scratch/seeds
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch
mkdir "$seeds"

# begin_with TARGET: copies useful first inputs into the directory "seeds".
begin_with() {
    local folder file
    find "$seeds" -mindepth 1 -delete
    [ ! -e "fuzz/corpus/$1.tar.xz" ] || tar -C "$seeds" -xJf "fuzz/corpus/$1.tar.xz"
    case $1 in
    image | header) find tests/fixtures/images tests/fixtures/tiff tests/fixtures/variants $data/images/odd $data/images/exif -type f -size -64k -exec cp -t "$seeds" {} + 2>/dev/null || true ;;
    manifest) cp models/emoji/pg_clip.json "$seeds" ;;
    config)
        for folder in tests/fixtures/models/* tests/fixtures/families/* tests/fixtures/models/broken/* models/emoji "$data"/tokenizer/*; do
            # In the order of crates/clip/src/fuzz.rs.
            for file in config preprocessor_config tokenizer_config open_clip_config modules 1_Pooling/config processor_config preprocess_cfg; do
                cat "$folder/$file.json" 2>/dev/null || true
                printf '\377'
            done >"$seeds/$(basename "$folder")"
        done
        ;;
    text)
        cut -f 1 examples/emoji.tsv | (cd "$seeds" && split -l 20)
        sed -n 's/^"text": "\(.*\)",$/\1/p' "$data/reference/token_ids.json" 2>/dev/null | (cd "$seeds" && split -l 1 - reference-) || true
        ;;
    tokenizer) find tests/fixtures -name tokenizer.json -size -256k | while read -r file; do cp "$file" "$seeds/$(sha256sum <"$file" | cut -c 1-16)"; done ;;
    graph) find tests/fixtures models -name '*.onnx' -size -512k | while read -r file; do cp "$file" "$seeds/$(sha256sum <"$file" | cut -c 1-16)"; done ;;
    esac
}

options_of() {
    case $1 in
    image | header) echo -max_len=262144 ;;
    manifest | config) echo -max_len=65536 -dict=fuzz/json.dict ;;
    tokenizer) echo -max_len=262144 -dict=fuzz/json.dict ;;
    text) echo -max_len=16384 -only_ascii=0 ;;
    graph) echo -max_len=524288 ;;
    esac
}

# Packs without any data of this machine: the same inputs result in the same bytes.
minimise() {
    local target=$1 fewest=$scratch/fewest pack
    rm -rf "$fewest"
    mkdir "$fewest"
    "$programs/$target" -set_cover_merge=1 "$fewest" "$found" "$seeds" "${options[@]}" >"$log" 2>&1 || { tail -n 30 "$log" >&2; exit 1; }
    tar -C "$fewest" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cJf "$scratch/$target.tar.xz" .
    mv "$scratch/$target.tar.xz" "fuzz/corpus/"
    pack=$(stat -c %s "fuzz/corpus/$target.tar.xz")
    echo "fuzz: $target: $(find "$fewest" -type f | wc -l) of $(find "$found" "$seeds" -type f | wc -l) inputs, $pack bytes"
}

cargo fuzz build --target-dir target/fuzz/build >target/fuzz/build.log 2>&1 || { tail -n 30 target/fuzz/build.log >&2; exit 1; }
failed=0
for target in "${targets[@]}"; do
    found=target/fuzz/$target crashes=target/fuzz/$target.crashes log=target/fuzz/$target.log
    mkdir -p "$found" "$crashes"
    begin_with "$target"
    read -ra options < <(options_of "$target")
    # A minute, for a busy machine, and 2 GB, including the sanitizer's own memory.
    options+=(-timeout=60 -rss_limit_mb=2048 -artifact_prefix="$crashes/" -print_final_stats=1)
    if [ "$seconds" = minimise ]; then
        minimise "$target"
        continue
    fi
    status=passed TIMEFORMAT='%U %S'
    { time "$programs/$target" "$found" "$seeds" "${options[@]}" -max_total_time="$seconds" >"$log" 2>&1 || status=FAILED; } 2>"$log.time"
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$target $(awk '{print $1 + $2}' "$log.time") ${runs:-0}" >>target/fuzz/runs
    awk -v target="$target" -v status=$status '$1 == target {seconds += $2; inputs += $3}
        END {printf "fuzz: %s: %s; in all %d CPU minutes, %d inputs\n", target, status, seconds / 60, inputs}' target/fuzz/runs
    if [ $status = FAILED ]; then
        failed=1
        grep -m 1 -E 'ERROR|panicked|SUMMARY' "$log" || true
        find "$crashes" -type f
    fi
done
exit $failed
