const { readFile } = require('node:fs/promises')
const { DatabaseError, Op, UniqueConstraintError, literal } = require('sequelize')
const { sequelize, Product } = require('./models')

// `query` is an expression with the replacement :value. The subquery makes PostgreSQL embed it once.
function nearest(query, value, maxPrice) {
  return Product.findAll({
    attributes: ['id', 'title', 'price'],
    where: { price: { [Op.lt]: maxPrice } },
    order: literal(`embedding <=> (SELECT ${query})`),
    replacements: { value },
    limit: 5,
  })
}
const find = (words, maxPrice) => nearest(`clip_query('product', :value)`, words, maxPrice)
const similar = (image, maxPrice) => nearest(`clip_query_image('product', :value)`, image, maxPrice)

async function change(title, image) {
  const product = await Product.findOne({ where: { title }, rejectOnEmpty: true })
  product.image = image
  await product.save()
  product.price += 1
  await product.save()
}

async function pending() {
  const [[status]] = await sequelize.query(`SELECT pending, failed FROM clip_auto_embed_status WHERE relation = 'product'`)
  return `${status.pending} ${status.failed}`
}

// A line is: title, tab, price, tab, path of the image.
async function readList(path) {
  const lines = (await readFile(path, 'utf8')).trimEnd().split('\n').map(line => line.split('\t'))
  return Promise.all(lines.map(async ([title, price, file]) => ({ title, price: Number(price), image: await readFile(file) })))
}
const print = products => products.forEach(product => console.log(product.title))

const commands = {
  add: async (title, price, file) => console.log((await Product.create({ title, price, image: await readFile(file) })).id),
  load: async list => Product.bulkCreate(await readList(list)),
  find: async (words, maxPrice) => print(await find(words, Number(maxPrice))),
  similar: async (file, maxPrice) => print(await similar(await readFile(file), Number(maxPrice))),
  change: async (title, file) => change(title, await readFile(file)),
  remove: title => Product.destroy({ where: { title } }),
  pending: async () => console.log(await pending()),
  queue: () => sequelize.query(`SELECT clip_auto_embed('product', 'image', mode => 'queue')`),
}

async function main([command, ...args]) {
  try {
    await commands[command](...args)
  } catch (error) {
    if (!(error instanceof DatabaseError || error instanceof UniqueConstraintError)) throw error
    // The parent is the error of node-postgres. Only print its message: other properties contain the bytes of images.
    const { code, message, hint } = error.parent
    console.error(`${code}: ${message}`)
    if (hint) console.error(hint)
    process.exitCode = 1
  } finally {
    await sequelize.close()
  }
}

main(process.argv.slice(2))
