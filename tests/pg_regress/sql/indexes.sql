-- Indexes of other methods and forms: which one a search uses, and what is created next to them.
\set SHOW_CONTEXT never
\pset format unaligned
SET clip.default_model = 'narrow';
-- Lines of a plan that say how a table is read.
CREATE FUNCTION index_scans(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
  SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;
  FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || replace(query, '$1', $q$clip_embed_text('thing 7')$q$) LOOP
    -- PostgreSQL 17 does not sort the result again.
    IF line ~ 'Index Scan|Seq Scan|Sort Key' AND line !~ 'nearest\.distance' THEN RETURN NEXT trim(line, ' ->'); END IF;
  END LOOP;
END $$;

-- An access method of another extension, which pg_clip does not know.
CREATE ACCESS METHOD standin TYPE INDEX HANDLER hnswhandler;
CREATE OPERATOR CLASS standin_cosine FOR TYPE vector USING standin AS
  OPERATOR 1 <=> (vector, vector) FOR ORDER BY float_ops, FUNCTION 1 vector_negative_inner_product(vector, vector), FUNCTION 2 vector_norm(vector);
CREATE TABLE thing (id int PRIMARY KEY, body text, embedding vector(32), words tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED);
CREATE INDEX thing_standin ON thing USING standin (embedding standin_cosine);
-- No second index next to it.
SELECT clip_auto_embed('thing', 'body', mode => 'statement') LIKE '%CREATE INDEX%' AS creates;
SELECT index FROM clip_auto_embed_status;
INSERT INTO thing SELECT i, 'thing ' || i FROM generate_series(1, 3000) AS i;
ANALYZE thing;
SELECT index, method FROM _clip_vector_indexes('thing', 'embedding');
SELECT * FROM index_scans(clip_search_sql('thing', 3));
-- The index counts as one that may omit rows: the search runs again without it if fewer than k rows come back.
SELECT may_omit FROM _clip_searched('thing', 'embedding', NULL, '$1', NULL);
SET hnsw.max_scan_tuples = 100;
SELECT count(*), min(key) > 2990 AS right FROM clip_search('thing', 'thing 7', 5, filter => 'id > 2990', index => 'thing_standin');
SELECT count(*), min(key) > 2990 AS right FROM clip_search('thing', 'thing 7', 5, filter => 'id > 2990');
RESET hnsw.max_scan_tuples;
SELECT count(*) FROM clip_index_recall('thing');

-- An index of bits is one, too.
CREATE TABLE managed (id int PRIMARY KEY, body text, embedding vector(32));
CREATE INDEX managed_bits ON managed USING hnsw ((binary_quantize(embedding)::bit(32)) bit_hamming_ops);
SELECT clip_auto_embed('managed', 'body');
SELECT index FROM clip_auto_embed_status WHERE relation = 'managed';
DROP INDEX managed_bits;
SELECT clip_auto_embed('managed', 'body');

-- The argument selects one of several. HNSW on the column comes first, then HNSW on its bits, then other methods.
CREATE INDEX thing_lists ON thing USING ivfflat (embedding vector_cosine_ops) WITH (lists = 10);
CREATE INDEX thing_bits ON thing USING hnsw ((binary_quantize(embedding)::bit(32)) bit_hamming_ops);
SELECT index FROM _clip_vector_indexes('thing', 'embedding');
CREATE INDEX thing_hnsw ON thing USING hnsw (embedding vector_cosine_ops);
CREATE INDEX thing_half ON thing USING hnsw ((embedding::halfvec(32)) halfvec_cosine_ops);
CREATE INDEX thing_some ON thing USING hnsw (embedding vector_cosine_ops) WHERE id < 100;
SELECT index, method, bits FROM _clip_vector_indexes('thing', 'embedding');
SELECT * FROM index_scans(clip_search_sql('thing', 3, index => 'thing_bits'));
SELECT * FROM index_scans(clip_search_sql('thing', 3, index => 'thing_half'));
SELECT clip_search_sql('thing', 3, index => 'thing_pkey');
SELECT clip_search_sql('thing', 3, index => 'thing');
SELECT key FROM clip_search('thing', 'thing 7', 3, index => 'managed_pkey');
-- The search uses the named index, whatever the server expects it to cost.
CREATE FUNCTION scans_of(query text) RETURNS TABLE (index text, scans bigint) LANGUAGE plpgsql AS $$
DECLARE
  before jsonb := (SELECT jsonb_object_agg(indexrelname, pg_stat_get_xact_numscans(indexrelid)) FROM pg_stat_user_indexes WHERE relname ~ '^(thing|parted)');
BEGIN
  EXECUTE 'SELECT count(*) FROM ' || query;
  RETURN QUERY SELECT s.indexrelname::text, pg_stat_get_xact_numscans(s.indexrelid) - (before->>s.indexrelname::text)::bigint
    FROM pg_stat_user_indexes AS s WHERE s.relname ~ '^(thing|parted)' AND pg_stat_get_xact_numscans(s.indexrelid) > (before->>s.indexrelname::text)::bigint ORDER BY 1;
END $$;
SELECT name, s.index FROM (VALUES ('thing_hnsw'), ('thing_lists'), ('thing_standin'), ('thing_half'), ('thing_bits')) AS n (name),
  scans_of(format('clip_search(''thing'', ''thing 7'', 3, index => %L)', name)) AS s;
SELECT index FROM scans_of('clip_hybrid_search(''thing'', ''thing'', ''words'', 3, index => ''thing_lists'')');
SELECT index FROM scans_of('clip_near_duplicates(''thing'', filter => ''id < 3'', index => ''thing_standin'')') WHERE index <> 'thing_pkey';
SELECT index FROM scans_of('clip_duplicate_groups(''thing'', filter => ''id < 3'', index => ''thing_bits'')') WHERE index <> 'thing_pkey';
SELECT index FROM scans_of('clip_index_recall(''thing'', k => 2, index => ''thing_half'')');
-- The indexes of partitions belong to those of their table.
CREATE TABLE parted (id int, embedding vector(32)) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1500);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (1500) TO (4000);
INSERT INTO parted SELECT id, embedding FROM thing;
CREATE INDEX parted_lists ON parted USING ivfflat (embedding vector_cosine_ops) WITH (lists = 10);
CREATE INDEX parted_hnsw ON parted USING hnsw (embedding vector_cosine_ops);
ANALYZE parted;
SELECT c.name, s.index FROM (VALUES ('parted_lists'), ('parted_hnsw')) AS c (name),
  scans_of(format('clip_search(''parted'', ''thing 7'', 3, key_column => ''id'', model => ''narrow'', index => %L)', name)) AS s;
