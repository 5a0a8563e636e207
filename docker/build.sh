#!/usr/bin/env bash
# Builds pg_clip, and puts the files into /out that the image gets on top of the server. MODEL names a model to include, if any.
set -euo pipefail

fail() {
    printf 'build: %s\n' "$@" >&2
    exit 1
}

PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config
[ "$(dpkg-query -W -f '${Version}' "postgresql-$PG_MAJOR")" = "$(cat /usr/local/src/pg_clip/server_version)" ] ||
    fail "a newer minor release of the server came out since its layer was made." "Build again, with --no-cache."

make PG_CONFIG="$PG_CONFIG"
strip --strip-unneeded target/release/libpg_clip.so target/release/pgclip
make install PG_CONFIG="$PG_CONFIG"
make install PG_CONFIG="$PG_CONFIG" DESTDIR=/out
models=$("$PG_CONFIG" --sharedir)/pg_clip/models
if [ -n "${MODEL:-}" ]; then
    "$("$PG_CONFIG" --bindir)/pgclip" pull "$MODEL" || fail "the model $MODEL cannot be pulled: what pgclip said is above."
fi

# The image's own models are apart from the volume, whose content outlives the image: the entry point copies them there.
rm -rf "/out$models"
install -d /out/usr/local/share/pg_clip /out/usr/local/bin /out/var/lib/pg_clip
cp -r "$models" /out/usr/local/share/pg_clip/models
ln -s /var/lib/pg_clip/models "/out$models"
# As for the data directory: any user that --user names can start the server.
install -d -m 1777 /out/var/lib/pg_clip/models
install -m 755 docker/entrypoint.sh /out/usr/local/bin/pg_clip-entrypoint.sh
