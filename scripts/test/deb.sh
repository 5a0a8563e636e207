#!/usr/bin/env bash
# Tests the Debian package: installs it in a clean Debian, searches emoji with it, and purges it. Needs root and debootstrap.
#
# `make test-deb` builds the package first. pgvector is a copy of this machine's: Debian 12 has no package of it.
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { echo "test_deb: $*"; }

fail() {
    printf 'test_deb: %s\n' "$@" >&2
    exit 1
}

PG_CONFIG=${PG_CONFIG:-pg_config}
major=$("$PG_CONFIG" --version | grep -oE '[0-9]+' | head -n 1)
package=postgresql-$major-pg-clip
debs=(target/deb/"$package"_*.deb)
[ -e "${debs[0]}" ] || fail "there is no package in target/deb." "Run: make test-deb"
[ ${#debs[@]} = 1 ] || fail "there are several packages in target/deb." "Remove all but one."
[ -e "$("$PG_CONFIG" --sharedir)/extension/vector.control" ] || fail "pgvector is not installed here." "Run: make setup"

root=$PWD/target/debootstrap/test-deb
trap 'scripts/test/clean_debian.sh remove "$root"' EXIT
inside() { scripts/test/clean_debian.sh run "$root" "$@"; }
as_postgres() { inside setpriv --reuid postgres --regid postgres --init-groups env HOME=/tmp "$@"; }
# Lists everything except directories. Records of dpkg and apt, logs and caches do not count.
all_files() { (cd "$root" && find . -xdev \( -path ./var/lib/dpkg -o -path ./var/cache -o -path ./var/log -o -path ./tmp \) -prune -o ! -type d -print | sort); }

step "a clean Debian"
scripts/test/clean_debian.sh make "$root"
inside sh -c "apt-get -q update && apt-get -qy install --no-install-recommends postgresql-$major" >"$root.log" 2>&1 ||
    fail "postgresql-$major cannot be installed: see $root.log"
all_files >"$root.before"

step "installing ${debs[0]}, without pgvector"
cp "${debs[0]}" "$root/tmp/pg_clip.deb"
inside apt-get -qy install /tmp/pg_clip.deb >"$root.log" 2>&1 || fail "the package cannot be installed: see $root.log"
grep -q "install postgresql-$major-pgvector" "$root.log" || fail "the package does not report that pgvector is missing."
inside pgclip --help >/dev/null || fail "/usr/bin/pgclip does not run."
inside dpkg --verify "$package"

inside pgclip verify >"$root.log" || fail "pgclip verify reports errors on a new installation: see $root.log"

step "searching emoji"
cp "$("$PG_CONFIG" --pkglibdir)/vector.so" "$root$("$PG_CONFIG" --pkglibdir)"
cp "$("$PG_CONFIG" --sharedir)"/extension/vector{.control,--*.sql} "$root$("$PG_CONFIG" --sharedir)/extension"
cat >"$root/tmp/search.sql" <<'END'
SELECT setting || '/pg_clip/examples/emoji.sql' AS script FROM pg_config WHERE name = 'SHAREDIR' \gset
\i :script
SELECT name FROM emoji ORDER BY embedding <=> (SELECT clip_embed_text('musical instrument')) LIMIT 1;
SELECT name FROM emoji ORDER BY embedding <=> (SELECT embedding FROM emoji WHERE name = 'guitar') LIMIT 2;
END
as_postgres pg_virtualenv -v "$major" psql -d postgres -X --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 \
    --file /tmp/search.sql --output /tmp/found >"$root.log" 2>&1 </dev/null || fail "the search failed: see $root.log"
expected='musical keyboard
guitar
trumpet'
[ "$(cat "$root/tmp/found")" = "$expected" ] || fail "the search returned other rows:" "$(cat "$root/tmp/found")"

step "purging the package with the prepared files of its model"
inside pgclip show emoji | grep -Eq '^prepared +yes' || fail "the package's model is not prepared."
inside rm "$("$PG_CONFIG" --pkglibdir)/vector.so"
(cd "$root$("$PG_CONFIG" --sharedir)/extension" && rm vector.control vector--*.sql)
inside apt-get -qy purge "$package" >"$root.log" 2>&1 || fail "the package cannot be purged: see $root.log"
left=$(all_files | comm -13 "$root.before" -)
[ -z "$left" ] || fail "these files are left:" "$left"
[ ! -e "$root$("$PG_CONFIG" --sharedir)/pg_clip" ] || fail "the directory pg_clip is left."
rm -f "$root".{log,before}
step "passed"