-- Each finds the same rows.
SELECT name, array_agg(s.key ORDER BY s.rank) FROM (VALUES ('thing_hnsw'), ('thing_standin'), ('thing_half'), ('thing_bits')) AS n (name),
  clip_search('thing', 'thing 7', 3, index => name::regclass) AS s GROUP BY name ORDER BY name;
-- By bits, a search reads more rows, and sorts them by their embeddings. Groups, filters and words work as with other indexes.
SELECT clip_search_sql('thing', 3, filter => 'id > 10', index => 'thing_bits');
DROP INDEX thing_hnsw, thing_half, thing_some;
SELECT * FROM index_scans(clip_search_sql('thing', 3, filter => 'id > 10'));
SELECT count(*), min(key) > 10 AS right FROM clip_search('thing', 'thing 7', 2, filter => 'id > 10');
SELECT key, rank FROM clip_search('thing', 'thing 7', 2, per => 'body', exclude => '[7]');
SELECT count(*) FROM clip_search('thing', 'thing 7', 1500);
SELECT count(*) FROM clip_search('thing', 'thing 7', 10, filter => 'id > 2995');
SELECT count(*), min(relevance) > 1 AS relevant FROM clip_search('thing', 'thing 7', 10, min_relevance => 1);
SELECT key FROM clip_hybrid_search('thing', 'thing 7', 'words', 1);
SELECT key, duplicate FROM clip_near_duplicates('thing', filter => 'id = 7', neighbours => 1, max_distance => 2);
SELECT min(recall) > 0.8 AS good FROM clip_index_recall('thing', k => 10);

