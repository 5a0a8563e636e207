# Registers pgvector's type, so that schema.rb can contain the column. The gem neighbor does the same.

require "active_record"
require "active_record/connection_adapters/postgresql_adapter"

class Vector < ActiveRecord::Type::Value
  def type
    :vector
  end
end

module VectorType
  private

  def initialize_type_map(map = type_map)
    super
    map.register_type("vector") { |_, _, sql_type| Vector.new(limit: extract_limit(sql_type)) }
  end
end

# Hides the second index of the mode queue, which clip_auto_embed creates and drops with the mode.
module PendingIndex
  def indexes(table)
    super.reject { |index| index.name.end_with?("_pending_idx") }
  end
end

ActiveRecord::ConnectionAdapters::PostgreSQLAdapter.prepend(VectorType, PendingIndex)
ActiveRecord::ConnectionAdapters::PostgreSQLAdapter::NATIVE_DATABASE_TYPES[:vector] = { name: "vector" }
ActiveRecord::ConnectionAdapters::TableDefinition.send(:define_column_methods, :vector)
