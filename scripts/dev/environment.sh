#!/usr/bin/env bash
# Creates a Python environment with the packages of the requirements files. Needs no network if they are installed already.
#
#   environment.sh DIRECTORY REQUIREMENTS…
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: environment.sh DIRECTORY REQUIREMENTS…" >&2; exit 2; }
folder=$1
shift
stamp=$folder/$(cat "$@" | sha256sum | cut -c 1-16)
[ ! -e "$stamp" ] || exit 0
echo "environment.sh: installing $* into $folder" >&2
[ -e "$folder/bin/python" ] || python3 -m venv "$folder" ||
    { echo "environment.sh: python3 with its module venv is missing. On Debian, run: make setup" >&2; exit 1; }
# shellcheck disable=SC2046 # each file is an argument
"$folder/bin/python" -m pip install --quiet $(printf -- '--requirement %s ' "$@")
touch "$stamp"
