-- Searches: what they find, what they run, and what they refuse. Vectors of a fan, in equal steps of distance.
\set SHOW_CONTEXT never
CREATE TABLE thing (id int PRIMARY KEY, kind int, title text, embedding vector(3), words tsvector GENERATED ALWAYS AS (to_tsvector('english', title)) STORED);
INSERT INTO thing SELECT i, i % 100, CASE i % 1000 WHEN 7 THEN 'a red lamp' ELSE 'thing ' || i END, ARRAY[cos(sqrt(i) / 100), sin(sqrt(i) / 100), 0]::vector
  FROM generate_series(1, 20000) AS i;
CREATE INDEX ON thing USING hnsw (embedding vector_cosine_ops);
CREATE INDEX ON thing USING gin (words);
ANALYZE thing;
-- The lines of a plan that show scans and conditions. The releases of the server name subqueries and windows differently.
CREATE FUNCTION scans(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || replace(replace(query, '$1', $q$'[1,0,0]'$q$), '$2', '40') LOOP
    IF line ~ 'Scan|Order By|Index Cond|Filter' AND line !~ 'CTE Scan|Subquery Scan' THEN
      line := regexp_replace(regexp_replace(line, '\$\d+|\((Init|Sub)Plan \d+\)\.col\d+', 'subquery', 'g'), '\mOVER (\(\?\)|w\d+)', 'OVER window', 'g');
      RETURN NEXT trim(line, ' ->');
    END IF;
  END LOOP;
END $$;
SELECT key, distance < 0.001 AS near FROM clip_search_vector('thing', '[1,0,0]', 3);
-- One in a hundred matches, and the ten are there; the plain statement gives none without settings.
SELECT count(*), count(*) FILTER (WHERE kind = 7) AS right, bool_and(id <= 907) AS nearest
  FROM clip_search_vector('thing', '[1,0,0]', 10, filter => 'kind = 7') JOIN thing ON id = key;
SELECT count(*) FROM (SELECT FROM thing WHERE kind = 7 ORDER BY embedding <=> '[0,1,0]' LIMIT 10) AS found;
BEGIN; SET LOCAL hnsw.iterative_scan = strict_order;
SELECT count(*) FROM (SELECT FROM thing WHERE kind = 7 ORDER BY embedding <=> '[0,1,0]' LIMIT 10) AS found;
COMMIT;
-- More than the index looks at; more than there are.
SELECT count(*) FROM clip_search_vector('thing', '[1,0,0]', 150, filter => 'kind = 7');
SELECT count(*) FROM clip_search_vector('thing', '[1,0,0]', 2000);
SELECT count(*) FROM clip_search_vector('thing', '[0,1,0]', 10, filter => 'id = 1');
SELECT count(*) FROM clip_search_vector('thing', '[0,1,0]', 10, filter => 'id IN (SELECT 3 UNION SELECT 4) AND true');
-- The settings end with the search; larger ones of the session's stay in force.
SHOW hnsw.iterative_scan;
SHOW hnsw.ef_search;
SELECT k, wide, (SELECT count(*) FROM clip_search_vector('thing', '[1,0,0]', k, filter => format($$current_setting('hnsw.ef_search') = '%s' AND current_setting('hnsw.iterative_scan') = 'relaxed_order'$$, wide))) AS found
  FROM (VALUES (10, 800), (450, 900), (5000, 1000)) AS v (k, wide);
SELECT _clip_candidates('thing', 10) AS few, _clip_candidates('thing', 1000) AS many;
UPDATE pg_class SET reltuples = 100000 WHERE relname = 'thing';
SELECT _clip_candidates('thing', 10) AS few, _clip_candidates('thing', 1000) AS many;
UPDATE pg_class SET reltuples = 1000000 WHERE relname = 'thing';
SELECT _clip_candidates('thing', 10) AS few, _clip_candidates('thing', 1000) AS many;
ANALYZE thing;

SET hnsw.ef_search = 900;
SELECT count(*) FROM clip_search_vector('thing', '[1,0,0]', 10, filter => $$current_setting('hnsw.ef_search') = '900'$$);
SHOW hnsw.ef_search;
RESET hnsw.ef_search;
-- The statement, and how it is planned.
SELECT clip_search_sql('thing', 5);
SELECT clip_search_sql('thing', 5, filter => 'kind = 7 -- and nothing else');
SELECT scans(clip_search_sql('thing', 5));
SELECT scans(clip_search_sql('thing', 5, filter => 'kind = 7'));
SELECT scans(clip_search_sql('thing', 5, filter => 'id < 10'));
CREATE FUNCTION statements(filter text DEFAULT NULL, min_relevance float8 DEFAULT NULL, per name DEFAULT NULL, per_size int DEFAULT 1, exclude jsonb DEFAULT NULL,
  OUT nearest text, OUT exact text) LANGUAGE sql AS $$
SELECT nearest, exact FROM _clip_search_statements('thing', 5, 'embedding', filter, NULL, NULL, false, min_relevance, per, per_size, exclude, NULL, false) $$;
SELECT scans(nearest) FROM statements();
SELECT scans(exact) FROM statements();
SELECT scans(nearest) FROM statements(min_relevance => 3);
SELECT scans(nearest) FROM statements(per => 'kind');
SELECT scans(exact) FROM statements(per => 'kind');
CREATE INDEX thing_kind_idx ON thing (kind);
SELECT scans(nearest) FROM statements(per => 'kind', per_size => 2);
DROP INDEX thing_kind_idx;
SELECT scans(nearest) FROM statements(exclude => '[1, 2]');
SELECT scans(nearest) FROM statements(per => 'kind', exclude => '[1, 2]');
SELECT scans(nearest) FROM statements(filter => 'id > 7', per => 'kind', exclude => '[1, 2]');
-- What ORMs write.
SELECT scans('SELECT id FROM thing WHERE kind = 7 ORDER BY embedding <=> $1 LIMIT 10');
SELECT scans('WITH nearest AS MATERIALIZED (SELECT id, embedding <=> $1 AS distance FROM thing WHERE kind = 7 ORDER BY distance LIMIT 10) SELECT * FROM nearest ORDER BY distance + 0');
-- A distance that is not ascending, or computed with, is served by no index.
SELECT scans('SELECT id FROM thing ORDER BY 1 - (embedding <=> $1) DESC LIMIT 10');
-- Ranks, the best rows of groups, and excluded keys.
SELECT rank, key FROM clip_search_vector('thing', '[1,0,0]', 3);
SELECT rank, key, kind FROM clip_search_vector('thing', '[1,0,0]', 3, per => 'kind', per_size => 2) JOIN thing ON id = key ORDER BY rank, distance;
-- The nearest 700 rows belong to seven of the groups.
ALTER TABLE thing ADD COLUMN batch int;
UPDATE thing SET batch = NULLIF(id / 100, 3);
ANALYZE thing;
SELECT rank, key, batch FROM clip_search_vector('thing', '[1,0,0]', 7, per => 'batch') JOIN thing ON id = key ORDER BY rank;
SELECT rank, array_agg(key ORDER BY distance) FROM clip_search_vector('thing', '[1,0,0]', 4, per => 'batch', per_size => 3) GROUP BY rank ORDER BY rank;
SELECT count(*), max(rank), count(DISTINCT batch) FROM clip_search_vector('thing', '[1,0,0]', 300, per => 'batch') JOIN thing ON id = key;
SELECT rank, batch FROM clip_search_vector('thing', '[1,0,0]', 2, filter => 'batch > 150', per => 'batch') JOIN thing ON id = key ORDER BY rank;
-- Excluded rows; with groups, their groups.
SELECT rank, key FROM clip_search_vector('thing', '[1,0,0]', 2, exclude => '[1, {"id": 2}]');
SELECT rank, key FROM clip_search_vector('thing', '[1,0,0]', 2, exclude => '1');
SELECT rank, key FROM clip_search_vector('thing', '[1,0,0]', 2, exclude => '[]');
SELECT rank, batch FROM clip_search_vector('thing', '[1,0,0]', 3, per => 'batch', exclude => '[5, 155, 320]') JOIN thing ON id = key ORDER BY rank;
-- Pages that neither repeat nor lose a row.
WITH RECURSIVE page (number, keys) AS (
  SELECT 1, (SELECT jsonb_agg(key) FROM clip_search_vector('thing', '[1,0,0]', 10))
  UNION ALL
  SELECT number + 1, keys || (SELECT jsonb_agg(key) FROM clip_search_vector('thing', '[1,0,0]', 10, exclude => keys)) FROM page WHERE number < 20
) SELECT number, jsonb_array_length(keys) AS keys, (SELECT count(DISTINCT k) FROM jsonb_array_elements(keys) AS k) AS different,
         (SELECT count(*) FROM jsonb_array_elements(keys) AS k WHERE k::int <= 200) AS nearest FROM page WHERE number = 20;
-- Relevance: standard deviations by which a row is nearer than the average row.
CREATE TABLE few AS SELECT * FROM thing WHERE id % 100 = 1;
SELECT bool_and(abs(s.relevance - (t.mean - s.distance) / t.deviation) < 1e-9) AS same, count(*) AS found, min(s.relevance) < -1 AS far
  FROM clip_search_vector('few', '[1,0,0]', 1000, key_column => 'id', min_relevance => '-Infinity') AS s,
       (SELECT avg(embedding <=> '[1,0,0]') AS mean, stddev_pop(embedding <=> '[1,0,0]') AS deviation FROM few) AS t;
SELECT relevance FROM clip_search_vector('few', '[1,0,0]', 1, key_column => 'id', filter => 'id = 1', min_relevance => 0) WHERE relevance BETWEEN 1 AND 3 IS NOT TRUE;
DELETE FROM few WHERE id > 1;
SELECT relevance FROM clip_search_vector('few', '[1,0,0]', 1, key_column => 'id', min_relevance => 0);
SELECT count(*) FROM clip_search_vector('few', '[1,0,0]', 1, key_column => 'id', min_relevance => 0.1);
DROP TABLE few;
-- A sample of the rows of a large table gives the mean and the deviation.
SELECT count(*) BETWEEN 1000 AND 9999 AS some, bool_and(relevance >= 0.5) AS relevant FROM clip_search_vector('thing', '[1,0,0]', 10000, min_relevance => 0.5);
SELECT count(*) FROM clip_search_vector('thing', '[1,0,0]', 10, min_relevance => 'Infinity');
SELECT key, relevance FROM clip_search_vector('thing', '[1,0,0]', 1);
-- Several queries in one call; the rows like a row; a blend.
SELECT q.number, s.rank, s.key FROM unnest(ARRAY['[1,0,0]', '[0,1,0]']::vector[]) WITH ORDINALITY AS q (query, number),
  clip_search_vector('thing', q.query, 2) AS s ORDER BY number, rank;
SELECT rank, key FROM clip_search_vector('thing', (SELECT embedding FROM thing WHERE id = 100), 2, exclude => '100');
SELECT rank, key FROM clip_search_vector('thing', (SELECT clip_blend(array_agg(embedding)) FROM thing WHERE id IN (100, 121)), 2);
-- A prepared statement, with all parameters.
PREPARE search (vector, int, text, float8, name, int, jsonb) AS
  SELECT rank, key FROM clip_search_vector('thing', $1, $2, filter => $3, min_relevance => $4, per => $5, per_size => $6, exclude => $7);
EXECUTE search ('[1,0,0]', 2, 'id > 50', '-Infinity', 'kind', 2, '[51]');
EXECUTE search ('[1,0,0]', 2, NULL, NULL, NULL, 1, NULL);
DEALLOCATE search;
-- Errors.
SELECT key FROM clip_search_vector('thing', '[1,0,0]', exclude => '["one"]');
SELECT key FROM clip_search_vector('thing', '[1,0,0]', exclude => '{"key": 1}');
SELECT key FROM clip_search_vector('thing', '[1,0,0]', exclude => 'null');
SELECT key FROM clip_search_vector('thing', '[1,0,0]', exclude => '[[1]]');
SELECT key FROM clip_search_vector('thing', '[1,0,0]', per => 'nothing');
SELECT key FROM clip_search_vector('thing', '[1,0,0]', per => 'kind', per_size => 0);
SELECT key FROM clip_search_vector('thing', '[1,0,0]', per => 'kind', per_size => NULL);
SELECT key FROM clip_search_vector('thing', '[1,0,0]', min_relevance => 'NaN');
ALTER TABLE thing DROP COLUMN batch;
ANALYZE thing;
-- Other indexes: inner product, half precision.
CREATE TABLE other_thing (LIKE thing INCLUDING GENERATED);
INSERT INTO other_thing SELECT id, kind, title, embedding FROM thing WHERE id <= 5000;
CREATE INDEX ON other_thing USING hnsw (embedding vector_ip_ops);
ANALYZE other_thing;
-- Of these vectors it is not known that their length is one; of a model's it is.
SELECT scans(clip_search_sql('other_thing', 5));
CREATE TRIGGER zz_clip_embedding BEFORE INSERT OR UPDATE ON other_thing FOR EACH ROW WHEN (NEW.embedding IS NOT NULL)
  EXECUTE FUNCTION clip_auto_embed_row('stamp', 'narrow', '', 'error');
ALTER TABLE other_thing DISABLE TRIGGER zz_clip_embedding;
SELECT scans(clip_search_sql('other_thing', 5));
DROP INDEX other_thing_embedding_idx;
CREATE INDEX ON other_thing USING hnsw ((embedding::halfvec(3)) halfvec_l2_ops);
ANALYZE other_thing;
SELECT clip_search_sql('other_thing', 5);
SELECT scans(clip_search_sql('other_thing', 5));
SELECT key FROM clip_search_vector('other_thing', '[1,0,0]', 1, key_column => 'id');
-- Rows without a vector are not found; a column called "distance" is not mistaken.
CREATE TABLE "odd%s\1" ("a ""name" int PRIMARY KEY, distance text, "an %embedding" vector(3), gone int);
ALTER TABLE "odd%s\1" DROP COLUMN gone;
INSERT INTO "odd%s\1" VALUES (1, 'far', '[0,1,0]'), (2, 'near', '[1,0,0]'), (3, 'nowhere', NULL);
SELECT key, key_json, distance FROM clip_search_vector('"odd%s\1"', '[1,0,0]', 3, 'an %embedding');
SELECT clip_search_sql('"odd%s\1"', 3, 'an %embedding');
-- Views, and partitioned tables.
CREATE VIEW titled AS SELECT id, title, embedding FROM thing WHERE kind < 50;
SELECT key FROM clip_search_vector('titled', '[1,0,0]', 2, filter => 'id > 60');
SELECT key FROM clip_search_vector('titled', '[1,0,0]', 2, filter => 'id > 60', key_column => 'id');
SELECT scans(clip_search_sql('titled', 5));
CREATE TABLE parted (id int, embedding vector(3)) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
INSERT INTO parted SELECT id, embedding FROM thing WHERE id < 20;
CREATE INDEX ON parted USING hnsw (embedding vector_cosine_ops);
SELECT key FROM clip_search_vector('parted', '[1,0,0]', 2, filter => 'id > 8', key_column => 'id');
-- Indexes of partitions alone may leave out what the partitioned table has no index to be known by.
SELECT relation, may_omit FROM (VALUES ('parted', 'embedding'), ('"odd%s\1"', 'an %embedding'), ('titled', 'embedding')) AS r (relation, target), _clip_searched(relation::regclass, target, NULL, '$1', NULL);
-- An index by another measure does not order as the cosine does.
CREATE INDEX ON "odd%s\1" USING hnsw ("an %embedding" vector_l1_ops);
SELECT clip_search_sql('"odd%s\1"', 3, 'an %embedding') LIKE '%<=>%<=>%' AS cosine, _clip_vector_index('"odd%s\1"', 'an %embedding') IS NULL AS none;
-- Names that mean something in a pattern, with an index in half precision.
CREATE INDEX ON "odd%s\1" USING hnsw (("an %embedding"::halfvec(3)) halfvec_cosine_ops);
SELECT clip_search_sql('"odd%s\1"', 3, 'an %embedding');
SELECT distance FROM clip_search_vector('"odd%s\1"', '[1,0,0]', 1, 'an %embedding');
SELECT * FROM clip_near_duplicates('"odd%s\1"', 'an %embedding', 2);
SELECT recall, queries FROM clip_index_recall('"odd%s\1"', 'an %embedding', ef_search => '{40}');
-- By words and by pictures, with the model of the column.
CREATE TABLE named (id int PRIMARY KEY, name text);
SELECT clip_auto_embed('named', 'name', model => 'narrow', create_index => false) IS NOT NULL AS made;
INSERT INTO named VALUES (1, 'cat'), (2, 'dog'), (3, 'a boat');
SELECT name, round(distance::numeric, 4) AS distance FROM clip_search('named', 'dog', 1) JOIN named ON id = key;
SELECT count(*) FROM clip_search_image('named', '\x', 1);
SELECT * FROM clip_search('named', 'dog', model => 'wide');
SELECT * FROM clip_search('named', NULL);
-- The query as a vector, by the model of the column; an index serves it.
SELECT clip_query('named', 'dog') = clip_embed_text('dog', 'narrow') AS same, clip_query('named', NULL) IS NULL AS nothing;
CREATE TABLE drawn (id int PRIMARY KEY, picture bytea, title text, embedding vector(32));
INSERT INTO drawn (id, title, embedding) SELECT i, 'drawing ' || i, clip_embed_text('drawing ' || i, 'narrow') FROM generate_series(1, 20) AS i;
SELECT clip_adopt('drawn', 'embedding', 'narrow') IS NOT NULL AS adopted;
CREATE INDEX ON drawn USING hnsw (embedding vector_cosine_ops);
SET enable_seqscan = off;
SELECT line FROM scans($$SELECT title FROM drawn ORDER BY embedding <=> (SELECT clip_query('drawn', 'drawing 7')) LIMIT 1$$) AS line WHERE line LIKE '%Scan%';
SELECT title FROM drawn ORDER BY embedding <=> (SELECT clip_query('drawn', 'drawing 7')) LIMIT 1;
RESET enable_seqscan;
SELECT clip_query_image('drawn', '\x');
SELECT clip_query('drawn', 'a cat', 'title');
SELECT clip_query('drawn', 'a cat', 'nothing');
SELECT clip_query('thing', 'a cat');
SELECT clip_query('titled', 'a cat');
SELECT clip_query(NULL, 'a cat');
SELECT clip_query('named', 'a cat', NULL);
-- Whole rows of a search: its keys joined with the table.
EXPLAIN (COSTS off) SELECT title, distance FROM clip_search('drawn', 'drawing 7', 3) JOIN drawn ON id = key ORDER BY distance;
SELECT title, distance = 0 AS same FROM clip_search('drawn', 'drawing 7', 3) JOIN drawn ON id = key ORDER BY distance LIMIT 1;
-- Keys of other types than integers, of several columns, of a domain; a column that is named instead; none.
CREATE DOMAIN short AS varchar(10);
CREATE TABLE keyed_uuid (id uuid PRIMARY KEY, embedding vector(2));
CREATE TABLE keyed_text (id short PRIMARY KEY, other smallint, embedding vector(2));
CREATE TABLE keyed_both (a int, b date, embedding vector(2), PRIMARY KEY (a, b));
CREATE TABLE keyed_unique (a numeric NOT NULL UNIQUE, embedding vector(2));
CREATE TABLE keyed_float (a float8 PRIMARY KEY, embedding vector(2));
CREATE TABLE keyless (title text, code int, embedding vector(2));
INSERT INTO keyed_uuid VALUES ('00000000-0000-0000-0000-000000000001', '[1,0]');
INSERT INTO keyed_text VALUES ('one', 7, '[1,0]');
INSERT INTO keyed_both VALUES (1, '2026-01-02', '[1,0]');
INSERT INTO keyed_unique VALUES (1.50, '[1,0]');
INSERT INTO keyed_float VALUES (0.1::float8 + 0.2, '[1,0]');
INSERT INTO keyless VALUES ('one', 1, '[1,0]');
SELECT * FROM clip_search_vector('keyed_uuid', '[1,0]');
SELECT * FROM clip_search_vector('keyed_text', '[1,0]');
SELECT * FROM clip_search_vector('keyed_text', '[1,0]', key_column => 'other');
SELECT * FROM clip_search_vector('keyed_both', '[1,0]');
SELECT count(*) FROM clip_search_vector('keyed_both', '[1,0]', exclude => '[{"a": 1, "b": "2026-01-02"}]');
SELECT count(*) FROM clip_search_vector('keyed_both', '[1,0]', exclude => '{"a": 1, "b": "2026-01-03"}');
SELECT count(*) FROM clip_search_vector('keyed_both', '[1,0]', exclude => '[1]');
SELECT count(*) FROM clip_search_vector('keyed_uuid', '[1,0]', exclude => '["00000000-0000-0000-0000-000000000001"]');
SELECT count(*) FROM clip_search_vector('keyed_text', '[1,0]', exclude => '["one", "a \"quoted\", {one}"]');
SELECT count(*) FROM clip_search_vector('keyed_unique', '[1,0]', exclude => '[1.5]');
-- Lengths of types, domains, keys that are NULL, and vectors of length zero.
CREATE TABLE keyed_char (id char(5) PRIMARY KEY, b bit(3) NOT NULL UNIQUE, embedding vector(2));
INSERT INTO keyed_char VALUES ('abcde', '101', '[1,0]'), ('abcdf', '111', '[1,0.1]'), ('a', '100', '[1,0.2]');
SELECT key_text FROM clip_search_vector('keyed_char', '[1,0]', exclude => '["abcde"]');
SELECT key_text FROM clip_search_vector('keyed_char', '[1,0]', exclude => '["a"]');
SELECT key_json FROM clip_search_vector('keyed_char', '[1,0]', key_column => 'b', exclude => '["101"]');
CREATE DOMAIN named_group AS varchar(10);
CREATE TABLE keyed_null (id int, g named_group, embedding vector(2));
INSERT INTO keyed_null VALUES (1, 'one', '[1,0]'), (NULL, 'one', '[1,0.1]'), (2, 'two', '[1,0.2]'), (3, 'two', '[0,0]');
SELECT key_json FROM clip_search_vector('keyed_null', '[1,0]', key_column => 'id', exclude => '[1]', filter => 'g <> $$x$$');
SELECT key_json FROM clip_search_vector('keyed_null', '[1,0]', key_column => 'id', exclude => '[{"id": 1}, {"id": null}]');
SELECT key_json FROM clip_search_vector('keyed_null', '[1,0]', key_column => 'id', per => 'g', exclude => '[1]');
SELECT key_json, relevance > 0 AS positive FROM clip_search_vector('keyed_null', '[1,0]', key_column => 'id', min_relevance => 0);
SELECT key_json, per_size FROM (VALUES (1), (2), (9)) AS v (per_size), clip_search_vector('keyed_null', '[1,0]', key_column => 'id', per => 'g', per_size => v.per_size) ORDER BY per_size, rank, distance;
-- A type with the name of a type of the server.
CREATE SCHEMA evil; CREATE DOMAIN evil.int4 AS pg_catalog.int4 CHECK (false);
SET search_path = evil, public, pg_catalog;
SELECT count(*) FROM clip_search_vector('keyed_null', '[1,0]', key_column => 'id', exclude => '[1]');
RESET search_path;
DROP SCHEMA evil CASCADE;
DROP TABLE keyed_char, keyed_null;
SELECT * FROM clip_search_vector('keyed_unique', '[1,0]');
SET extra_float_digits = 0;
SELECT count(*) FROM clip_search_vector('keyed_float', '[1,0]') JOIN keyed_float ON a = (key_json->>'a')::float8;
RESET extra_float_digits;
SELECT * FROM clip_search_vector('keyless', '[1,0]');
SELECT * FROM clip_search_vector('keyless', '[1,0]', key_column => 'code');
SELECT count(*) FROM clip_search_vector('keyless', '[1,0]', key_column => 'code', exclude => '[1]');
SELECT * FROM clip_search_vector('keyless', '[1,0]', key_column => 'nothing');
DROP TABLE keyed_uuid, keyed_text, keyed_both, keyed_unique, keyed_float, keyless;
DROP DOMAIN short;
-- Columns with the names of the result, and a table with the name of a part of the statement.
CREATE TABLE nearest (key int PRIMARY KEY, distance int, clip_distance int, embedding vector(2), words tsvector DEFAULT 'a');
INSERT INTO nearest VALUES (1, 10, 20, '[1,0]'), (2, 30, 40, '[0,1]');
SELECT key, distance FROM clip_search_vector('nearest', '[1,0]', filter => 'distance < 20 AND clip_distance = (SELECT max(clip_distance) - 20 FROM nearest)');
SELECT clip_search_sql('nearest') LIKE '%ORDER BY clip_distance_2' AS free;
CREATE TABLE near AS SELECT 1 AS id;
CREATE TABLE named_v AS SELECT key, distance, clip_embed_text('cat', 'narrow') AS embedding, words FROM nearest;
SELECT key FROM clip_hybrid_search('named_v', 'a', 'words', filter => 'key IN (SELECT id FROM near)', configuration => 'simple', model => 'narrow', key_column => 'key');
DROP TABLE nearest, near, named_v;
-- Rows without a vector: said once.
CREATE TABLE waiting (id int PRIMARY KEY, title text);
INSERT INTO waiting VALUES (1, 'cat'), (2, NULL), (3, 'dog');
SELECT clip_auto_embed('waiting', 'title', model => 'narrow', create_index => false) IS NOT NULL AS made;
SELECT key FROM clip_search('waiting', 'cat');
SELECT key FROM clip_search('waiting', 'cat');
SELECT clip_query('waiting', 'cat') IS NOT NULL AS found;
DROP TABLE waiting;
-- A text of the default model, while columns of another model have as many dimensions.
SET clip.default_model = 'narrow';
SELECT vector_dims(clip_embed_text('cat'));
SET clip.default_model = 'wide';
SELECT vector_dims(clip_embed_text('cat'));
RESET clip.default_model;
-- What is refused.
SELECT * FROM clip_search_vector('thing', NULL);
SELECT * FROM clip_search_vector('thing', '[1,0,0]', 0);
SELECT * FROM clip_search_vector('thing', '[1,0,0]', NULL);
SELECT * FROM clip_search_vector('thing', '[1,0,0]', 1, 'vector');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', 1, 'title');
SELECT * FROM clip_search_vector('thing_pkey', '[1,0,0]');
SELECT * FROM clip_search_vector(NULL, '[1,0,0]');
SELECT * FROM clip_search_vector('no_thing', '[1,0,0]');
-- pgvector's releases have their own words for it.
\set VERBOSITY sqlstate
SELECT * FROM clip_search_vector('thing', '[1,0]');
\set VERBOSITY default
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => 'kind');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => '');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => 'true ORDER BY id');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => 'true LIMIT 1');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => 'true FROM thing');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => 'true, true');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => 'true AS x');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => 'true UNION SELECT true');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => 'true WHERE true');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => 'true FOR UPDATE');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => 'true) OR (true');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => 'true; DROP TABLE thing');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => 'true /* open');
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => $$'open$$);
SELECT * FROM clip_search_vector('thing', '[1,0,0]', filter => '$2 = 1');
-- Words and vectors together: what both find is first, and what one finds is there.
CREATE TABLE item (id int PRIMARY KEY, title text, words tsvector GENERATED ALWAYS AS (to_tsvector('english', title)) STORED, embedding vector(32));
INSERT INTO item (id, title, embedding) SELECT ordinality, title, embedding
  FROM unnest(ARRAY['cat', 'dog', 'a boat', 'cats and dogs']) WITH ORDINALITY AS t (title, n) JOIN clip_embed_texts(ARRAY['cat', 'dog', 'a boat', 'water'], 'narrow') ON n = ordinality;
