// Prints the differences between the models and the database, and exits with 1 if there are any.
const { sequelize, Product } = require('./models')

async function differences() {
  const found = []
  const queryInterface = sequelize.getQueryInterface()
  for (const table of await queryInterface.showAllTables()) {
    if (!['product', 'SequelizeMeta'].includes(table)) found.push(`unknown table ${table}`)
  }
  for (const column of Object.keys(await queryInterface.describeTable('product'))) {
    if (!Product.getAttributes()[column]) found.push(`unknown column ${column}`)
  }
  // sync() never drops an index, so it does not report one that no model declares. clip_auto_embed creates the index of pending
  // rows in mode queue.
  const indexes = ['product_embedding_pending_idx', ...Product.options.indexes.map(index => index.name)]
  for (const { name, unique } of await queryInterface.showIndex('product')) {
    if (!unique && !indexes.includes(name)) found.push(`unknown index ${name}`)
  }
  // sync() has no dry run, so its changes are rolled back.
  const transaction = await sequelize.transaction()
  try {
    await sequelize.sync({
      alter: { drop: false },
      transaction,
      logging: statement => /: (ALTER|CREATE|DROP) /.test(statement) && found.push(statement),
    })
    // With alter: true it sets the type of every column, also if that is the same. It must drop nothing.
    await sequelize.sync({
      alter: true,
      transaction,
      logging: statement => /: (CREATE|DROP) | (ADD|DROP) COLUMN /.test(statement) && found.push(statement),
    })
  } finally {
    await transaction.rollback()
  }
  return found
}

differences()
  .then(found => {
    found.forEach(difference => console.log(difference))
    process.exitCode = found.length > 0 ? 1 : 0
  })
  .finally(() => sequelize.close())
