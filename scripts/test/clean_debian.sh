#!/usr/bin/env bash
# Creates a clean Debian in a directory, for tests of packages and images. Needs root and debootstrap.
#
#   clean_debian.sh make DIR [SUITE]     create a fresh copy of a release, by default of this machine's own. It is as small as
#                                        the official images
#   clean_debian.sh run DIR COMMAND…     run a command as root in it, in its own namespaces
#   clean_debian.sh remove DIR
#
# target/debootstrap keeps the original system of the copies, and the packages that apt fetches.
# Mounts and processes belong to the namespaces: they end with the command, even if it fails.
# CLEAN_DEBIAN_VOLUMES=PATHS makes everything read-only for run, except these directories, which begin empty.
# CLEAN_DEBIAN_SHARED=PATHS makes these directories of this machine visible for run, at the same paths.
set -euo pipefail
cache=$(realpath "$(dirname "$0")/../..")/target/debootstrap

fail() {
    printf 'clean_debian.sh: %s\n' "$@" >&2
    exit 1
}

[ $# -ge 2 ] || fail "usage: clean_debian.sh make|run|remove DIR" "See the first lines of ${BASH_SOURCE[0]}"
[ "$(id -u)" = 0 ] || fail "this needs root." "Run it with sudo, or as root."
verb=$1
directory=$(realpath --no-symlinks "$2")
shift 2

# Prints the sources of Debian itself in this machine's apt: mirror, suite, components.
sources() {
    # shellcheck disable=SC2016 # the variables are apt's own
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | sed 's/^/deb /' | sort -u
}

# shellcheck source=/dev/null
own_suite() { . /etc/os-release && echo "${VERSION_CODENAME:-}"; }

# make_base SUITE DIRECTORY
make_base() {
    local suite=$1 new=$2.new mirror
    command -v debootstrap >/dev/null || fail "debootstrap is not installed." "Run: apt-get install debootstrap"
    mirror=$(sources | awk -v suite="$(own_suite)" '$3 == suite {print $2; exit}')
    [ -n "$mirror" ] || fail "apt has no mirror of Debian." "Run: apt-get update"
    echo "clean_debian.sh: fetching Debian $suite" >&2
    rm -rf "$2" "$new"
    mkdir -p "$cache/archives/partial"
    debootstrap --variant=minbase "$suite" "$new" "$mirror" >"$cache/log" 2>&1 || fail "debootstrap failed: see $cache/log"
    if [ "$suite" = "$(own_suite)" ]; then
        sources >"$new/etc/apt/sources.list"
    else
        # The lists of a changing suite are valid for a week. The lists of a slow mirror may be older.
        echo "deb [check-valid-until=no] $mirror $suite main" >"$new/etc/apt/sources.list"
    fi
    # Prevents packages from starting services.
    printf '#!/bin/sh\nexit 101\n' >"$new/usr/sbin/policy-rc.d"
    chmod 755 "$new/usr/sbin/policy-rc.d"
    rm -rf "$new"/var/cache/apt/archives/*.deb
    mv "$new" "$2"
}

# Runs in the namespaces: makes the directory the root of all processes.
enter() {
    local volume folder
    mount --make-rprivate /
    mount --bind "$directory" "$directory"
    mkdir -p "$directory/var/cache/apt/archives"
    mount --bind "$cache/archives" "$directory/var/cache/apt/archives"
    # Uses this machine's name resolution.
    cp /etc/resolv.conf "$directory/etc/resolv.conf"
    for folder in ${CLEAN_DEBIAN_SHARED:-}; do
        mkdir -p "$directory$folder"
        mount --bind "$folder" "$directory$folder"
    done
    if [ -n "${CLEAN_DEBIAN_VOLUMES:-}" ]; then
        mount -o remount,ro,bind "$directory"
        for volume in $CLEAN_DEBIAN_VOLUMES; do
            mount -t tmpfs -o "mode=$(stat -c %a "$directory$volume"),uid=$(stat -c %u "$directory$volume")" tmpfs "$directory$volume"
        done
    fi
    mount -t proc proc "$directory/proc"
    mount --rbind /dev "$directory/dev"
    # chroot is not sufficient: some tests create namespaces, which a process in a chroot cannot do.
    cd "$directory"
    pivot_root . .
    umount --lazy .
    exec chroot . /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM=dumb DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

case $verb in
make)
    suite=${1:-$(own_suite)}
    base=$cache/base-$suite
    [ -e "$base" ] || make_base "$suite" "$base"
    mkdir -p "$cache/archives/partial" "$directory"
    rm -rf "$directory"
    cp -a --reflink=auto "$base" "$directory"
    ;;
run)
    exec unshare --mount --pid --fork --kill-child "$0" enter "$directory" "$@"
    ;;
enter)
    enter "$@"
    ;;
remove)
    rm -rf --one-file-system "$directory"
    ;;
*)
    fail "$verb is not a command. Commands: make, run, remove"
    ;;
esac
