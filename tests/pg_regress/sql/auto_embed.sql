\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\set png 'iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGP4z8DA8J+BkYHh////DAAe9gT9Ce00PgAAAABJRU5ErkJggg=='
\set digest 'regexp_replace(regexp_replace(ddl, $$[0-9a-f]{64}$$, $$DIGEST$$, $$g$$), $$''[0-9]+[.]$$, $$''OID.$$)'
SET clip.default_model = 'wide';
CREATE FUNCTION same(vector, vector) RETURNS boolean IMMUTABLE RETURN $1 <=> $2 < 1e-6;

-- One call: the statements are shown, then run; a second time there is nothing to do.
CREATE TABLE note (id int PRIMARY KEY, body text, other text);
SELECT :digest FROM clip_auto_embed('note', 'body', dry_run => true) AS ddl;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'note'::regclass;
SELECT :digest FROM clip_auto_embed('note', 'body') AS ddl;
SELECT clip_auto_embed('note', 'body');
SELECT relation, source, target, model, model_state, mode, on_error, index, "rows", embedded, pending, failed, on_vector FROM clip_auto_embed_status;

-- A row embeds itself; what the statement writes is replaced; NULL stays NULL.
INSERT INTO note VALUES (1, 'a cat'), (2, NULL), (3, 'a dog') RETURNING id, same(embedding, clip_embed_text(body));
INSERT INTO note (id, body, embedding) VALUES (4, 'a cow', clip_embed_text('a horse')) RETURNING same(embedding, clip_embed_text('a cow'));
INSERT INTO note (id, embedding) VALUES (5, clip_embed_text('from elsewhere')) RETURNING embedding;
-- Another column, or the same source again: nothing is computed.
SELECT calls FROM clip_loaded_models WHERE model = 'wide' AND tower = 'text' \gset before_
UPDATE note SET other = 'x';
UPDATE note SET body = body, embedding = embedding;
SELECT calls - :before_calls AS inferences FROM clip_loaded_models WHERE model = 'wide' AND tower = 'text';
SELECT id, same(embedding, clip_embed_text('a cow')) FROM note WHERE id = 4;
UPDATE note SET embedding = clip_embed_text('a horse') WHERE id = 4 RETURNING same(embedding, clip_embed_text('a cow'));
-- A new source: a new vector. A vector that is written beside it is replaced.
UPDATE note SET body = 'a bird' WHERE id = 1 RETURNING same(embedding, clip_embed_text('a bird'));
UPDATE note SET body = 'a fish', embedding = embedding WHERE id = 1 RETURNING same(embedding, clip_embed_text('a fish'));
UPDATE note SET body = 'a frog', embedding = clip_embed_text('mine') WHERE id = 1 RETURNING same(embedding, clip_embed_text('a frog'));
UPDATE note SET embedding = NULL WHERE id = 1 RETURNING same(embedding, clip_embed_text('a frog'));
UPDATE note SET body = NULL WHERE id = 1 RETURNING embedding;
UPDATE note SET body = '' WHERE id = 1 RETURNING same(embedding, clip_embed_text(''));
-- ON CONFLICT, MERGE, COPY.
INSERT INTO note (id, body) VALUES (3, 'two dogs') ON CONFLICT (id) DO UPDATE SET body = excluded.body RETURNING same(embedding, clip_embed_text('two dogs'));
-- The trigger fires twice for it, the model once.
SELECT calls FROM clip_loaded_models WHERE model = 'wide' AND tower = 'text' \gset before_
INSERT INTO note (id, body) VALUES (3, 'two wolves') ON CONFLICT (id) DO UPDATE SET body = excluded.body;
SELECT calls - :before_calls AS inferences FROM clip_loaded_models WHERE model = 'wide' AND tower = 'text';
INSERT INTO note (id, body) VALUES (3, 'no dog') ON CONFLICT DO NOTHING;
MERGE INTO note USING (VALUES (3, 'three dogs'), (6, 'a swan')) AS new (id, body) ON note.id = new.id
 WHEN MATCHED THEN UPDATE SET body = new.body WHEN NOT MATCHED THEN INSERT (id, body) VALUES (new.id, new.body);
