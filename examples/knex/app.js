import { readFile } from 'node:fs/promises'
import createKnex from 'knex'
import pg from 'pg'
import config from './knexfile.js'

const knex = createKnex(config)

async function add(title, price, image) {
  const [row] = await knex('product').insert({ title, price, image }).returning('id')
  return row.id
}

// `query` is an expression with one parameter. The subquery makes PostgreSQL embed it once.
function nearest(query, value, maxPrice) {
  return knex('product')
    .select('id', 'title', 'price')
    .where('price', '<', maxPrice)
    .orderByRaw(`embedding <=> (SELECT ${query})`, [value])
    .limit(5)
}
const find = (words, maxPrice) => nearest(`clip_query('product', ?)`, words, maxPrice)
const similar = (image, maxPrice) => nearest(`clip_query_image('product', ?)`, image, maxPrice)

// Writes all columns, also the old embedding. pg_clip replaces it by the embedding of the image.
function save({ id, ...columns }) {
  return knex('product').where({ id }).update(columns)
}

async function change(title, image) {
  const product = await knex('product').where({ title }).first()
  if (!product) throw new Error(`no product "${title}"`)
  product.image = image
  await save(product)
  product.price += 1
  await save(product)
}

async function pending() {
  const status = await knex('clip_auto_embed_status').where({ relation: 'product' }).first('pending', 'failed')
  return `${status.pending} ${status.failed}`
}

// A line is: title, tab, price, tab, path of the image.
async function readList(path) {
  const lines = (await readFile(path, 'utf8')).trimEnd().split('\n').map(line => line.split('\t'))
  return Promise.all(lines.map(async ([title, price, file]) => ({ title, price: Number(price), image: await readFile(file) })))
}
const print = products => products.forEach(product => console.log(product.title))

const commands = {
  add: async (title, price, file) => console.log(await add(title, Number(price), await readFile(file))),
  load: async list => knex.batchInsert('product', await readList(list), 100),
  find: async (words, maxPrice) => print(await find(words, Number(maxPrice))),
  similar: async (file, maxPrice) => print(await similar(await readFile(file), Number(maxPrice))),
  change: async (title, file) => change(title, await readFile(file)),
  remove: title => knex('product').where({ title }).delete(),
  pending: async () => console.log(await pending()),
  queue: () => knex.raw(`SELECT clip_auto_embed('product', 'image', mode => 'queue')`),
}

const [command, ...args] = process.argv.slice(2)
try {
  await commands[command](...args)
} catch (error) {
  if (!(error instanceof pg.DatabaseError)) throw error
  // Knex writes the statement in front of the message.
  console.error(`${error.code}: ${error.message.replace(/^.*? - /s, '')}`)
  if (error.hint) console.error(error.hint)
  process.exitCode = 1
} finally {
  await knex.destroy()
}
