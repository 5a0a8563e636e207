#!/usr/bin/env bash
# A clean Debian in a directory, for trials of packages and images. Needs root and debootstrap.
#
#   clean_debian.sh make DIR [SUITE]     a fresh copy of a release (of this machine's own, where none is named), as small as
#                                        the official images have it
#   clean_debian.sh run DIR COMMAND…     run a command as root in it, in namespaces of its own
#   clean_debian.sh remove DIR
#
# The system that is copied is kept in target/debootstrap, and so are the packages that apt fetches.
# Mounts and processes are the namespaces' own: they end with the command, however it ends.
# CLEAN_DEBIAN_VOLUMES=PATHS makes all read-only for run, but for these directories, which begin empty.
# CLEAN_DEBIAN_SHARED=PATHS shows these directories of this machine, at the same paths, for run.
set -euo pipefail
cache=$(realpath "$(dirname "$0")/../..")/target/debootstrap

fail() {
    printf 'clean_debian.sh: %s\n' "$@" >&2
    exit 1
}

[ $# -ge 2 ] || fail "usage: clean_debian.sh make|run|remove DIR" "Its head says more: ${BASH_SOURCE[0]}"
[ "$(id -u)" = 0 ] || fail "this needs root." "Run it with sudo, or as root."
verb=$1
directory=$(realpath --no-symlinks "$2")
shift 2

# apt's sources of Debian itself, as this machine has them: mirror, suite, components.
sources() {
    # shellcheck disable=SC2016 # the variables are apt's own
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | sed 's/^/deb /' | sort -u
}

# shellcheck source=/dev/null
own_suite() { . /etc/os-release && echo "${VERSION_CODENAME:-}"; }

# make_base SUITE FOLDER
make_base() {
    local suite=$1 new=$2.new mirror
    command -v debootstrap >/dev/null || fail "debootstrap is not installed." "Run: apt-get install debootstrap"
    mirror=$(sources | awk -v suite="$(own_suite)" '$3 == suite {print $2; exit}')
    [ -n "$mirror" ] || fail "apt knows no mirror of Debian." "Run: apt-get update"
    echo "clean_debian.sh: fetching Debian $suite" >&2
    rm -rf "$2" "$new"
    mkdir -p "$cache/archives/partial"
    debootstrap --variant=minbase "$suite" "$new" "$mirror" >"$cache/log" 2>&1 || fail "debootstrap failed: $cache/log says why."
    if [ "$suite" = "$(own_suite)" ]; then
        sources >"$new/etc/apt/sources.list"
    else
        # The lists of a suite in motion are valid for a week, which a mirror that lags behind may exceed.
        echo "deb [check-valid-until=no] $mirror $suite main" >"$new/etc/apt/sources.list"
    fi
    # Services do not start by themselves.
    printf '#!/bin/sh\nexit 101\n' >"$new/usr/sbin/policy-rc.d"
    chmod 755 "$new/usr/sbin/policy-rc.d"
    rm -rf "$new"/var/cache/apt/archives/*.deb
    mv "$new" "$2"
}

# Runs in the namespaces: the directory becomes the root directory.
enter() {
    local volume folder
    mount --make-rprivate /
    mount --bind "$directory" "$directory"
    mkdir -p "$directory/var/cache/apt/archives"
    mount --bind "$cache/archives" "$directory/var/cache/apt/archives"
    # Names are resolved as this machine does.
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
    # Not chroot alone, which would not allow tests to create namespaces.
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
    fail "$verb is none of: make, run, remove"
    ;;
esac