COPY note (id, body) FROM stdin;
7	a tiger
8	\N
\.
SELECT id, same(embedding, clip_embed_text(body)) FROM note WHERE id IN (3, 6, 7, 8) ORDER BY id;
-- A trigger that writes the source comes first, whatever the statement names.
CREATE FUNCTION write_body() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.body := 'about ' || NEW.other; RETURN NEW; END $$;
CREATE TRIGGER write_body BEFORE UPDATE OF other ON note FOR EACH ROW EXECUTE FUNCTION write_body();
UPDATE note SET other = 'tea' WHERE id = 7 RETURNING body, same(embedding, clip_embed_text('about tea'));
DROP TRIGGER write_body ON note;

-- Columns are followed when they are renamed, and are not dropped unawares.
ALTER TABLE note RENAME body TO words;
ALTER TABLE note RENAME TO memo;
ALTER TABLE memo DROP COLUMN other;
INSERT INTO memo (id, words) VALUES (9, 'renamed') RETURNING same(embedding, clip_embed_text('renamed'));
SELECT relation, source FROM clip_auto_embed_status;
ALTER TABLE memo DROP COLUMN words;

-- Changes: the mode and what an error does; not the source, not the model.
SELECT :digest FROM clip_auto_embed('memo', 'words', on_error => 'null') AS ddl;
SELECT clip_auto_embed('memo', 'words', model => 'narrow');
ALTER TABLE memo ADD COLUMN more text;
SELECT clip_auto_embed('memo', 'more');
SET clip.default_model = 'narrow';
SELECT clip_auto_embed('memo', 'words', on_error => 'null');
SET clip.default_model = 'wide';
-- A second column of the same table, from another source.
SELECT :digest FROM clip_auto_embed('memo', 'more', 'more_embedding', 'narrow', create_index => false) AS ddl;
INSERT INTO memo (id, words, more) VALUES (10, 'one', 'two')
 RETURNING same(embedding, clip_embed_text('one')), same(more_embedding, clip_embed_text('two', 'narrow'));
SELECT clip_auto_embed_drop('memo', 'more_embedding', keep_column => false);
-- A vector of the application's own is kept where that was said.
SELECT :digest FROM clip_auto_embed('memo', 'words', on_error => 'null', on_vector => 'keep') AS ddl;
INSERT INTO memo (id, words, embedding) VALUES (90, 'a cow', clip_embed_text('a horse')) RETURNING same(embedding, clip_embed_text('a horse'));
UPDATE memo SET words = 'a goat' WHERE id = 90 RETURNING same(embedding, clip_embed_text('a goat'));
DELETE FROM memo WHERE id = 90;
SELECT clip_auto_embed('memo', 'words', on_vector => 'sometimes');
-- The record of the model stays with the vectors.
SELECT :digest FROM clip_auto_embed_drop('memo') AS ddl;
SELECT clip_auto_embed_drop('memo');
INSERT INTO memo (id, words) VALUES (11, 'not embedded') RETURNING embedding;
SELECT relation, source, target, model, mode FROM clip_auto_embed_status;
SELECT clip_auto_embed('memo', 'words', model => 'narrow');
DROP TRIGGER zz_clip_embedding ON memo;

-- Vectors that are there already: nobody knows whose, until someone says so.
SELECT clip_auto_embed('memo', 'words');
SELECT :digest FROM clip_adopt('memo', 'embedding', 'wide') AS ddl;
SELECT clip_adopt('memo', 'embedding', 'wide');
SELECT relation, source, target, model, mode, embedded, pending FROM clip_auto_embed_status;
INSERT INTO memo (id, words) VALUES (12, 'still not embedded') RETURNING embedding;
SELECT clip_backfill_batch('memo');
SELECT :digest FROM clip_auto_embed('memo', 'words', model => 'wide') AS ddl;
SELECT clip_backfill_batch('memo', 'embedding', 1);
SELECT clip_backfill_batch('memo');
SELECT clip_backfill_batch('memo');
SELECT id, same(embedding, clip_embed_text(words)) FROM memo WHERE id >= 11 ORDER BY id;
SELECT clip_adopt('memo', 'embedding', 'narrow');

