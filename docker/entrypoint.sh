#!/usr/bin/env bash
# Makes the models ready for all connections, then starts PostgreSQL as the official image does.
#
# Models that the image brings are copied into the volume /var/lib/pg_clip/models where they are missing, and
# `pgclip prepare` saves there what connections share. Neither is done by root, and neither keeps the server from starting.
set -euo pipefail
# Elsewhere only in tests.
models=${PG_CLIP_VOLUME:-/var/lib/pg_clip/models}
own=${PG_CLIP_OWN_MODELS:-/usr/local/share/pg_clip/models}

say() { printf 'pg_clip: %s\n' "$@" >&2; }

copy_models() {
    local model name copy
    for model in "$own"/*; do
        name=${model##*/} copy=$models/.${model##*/}.$$
        [ ! -e "$models/$name" ] || continue
        # By rename: another container may use the same volume.
        if cp -r "$model" "$copy" && mv -T "$copy" "$models/$name"; then
            say "copied the model $name into $models"
        else
            rm -rf "$copy"
            say "the model $name could not be copied into $models."
        fi
    done
}

prepare_models() {
    local output
    if [ ! -w "$models" ]; then
        say "$models cannot be written: the models there are used as they are."
        return
    fi
    copy_models
    if output=$(pgclip prepare 2>&1); then
        say "${output:-there are no models}"
    else
        say "models could not be prepared, so each connection loads them for itself:" "$output"
    fi
}

case ${1:-} in
--only-models)
    prepare_models
    exit
    ;;
postgres | -*)
    if [ "$(id -u)" != 0 ]; then
        prepare_models
    else
        # The server runs model files like code, so no other user may write them.
        { chown postgres: "$models" && chmod 755 "$models"; } 2>/dev/null || say "$models keeps its owner: it cannot be changed."
        gosu postgres "$0" --only-models
    fi
    ;;
esac
exec docker-entrypoint.sh "$@"
