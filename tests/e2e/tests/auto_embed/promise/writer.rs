//! A client that writes outside and inside of transactions, in as many ways as applications do.

use std::collections::VecDeque;
use std::io::Write;

use postgres::{Client, Error};

use crate::Run;
use crate::random::Random;
use crate::settings::SETTINGS;
use crate::tables::{TABLES, Table, escaped, quoted};

const MOST_REMEMBERED: usize = 20;

struct Writer<'a> {
    run: &'a Run,
    name: String,
    random: Random,
    number: u64,
    client: Client,
    /// Embeddings that the client has read, with the table of each.
    remembered: VecDeque<(usize, String)>,
    last: String,
}

pub fn write(run: &Run, number: u64) {
    let connect = || {
        let config = if number == 5 { &run.superuser } else { &run.writer };
        run.connect(config, SETTINGS[number as usize])
    };
    let mut writer = Writer {
        run,
        name: format!("writer {number}"),
        random: Random::new(run.seed, number),
        number,
        client: connect(),
        remembered: VecDeque::new(),
        last: String::new(),
    };
    while run.goes_on() {
        let done = if writer.random.chance(50) { writer.step() } else { writer.transaction() };
        if let Err(error) = done {
            run.judge(&writer.name, &writer.last, &error);
            if writer.client.is_closed() || writer.execute("ROLLBACK").is_err() {
                writer.client = connect();
            }
        }
    }
}

