# This file is auto-generated from the current state of the database. Instead
# of editing this file, please use the migrations feature of Active Record to
# incrementally modify your database, and then regenerate this schema definition.
#
# This file is the source Rails uses to define your schema when running `bin/rails
# db:schema:load`. When creating a new database, `bin/rails db:schema:load` tends to
# be faster and is potentially less error prone than running all of your
# migrations from scratch. Old migrations may fail to apply correctly if those
# migrations use external dependencies or application code.
#
# It's strongly recommended that you check this file into your version control system.

ActiveRecord::Schema.define(version: 2026_11_27_000002) do

  # These are extensions that must be enabled in order to support this database
  enable_extension "pg_clip"
  enable_extension "plpgsql"
  enable_extension "vector"

  create_table "product", force: :cascade do |t|
    t.text "title", null: false
    t.integer "price", default: 0, null: false
    t.binary "image", null: false
    t.vector "embedding", limit: 128
    t.index ["embedding"], name: "product_embedding_idx", opclass: :vector_cosine_ops, using: :hnsw
    t.index ["title"], name: "index_product_on_title", unique: true
  end

end