-- Bad arguments.
SELECT clip_auto_embed('memo', 'missing');
SELECT clip_auto_embed('memo', 'id');
SELECT clip_auto_embed('memo', 'words', 'id');
SELECT clip_auto_embed('memo', NULL);
SELECT clip_auto_embed('memo', 'words', mode => 'later');
SELECT clip_auto_embed('memo', 'words', on_error => 'skip');
SELECT clip_auto_embed('memo', 'words', mode => 'queue', on_error => 'null');
SELECT clip_auto_embed('memo', 'words', model => 'nowhere');
SELECT clip_auto_embed('clip_models', 'name');
CREATE TABLE keyless (body text, made text GENERATED ALWAYS AS (upper(body)) STORED, old vector(3));
SELECT clip_auto_embed('keyless', 'made');
SELECT clip_auto_embed('keyless', 'body', 'old');
SELECT clip_auto_embed('keyless', 'body', mode => 'statement');
SELECT clip_auto_embed('keyless', 'body', mode => 'queue');
SELECT :digest FROM clip_auto_embed('keyless', 'body', create_index => false) AS ddl;
INSERT INTO keyless (body) VALUES ('no key') RETURNING same(embedding, clip_embed_text('no key'));
SELECT clip_backfill_batch('keyless');
SELECT length(clip_auto_embed('keyless', 'body', create_index => false, on_error => 'null')) > 0 AS changed;
SET clip.text_overflow = 'error';
INSERT INTO keyless (body) SELECT repeat('long ', 100 + i % 2) FROM generate_series(1, 4) AS i;
RESET clip.text_overflow;
SELECT regexp_replace(key::text, '[0-9a-f]{64}', 'DIGEST') AS key, sqlstate, attempts FROM clip_failures;
CREATE TEMP TABLE passing (id int PRIMARY KEY, body text);
SELECT clip_auto_embed('passing', 'body', mode => 'queue');
SELECT :digest FROM clip_auto_embed('passing', 'body', create_index => false) AS ddl;
INSERT INTO passing VALUES (1, 'temporary') RETURNING same(embedding, clip_embed_text('temporary'));
SELECT clip_backfill_batch('memo', 'embedding', 0);
CALL clip_backfill('memo', 'nothing');
CREATE TRIGGER wrong AFTER INSERT ON keyless FOR EACH ROW EXECUTE FUNCTION clip_auto_embed_row('row', 'wide', 'x', 'error');
INSERT INTO keyless (body) VALUES ('wrong');
DROP TRIGGER wrong ON keyless;
CREATE TRIGGER wrong BEFORE INSERT ON keyless FOR EACH ROW EXECUTE FUNCTION clip_auto_embed_row('row', 'wide', 'x', 'error');
INSERT INTO keyless (body) VALUES ('wrong');
DROP TABLE keyless;

-- The same of pictures.
CREATE TABLE sheet (id int PRIMARY KEY, file bytea);
SELECT length(clip_auto_embed('sheet', 'file', create_index => false)) > 0 AS made;
INSERT INTO sheet VALUES (1, decode(:'png', 'base64'));
SELECT calls FROM clip_loaded_models WHERE model = 'wide' AND tower = 'image' \gset before_
INSERT INTO sheet VALUES (1, decode(:'png', 'base64') || '\x00') ON CONFLICT (id) DO UPDATE SET file = excluded.file;
SELECT calls - :before_calls AS inferences FROM clip_loaded_models WHERE model = 'wide' AND tower = 'image';
DROP TABLE sheet;

-- Statement mode: one batch per statement.
CREATE TABLE picture (tenant int, name text, file bytea, PRIMARY KEY (tenant, name));
SELECT :digest FROM clip_auto_embed('picture', 'file', mode => 'statement') AS ddl;
INSERT INTO picture SELECT 1, 'p' || i, convert_to('P6 1 1 255 ', 'UTF8') FROM generate_series(1, 3) i;
SELECT count(*) FROM picture;
SELECT :digest FROM clip_auto_embed('picture', 'file', mode => 'statement', on_error => 'null') AS ddl;
INSERT INTO picture SELECT 1, 'p' || i, CASE i WHEN 2 THEN 'bad' ELSE decode(:'png', 'base64') END FROM generate_series(1, 20) i;
SELECT count(*), count(embedding) FROM picture;
SELECT relation, target, key, sqlstate, message, attempts, retry_at FROM clip_failures;
-- What failed is not tried again because something else changed.
UPDATE picture SET tenant = 2 WHERE name = 'p3';
UPDATE picture SET embedding = NULL WHERE name = 'p4';
SELECT tenant, name, embedding IS NOT NULL AS embedded FROM picture WHERE name IN ('p2', 'p3', 'p4') ORDER BY name;
SELECT clip_backfill_batch('picture');
SELECT attempts FROM clip_failures;
-- A new source is another matter.
UPDATE picture SET file = (SELECT file FROM picture WHERE name = 'p1') WHERE name = 'p2';
SELECT count(*), count(embedding) FROM picture;
SELECT count(*) FROM clip_failures;
UPDATE picture SET file = 'also bad' WHERE name = 'p5';
SELECT key, sqlstate FROM clip_failures;
SELECT clip_retry('picture');
CALL clip_backfill('picture');
SELECT key, sqlstate FROM clip_failures;

