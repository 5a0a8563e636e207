#!/usr/bin/env bash
# Installs the newest minor release of the server, and pgvector, in the official image: the packages of the PostgreSQL project.
set -euo pipefail

apt-get -q update
# The server is upgraded too, because the headers for the build of pg_clip must not be newer than the server.
DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "postgresql-$PG_MAJOR" "postgresql-$PG_MAJOR-pgvector"
rm -rf /var/lib/apt/lists/*
dpkg-query -W -f '${Version}\n' "postgresql-$PG_MAJOR" >/usr/local/src/pg_clip/server_version
