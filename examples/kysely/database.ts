import { Kysely, PostgresDialect, type Generated, type GeneratedAlways, type Selectable } from 'kysely'
import pg from 'pg'

interface ProductTable {
  id: GeneratedAlways<number>
  title: string
  price: Generated<number>
  image: Buffer
  // pg_clip writes the embeddings. node-postgres reads them as text.
  embedding: string | null
}

interface StatusView {
  relation: string
  pending: string
  failed: string
}

interface Database {
  product: ProductTable
  clip_auto_embed_status: StatusView
}

export type Product = Selectable<ProductTable>

export const db = new Kysely<Database>({
  dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: process.env.DATABASE_URL }) }),
})
