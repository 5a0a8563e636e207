#!/usr/bin/env bash
# Builds a Debian package of the built files, for the server of PG_CONFIG: target/deb/postgresql-MAJOR-pg-clip_….deb
#
# `make deb` builds pg_clip first. DEBFULLNAME and DEBEMAIL name the maintainer, DEB_REVISION the package's revision (1). If
# lintian is installed, a lintian error fails the script.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { echo "deb: $*"; }

fail() {
    printf 'deb: %s\n' "$@" >&2
    exit 1
}

PG_CONFIG=${PG_CONFIG:-pg_config}
command -v dpkg-shlibdeps >/dev/null || fail "dpkg-dev is not installed." "Run: apt-get install dpkg-dev"
[[ $("$PG_CONFIG" --bindir) == /usr/lib/postgresql/* ]] ||
    fail "the server of $PG_CONFIG is not one of Debian's packages." "Name one: make deb PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config"
[ -e target/onnxruntime/ThirdPartyNotices.txt ] || fail "ONNX Runtime is missing. The package contains it." "Run: make setup"

server=$("$PG_CONFIG" --version | grep -oE '[0-9]+(\.[0-9]+)?' | head -n 1)
major=${server%%.*}
package=postgresql-$major-pg-clip
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)-${DEB_REVISION:-1}
architecture=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-the pg_clip contributors} <${DEBEMAIL:-maintainers@pg-clip.invalid}>"
least_pgvector=$(sed -n 's/^least_pgvector=//p' scripts/setup.sh)
# The same sources result in the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root
doc=$root/usr/share/doc/$package
# dpkg-shlibdeps needs the last directory.
mkdir -p "$root/DEBIAN" "$doc" "$scratch/debian"

install_files() {
    make --no-print-directory install DESTDIR="$root" PG_CONFIG="$PG_CONFIG" >"$scratch/install.log" ||
        fail "make install failed. Its output is above."
    local libraries
    libraries=$root$("$PG_CONFIG" --pkglibdir)
    strip --strip-unneeded "$root$("$PG_CONFIG" --bindir)/pgclip" "$libraries/pg_clip.so" "$libraries/pg_clip/libonnxruntime.so"
    # Debian keeps libraries without the executable bit, and all notices in one directory.
    chmod 644 "$libraries/pg_clip.so" "$libraries/pg_clip/libonnxruntime.so"
    mv "$libraries/pg_clip/ThirdPartyNotices.txt" "$doc/onnxruntime-notices.txt"
    rm "$libraries/pg_clip/LICENSE"
}

# Prints the compiled crates, with the notices that their authors require. Debian itself has the text of the Apache License.
crate_notices() {
    local crate crate_version license folder
    {
        cargo tree --offline --edges normal --prefix none --package pg_clip --features "pg$major" --format '{p}|{l}'
        cargo tree --offline --edges normal --prefix none --package pgclip --format '{p}|{l}'
    } | grep -v " ($PWD" | sed 's/ (\*)$//; s/ (proc-macro)//' | sort -u | while IFS='| ' read -r crate crate_version license; do
        printf '\n==== %s %s: %s\n' "$crate" "${crate_version#v}" "$license"
        folder=$(compgen -G "${CARGO_HOME:-$HOME/.cargo}/registry/src/*/$crate-${crate_version#v}" | head -n 1)
        find "$folder" -maxdepth 1 -type f -iregex '.*/\(licen[cs]e\|copying\|copyright\|notice\|unlicense\).*' \
            ! -iname '*apache*' -print0 | sort -z | xargs -0 -r cat
    done
}

# Prints a text as a field of a control file: indented, with a dot for each empty line.
as_field() { sed 's/^$/./; s/^/ /' "$1"; }

write_documents() {
    sed -e "/@LICENSE@/{r "<(sed 1,2d LICENSE | as_field /dev/stdin) -e 'd}' \
        -e "/@ONNXRUNTIME_LICENSE@/{r "<(sed 1,2d target/onnxruntime/LICENSE | as_field /dev/stdin) -e 'd}' \
        packaging/deb/copyright >"$doc/copyright"
    crate_notices >"$doc/rust-crates.txt"
    cp CHANGELOG.md "$doc/changelog"
    {
        printf '%s (%s) unstable; urgency=medium\n\n  * Release %s: see the file changelog.gz.\n\n' \
            pg-clip "$version" "${version%-*}"
        printf ' -- %s  %s\n' "$maintainer" "$(date --utc --date "@$SOURCE_DATE_EPOCH" --rfc-email)"
    } >"$doc/changelog.Debian"
    gzip -9n "$doc"/{changelog,changelog.Debian,rust-crates.txt,onnxruntime-notices.txt}
}

library_dependencies() {
    printf 'Source: pg-clip\n\nPackage: %s\nArchitecture: any\n' "$package" >"$scratch/debian/control"
    # No library has the server's own symbols. This is intended, so the warning about it is off.
    (cd "$scratch" && find root/usr/lib -type f -printf '-e%p\n' | xargs dpkg-shlibdeps -O --warnings=1) | sed 's/^shlibs:Depends=//'
}

# The server must not be of an earlier minor release than the headers that pg_clip was built with.
# The package only recommends pgvector: Debian 12 has no package of pgvector, and pgvector can also be built from source. apt
# installs the package if there is one (PGDG has one). Otherwise the postinst prints the necessary step.
write_control() {
    local depends
    depends=$(library_dependencies)
    [ -n "$depends" ] || fail "dpkg-shlibdeps found no dependencies. Its output is above."
    cat >"$root/DEBIAN/control" <<END
Package: $package
Source: pg-clip
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$root/usr" | cut -f 1)
Depends: postgresql-$major (>= $server), $depends
Recommends: postgresql-$major-pgvector (>= $least_pgvector)
Section: database
Priority: optional
Homepage: $(sed -n 's/^repository = "\(.*\)"/\1/p' Cargo.toml)
Description: CLIP embeddings of text and images for PostgreSQL $major
 The extension pg_clip makes images searchable by text inside PostgreSQL.
 Its functions clip_embed_text and clip_embed_image run an ONNX CLIP model in
 the backend and return pgvector's type vector, which indexes search.
 .
 ONNX Runtime is part of the package, and so is a small model that knows emoji.
 The command pgclip adds models for photographs. It needs pgvector, of version
 $least_pgvector or newer.
END
    local script
    for script in postinst prerm postrm; do
        sed "s/@PACKAGE@/$package/g; s/@MAJOR@/$major/g; s/@LEAST_PGVECTOR@/$least_pgvector/g" "packaging/deb/$script" >"$root/DEBIAN/$script"
        chmod 755 "$root/DEBIAN/$script"
    done
    if [ -e packaging/deb/lintian-overrides ]; then
        mkdir -p "$root/usr/share/lintian/overrides"
        sed "s/@PACKAGE@/$package/g; s/@MAJOR@/$major/g" packaging/deb/lintian-overrides >"$root/usr/share/lintian/overrides/$package"
    fi
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
}

umask 022
install_files
write_documents
write_control
chmod -R u=rwX,go=rX "$root"

mkdir -p target/deb
deb=target/deb/${package}_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$root" "$deb" >/dev/null
if command -v lintian >/dev/null; then
    lintian --allow-root --fail-on error "$deb" || fail "lintian found errors, see above." "Fix them, or add them with a reason to packaging/deb/lintian-overrides."
else
    say "lintian is not installed: its checks are skipped"
fi
say "made $deb ($(du -h "$deb" | cut -f 1))"
