# A shop on the command line: it stores products with images, and finds them by text or by image. `run` lists the commands.

require_relative "models"

ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))

# Loads a list in one statement: lines with title, price and path of the image, separated by tabs.
def load_list(list)
  rows = File.foreach(list, chomp: true).map do |line|
    title, price, image = line.split("\t")
    { title: title, price: Integer(price), image: File.binread(image) }
  end
  Product.insert_all!(rows)
end

def change(title, image)
  product = Product.find_by!(title: title)
  product.image = File.binread(image)
  product.save!
  product.price += 1
  product.save!
end

def pending
  status = EmbeddingStatus.find_by!(relation: "product")
  puts "#{status.pending} #{status.failed}"
end

# Prints the SQLSTATE, the message and the hint of an error of the database.
def report(result)
  message, hint = [PG::PG_DIAG_MESSAGE_PRIMARY, PG::PG_DIAG_MESSAGE_HINT].map { |field| result.error_field(field) }
  warn "#{result.error_field(PG::PG_DIAG_SQLSTATE)}: #{message}"
  warn hint if hint
end

begin
  case ARGV
  in ["add", title, price, image]
    puts Product.create!(title: title, price: Integer(price), image: File.binread(image)).id
  in ["load", list] then load_list(list)
  in ["find", text, max] then puts Product.below(Integer(max)).nearest(text).limit(5).pluck(:title)
  in ["similar", image, max] then puts Product.below(Integer(max)).similar(File.binread(image)).limit(5).pluck(:title)
  in ["change", title, image] then change(title, image)
  in ["remove", title] then Product.find_by!(title: title).destroy!
  in ["pending"] then pending
  in ["queue"] then Product.connection.execute("SELECT clip_auto_embed('product', 'image', mode => 'queue')")
  else abort "unknown command, or wrong number of arguments"
  end
rescue ActiveRecord::StatementInvalid => e
  report(e.cause.result)
  exit 1
rescue ActiveRecord::RecordNotFound, SystemCallError => e
  warn e.message
  exit 1
end
