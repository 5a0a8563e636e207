import { sql, type Kysely } from 'kysely'

// Creates the column embedding, its trigger, and the index product_embedding_idx.
export async function up(db: Kysely<any>) {
  await sql`SELECT clip_auto_embed('product', 'image', model => 'emoji')`.execute(db)
}

export async function down(db: Kysely<any>) {
  await sql`SELECT clip_auto_embed_drop('product', keep_column => false)`.execute(db)
}
