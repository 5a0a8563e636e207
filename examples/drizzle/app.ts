import { readFile } from 'node:fs/promises'
import { DrizzleQueryError, eq, getTableColumns, lt, sql, type SQL } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { product } from './schema.ts'

const db = drizzle(process.env.DATABASE_URL!)

async function add(title: string, price: number, image: Buffer) {
  const [row] = await db.insert(product).values({ title, price, image }).returning({ id: product.id })
  return row.id
}

// A search returns all columns except the large ones.
const { image: _, embedding: __, ...columns } = getTableColumns(product)

// The subquery makes PostgreSQL embed the query once.
function nearest(query: SQL, maxPrice: number) {
  const distance = sql<number>`${product.embedding} <=> (SELECT ${query})`
  return db.select({ ...columns, distance }).from(product).where(lt(product.price, maxPrice)).orderBy(distance).limit(5)
}
const find = (words: string, maxPrice: number) => nearest(sql`clip_query('product', ${words})`, maxPrice)
const similar = (image: Buffer, maxPrice: number) => nearest(sql`clip_query_image('product', ${image})`, maxPrice)

// Writes all columns, also the old embedding. pg_clip replaces it by the embedding of the image.
function save({ id, ...values }: typeof product.$inferSelect) {
  return db.update(product).set(values).where(eq(product.id, id))
}

async function change(title: string, image: Buffer) {
  const [row] = await db.select().from(product).where(eq(product.title, title))
  if (!row) throw new Error(`no product "${title}"`)
  row.image = image
  await save(row)
  row.price += 1
  await save(row)
}

async function pending() {
  const { rows } = await db.execute(sql`SELECT pending, failed FROM clip_auto_embed_status WHERE relation = 'product'`)
  return `${rows[0].pending} ${rows[0].failed}`
}

// Drizzle has no down migrations. These statements also remove its list of applied migrations.
async function undo() {
  await db.execute(sql`DROP TABLE product`)
  await db.execute(sql`DROP SCHEMA drizzle CASCADE`)
}

// A line is: title, tab, price, tab, path of the image.
async function readList(path: string) {
  const lines = (await readFile(path, 'utf8')).trimEnd().split('\n').map(line => line.split('\t'))
  return Promise.all(lines.map(async ([title, price, file]) => ({ title, price: Number(price), image: await readFile(file) })))
}
const print = (products: { title: string }[]) => products.forEach(({ title }) => console.log(title))

const commands: Record<string, (...args: string[]) => Promise<unknown>> = {
  add: async (title, price, file) => console.log(await add(title, Number(price), await readFile(file))),
  load: async list => db.insert(product).values(await readList(list)),
  find: async (words, maxPrice) => print(await find(words, Number(maxPrice))),
  similar: async (file, maxPrice) => print(await similar(await readFile(file), Number(maxPrice))),
  change: async (title, file) => change(title, await readFile(file)),
  remove: async title => db.delete(product).where(eq(product.title, title)),
  pending: async () => console.log(await pending()),
  queue: async () => db.execute(sql`SELECT clip_auto_embed('product', 'image', mode => 'queue')`),
  undo,
}

const [command, ...args] = process.argv.slice(2)
try {
  await commands[command](...args)
} catch (error) {
  // The message of a DrizzleQueryError contains all parameters, so it contains the bytes of images. Its cause does not.
  if (!(error instanceof DrizzleQueryError && error.cause instanceof pg.DatabaseError)) throw error
  const { code, message, hint } = error.cause
  console.error(`${code}: ${message}`)
  if (hint) console.error(hint)
  process.exitCode = 1
} finally {
  await db.$client.end()
}
