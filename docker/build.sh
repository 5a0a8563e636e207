#!/usr/bin/env bash
# Builds pg_clip, and puts the files that the image adds to the server into /out. MODEL names a model to add, if any.
set -euo pipefail

fail() {
    printf 'build: %s\n' "$@" >&2
    exit 1
}

PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config
[ "$(dpkg-query -W -f '${Version}' "postgresql-$PG_MAJOR")" = "$(cat /usr/local/src/pg_clip/server_version)" ] ||
    fail "a newer minor release of the server appeared after its layer was built." "Build again, with --no-cache."

make PG_CONFIG="$PG_CONFIG"
strip --strip-unneeded target/release/libpg_clip.so target/release/pgclip
make install PG_CONFIG="$PG_CONFIG"
make install PG_CONFIG="$PG_CONFIG" DESTDIR=/out
models=$("$PG_CONFIG" --sharedir)/pg_clip/models
if [ -n "${MODEL:-}" ]; then
    "$("$PG_CONFIG" --bindir)/pgclip" pull "$MODEL" || fail "the model $MODEL could not be pulled. The output of pgclip is above."
fi

# The image's own models are outside the volume, because the volume outlives the image. The entry point copies them into the
# volume.
rm -rf "/out$models"
install -d /out/usr/local/share/pg_clip /out/usr/local/bin /out/var/lib/pg_clip
cp -r "$models" /out/usr/local/share/pg_clip/models
ln -s /var/lib/pg_clip/models "/out$models"
# As for the data directory: any user that --user names can start here.
install -d -m 1777 /out/var/lib/pg_clip/models
install -m 755 docker/entrypoint.sh /out/usr/local/bin/pg_clip-entrypoint.sh
