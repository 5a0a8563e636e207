import { readFile } from 'node:fs/promises'
import { sql, type RawBuilder } from 'kysely'
import pg from 'pg'
import { db, type Product } from './database.ts'

async function add(title: string, price: number, image: Buffer) {
  const row = await db.insertInto('product').values({ title, price, image }).returning('id').executeTakeFirstOrThrow()
  return row.id
}

// The subquery makes PostgreSQL embed the query once.
function nearest(query: RawBuilder<unknown>, maxPrice: number) {
  return db.selectFrom('product')
    .select(['id', 'title', 'price'])
    .where('price', '<', maxPrice)
    .orderBy(sql`embedding <=> (SELECT ${query})`)
    .limit(5)
    .execute()
}
const find = (words: string, maxPrice: number) => nearest(sql`clip_query('product', ${words})`, maxPrice)
const similar = (image: Buffer, maxPrice: number) => nearest(sql`clip_query_image('product', ${image})`, maxPrice)

// Writes all columns, also the old embedding. pg_clip replaces it by the embedding of the image.
function save({ id, ...columns }: Product) {
  return db.updateTable('product').set(columns).where('id', '=', id).execute()
}

async function change(title: string, image: Buffer) {
  const product = await db.selectFrom('product').selectAll().where('title', '=', title).executeTakeFirstOrThrow()
  product.image = image
  await save(product)
  product.price += 1
  await save(product)
}

async function pending() {
  const status = await db.selectFrom('clip_auto_embed_status')
    .select(['pending', 'failed'])
    .where('relation', '=', 'product')
    .executeTakeFirstOrThrow()
  return `${status.pending} ${status.failed}`
}

// A line is: title, tab, price, tab, path of the image.
async function readList(path: string) {
  const lines = (await readFile(path, 'utf8')).trimEnd().split('\n').map(line => line.split('\t'))
  return Promise.all(lines.map(async ([title, price, file]) => ({ title, price: Number(price), image: await readFile(file) })))
}
const print = (products: { title: string }[]) => products.forEach(product => console.log(product.title))

const commands: Record<string, (...args: string[]) => Promise<unknown>> = {
  add: async (title, price, file) => console.log(await add(title, Number(price), await readFile(file))),
  load: async list => db.insertInto('product').values(await readList(list)).execute(),
  find: async (words, maxPrice) => print(await find(words, Number(maxPrice))),
  similar: async (file, maxPrice) => print(await similar(await readFile(file), Number(maxPrice))),
  change: async (title, file) => change(title, await readFile(file)),
  remove: title => db.deleteFrom('product').where('title', '=', title).execute(),
  pending: async () => console.log(await pending()),
  queue: () => sql`SELECT clip_auto_embed('product', 'image', mode => 'queue')`.execute(db),
}

const [command, ...args] = process.argv.slice(2)
try {
  await commands[command](...args)
} catch (error) {
  if (!(error instanceof pg.DatabaseError)) throw error
  console.error(`${error.code}: ${error.message}`)
  if (error.hint) console.error(error.hint)
  process.exitCode = 1
} finally {
  await db.destroy()
}
