import { readFile } from 'node:fs/promises'
import { PrismaPg } from '@prisma/adapter-pg'
import { DriverAdapterError } from '@prisma/driver-adapter-utils'
import { Prisma, PrismaClient, type Product } from './generated/client.ts'

const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: process.env.DATABASE_URL }) })

async function add(title: string, price: number, image: Buffer<ArrayBuffer>) {
  const product = await prisma.product.create({ data: { title, price, image } })
  return product.id
}

// The subquery makes PostgreSQL embed the query once.
function nearest(query: Prisma.Sql, maxPrice: number) {
  return prisma.$queryRaw<{ id: number, title: string, distance: number }[]>`
    SELECT id, title, embedding <=> (SELECT ${query}) AS distance
      FROM product WHERE price < ${maxPrice} ORDER BY distance LIMIT 5`
}
const find = (words: string, maxPrice: number) => nearest(Prisma.sql`clip_query('product', ${words})`, maxPrice)
const similar = (image: Buffer, maxPrice: number) => nearest(Prisma.sql`clip_query_image('product', ${image})`, maxPrice)

// Prisma neither reads nor writes the embedding, because it does not support the type.
function save({ id, ...data }: Product) {
  return prisma.product.update({ where: { id }, data })
}

async function change(title: string, image: Buffer<ArrayBuffer>) {
  const product = await prisma.product.findUniqueOrThrow({ where: { title } })
  product.image = image
  await save(product)
  product.price += 1
  await save(product)
}

async function pending() {
  const [status] = await prisma.$queryRaw<{ pending: bigint, failed: bigint }[]>`
    SELECT pending, failed FROM clip_auto_embed_status WHERE relation = 'product'`
  return `${status.pending} ${status.failed}`
}

// Prisma's own message contains a part of the source code. The error of the database is below it.
function databaseError(error: unknown) {
  const adapterError = error instanceof Prisma.PrismaClientKnownRequestError && error.meta?.driverAdapterError
  if (!(adapterError instanceof DriverAdapterError)) throw error
  const { cause } = adapterError
  return { code: cause.originalCode, message: cause.originalMessage, hint: 'hint' in cause ? cause.hint : undefined }
}

// A line is: title, tab, price, tab, path of the image.
async function readList(path: string) {
  const lines = (await readFile(path, 'utf8')).trimEnd().split('\n').map(line => line.split('\t'))
  return Promise.all(lines.map(async ([title, price, file]) => ({ title, price: Number(price), image: await readFile(file) })))
}
const print = (products: { title: string }[]) => products.forEach(product => console.log(product.title))

const commands: Record<string, (...args: string[]) => Promise<unknown>> = {
  add: async (title, price, file) => console.log(await add(title, Number(price), await readFile(file))),
  load: async list => prisma.product.createMany({ data: await readList(list) }),
  find: async (words, maxPrice) => print(await find(words, Number(maxPrice))),
  similar: async (file, maxPrice) => print(await similar(await readFile(file), Number(maxPrice))),
  change: async (title, file) => change(title, await readFile(file)),
  remove: title => prisma.product.delete({ where: { title } }),
  pending: async () => console.log(await pending()),
  queue: () => prisma.$queryRaw`SELECT clip_auto_embed('product', 'image', mode => 'queue')`,
}

const [command, ...args] = process.argv.slice(2)
try {
  await commands[command](...args)
} catch (error) {
  const { code, message, hint } = databaseError(error)
  console.error(`${code}: ${message}`)
  if (hint) console.error(hint)
  process.exitCode = 1
} finally {
  await prisma.$disconnect()
}
