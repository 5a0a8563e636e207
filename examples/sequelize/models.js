const { Sequelize, DataTypes } = require('sequelize')
require('pgvector/sequelize').registerTypes(Sequelize)

// Logged statements can contain the bytes of images, so logging is off.
const sequelize = new Sequelize(process.env.DATABASE_URL, { logging: false })

const Product = sequelize.define('product', {
  id: { type: DataTypes.INTEGER, primaryKey: true, autoIncrement: true, autoIncrementIdentity: true },
  title: { type: DataTypes.TEXT, allowNull: false, unique: 'product_title_key' },
  price: { type: DataTypes.INTEGER, allowNull: false, defaultValue: 0 },
  image: { type: DataTypes.BLOB, allowNull: false },
  // clip_auto_embed creates this column and its index, and pg_clip writes the embeddings.
  embedding: DataTypes.VECTOR(128),
}, {
  freezeTableName: true,
  timestamps: false,
  indexes: [{ name: 'product_embedding_idx', using: 'hnsw', fields: [{ name: 'embedding', operator: 'vector_cosine_ops' }] }],
})

module.exports = { sequelize, Product }
