module.exports = {
  async up(queryInterface, { DataTypes }) {
    await queryInterface.createTable('product', {
      id: { type: DataTypes.INTEGER, primaryKey: true, autoIncrement: true, autoIncrementIdentity: true },
      title: { type: DataTypes.TEXT, allowNull: false, unique: true },
      price: { type: DataTypes.INTEGER, allowNull: false, defaultValue: 0 },
      image: { type: DataTypes.BLOB, allowNull: false },
    })
  },

  async down(queryInterface) {
    await queryInterface.dropTable('product')
  },
}