INSERT INTO item (id, title) VALUES (5, 'a cat without a vector');
SELECT key, round(score::numeric, 4) AS score, vector_place, words_place FROM clip_hybrid_search('item', 'cat', 'words', 5, model => 'narrow', configuration => 'english');
SELECT key, words_place FROM clip_hybrid_search('item', 'the', 'words', 1, model => 'narrow', configuration => 'english');
SELECT key, vector_place, words_place FROM clip_hybrid_search('item', 'cat', 'words', 5, filter => 'id > 3', model => 'narrow', configuration => 'english');
SELECT * FROM clip_hybrid_search('item', 'cat', 'title', 5, model => 'narrow');
SELECT * FROM clip_hybrid_search('item', 'cat', 'nothing', 5, model => 'narrow');
SELECT * FROM clip_hybrid_search('titled', 'cat', 'title');
SELECT * FROM scans(replace((_clip_hybrid_statements('thing', 'words', 5, 'embedding', 'id > 0', NULL, NULL, false, NULL)).nearest, '$2', 'websearch_to_tsquery(''english'', ''lamp'')')) AS s (line) ORDER BY line COLLATE "C";
-- Near-duplicates: pairs once, groups, only new ones; by the index.
CREATE TABLE photo (id int PRIMARY KEY, embedding vector(3));
INSERT INTO photo SELECT i, ARRAY[cos(i), sin(i), 0]::vector FROM generate_series(1, 6) AS i;
INSERT INTO photo SELECT 10 * i, ARRAY[cos(i + 0.001), sin(i + 0.001), 0]::vector FROM generate_series(1, 3) AS i;
INSERT INTO photo SELECT 100, embedding FROM photo WHERE id = 10;
CREATE INDEX ON photo USING hnsw (embedding vector_cosine_ops);
SELECT key, duplicate, distance < 1e-6 AS near FROM clip_near_duplicates('photo') ORDER BY key, duplicate;
SELECT * FROM clip_duplicate_groups('photo');
SELECT key, duplicate FROM clip_near_duplicates('photo', filter => 'id = 30');
SELECT count(*) FROM clip_near_duplicates('photo', max_distance => 0), clip_duplicate_groups('photo', filter => 'false');
SELECT count(*) FROM clip_near_duplicates('photo', max_distance => 2);
SELECT * FROM clip_near_duplicates('photo', max_distance => -0.1);
SELECT * FROM clip_near_duplicates('photo', max_distance => 'NaN');
SELECT * FROM clip_near_duplicates('photo', neighbours => 0);
SELECT * FROM clip_near_duplicates('other_thing');
SELECT scans(replace(_clip_duplicates_sql('thing', 'embedding', 'id > 19990', 0.01, 5, NULL), '$1', '0.01'));
-- How good the index is.
CREATE TABLE ball AS SELECT ARRAY[sin(i * 12.9898), sin(i * 78.233), sin(i * 37.719)]::vector(3) AS embedding FROM generate_series(1, 20000) AS i;
CREATE INDEX ON ball USING hnsw (embedding vector_cosine_ops);
ANALYZE ball;
SELECT ef_search, recall > 0.9 AS good, median_ms > 0 AS took, queries FROM clip_index_recall('ball', sample => 5, k => 5, ef_search => ARRAY[40, 200]);
SELECT ef_search, queries FROM clip_index_recall('ball', time_limit => '0 s');
\set VERBOSITY sqlstate
SELECT * FROM clip_index_recall('photo', queries => ARRAY['cat'], model => 'narrow');
\set VERBOSITY default
SELECT * FROM clip_index_recall('named');
SELECT * FROM clip_index_recall('thing', sample => 0);
SELECT * FROM clip_index_recall('thing', ef_search => '{}');
SELECT * FROM clip_index_recall('thing', ef_search => '{40,NULL}');
SELECT * FROM clip_index_recall('thing', ef_search => '{0}');
-- The index knows two groups of rows, and a scan finds the rows of one. The nearest rows are at the edge of the other group.
CREATE TABLE apart (id int PRIMARY KEY, angle float8, embedding vector(3));
INSERT INTO apart SELECT i, a, ARRAY[cosd(a), sind(a), 0]::vector FROM generate_series(1, 2020) AS i,
  LATERAL (SELECT CASE WHEN i > 2000 THEN 50 + (i - 2000) / 100.0 WHEN i % 2 = 0 THEN i / 2000.0 ELSE 90 - i / 2000.0 END) AS _ (a);