-- Bits of rotated embeddings, without their part in the direction of the mean. The index of plain bits comes second.
SELECT clip_rotate('[1,2,3,4,5,6]', '[1,1,1,1,1,1]', 10), clip_rotate('[1,2,3,4,5,6]', '[0,0,0,0,0,0]', 6) <-> clip_rotate('[6,5,4,3,2,1]', '[0,0,0,0,0,0]', 6) AS distance,
  '[1,2,3,4,5,6]'::vector <-> '[6,5,4,3,2,1]' AS same, clip_rotate(NULL, '[1]', 1) IS NULL AS nothing;
SELECT clip_rotate('[1,2]', '[1,2,3]', 2);
SELECT clip_rotate('[1,2]', '[1,2]', 0);
DO $$ BEGIN EXECUTE format('CREATE INDEX thing_rotated ON thing USING hnsw ((binary_quantize(clip_rotate(embedding, %L::halfvec::vector, 64))::bit(64)) bit_hamming_ops) WITH (m = 8)',
  (SELECT avg(embedding)::halfvec FROM thing)); END $$;
SELECT index, method, bits FROM _clip_vector_indexes('thing', 'embedding') WHERE bits IS NOT NULL;
SELECT * FROM index_scans(clip_search_sql('thing', 3, filter => 'id > 10'));
SELECT regexp_replace(clip_search_sql('thing', 3), '''\[[^]]*\]''', '''[...]''', 'g');
SELECT key, rank FROM clip_search('thing', 'thing 7', 2, per => 'body', exclude => '[7]');
SELECT count(*) FROM clip_search('thing', 'thing 7', 2500);
SELECT name, array_agg(s.key ORDER BY s.rank) FROM (VALUES ('thing_bits'), ('thing_rotated')) AS n (name),
  clip_search('thing', 'thing 7', 3, index => name::regclass) AS s GROUP BY name ORDER BY name;
SELECT index FROM scans_of('clip_near_duplicates(''thing'', filter => ''id < 3'', index => ''thing_rotated'')') WHERE index <> 'thing_pkey';
SELECT key FROM clip_hybrid_search('thing', 'thing 7', 'words', 1, index => 'thing_rotated');
SELECT min(recall) > 0.8 AS good FROM clip_index_recall('thing', k => 10, index => 'thing_rotated');
-- A column of another type, with a name that needs quotes, and the mean as a vector.
CREATE TABLE halved (id int PRIMARY KEY, "the %embedding" halfvec(32));
INSERT INTO halved SELECT id, embedding FROM thing;
DO $$ BEGIN EXECUTE format('CREATE INDEX halved_rotated ON halved USING hnsw ((binary_quantize(clip_rotate("the %%embedding"::vector, %L, 32))::bit(32)) bit_hamming_ops)',
  (SELECT avg("the %embedding")::vector FROM halved)); END $$;
SELECT index, bits FROM _clip_vector_indexes('halved', 'the %embedding');
SELECT * FROM index_scans(clip_search_sql('halved', 3, target => 'the %embedding'));
SELECT array_agg(key ORDER BY rank) FROM clip_search('halved', 'thing 7', 3, target => 'the %embedding', model => 'narrow', index => 'halved_rotated');
-- A column without dimensions: another model gets as many bits.
CREATE TABLE untyped (id int PRIMARY KEY, embedding vector);
INSERT INTO untyped SELECT id, embedding FROM thing;
DO $$ BEGIN EXECUTE format('CREATE INDEX ON untyped USING hnsw ((binary_quantize(clip_rotate(embedding, %L, 64))::bit(64)) bit_hamming_ops)',
  (SELECT avg(embedding)::vector FROM untyped)); END $$;
