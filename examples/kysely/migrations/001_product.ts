import type { Kysely } from 'kysely'

export async function up(db: Kysely<any>) {
  await db.schema.createTable('product')
    .addColumn('id', 'integer', column => column.generatedAlwaysAsIdentity().primaryKey())
    .addColumn('title', 'text', column => column.notNull().unique())
    .addColumn('price', 'integer', column => column.notNull().defaultTo(0))
    .addColumn('image', 'bytea', column => column.notNull())
    .execute()
}

export async function down(db: Kysely<any>) {
  await db.schema.dropTable('product').execute()
}