-- What is too large is not read; it is tried again once it is not.
SET clip.max_image_bytes = '1kB';
UPDATE picture SET file = file || decode(repeat('00', 2000), 'hex') WHERE name = 'p6';
SELECT key, sqlstate, message FROM clip_failures WHERE sqlstate = '54000';
SELECT clip_backfill_batch('picture');
SELECT attempts FROM clip_failures WHERE sqlstate = '54000';
RESET clip.max_image_bytes;
SELECT clip_backfill_batch('picture');
SELECT count(*) FROM clip_failures WHERE sqlstate = '54000';

-- Inheritance: each table has its own trigger. Partitions are part of their table.
CREATE TABLE child () INHERITS (memo);
INSERT INTO child (id, words) VALUES (100, 'of the child') RETURNING embedding;
SELECT clip_backfill_batch('memo'), "rows" FROM clip_auto_embed_status WHERE relation = 'memo';
CREATE TABLE log (day int, id int, body text, PRIMARY KEY (day, id)) PARTITION BY LIST (day);
CREATE TABLE log_1 (id int NOT NULL, dropped int, body text, day int NOT NULL);
ALTER TABLE log_1 DROP COLUMN dropped;
ALTER TABLE log ATTACH PARTITION log_1 FOR VALUES IN (1);
CREATE TABLE log_2 PARTITION OF log FOR VALUES IN (2);
SELECT clip_auto_embed('log_1', 'body');
SELECT :digest FROM clip_auto_embed('log', 'body', on_error => 'null') AS ddl;
INSERT INTO log VALUES (1, 1, 'one'), (2, 2, 'two') RETURNING day, same(embedding, clip_embed_text(body));
INSERT INTO log_1 (day, id, body) VALUES (1, 3, 'three') RETURNING same(embedding, clip_embed_text(body));
UPDATE log SET day = 2 WHERE id = 1 RETURNING same(embedding, clip_embed_text('one'));
UPDATE log SET day = 1, body = 'moved' WHERE id = 2 RETURNING same(embedding, clip_embed_text('moved'));
CREATE TABLE log_3 PARTITION OF log FOR VALUES IN (3);
INSERT INTO log VALUES (3, 4, 'later') RETURNING same(embedding, clip_embed_text(body));
SET clip.text_overflow = 'error';
INSERT INTO log_1 (day, id, body) SELECT 1, 5, repeat('long ', 100) RETURNING embedding;
RESET clip.text_overflow;
SELECT relation, key, sqlstate FROM clip_failures WHERE relation = 'log';
CALL clip_backfill('log');
SELECT clip_retry('log'), clip_backfill_batch('log');
SELECT count(*), count(embedding) FROM log;
-- Failures go away with their reason.
SET clip.text_overflow = 'error';
INSERT INTO log (day, id, body) SELECT 2, i, repeat('long ', 100) FROM generate_series(10, 12) i;
UPDATE log SET body = 'short' WHERE id = 10;
SELECT key FROM clip_failures WHERE relation = 'log' ORDER BY 1;
DELETE FROM log WHERE id = 11;
SELECT clip_backfill_batch('log');
SELECT key FROM clip_failures WHERE relation = 'log' ORDER BY 1;
RESET clip.text_overflow;

-- A new model: the old vectors serve until the new ones are complete.
CREATE TABLE shelf (id int PRIMARY KEY, title text NOT NULL, embedding vector(48) NOT NULL);
SELECT :digest FROM clip_auto_embed('shelf', 'title') AS ddl;
CREATE INDEX shelf_l2 ON shelf USING hnsw (embedding vector_l2_ops) WITH (m = 8);
CREATE ROLE reader;
GRANT SELECT (embedding) ON shelf TO reader;
INSERT INTO shelf SELECT i, 'book ' || i FROM generate_series(1, 50) i;
CREATE VIEW of_shelf AS SELECT embedding FROM shelf;
CALL clip_reembed('shelf', 'embedding', 'narrow');
DROP VIEW of_shelf;
CALL clip_reembed('shelf', 'embedding', 'narrow');
SELECT count(*) FILTER (WHERE same(embedding, clip_embed_text(title, 'narrow'))) FROM shelf;
INSERT INTO shelf VALUES (51, 'a new book') RETURNING same(embedding, clip_embed_text('a new book', 'narrow'));
SELECT relation, source, target, model, mode FROM clip_auto_embed_status WHERE relation = 'shelf';
SELECT indexdef FROM pg_indexes WHERE tablename = 'shelf' ORDER BY 1;
SELECT has_column_privilege('reader', 'shelf', 'embedding', 'SELECT'), attnotnull, atttypid::regtype FROM pg_attribute WHERE attrelid = 'shelf'::regclass AND attname = 'embedding';
CALL clip_reembed('shelf', 'embedding', 'narrow');
SELECT clip_auto_embed('shelf', 'title', model => 'narrow', mode => 'queue');
BEGIN;
CALL clip_backfill('shelf');
COMMIT;

