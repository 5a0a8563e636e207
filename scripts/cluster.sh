#!/usr/bin/env bash
# A throw-away PostgreSQL cluster, reached by a socket of its own, without TCP. PG_CONFIG names the server.
#
#   cluster.sh start DIR [SETTING=VALUE…]   create DIR (new, or empty) and a cluster in it, and start it
#   cluster.sh restart DIR                  stop it at once, as a crash does, and start it again
#   cluster.sh backup DIR NEW SIGNAL [SETTING=VALUE…]
#                                           copy the running cluster into NEW, which `restart NEW` starts as a "standby", or
#                                           for a "recovery"
#   cluster.sh env DIR                      print the variables that a client needs
#   cluster.sh psql DIR [ARGUMENT…]         run psql on it
#   cluster.sh stop DIR                     stop it and remove DIR; nothing to do is no error
#
# The superuser is postgres. The server's log is DIR/log.
# PostgreSQL refuses to run as root: then the cluster belongs to the system's user postgres.
set -euo pipefail

fail() {
    printf 'cluster.sh: %s\n' "$@" >&2
    exit 1
}

[ $# -ge 2 ] || fail "usage: cluster.sh start|restart|backup|env|psql|stop DIR" "Its head says more: ${BASH_SOURCE[0]}"
verb=$1
directory=$(realpath --no-symlinks "$2")
shift 2
data=$directory/data
bin=$("${PG_CONFIG:-pg_config}" --bindir) || fail "pg_config is not on the PATH." "Set PG_CONFIG, or run: make setup"

as_server() {
    if [ "$(id -u)" = 0 ]; then
        # From /, because the caller's own directory may be closed to postgres.
        (cd / && setpriv --reuid postgres --regid postgres --init-groups env HOME="$directory" "$@")
    else
        "$@"
    fi
}

is_cluster() { [ -e "$data/PG_VERSION" ]; }

require_cluster() { is_cluster || fail "there is no cluster in $directory." "Start one: scripts/cluster.sh start $directory"; }

# A socket's path may have 107 bytes: the name of the file in it takes 15, its lock file's 20.
socket_directory() {
    if [ ${#directory} -le 85 ]; then
        echo "$directory"
    else
        echo "/tmp/pg_clip-$(printf %s "$directory" | sha256sum | cut -c 1-16)"
    fi
}

# settings SETTING=VALUE…: as lines of a configuration file.
settings() { [ $# = 0 ] || printf '%s\n' "$@"; }

make_folder() {
    [ -z "$(ls -A "$directory" 2>/dev/null)" ] ||
        fail "$directory is not empty." "Name a new folder, or end the cluster in it: scripts/cluster.sh stop $directory"
    # From here on, a failure or an interrupt removes the directory.
    trap '[ $? = 0 ] || { stop_server; remove; }' EXIT
    mkdir -p "$directory" "$(socket_directory)"
    # A user who reaches the socket is superuser.
    chmod 700 "$directory" "$(socket_directory)"
    if [ "$(id -u)" = 0 ]; then
        id -u postgres >/dev/null 2>&1 || fail "root cannot run a server, and there is no user postgres." "Create one: useradd --system postgres"
        chown postgres: "$directory" "$(socket_directory)"
        as_server test -w "$directory" || fail "the user postgres cannot reach $directory." "Name a folder that it can, such as one in /tmp."
    fi
}

create() {
    make_folder
    # PGPORT and the like in the caller's environment count less than the file.
    # shellcheck disable=SC2016 # $1 and $2 belong to the inner shell
    as_server "$bin/initdb" --pgdata "$data" --username postgres --auth trust --encoding UTF8 --no-locale --no-sync \
        >/dev/null || fail "initdb could not create a cluster in $directory."
    {
        printf "%s = '%s'\n" listen_addresses '' unix_socket_directories "$(socket_directory)" port 5432 fsync off
        settings "$@"
    } | as_server tee -a "$data/postgresql.conf" >/dev/null
}

backup() {
    local source signal=$2
    source=$(socket_directory)
    directory=$(realpath --no-symlinks "$1") data=$(realpath --no-symlinks "$1")/data
    shift 2
    make_folder
    as_server "$bin/pg_basebackup" --host "$source" --port 5432 --username postgres --pgdata "$data" --checkpoint fast --no-sync
    # Settings of ALTER SYSTEM override the file, and so must these.
    settings "unix_socket_directories = '$(socket_directory)'" "$@" | as_server tee -a "$data/postgresql.auto.conf" >/dev/null
    as_server touch "$data/$signal.signal"
}

start_server() {
    as_server "$bin/pg_ctl" --pgdata "$data" --log "$directory/log" --wait --timeout 120 --silent start >/dev/null || {
        echo "cluster.sh: the server does not start. The end of its log:" >&2
        tail -n 20 "$directory/log" >&2
        return 1
    }
}

# At once, as a crash would: nothing of the data is to be kept, or a restart shall prove that it survives. Processes of a
# killed postmaster exit by themselves, within a second: no other server can start before.
stop_server() {
    local begun=$SECONDS
    as_server "$bin/pg_ctl" --pgdata "$data" --wait --silent --mode immediate stop >/dev/null 2>&1 && return
    while [ -n "$(processes)" ]; do
        if [ $((SECONDS - begun)) -gt 5 ]; then
            echo "cluster.sh: these processes outlive their postmaster:" >&2
            # shellcheck disable=SC2046 # one argument per process
            ps -o pid,stat,args -p $(processes) >&2 || true
            return 1
        fi
        sleep 0.05
    done
}

# The processes of the server: they run in the data directory.
processes() {
    local process
    for process in /proc/[0-9]*; do
        [ "$(readlink "$process/cwd")" != "$data" ] || echo "${process#/proc/}"
    done
}

remove() {
    # A killed postmaster leaves shared memory behind, which its successor finds and gives back.
    if [ -e "$data/postmaster.pid" ]; then
        (start_server && stop_server) >/dev/null 2>&1 || true
    fi
    rm -rf "$directory" "$(socket_directory)"
}

client_variables() { printf '%s\n' "PGHOST=$(socket_directory)" PGPORT=5432 PGUSER=postgres PGDATABASE=postgres; }

case $verb in
start)
    create "$@"
    start_server
    ;;
restart)
    require_cluster
    stop_server
    start_server
    ;;
backup)
    require_cluster
    [ $# -ge 2 ] || fail "backup needs a folder and a signal, standby or recovery."
    backup "$@"
    ;;
env)
    require_cluster
    client_variables
    ;;
psql)
    require_cluster
    mapfile -t variables < <(client_variables)
    exec env "${variables[@]}" "$bin/psql" "$@"
    ;;
stop)
    # Never a directory that holds no cluster.
    if is_cluster; then
        # Nothing may stay behind, whatever is wrong with it; the failure is reported all the same.
        left=0
        stop_server || { left=1; processes | xargs --no-run-if-empty kill -KILL; }
        remove
        exit "$left"
    fi
    ;;
*)
    fail "$verb is none of: start, restart, backup, env, psql, stop"
    ;;
esac