SELECT is_late, statement FROM _clip_reembed_indexes('untyped', 'embedding', 'embedding_reembed', 48);
DROP TABLE untyped;
-- The mean is a constant. The signs of another expression are no bits of the column.
DROP INDEX halved_rotated;
CREATE INDEX ON halved USING hnsw ((binary_quantize(clip_rotate("the %embedding"::vector, "the %embedding"::vector, 32))::bit(32)) bit_hamming_ops);
CREATE INDEX ON halved USING hnsw ((binary_quantize(clip_rotate("the %embedding"::vector, l2_normalize("the %embedding"::vector), 32))::bit(32)) bit_hamming_ops);
CREATE INDEX ON halved USING hnsw ((binary_quantize("the %embedding")::bit(16)) bit_hamming_ops);
SELECT index, dimensions, bits FROM _clip_vector_indexes('halved', 'the %embedding');

-- Another model: options of indexes are quoted, and an index of another method than HNSW is built when the column is filled.
DROP INDEX thing_bits, thing_lists, thing_standin;
CREATE INDEX thing_lists ON thing USING ivfflat (embedding vector_cosine_ops) WITH (lists = 10);
CREATE INDEX thing_bits ON thing USING hnsw ((binary_quantize(embedding)::bit(32)) bit_hamming_ops) WITH (m = 8, ef_construction = 32);
CREATE INDEX thing_half ON thing USING hnsw ((embedding::halfvec(32)) halfvec_cosine_ops);
CREATE INDEX thing_standin ON thing USING standin (embedding standin_cosine) WITH (m = 4);
ALTER INDEX thing_rotated RENAME TO "thing 100%";
CREATE INDEX thing_words ON thing USING gin (words) WITH (fastupdate = off);
-- An option as another access method may have it.
UPDATE pg_class SET reloptions = ARRAY[E'm=4', E'options=build.internal = {\n  "lists": [1, ''2'']\\ }'] WHERE relname = 'thing_standin';
SELECT name, is_late, statement FROM _clip_reembed_indexes('thing', 'embedding', 'embedding_reembed', 48);
UPDATE pg_class SET reloptions = '{m=4}' WHERE relname = 'thing_standin';
SET client_min_messages = error;
CREATE FUNCTION note_index() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.noted SELECT c.object_identity, (SELECT count(embedding_reembed) FROM public.thing) FROM pg_event_trigger_ddl_commands() AS c
   WHERE c.object_type = 'index' AND c.object_identity LIKE '%thing%_reembed';
END $$;
CREATE TABLE noted (name text, filled bigint);
CREATE EVENT TRIGGER note_index ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION note_index();
-- A call that was interrupted after its first commit is resumed.
SELECT _clip_execute((_clip_reembed_plan('thing', 'embedding', 'wide')).statements, false) IS NOT NULL AS begun;
CALL clip_reembed('thing', 'embedding', 'wide');
DROP EVENT TRIGGER note_index;
SELECT name, filled FROM noted ORDER BY name;
SELECT regexp_replace(indexdef, '''\[[^]]*\]''', '''[...]''') AS indexdef FROM pg_indexes WHERE tablename = 'thing' ORDER BY indexname;
SELECT key FROM clip_search('thing', 'thing 7', 1);
-- An index over another expression still prevents it, and so do bits of another length.
DROP INDEX thing_bits, thing_half;
SELECT index, bits FROM _clip_vector_indexes('thing', 'embedding') WHERE bits IS NOT NULL;
CREATE INDEX thing_bits ON thing USING hnsw ((binary_quantize(embedding)::bit(16)) bit_hamming_ops);
CALL clip_reembed('thing', 'embedding', 'narrow');
RESET client_min_messages;
DROP TABLE thing, managed, noted, parted, halved;
DROP ACCESS METHOD standin CASCADE;
