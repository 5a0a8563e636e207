import { readFile } from 'node:fs/promises'
import { QueryFailedError } from 'typeorm'
import dataSource from './data-source.ts'
import { Product } from './product.ts'

const products = dataSource.getRepository(Product)

async function add(title: string, price: number, image: Buffer) {
  const product = await products.save(products.create({ title, price, image }))
  return product.id
}

// `query` is an expression with the parameter :value. The subquery makes PostgreSQL embed it once.
function nearest(query: string, value: string | Buffer, maxPrice: number) {
  return products.createQueryBuilder('product')
    .select(['product.id', 'product.title', 'product.price'])
    .where('product.price < :maxPrice', { maxPrice })
    .orderBy(`product.embedding <=> (SELECT ${query})`)
    .setParameter('value', value)
    .limit(5)
    .getMany()
}
const find = (words: string, maxPrice: number) => nearest(`clip_query('product', :value)`, words, maxPrice)
const similar = (image: Buffer, maxPrice: number) => nearest(`clip_query_image('product', :value)`, image, maxPrice)

// TypeORM compares the object with the row, and also writes the embedding that it loaded. pg_clip ignores that value.
async function change(title: string, image: Buffer) {
  const product = await products.findOneByOrFail({ title })
  product.image = image
  await products.save(product)
  product.price += 1
  await products.save(product)
}

async function pending() {
  const [status] = await dataSource.query(`SELECT pending, failed FROM clip_auto_embed_status WHERE relation = 'product'`)
  return `${status.pending} ${status.failed}`
}

// A line is: title, tab, price, tab, path of the image.
async function readList(path: string) {
  const lines = (await readFile(path, 'utf8')).trimEnd().split('\n').map(line => line.split('\t'))
  return Promise.all(lines.map(async ([title, price, file]) => ({ title, price: Number(price), image: await readFile(file) })))
}
const print = (found: Product[]) => found.forEach(product => console.log(product.title))

const commands: Record<string, (...args: string[]) => Promise<unknown>> = {
  add: async (title, price, file) => console.log(await add(title, Number(price), await readFile(file))),
  load: async list => products.insert(await readList(list)),
  find: async (words, maxPrice) => print(await find(words, Number(maxPrice))),
  similar: async (file, maxPrice) => print(await similar(await readFile(file), Number(maxPrice))),
  change: async (title, file) => change(title, await readFile(file)),
  remove: title => products.delete({ title }),
  pending: async () => console.log(await pending()),
  queue: () => dataSource.query(`SELECT clip_auto_embed('product', 'image', mode => 'queue')`),
}

const [command, ...args] = process.argv.slice(2)
await dataSource.initialize()
try {
  await commands[command](...args)
} catch (error) {
  if (!(error instanceof QueryFailedError)) throw error
  const { code, message, hint } = error.driverError as Error & { code?: string, hint?: string }
  console.error(`${code}: ${message}`)
  if (hint) console.error(hint)
  process.exitCode = 1
} finally {
  await dataSource.destroy()
}
