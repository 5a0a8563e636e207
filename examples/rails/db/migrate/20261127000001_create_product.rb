class CreateProduct < ActiveRecord::Migration[6.1]
  def change
    create_table :product do |t|
      t.text :title, null: false, index: { unique: true }
      t.integer :price, null: false, default: 0
      t.binary :image, null: false
    end
  end
end
