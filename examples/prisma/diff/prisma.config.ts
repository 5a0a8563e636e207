import { PrismaPg } from '@prisma/adapter-pg'
import pg from 'pg'
import { defineConfig } from 'prisma/config'

// The adapter cannot read some types of PostgreSQL's catalogs: "char", name, name[] and regclass. It reads them as text and text[].
const readable: Record<number, number> = { 18: 25, 19: 25, 1003: 1009, 2205: 25 }

// The schema engine that is part of Prisma 6 as WebAssembly. It connects with the adapter.
export default defineConfig({
  schema: 'schema.prisma',
  experimental: { adapter: true },
  engine: 'js',
  adapter: async () => {
    const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL })
    pool.on('connect', (client: any) => {
      client.connection.prependListener('rowDescription', ({ fields }: any) => {
        for (const field of fields) field.dataTypeID = readable[field.dataTypeID] ?? field.dataTypeID
      })
    })
    return new PrismaPg(pool)
  },
})
