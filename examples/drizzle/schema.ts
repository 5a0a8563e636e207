import { sql } from 'drizzle-orm'
import { customType, index, integer, pgTable, text, vector } from 'drizzle-orm/pg-core'

const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' })

export const product = pgTable('product', {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  title: text().notNull().unique(),
  price: integer().notNull().default(0),
  image: bytea().notNull(),
  // clip_auto_embed creates the column and its index, and pg_clip writes the embeddings. They are declared here, so that
  // drizzle-kit does not drop them.
  embedding: vector({ dimensions: 128 }),
}, table => [
  index('product_embedding_idx').using('hnsw', table.embedding.op('vector_cosine_ops')).with({ ef_construction: '200' }),
  // Mode queue needs this index. It is empty in the other modes.
  index('product_embedding_pending_idx').on(table.id).where(sql`embedding IS NULL AND image IS NOT NULL`),
])
