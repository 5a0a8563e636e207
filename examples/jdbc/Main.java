import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.NoSuchElementException;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/** A shop on the command line: it stores products with images, and finds them by text or by image. `run` lists the commands. */
public class Main {
    public static void main(String[] arguments) {
        try (Connection connection = connect(URI.create(System.getenv("DATABASE_URL")))) {
            command(connection, arguments);
        } catch (SQLException error) {
            report(error);
            System.exit(1);
        } catch (IOException | NoSuchElementException error) {
            System.err.println(error);
            System.exit(1);
        }
    }

    /** Connects to an address such as postgresql://user:password@host:5432/database. */
    static Connection connect(URI address) throws SQLException {
        String[] user = address.getUserInfo().split(":", 2);
        String server = address.getHost() + ":" + (address.getPort() == -1 ? 5432 : address.getPort());
        // The driver makes one INSERT of many from a batch.
        String url = "jdbc:postgresql://" + server + address.getPath() + "?reWriteBatchedInserts=true";
        return DriverManager.getConnection(url, user[0], user[1]);
    }

    static void command(Connection connection, String[] arguments) throws SQLException, IOException {
        switch (arguments[0]) {
            case "migrate" -> execute(connection, Files.readString(Path.of("schema.sql")));
            case "undo" -> execute(connection, "DROP TABLE IF EXISTS product");
            case "add" -> System.out.println(
                    add(connection, arguments[1], Integer.parseInt(arguments[2]), read(arguments[3])));
            case "load" -> load(connection, Path.of(arguments[1]));
            case "find" -> find(connection, arguments[1], Integer.parseInt(arguments[2]));
            case "similar" -> similar(connection, read(arguments[1]), Integer.parseInt(arguments[2]));
            case "change" -> {
                Product product = Product.load(connection, arguments[1]);
                product.image = read(arguments[2]);
                product.save(connection);
                // The object still has the embedding of its former image.
                product.price++;
                product.save(connection);
            }
            case "remove" -> remove(connection, arguments[1]);
            case "pending" -> pending(connection);
            case "queue" -> execute(connection, "SELECT clip_auto_embed('product', 'image', mode => 'queue')");
            default -> throw new NoSuchElementException("unknown command: " + arguments[0]);
        }
    }

    static byte[] read(String path) throws IOException {
        return Files.readAllBytes(Path.of(path));
    }

    static void execute(Connection connection, String script) throws SQLException {
        try (var statement = connection.createStatement()) {
            statement.execute(script);
        }
    }

    static long add(Connection connection, String title, int price, byte[] image) throws SQLException {
        var sql = "INSERT INTO product (title, price, image) VALUES (?, ?, ?) RETURNING id";
        try (var statement = connection.prepareStatement(sql)) {
            statement.setString(1, title);
            statement.setInt(2, price);
            statement.setBytes(3, image);
            var rows = statement.executeQuery();
            rows.next();
            return rows.getLong("id");
        }
    }

    /** Inserts the lines of a list in one transaction: title, price and path of the image, separated by tabs. */
    static void load(Connection connection, Path list) throws SQLException, IOException {
        connection.setAutoCommit(false);
        var sql = "INSERT INTO product (title, price, image) VALUES (?, ?, ?)";
        try (var statement = connection.prepareStatement(sql)) {
            for (String line : Files.readAllLines(list)) {
                String[] columns = line.split("\t");
                statement.setString(1, columns[0]);
                statement.setInt(2, Integer.parseInt(columns[1]));
                statement.setBytes(3, read(columns[2]));
                statement.addBatch();
            }
            statement.executeBatch();
        }
        connection.commit();
    }

    /** Prints the titles of the five products nearest to the text, the nearest first. */
    static void find(Connection connection, String text, int maxPrice) throws SQLException {
        var sql = """
                SELECT title FROM product WHERE price < ?
                 ORDER BY embedding <=> (SELECT clip_query('product', ?)) LIMIT 5""";
        try (var statement = connection.prepareStatement(sql)) {
            statement.setInt(1, maxPrice);
            statement.setString(2, text);
            printTitles(statement);
        }
    }

    /** Prints the titles of the five products nearest to the bytes of an image file. */
    static void similar(Connection connection, byte[] image, int maxPrice) throws SQLException {
        var sql = """
                SELECT title FROM product WHERE price < ?
                 ORDER BY embedding <=> (SELECT clip_query_image('product', ?)) LIMIT 5""";
        try (var statement = connection.prepareStatement(sql)) {
            statement.setInt(1, maxPrice);
            statement.setBytes(2, image);
            printTitles(statement);
        }
    }

    static void printTitles(PreparedStatement statement) throws SQLException {
        var rows = statement.executeQuery();
        while (rows.next()) {
            System.out.println(rows.getString("title"));
        }
    }

    static void remove(Connection connection, String title) throws SQLException {
        try (var statement = connection.prepareStatement("DELETE FROM product WHERE title = ?")) {
            statement.setString(1, title);
            if (statement.executeUpdate() == 0) {
                throw new NoSuchElementException("no product has the title " + title);
            }
        }
    }

    /** Prints the numbers of rows that wait for a worker, and of rows that could not be embedded. */
    static void pending(Connection connection) throws SQLException {
        var sql = "SELECT pending, failed FROM clip_auto_embed_status WHERE relation = 'product'";
        try (var statement = connection.createStatement(); var rows = statement.executeQuery(sql)) {
            rows.next();
            System.out.println(rows.getLong("pending") + " " + rows.getLong("failed"));
        }
    }

    /** Prints the SQLSTATE, the message and the hint of an error of the database. */
    static void report(SQLException error) {
        // The error of a batch has the error of its row as the next one. Its own message contains the parameters.
        SQLException last = error.getNextException() == null ? error : error.getNextException();
        ServerErrorMessage server = last instanceof PSQLException psql ? psql.getServerErrorMessage() : null;
        System.err.println(last.getSQLState() + ": " + (server == null ? last.getMessage() : server.getMessage()));
        if (server != null && server.getHint() != null) {
            System.err.println(server.getHint());
        }
    }

    /** A row with all its columns. */
    static class Product {
        long id;
        String title;
        int price;
        byte[] image;
        /** The driver returns a vector as a PGobject, and accepts that object as a parameter. */
        Object embedding;

        static Product load(Connection connection, String title) throws SQLException {
            try (var statement = connection.prepareStatement("SELECT * FROM product WHERE title = ?")) {
                statement.setString(1, title);
                var rows = statement.executeQuery();
                if (!rows.next()) {
                    throw new NoSuchElementException("no product has the title " + title);
                }
                var product = new Product();
                product.id = rows.getLong("id");
                product.title = rows.getString("title");
                product.price = rows.getInt("price");
                product.image = rows.getBytes("image");
                product.embedding = rows.getObject("embedding");
                return product;
            }
        }

        /**
         * Writes all columns. The trigger ignores the embedding in the statement: it computes one if the image has changed,
         * and otherwise keeps that of the row.
         */
        void save(Connection connection) throws SQLException {
            var sql = "UPDATE product SET title = ?, price = ?, image = ?, embedding = ? WHERE id = ?";
            try (var statement = connection.prepareStatement(sql)) {
                statement.setString(1, title);
                statement.setInt(2, price);
                statement.setBytes(3, image);
                statement.setObject(4, embedding);
                statement.setLong(5, id);
                statement.executeUpdate();
            }
        }
    }
}
