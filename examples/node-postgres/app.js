import { readFile } from 'node:fs/promises'
import pg from 'pg'

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL })

async function add(title, price, image) {
  const { rows } = await pool.query('INSERT INTO product (title, price, image) VALUES ($1, $2, $3) RETURNING id', [title, price, image])
  return rows[0].id
}

// One statement with three arrays inserts all rows.
function addAll(products) {
  const column = name => products.map(product => product[name])
  return pool.query(
    'INSERT INTO product (title, price, image) SELECT * FROM unnest($1::text[], $2::integer[], $3::bytea[])',
    [column('title'), column('price'), column('image')],
  )
}

// `query` is an expression with the parameter $1. The subquery makes PostgreSQL embed it once.
async function nearest(query, value, maxPrice) {
  const { rows } = await pool.query(
    `SELECT title, embedding <=> (SELECT ${query}) AS distance
       FROM product WHERE price < $2 ORDER BY distance LIMIT 5`,
    [value, maxPrice],
  )
  return rows
}
const find = (words, maxPrice) => nearest(`clip_query('product', $1)`, words, maxPrice)
const similar = (image, maxPrice) => nearest(`clip_query_image('product', $1)`, image, maxPrice)

async function load(title) {
  const { rows } = await pool.query('SELECT * FROM product WHERE title = $1', [title])
  if (rows.length === 0) throw new Error(`no product "${title}"`)
  return rows[0]
}

// Writes all columns, also the old embedding. pg_clip replaces it by the embedding of the image.
function save({ id, title, price, image, embedding }) {
  return pool.query(
    'UPDATE product SET title = $2, price = $3, image = $4, embedding = $5 WHERE id = $1',
    [id, title, price, image, embedding],
  )
}

async function change(title, image) {
  const product = await load(title)
  product.image = image
  await save(product)
  product.price += 1
  await save(product)
}

async function pending() {
  const { rows } = await pool.query(`SELECT pending, failed FROM clip_auto_embed_status WHERE relation = 'product'`)
  return `${rows[0].pending} ${rows[0].failed}`
}

// A line is: title, tab, price, tab, path of the image.
async function readList(path) {
  const lines = (await readFile(path, 'utf8')).trimEnd().split('\n').map(line => line.split('\t'))
  return Promise.all(lines.map(async ([title, price, file]) => ({ title, price: Number(price), image: await readFile(file) })))
}
const print = products => products.forEach(product => console.log(product.title))

const commands = {
  add: async (title, price, file) => console.log(await add(title, Number(price), await readFile(file))),
  load: async list => addAll(await readList(list)),
  find: async (words, maxPrice) => print(await find(words, Number(maxPrice))),
  similar: async (file, maxPrice) => print(await similar(await readFile(file), Number(maxPrice))),
  change: async (title, file) => change(title, await readFile(file)),
  remove: title => pool.query('DELETE FROM product WHERE title = $1', [title]),
  pending: async () => console.log(await pending()),
  queue: () => pool.query(`SELECT clip_auto_embed('product', 'image', mode => 'queue')`),
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
  await pool.end()
}