impl Writer<'_> {
    fn execute(&mut self, statement: &str) -> Result<(), Error> {
        self.last = statement.into();
        // Half of the clients use the simple protocol, the others the extended protocol with prepared statements.
        if self.number.is_multiple_of(2) {
            self.client.batch_execute(statement)
        } else {
            self.client.execute(statement, &[]).map(drop)
        }
    }

    fn transaction(&mut self) -> Result<(), Error> {
        self.execute("BEGIN")?;
        for _ in 0..1 + self.random.below(4) {
            if !self.random.chance(40) {
                self.step()?;
                continue;
            }
            self.execute("SAVEPOINT here")?;
            let mut done = self.step();
            if done.is_ok() && self.random.chance(50) {
                done = self.step();
            }
            match done {
                Ok(()) if self.random.chance(50) => self.execute("RELEASE here")?,
                Ok(()) => {
                    self.execute("ROLLBACK TO here")?;
                    self.run.count("rollbacks to a savepoint");
                }
                Err(error) => {
                    self.run.judge(&self.name, &self.last, &error);
                    self.execute("ROLLBACK TO here")?;
                }
            }
        }
        let end = if self.random.chance(75) { "COMMIT" } else { "ROLLBACK" };
        self.execute(end)?;
        self.run.count(if end == "COMMIT" { "commits" } else { "rollbacks" });
        Ok(())
    }

    fn step(&mut self) -> Result<(), Error> {
        let number = self.random.below(TABLES.len());
        let table = &TABLES[number];
        match self.random.below(20) {
            0 => self.load(number),
            1 | 2 => self.copy(number),
            // A role that writes a generated column may have no right to call the function of the column.
            3 => {
                let text = quoted(&TABLES[0].any_source(&mut self.random));
                self.execute(&format!("INSERT INTO made (body) VALUES ({text})"))?;
                self.run.count("generated");
                Ok(())
            }
            _ => {
                let statement = self.statement(number, table);
                self.execute(&statement)?;
                self.run.count(statement.split(' ').next().unwrap_or_default());
                Ok(())
            }
        }
    }

    fn keys(&mut self, table: &Table, most: usize) -> Vec<Vec<String>> {
        let mut keys: Vec<_> = (0..1 + self.random.below(most)).map(|_| table.key.any(&mut self.random)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    fn source(&mut self, table: &Table) -> String {
        if self.random.chance(5) { "NULL".into() } else { quoted(&table.any_source(&mut self.random)) }
    }

    /// Returns an embedding as applications write one: read before, of another row, or none.
    fn vector(&mut self, number: usize) -> String {
        let known: Vec<_> = self.remembered.iter().filter(|known| known.0 == number).collect();
        match self.random.below(3) {
            0 if !known.is_empty() => quoted(&known[self.random.below(known.len())].1),
            1 => "NULL".into(),
            _ => format!("(SELECT o.embedding FROM {} AS o ORDER BY o.note LIMIT 1)", TABLES[number].name),
        }
    }

    /// Returns rows for VALUES, with or without embeddings.
    fn rows(&mut self, number: usize, with_vectors: bool) -> String {
        let table = &TABLES[number];
        let mut rows = Vec::new();
        for key in self.keys(table, 4) {
            let (source, note) = (self.source(table), self.random.below(10));
            let vector = if with_vectors { format!(", {}", self.vector(number)) } else { String::new() };
            rows.push(format!("({}, {source}, {note}{vector})", table.typed(&key)));
        }
        rows.join(", ")
    }

    fn statement(&mut self, number: usize, table: &Table) -> String {
        let (name, key_list) = (table.name, table.key_list());
        let some = self.keys(table, 4);
        let which = table.is_one_of("t", &some);
        let one = table.key.any(&mut self.random);
        let is_one = table.is_one_of("t", std::slice::from_ref(&one));
        let other = table.key.any(&mut self.random);
        let is_other = table.is_one_of("o", std::slice::from_ref(&other));
        let source = self.source(table);
        let vector = self.vector(number);
        let with_vectors = self.random.chance(30);
        let columns = format!("{key_list}, body, note{}", if with_vectors { ", embedding" } else { "" });
        let merged =
            if table.is_picture() { "EXCLUDED.body" } else { "left(EXCLUDED.note || t.body || EXCLUDED.body, 100)" };
        match self.random.below(17) {
            0 => format!("INSERT INTO {name} AS t ({columns}) VALUES {}", self.rows(number, with_vectors)),
            1 => format!(
                "INSERT INTO {name} AS t ({columns}) VALUES {} ON CONFLICT DO NOTHING",
                self.rows(number, with_vectors)
            ),
            2 | 3 => {
                let rows = self.rows(number, true);
                let set = self.random.pick(&[
                    "body = EXCLUDED.body",
                    "body = {merged}",
                    "body = {merged}, embedding = EXCLUDED.embedding",
                    "body = EXCLUDED.body, embedding = EXCLUDED.embedding",
                    "embedding = EXCLUDED.embedding",
                    "note = EXCLUDED.note",
                    "body = EXCLUDED.body, embedding = t.embedding",
                ]);
                let set = set.replace("{merged}", merged);
                format!(
                    "INSERT INTO {name} AS t ({key_list}, body, note, embedding) VALUES {rows} ON CONFLICT ({key_list}) DO UPDATE SET {set}"
                )
            }
            4 => format!("UPDATE {name} AS t SET body = {source} WHERE {which}"),
            5 => {
                format!("UPDATE {name} AS t SET body = {source}, note = note + 1, embedding = {vector} WHERE {is_one}")
            }
            6 => format!("UPDATE {name} AS t SET note = note + 1 WHERE {which}"),
            7 => format!("UPDATE {name} AS t SET embedding = {vector} WHERE {which}"),
            8 => format!("DELETE FROM {name} AS t WHERE {which}"),
            9 => {
                let more = self.random.pick(&[
                    "",
                    ", body = {source}",
                    ", embedding = {vector}",
                    ", embedding = NULL",
                    ", note = note + 1",
                ]);
                let more = more.replace("{source}", &source).replace("{vector}", &vector);
                format!("UPDATE {name} AS t SET ({key_list}) = ROW({}){more} WHERE {is_one}", table.typed(&other))
            }
            // Two rows swap their contents.
            10 | 11 => {
                let both = [one, other];
                let what = self.random.pick(&[
                    "body = o.body",
                    "embedding = o.embedding",
                    "body = o.body, embedding = o.embedding",
                ]);
                format!(
                    "UPDATE {name} AS t SET {what} FROM {name} AS o WHERE {} AND {} AND NOT ({})",
                    table.is_one_of("t", &both),
                    table.is_one_of("o", &both),
                    table.is_same()
                )
            }
            12 => format!(
                "MERGE INTO {name} AS t USING (SELECT {}) AS o ({key_list}) ON {} \
                 WHEN MATCHED AND t.note > 8 THEN DELETE \
                 WHEN MATCHED THEN UPDATE SET body = {source}, embedding = {vector} \
                 WHEN NOT MATCHED THEN INSERT ({key_list}, body) VALUES ({}, {source})",
                table.typed(&one),
                table.is_same(),
                table.typed(&one),
            ),
            13 => format!(
                "WITH gone AS (DELETE FROM {name} AS t WHERE {is_one} RETURNING t.body, t.embedding) \
                 INSERT INTO {name} ({key_list}, body, embedding) SELECT {}, body, embedding FROM gone ON CONFLICT DO NOTHING",
                table.typed(&other)
            ),
            14 => match table.partitions().as_slice() {
                [] => format!("UPDATE {name} AS t SET body = o.body FROM {name} AS o WHERE {which} AND {is_other}"),
                partitions => {
                    let partition = &partitions[self.random.below(partitions.len())];
                    format!("UPDATE {partition} AS t SET body = {source} WHERE {which}")
                }
            },
            15 => format!(
                "DO $do$ BEGIN UPDATE {name} AS t SET body = {source} WHERE {which};
                   BEGIN UPDATE {name} AS t SET body = NULL, embedding = {vector} WHERE {is_one}; RAISE no_data_found;
                   EXCEPTION WHEN no_data_found THEN NULL; END;
                   UPDATE {name} AS t SET note = note + 1, embedding = {vector} WHERE {is_one};
                 END $do$"
            ),
            _ => format!("UPDATE {name} AS t SET embedding = NULL WHERE {which}"),
        }
    }

    /// Reads embeddings, as an application does that writes them back later.
    fn load(&mut self, number: usize) -> Result<(), Error> {
        let table = &TABLES[number];
        let keys = self.keys(table, 3);
        self.last = format!("SELECT t.embedding::text FROM {} AS t WHERE {}", table.name, table.is_one_of("t", &keys));
        for message in self.client.simple_query(&self.last)? {
            if let postgres::SimpleQueryMessage::Row(row) = message
                && let Some(vector) = row.get(0)
            {
                self.remembered.push_front((number, vector.into()));
                self.remembered.truncate(MOST_REMEMBERED);
            }
        }
        Ok(())
    }

    fn copy(&mut self, number: usize) -> Result<(), Error> {
        let table = &TABLES[number];
        let keys = self.keys(table, 8);
        if self.random.chance(70) {
            self.execute(&format!("DELETE FROM {} AS t WHERE {}", table.name, table.is_one_of("t", &keys)))?;
        }
        let known: Vec<_> =
            self.remembered.iter().filter(|known| known.0 == number).map(|known| known.1.clone()).collect();
        let with_vectors = self.random.chance(40);
        let mut lines = String::new();
        for key in keys {
            let mut fields: Vec<_> = key.iter().map(|value| escaped(value)).collect();
            fields.push(if self.random.chance(5) {
                "\\N".into()
            } else {
                escaped(&table.any_source(&mut self.random))
            });
            if with_vectors {
                let is_known = !known.is_empty() && self.random.chance(70);
                fields.push(if is_known { known[self.random.below(known.len())].clone() } else { "\\N".into() });
            }
            lines += &(fields.join("\t") + "\n");
        }
        let more = if with_vectors { ", embedding" } else { "" };
        let statement = format!("COPY {} ({}, body{more}) FROM STDIN", table.name, table.key_list());
        self.last = format!("{statement}\n{lines}-- '[");
        let mut copy = self.client.copy_in(&statement)?;
        // The server reports errors at the end of the copy.
        copy.write_all(lines.as_bytes()).ok();
        copy.finish()?;
        self.run.count("COPY");
        Ok(())
    }
}
