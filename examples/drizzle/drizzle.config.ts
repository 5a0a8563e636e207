import { defineConfig } from 'drizzle-kit'

export default defineConfig({
  dialect: 'postgresql',
  schema: './schema.ts',
  // The command diff writes to another directory.
  out: process.env.OUT ?? './migrations',
  dbCredentials: { url: process.env.DATABASE_URL! },
})
