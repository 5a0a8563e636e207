module.exports = {
  // Creates the column embedding, its trigger, and the index product_embedding_idx.
  async up(queryInterface) {
    await queryInterface.sequelize.query(`SELECT clip_auto_embed('product', 'image', model => 'emoji')`)
  },

  async down(queryInterface) {
    await queryInterface.sequelize.query(`SELECT clip_auto_embed_drop('product', keep_column => false)`)
  },
}
