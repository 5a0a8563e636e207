//! The tables of the test: all modes, keys of several types, plain and partitioned tables, texts and images.

use crate::random::Random;

/// A small number, so that clients access the same rows.
const KEYS: usize = 30;

pub const WRITER: &str = "writer";
pub const OWNER: &str = "keeper";

#[derive(Clone, Copy, PartialEq)]
pub enum Key {
    Integer,
    Time,
    Float,
    Uuid,
    /// A text and a number.
    Pair,
    /// Partitioned by a list. The columns of one partition have another order.
    Region,
    /// Partitioned by ranges of time.
    Month,
}

pub struct Table {
    pub name: &'static str,
    pub key: Key,
    pub mode: &'static str,
    pub on_error: &'static str,
    /// The type of the source.
    pub source: &'static str,
    /// The name of the table's own trigger, which completes the source. The name determines whether it fires before or
    /// after ours.
    pub tidy: Option<&'static str>,
}

/// A trigger function that computes the source from another column.
pub const TIDY: &str = "CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN NEW.body := regexp_replace(NEW.body, ' #\\d+$', '') || ' #' || NEW.note; RETURN NEW; END $$";

const fn table(
    name: &'static str,
    key: Key,
    mode: &'static str,
    on_error: &'static str,
    source: &'static str,
    tidy: Option<&'static str>,
) -> Table {
    Table { name, key, mode, on_error, source, tidy }
}

pub const TABLES: [Table; 11] = [
    table("row_integer", Key::Integer, "row", "error", "text", Some("aaa")),
    table("row_time", Key::Time, "row", "null", "bytea", None),
    table("row_region", Key::Region, "row", "error", "text", None),
    table("statement_time", Key::Time, "statement", "error", "text", Some("zzz")),
    table("statement_float", Key::Float, "statement", "null", "varchar(150)", Some("aaa")),
    table("statement_uuid", Key::Uuid, "statement", "null", "bytea", None),
    table("statement_month", Key::Month, "statement", "error", "text", Some("aaa")),
    table("queue_pair", Key::Pair, "queue", "error", "text", Some("aaa")),
    table("queue_uuid", Key::Uuid, "queue", "skip", "bytea", None),
    table("queue_float", Key::Float, "queue", "error", "text", None),
    table("queue_region", Key::Region, "queue", "skip", "text", Some("zzz")),
];

/// Creates a table with a generated column, which needs no trigger.
pub fn create_generated() -> String {
    format!(
        "CREATE TABLE made (body text, embedding vector(32) GENERATED ALWAYS AS (clip_embed_text(body, 'narrow')) STORED);
         GRANT SELECT, INSERT ON made TO {WRITER}"
    )
}

impl Key {
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Key::Integer | Key::Uuid => &["id"],
            Key::Time | Key::Month => &["at"],
            Key::Float => &["weight"],
            Key::Pair => &["shelf", "place"],
            Key::Region => &["region", "id"],
        }
    }

    fn types(self) -> &'static [&'static str] {
        match self {
            Key::Integer => &["int"],
            Key::Time | Key::Month => &["timestamptz"],
            Key::Float => &["float8"],
            Key::Uuid => &["uuid"],
            Key::Pair => &["text", "int"],
            Key::Region => &["text", "int"],
        }
    }

    /// Returns a key in the text form of its columns' values.
    pub fn any(self, random: &mut Random) -> Vec<String> {
        let number = random.below(KEYS);
        match self {
            Key::Integer => vec![number.to_string()],
            // The day is also a valid month, and other zones have the same abbreviation.
            Key::Time | Key::Month => {
                let (day, hour) = (1 + number / 10, number % 10 * 2);
                vec![format!("2026-11-{day:02} {hour:02}:30:00.12345{}+00", number % 10)]
            }
            // With 15 digits, as a session may set it, this is another number.
            Key::Float => vec![(number as f64 / 7.0).to_string()],
            Key::Uuid => vec![format!("00000000-0000-4000-8000-{number:012}")],
            Key::Pair => vec![["a'b", "c\\d", "e f"][number % 3].into(), number.to_string()],
            Key::Region => vec![random.pick(&["north", "south", "east"]).into(), (number / 3).to_string()],
        }
    }
}

impl Table {
    pub fn is_picture(&self) -> bool {
        self.source == "bytea"
    }

