// Creates the column embedding, its trigger, and the index product_embedding_idx.
export function up(knex) {
  return knex.raw(`SELECT clip_auto_embed('product', 'image', model => 'emoji')`)
}

export function down(knex) {
  return knex.raw(`SELECT clip_auto_embed_drop('product', keep_column => false)`)
}
