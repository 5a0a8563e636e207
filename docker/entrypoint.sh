#!/usr/bin/env bash
# Prepares the models for all sessions, then starts PostgreSQL as the official image does.
#
# The entry point copies the image's models into the volume /var/lib/pg_clip/models if they are missing there. `pgclip prepare`
# saves the weights that sessions share in the volume. Root runs neither step, and the server starts even if a step fails.
set -euo pipefail
# Only tests set other directories.
models=${PG_CLIP_VOLUME:-/var/lib/pg_clip/models}
own=${PG_CLIP_OWN_MODELS:-/usr/local/share/pg_clip/models}

say() { printf 'pg_clip: %s\n' "$@" >&2; }

copy_models() {
    local model name copy
    for model in "$own"/*; do
        name=${model##*/} copy=$models/.${model##*/}.$$
        [ ! -e "$models/$name" ] || continue
        # The rename is atomic, because another container may use the same volume.
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
        say "$models is not writable: its models are used unchanged."
        return
    fi
    copy_models
    if output=$(pgclip prepare 2>&1); then
        say "${output:-there are no models}"
    else
        say "models could not be prepared, so each session loads its own copy:" "$output"
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
        # Model files are code to the server, so only postgres may write to them.
        { chown postgres: "$models" && chmod 755 "$models"; } 2>/dev/null || say "the owner of $models could not be changed."
        gosu postgres "$0" --only-models
    fi
    ;;
esac
exec docker-entrypoint.sh "$@"