    /// Returns the type of the embeddings.
    pub fn target(&self) -> &'static str {
        match self.key {
            Key::Region | Key::Uuid => "halfvec",
            _ => "vector",
        }
    }

    pub fn is_tolerant(&self) -> bool {
        self.on_error != "error"
    }

    pub fn key_list(&self) -> String {
        self.key.columns().join(", ")
    }

    /// Returns the partitions, if the table has any.
    pub fn partitions(&self) -> Vec<String> {
        let endings: &[&str] = match self.key {
            Key::Region => &["north", "south", "rest"],
            Key::Month => &["first", "second", "rest"],
            _ => &[],
        };
        endings.iter().map(|ending| format!("{}_{ending}", self.name)).collect()
    }

    /// Returns the key's values with their types, for use in any expression.
    pub fn typed(&self, key: &[String]) -> String {
        let typed = key.iter().zip(self.key.types()).map(|(value, kind)| format!("{}::{kind}", quoted(value)));
        typed.collect::<Vec<_>>().join(", ")
    }

    /// Returns a condition for one of these keys.
    pub fn is_one_of(&self, alias: &str, keys: &[Vec<String>]) -> String {
        let columns = self.key.columns().iter().map(|column| format!("{alias}.{column}"));
        let rows = keys.iter().map(|key| format!("({})", self.typed(key)));
        format!("({}) IN ({})", columns.collect::<Vec<_>>().join(", "), rows.collect::<Vec<_>>().join(", "))
    }

    /// Returns a condition for rows `t` and `o` with the same key.
    pub fn is_same(&self) -> String {
        let pairs = self.key.columns().iter().map(|column| format!("t.{column} = o.{column}"));
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    pub fn create(&self) -> String {
        let (name, source) = (self.name, self.source);
        let columns: Vec<_> =
            self.key.columns().iter().zip(self.key.types()).map(|(column, kind)| format!("{column} {kind}")).collect();
        let partitioned = match self.key {
            Key::Region => " PARTITION BY LIST (region)",
            Key::Month => " PARTITION BY RANGE (at)",
            _ => "",
        };
        let mut sql = format!(
            "CREATE TABLE {name} ({}, body {source}, note int NOT NULL DEFAULT 0, PRIMARY KEY ({})){partitioned};",
            columns.join(", "),
            self.key_list(),
        );
        match self.key {
            Key::Region => sql += &format!(
                "CREATE TABLE {name}_north PARTITION OF {name} FOR VALUES IN ('north');
                 CREATE TABLE {name}_south (gone int, note int NOT NULL DEFAULT 0, body {source}, id int NOT NULL, region text NOT NULL);
                 ALTER TABLE {name}_south DROP COLUMN gone;
                 ALTER TABLE {name} ATTACH PARTITION {name}_south FOR VALUES IN ('south');
                 CREATE TABLE {name}_rest PARTITION OF {name} DEFAULT;"
            ),
            Key::Month => sql += &format!(
                "CREATE TABLE {name}_first PARTITION OF {name} FOR VALUES FROM (MINVALUE) TO ('2026-11-02 00:00+00');
                 CREATE TABLE {name}_second PARTITION OF {name} FOR VALUES FROM ('2026-11-02 00:00+00') TO ('2026-11-03 00:00+00');
                 CREATE TABLE {name}_rest PARTITION OF {name} DEFAULT;"
            ),
            _ => (),
        }
        for table in self.partitions().iter().map(String::as_str).chain([name]) {
            sql += &format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {WRITER}; ALTER TABLE {table} OWNER TO {OWNER};"
            );
        }
        if let Some(trigger) = self.tidy {
            sql += &format!(
                "CREATE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION tidy();"
            );
        }
        sql
    }

    /// Whether statements may be rejected, because a trigger completes the source after the embedding.
    pub fn may_refuse(&self) -> bool {
        self.tidy == Some("zzz")
    }

    /// Returns a source to write: a text, or the bytes of an image. Some of the bytes are not an image, if the table
    /// tolerates failures.
    pub fn any_source(&self, random: &mut Random) -> String {
        if !self.is_picture() {
            let words = ["red", "old", "tall", "a photo of", "no", "Größe"];
            let things = ["cat", "ship", "tree", "house", "猫", "it's"];
            return format!("{} {} {}", random.pick(&words), random.pick(&things), random.below(100_000));
        }
        if self.is_tolerant() && random.chance(10) {
            return hex(format!("broken {}", random.below(1000)).as_bytes());
        }
        hex(&any_picture(random))
    }

    /// Returns an SQL condition: whether the source of a row can be embedded.
    pub fn is_embeddable(&self) -> &'static str {
        match self.is_picture() {
            true => "t.body IS NOT NULL AND substr(t.body, 1, 6) <> 'broken'",
            false => "t.body IS NOT NULL",
        }
    }
}

pub fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\\x{digits}")
}

/// Returns an image of four by four pixels of any color.
fn any_picture(random: &mut Random) -> Vec<u8> {
    let pixels: Vec<u8> = (0..48).map(|_| random.below(256) as u8).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 4, 4);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

/// Returns a value in COPY's text format.
pub fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\t', "\\t")
}
