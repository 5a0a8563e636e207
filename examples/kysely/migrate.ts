// Applies all migrations, or reverts all: tsx migrate.ts up|down
import { promises as fs } from 'node:fs'
import path from 'node:path'
import { FileMigrationProvider, Migrator, NO_MIGRATIONS } from 'kysely'
import { db } from './database.ts'

const migrator = new Migrator({
  db,
  provider: new FileMigrationProvider({ fs, path, migrationFolder: path.join(import.meta.dirname, 'migrations') }),
})
const { error, results } = process.argv[2] === 'down' ? await migrator.migrateTo(NO_MIGRATIONS) : await migrator.migrateToLatest()
results?.forEach(({ migrationName, direction, status }) => console.log(`${direction} ${migrationName}: ${status}`))
await db.destroy()
if (error) throw error