CREATE INDEX ON apart USING ivfflat (embedding vector_cosine_ops) WITH (lists = 2);
ANALYZE apart;
SET enable_seqscan = off;
SELECT count(*) FILTER (WHERE angle BETWEEN 50 AND 51) AS nearest, count(*)
  FROM (SELECT angle FROM apart ORDER BY embedding <=> ARRAY[cosd(40), sind(40), 0]::vector LIMIT 10) AS found;
SELECT array_agg(key ORDER BY rank) FROM clip_search_vector('apart', ARRAY[cosd(40), sind(40), 0]::vector, 5);
SELECT array_agg(key ORDER BY rank) FROM clip_search_vector('apart', ARRAY[cosd(40), sind(40), 0]::vector, 5, filter => 'id % 2 = 0', exclude => '[2002]');
SELECT array_agg(key ORDER BY rank) FROM clip_search_vector('apart', ARRAY[cosd(40), sind(40), 0]::vector, 2, per => 'angle');
RESET enable_seqscan;
DROP TABLE apart;
-- How far rows are on the whole.
SELECT round(mean::numeric, 2) > 0 AS mean, deviation > 0 AS deviation FROM clip_typical_distance('item', 'cat', model => 'narrow');
SELECT * FROM clip_typical_distance('item', 'cat', sample => 1, model => 'narrow');
DROP TABLE drawn, ball, thing, other_thing, "odd%s\1", parted, named, item, photo CASCADE;
DROP FUNCTION scans;
