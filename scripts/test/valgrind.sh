#!/usr/bin/env bash
# Runs the core's unit tests, and a server that embeds, under valgrind's memcheck. Fails if memcheck reports an error. PG_CONFIG
# selects the server. pg_clip must be installed in it.
set -euo pipefail
cd "$(dirname "$0")/../.."

scratch=$(mktemp -d)
cluster=$scratch/cluster
clean_up() {
    scripts/cluster.sh stop "$cluster"
    rm -rf "$scratch"
}
trap clean_up EXIT
chmod 755 "$scratch"
bin=$("${PG_CONFIG:-pg_config}" --bindir)

as_server() {
    if [ "$(id -u)" = 0 ]; then (cd / && setpriv --reuid postgres --regid postgres --init-groups "$@"); else "$@"; fi
}

cat >"$scratch/suppressions" <<'END'
{
   ONNX Runtime copies four bytes onto themselves when it looks at the processor
   Memcheck:Overlap
   fun:__memcpy_chk
   obj:*/libonnxruntime.so
}
{
   The C library compares names by words of eight bytes when it loads a library
   Memcheck:Addr8
   fun:strncmp
   fun:is_dst
}
{
   PostgreSQL writes the padding of its WAL records, as its own list of suppressions has it
   Memcheck:Param
   pwrite64(buf)
   ...
   fun:XLogFlush
}
END
chmod 644 "$scratch/suppressions"
memcheck=(valgrind --quiet --error-exitcode=9 "--suppressions=$scratch/suppressions")

# One test compares hundreds of thousands of texts, which takes hours under valgrind.
tests=$(cargo test --release --target-dir target -p clip --lib --no-run 2>&1 | sed -n 's/.*(\(target[^)]*\)).*/\1/p')
"${memcheck[@]}" --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite "$tests" --test-threads 1 --skip reading_straight |
    sed -n 's/^test result: /valgrind: the core: /p'

scripts/cluster.sh start "$cluster"
{
    echo 'CREATE EXTENSION pg_clip CASCADE; CREATE TABLE item (id serial PRIMARY KEY, body text, picture bytea);'
    for file in tests/fixtures/images/*; do
        echo "INSERT INTO item (body, picture) VALUES ('$(basename "$file")', decode('$(base64 -w 0 "$file")', 'base64'));"
    done
    # The second half of these images is missing.
    echo "INSERT INTO item (body, picture) SELECT body || ' cut', substr(picture, 1, length(picture) / 2) FROM item;"
    echo "SELECT clip_auto_embed('item', 'body', model => 'emoji', on_error => 'null');"
    echo "SELECT clip_auto_embed('item', 'picture', 'pixels', model => 'emoji', on_error => 'null');"
} | scripts/cluster.sh psql "$cluster" --quiet --set ON_ERROR_STOP=1 >/dev/null 2>&1
as_server "$bin/pg_ctl" --pgdata "$cluster/data" --mode fast --wait stop >/dev/null

# The single-user mode is one process. It reads one statement per line.
cat >"$scratch/statements" <<'END'
SELECT vector_dims(clip_embed_text('a cat')), vector_dims(clip_embed_text('a dog', 'emoji'))
SELECT count(*) FROM item, clip_image_info(picture) WHERE body NOT LIKE '%cut'
UPDATE item SET picture = picture || '\x00', body = body || '.'
SELECT clip_embed_image('\xffd8ffe000104a46')
SELECT count(embedding) FROM clip_embed_texts(ARRAY['a', 'b', NULL, 'a longer text'])
SELECT clip_backfill_batch('item', 'pixels')
SELECT count(*) FROM item, clip_classify(pixels, '{a,b,c}', '{"{}","a photo of a {}"}')
SELECT count(clip_probabilities(pixels, ARRAY[embedding, pixels])), count(clip_blend(ARRAY[embedding, pixels], '{1,-0.5}')) FROM item WHERE pixels IS NOT NULL
SELECT count(*) FROM clip_search('item', 'a cat', 5, filter => 'id > 3'), clip_near_duplicates('item', 'pixels'), clip_index_recall('item', 'pixels', 3)
SELECT count(*) FROM clip_failures, clip_auto_embed_status, clip_models, clip_loaded_models, clip_diagnose()
SELECT clip_unload()
SELECT 'embedded', count(embedding) + count(pixels) FROM item
END
as_server "${memcheck[@]}" "$bin/postgres" --single -D "$cluster/data" postgres <"$scratch/statements" >"$scratch/output" 2>"$scratch/errors" || {
    grep -E '^==' "$scratch/errors" | head -n 60 >&2
    exit 1
}
# One statement has to fail: its image is not an image.
[ "$(grep -c 'ERROR:' "$scratch/errors")" = 1 ] || { grep -A 2 'ERROR:' "$scratch/errors" >&2; echo "valgrind.sh: statements failed, so the run proves nothing." >&2; exit 1; }
embedded=$(grep -A 1 'embedded' "$scratch/output" | sed -n 's/.*count.* = "\([0-9]*\)".*\|.*?column?.* = "\([0-9]*\)".*/\1\2/p' | tail -n 1)
[ "${embedded:-0}" -gt 50 ] || { tail -n 20 "$scratch/output" >&2; echo "valgrind.sh: the server embedded nothing, so the run proves nothing." >&2; exit 1; }
echo "valgrind: the server: no error; $embedded embeddings"
