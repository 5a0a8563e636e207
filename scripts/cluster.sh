#!/usr/bin/env bash
# Manages a temporary PostgreSQL cluster, which clients reach by its own socket, without TCP. PG_CONFIG selects the server.
#
#   cluster.sh start DIR [SETTING=VALUE…]   create DIR (new, or empty) and a cluster in it, and start the cluster
#   cluster.sh restart DIR                  stop the cluster immediately, as a crash does, and start it again
#   cluster.sh backup DIR NEW SIGNAL [SETTING=VALUE…]
#                                           copy the running cluster into NEW. `restart NEW` starts it as a "standby", or
#                                           for a "recovery"
#   cluster.sh env DIR                      print the variables that a client needs
#   cluster.sh psql DIR [ARGUMENT…]         run psql on the cluster
#   cluster.sh stop DIR                     stop the cluster and remove DIR; does nothing if there is no cluster
#
# The superuser is postgres. The server's log is DIR/log.
# PostgreSQL does not run as root: if the caller is root, the cluster belongs to the system user postgres.
set -euo pipefail

fail() {
    printf 'cluster.sh: %s\n' "$@" >&2
    exit 1
}

[ $# -ge 2 ] || fail "usage: cluster.sh start|restart|backup|env|psql|stop DIR" "See the first lines of ${BASH_SOURCE[0]}"
verb=$1
directory=$(realpath --no-symlinks "$2")
shift 2
data=$directory/data
bin=$("${PG_CONFIG:-pg_config}" --bindir) || fail "pg_config is not on the PATH." "Set PG_CONFIG, or run: make setup"

as_server() {
    if [ "$(id -u)" = 0 ]; then
        # From /, because postgres may have no access to the caller's directory.
        (cd / && setpriv --reuid postgres --regid postgres --init-groups env HOME="$directory" "$@")
    else
        "$@"
    fi
}

is_cluster() { [ -e "$data/PG_VERSION" ]; }

require_cluster() { is_cluster || fail "there is no cluster in $directory." "Start one: scripts/cluster.sh start $directory"; }

# A socket's path has at most 107 bytes. The name of the socket takes 15 of them, and the name of its lock file takes 20.
socket_directory() {
    if [ ${#directory} -le 85 ]; then
        echo "$directory"
    else
        echo "/tmp/pg_clip-$(printf %s "$directory" | sha256sum | cut -c 1-16)"
    fi
}

# settings SETTING=VALUE…: prints the settings as lines of a configuration file.
settings() { [ $# = 0 ] || printf '%s\n' "$@"; }

make_folder() {
    [ -z "$(ls -A "$directory" 2>/dev/null)" ] ||
        fail "$directory is not empty." "Name a new directory, or stop the cluster in it: scripts/cluster.sh stop $directory"
    # This script owns the directory from here on. It removes the directory after every failure or interrupt.
    trap '[ $? = 0 ] || { stop_server; remove; }' EXIT
    mkdir -p "$directory" "$(socket_directory)"
    # Anyone who can reach the socket is superuser.
    chmod 700 "$directory" "$(socket_directory)"
    if [ "$(id -u)" = 0 ]; then
        id -u postgres >/dev/null 2>&1 || fail "root cannot run a server, and there is no user postgres." "Create one: useradd --system postgres"
        chown postgres: "$directory" "$(socket_directory)"
        as_server test -w "$directory" || fail "the user postgres cannot reach $directory." "Name a directory that it can reach, such as one in /tmp."
    fi
}

create() {
    make_folder
    # The file overrides PGPORT and similar variables of the caller.
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
    # ALTER SYSTEM settings override postgresql.conf, so these are written to postgresql.auto.conf.
    settings "unix_socket_directories = '$(socket_directory)'" "$@" | as_server tee -a "$data/postgresql.auto.conf" >/dev/null
    as_server touch "$data/$signal.signal"
}

start_server() {
    as_server "$bin/pg_ctl" --pgdata "$data" --log "$directory/log" --wait --timeout 120 --silent start >/dev/null || {
        echo "cluster.sh: the server did not start. The end of its log:" >&2
        tail -n 20 "$directory/log" >&2
        return 1
    }
}

# Stops the server immediately, as a crash does. The data is not needed any more, or a restart has to prove that it survives.
# Processes of a killed postmaster exit by themselves within a second. No other server can start before.
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

# Prints the processes of the server: their working directory is the data directory.
processes() {
    local process
    for process in /proc/[0-9]*; do
        [ "$(readlink "$process/cwd")" != "$data" ] || echo "${process#/proc/}"
    done
}

remove() {
    # A killed postmaster leaves shared memory behind. The next server start finds and releases it.
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
    [ $# -ge 2 ] || fail "backup needs a directory and a signal: standby or recovery."
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
    # Never removes a directory without a cluster.
    if is_cluster; then
        # Removes everything, whatever is wrong with the cluster, and still reports the failure.
        left=0
        stop_server || { left=1; processes | xargs --no-run-if-empty kill -KILL; }
        remove
        exit "$left"
    fi
    ;;
*)
    fail "$verb is not a command. Commands: start, restart, backup, env, psql, stop"
    ;;
esac