-- Who does not own the table attaches nothing; who may only insert needs no other right.
GRANT INSERT ON shelf TO reader;
SET ROLE reader;
SELECT clip_auto_embed('shelf', 'title', 'another');
SELECT clip_auto_embed_drop('shelf');
SELECT clip_adopt('shelf', 'embedding', 'wide');
SELECT clip_retry('shelf');
CALL clip_reembed('shelf', 'embedding', 'wide');
CALL clip_backfill('shelf');
INSERT INTO shelf (id, title) VALUES (52, 'by another role');
SELECT relation, "rows", embedded FROM clip_auto_embed_status WHERE relation = 'shelf';
SELECT count(*) FROM clip_failures;
SELECT _clip_forget_failures('memo', 'zz_clip_embedding');
SELECT _clip_backfill_step('memo', 'zz_clip_embedding', 10, true);
SELECT count(*) FROM _clip.failures;
RESET ROLE;
SELECT count(*) FILTER (WHERE embedding IS NOT NULL) FROM shelf WHERE id = 52;

-- What others put into the search_path is not found: neither operators and functions that fit better, nor, by a worker's
-- or a backfill's doing, anything but what the table's own triggers look for.
CREATE SCHEMA evil;
CREATE FUNCTION evil.boom(regclass, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE OPERATOR evil.= (LEFTARG = regclass, RIGHTARG = regclass, FUNCTION = evil.boom);
CREATE FUNCTION evil.boom(regtype, regtype) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE OPERATOR evil.= (LEFTARG = regtype, RIGHTARG = regtype, FUNCTION = evil.boom);
CREATE FUNCTION evil.boom(jsonb[], jsonb) RETURNS jsonb[] LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE OPERATOR evil.|| (LEFTARG = jsonb[], RIGHTARG = jsonb, FUNCTION = evil.boom);
CREATE FUNCTION evil.format(text, name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.format(text, name, name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.format(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.format(text, bigint, regclass, bigint) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.unnest(name[]) RETURNS SETOF name LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.octet_length(varchar) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.jsonb_build_object(text, integer) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE TABLE target_of (id int PRIMARY KEY, body varchar(900), path text);
CREATE FUNCTION note_path() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.path := current_setting('search_path'); RETURN NEW; END $$;
CREATE TRIGGER note_path BEFORE UPDATE ON target_of FOR EACH ROW EXECUTE FUNCTION note_path();
SET search_path = public, evil;
SELECT length(clip_auto_embed('target_of', 'body', mode => 'statement', on_error => 'null', create_index => false)) > 0 AS made;
SET clip.text_overflow = 'error';
INSERT INTO target_of VALUES (1, 'one'), (2, repeat('long ', 100));
RESET clip.text_overflow;
UPDATE target_of SET body = 'two' WHERE id = 1;
SELECT clip_retry('target_of'), clip_backfill_batch('target_of');
UPDATE target_of SET embedding = NULL;
UPDATE target_of SET body = body || '.';
CALL clip_backfill('target_of');
CALL clip_reembed('target_of', 'embedding', 'narrow');
SELECT id, path, same(embedding, clip_embed_text(body, 'narrow')) FROM target_of ORDER BY id;
SELECT mode, model, embedded, pending, failed FROM clip_auto_embed_status WHERE target = 'embedding' AND relation::text = 'target_of';
RESET search_path;
DROP TABLE target_of;
SET client_min_messages = warning;
DROP SCHEMA evil CASCADE;
RESET client_min_messages;

-- A query with a model that made no column is worth a warning, once.
SELECT vector_dims(clip_embed_text('which model?', 'bidirectional'));
SELECT vector_dims(clip_embed_text('which model?', 'bidirectional'));

RESET clip.default_model;
DROP TABLE memo, child, picture, log, shelf;
DROP ROLE reader;
DROP FUNCTION same, write_body, note_path;
