// Applies the files of prisma/migrations/, or drops everything: tsx migrate.ts up|down
//
// `prisma migrate deploy` applies the same files, but it needs Prisma's schema engine, which is a separate download. This script
// records the files in the same table, which Prisma's comparisons leave out.
import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import pg from 'pg'

const directory = new URL('prisma/migrations/', import.meta.url)
const client = new pg.Client({ connectionString: process.env.DATABASE_URL })
await client.connect()
await client.query('BEGIN')
if (process.argv[2] === 'down') {
  await client.query('DROP TABLE product, _prisma_migrations')
} else {
  await client.query(`
    CREATE TABLE IF NOT EXISTS _prisma_migrations (
      id varchar(36) PRIMARY KEY,
      checksum varchar(64) NOT NULL,
      finished_at timestamptz,
      migration_name varchar(255) NOT NULL,
      logs text,
      rolled_back_at timestamptz,
      started_at timestamptz NOT NULL DEFAULT now(),
      applied_steps_count integer NOT NULL DEFAULT 0
    )`)
  const { rows } = await client.query('SELECT migration_name FROM _prisma_migrations')
  const entries = await readdir(directory, { withFileTypes: true })
  for (const name of entries.filter(entry => entry.isDirectory()).map(entry => entry.name).sort()) {
    if (rows.some(row => row.migration_name === name)) continue
    const file = await readFile(new URL(`${name}/migration.sql`, directory), 'utf8')
    await client.query(file)
    await client.query(
      'INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count) VALUES ($1, $2, now(), $3, 1)',
      [randomUUID(), createHash('sha256').update(file).digest('hex'), name],
    )
    console.log(`applied ${name}`)
  }
}
await client.query('COMMIT')
await client.end()
