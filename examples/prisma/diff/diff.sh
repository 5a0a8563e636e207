#!/usr/bin/env bash
# Fails if `prisma db pull` or `prisma db push` finds a difference between the schema and the database.
set -euo pipefail
cd "$(dirname "$0")"
export PATH=$PWD/node_modules/.bin:$PATH
# The WebAssembly engine needs no binaries. These settings avoid their download.
PRISMA_SCHEMA_ENGINE_BINARY=$(type -P true)
PRISMA_QUERY_ENGINE_LIBRARY=$PRISMA_SCHEMA_ENGINE_BINARY
export PRISMA_SCHEMA_ENGINE_BINARY PRISMA_QUERY_ENGINE_LIBRARY

# Removes comments, warnings and white space. `db pull` writes no dimensions of a vector.
normal() { sed -nE '/^generator/,$p' "$1" | sed -E 's|//.*||; s|vector\([0-9]+\)|vector|; s/ +/ /g; s/ $//; /^$/d'; }

trap 'rm -f schema.prisma pulled.prisma' EXIT
# Prisma 6 requires the setting `url`, and Prisma 7 rejects it.
sed 's/^  provider = "postgresql"$/&\n  url = env("DATABASE_URL")/' ../prisma/schema.prisma >schema.prisma
prisma db pull --print >pulled.prisma
diff <(normal schema.prisma) <(normal pulled.prisma)
# `db push` would change the database, so it runs only if there is no difference.
prisma db push --skip-generate </dev/null 2>&1 | tee pulled.prisma
grep -q 'already in sync' pulled.prisma
