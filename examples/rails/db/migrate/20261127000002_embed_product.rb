class EmbedProduct < ActiveRecord::Migration[6.1]
  # Adds the column embedding, its trigger and the index product_embedding_idx.
  def up
    execute "SELECT clip_auto_embed('product', 'image', model => 'emoji')"
  end

  def down
    execute "SELECT clip_auto_embed_drop('product', keep_column => false)"
  end
end
