#!/usr/bin/env bash
# A throw-away PostgreSQL cluster, reached by a socket of its own, without TCP.
#
#   cluster.sh start DIR [server option…]   create DIR and a cluster in it, and start it
#   cluster.sh restart DIR                  stop it at once, as a crash does, and start it again
#   cluster.sh env DIR                      print the variables that a client needs
#   cluster.sh stop DIR                     stop it and remove DIR
#
# PostgreSQL refuses to run as root: then the cluster belongs to the user postgres.
set -euo pipefail

verb=${1:?"usage: cluster.sh start|restart|env|stop DIR"}
directory=${2:?"usage: cluster.sh $verb DIR"}
shift 2
bin=$("${PG_CONFIG:-pg_config}" --bindir)

as_server() {
    if [ "$(id -u)" = 0 ]; then
        # The caller's directory may be closed to postgres.
        (cd / && setpriv --reuid postgres --regid postgres --clear-groups env HOME="$directory" "$@")
    else
        "$@"
    fi
}

start() {
    as_server "$bin/pg_ctl" --pgdata "$directory/data" --log "$directory/log" --wait --silent start >/dev/null || {
        echo "cluster.sh: the server does not start; the end of its log:" >&2
        tail -n 20 "$directory/log" >&2
        exit 1
    }
}

stop() {
    as_server "$bin/pg_ctl" --pgdata "$directory/data" --wait --silent --mode "$1" stop >/dev/null 2>&1 || true
}

case $verb in
start)
    mkdir -p "$directory"
    directory=$(cd "$directory" && pwd)
    # A socket's path may have 107 bytes: the name of the file in it takes 15.
    [ ${#directory} -le 90 ] || { echo "cluster.sh: the path $directory is too long for a socket" >&2; exit 1; }
    [ "$(id -u)" != 0 ] || chown postgres "$directory"
    as_server "$bin/initdb" --pgdata "$directory/data" --username postgres --auth trust --encoding UTF8 --no-locale \
        --no-sync >"$directory/initdb.log" 2>&1 || { cat "$directory/initdb.log" >&2; exit 1; }
    {
        echo "listen_addresses = ''"
        echo "unix_socket_directories = '$directory'"
        echo "fsync = off"
        printf '%s\n' "$@"
    } | as_server tee -a "$directory/data/postgresql.conf" >/dev/null
    start
    ;;
restart)
    stop immediate
    start
    ;;
env)
    printf 'PGHOST=%s\nPGPORT=5432\nPGUSER=postgres\nPGDATABASE=postgres\n' "$(cd "$directory" && pwd)"
    ;;
stop)
    if [ -d "$directory" ]; then
        directory=$(cd "$directory" && pwd)
        stop immediate
        rm -rf "$directory"
    fi
    ;;
*)
    echo "usage: cluster.sh start|restart|env|stop DIR" >&2
    exit 2
    ;;
esac
