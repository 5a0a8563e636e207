#!/usr/bin/env bash
# In the official image: the newest minor release of the server, and pgvector, as the PostgreSQL project packages them.
set -euo pipefail

apt-get -q update
# With the newest server, because the headers that pg_clip is built with may not be newer than it.
DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "postgresql-$PG_MAJOR" "postgresql-$PG_MAJOR-pgvector"
rm -rf /var/lib/apt/lists/*
dpkg-query -W -f '${Version}\n' "postgresql-$PG_MAJOR" >/usr/local/src/pg_clip/server_version
