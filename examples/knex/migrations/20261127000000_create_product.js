export function up(knex) {
  return knex.schema.createTable('product', table => {
    table.increments('id')
    table.text('title').notNullable().unique()
    table.integer('price').notNullable().defaultTo(0)
    table.binary('image').notNullable()
  })
}

export function down(knex) {
  return knex.schema.dropTable('product')
}
