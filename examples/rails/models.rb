require "active_record"
require_relative "vector"

# A trigger writes the embedding, so nothing here computes one.
class Product < ActiveRecord::Base
  self.table_name = "product"

  scope :below, ->(price) { where("price < ?", price) }

  # The rows nearest to a text, the nearest first.
  scope :nearest, ->(text) { order([Arel.sql("embedding <=> (SELECT clip_query('product', ?))"), text]) }

  # The rows nearest to the bytes of an image file.
  scope :similar, lambda { |image|
    bytes = type_for_attribute("image").serialize(image)
    order([Arel.sql("embedding <=> (SELECT clip_query_image('product', ?))"), bytes])
  }
end

# The view of pg_clip with one row per embedding column.
class EmbeddingStatus < ActiveRecord::Base
  self.table_name = "clip_auto_embed_status"
end
