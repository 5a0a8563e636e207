-- Embedding columns of type halfvec, and indexes of other forms and methods.
\set SHOW_CONTEXT never
\pset format unaligned
\set digest 'regexp_replace(regexp_replace(ddl, $$[0-9a-f]{64}$$, $$DIGEST$$, $$g$$), $$''[0-9]+[.]$$, $$''OID.$$)'
SET clip.default_model = 'narrow';
CREATE TABLE note (id int PRIMARY KEY, body text, words tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED);
SELECT clip_auto_embed('note', 'body', type => 'bit');
SELECT :digest FROM clip_auto_embed('note', 'body', type => 'halfvec', dry_run => true) AS ddl;
SELECT clip_auto_embed('note', 'body', type => 'halfvec') IS NOT NULL AS attached;
-- An existing column keeps its type, unless the call names another.
SELECT clip_auto_embed('note', 'body');
SELECT clip_auto_embed('note', 'body', type => 'halfvec');
SELECT clip_auto_embed('note', 'body', type => 'vector');
SELECT relation, source, target, model, model_state, mode, index, embedded FROM clip_auto_embed_status;

-- The stored value is pgvector's cast of the embedding, to the bit. What a statement writes is replaced.
INSERT INTO note VALUES (1, 'a cat'), (2, 'a dog'), (3, NULL), (4, 'a tree');
INSERT INTO note (id, body, embedding) VALUES (5, 'a cow', clip_embed_text('a horse'));
UPDATE note SET body = 'a bird', embedding = clip_embed_text('mine') WHERE id = 2;
SELECT id, embedding = clip_embed_text(body)::halfvec AS same, pg_typeof(embedding) FROM note ORDER BY id;
-- The other modes, and rows that existed before.
ALTER TABLE note DISABLE TRIGGER zz_clip_embedding;
UPDATE note SET embedding = NULL;
ALTER TABLE note ENABLE TRIGGER zz_clip_embedding;
SELECT clip_backfill_batch('note');
SELECT clip_auto_embed('note', 'body', mode => 'statement') IS NOT NULL AS changed;
INSERT INTO note VALUES (6, 'a car'), (7, 'a boat');
UPDATE note SET body = body || ' at night' WHERE id = 1;
SELECT count(*), bool_and(embedding = clip_embed_text(body)::halfvec) AS same FROM note WHERE body IS NOT NULL;

-- Searches compare halfvec with halfvec, so that they use the index. A vector is cast by pgvector itself, or by the statement.
SELECT clip_search_sql('note', 3);
SET enable_seqscan = off;
EXPLAIN (COSTS off) SELECT id FROM note ORDER BY embedding <=> clip_query('note', 'a dog')::halfvec LIMIT 1;
EXPLAIN (COSTS off) SELECT id FROM note ORDER BY embedding <=> clip_query('note', 'a dog') LIMIT 1;
RESET enable_seqscan;
SELECT key, distance FROM clip_search('note', 'a car', 1);
SELECT key, distance FROM clip_search_vector('note', (SELECT embedding::vector FROM note WHERE id = 7), 1);
SELECT count(*) FROM clip_search_vector('note', (SELECT embedding::vector FROM note WHERE id = 7), 3, filter => 'id < 6', per => 'body', min_relevance => -10, exclude => '[1]');
SELECT key, words_place FROM clip_hybrid_search('note', 'boat', 'words', 1);
UPDATE note SET body = 'a car' WHERE id = 4;
SELECT key, duplicate, distance FROM clip_near_duplicates('note', max_distance => 1e-6);
SELECT * FROM clip_duplicate_groups('note', max_distance => 1e-6);
SELECT mean > 0 AS mean, deviation > 0 AS deviation FROM clip_typical_distance('note', 'a cat');
SELECT DISTINCT recall FROM clip_index_recall('note', k => 2);
SELECT DISTINCT recall FROM clip_index_recall('note', k => 2, queries => '{a cat}');
-- Functions of vectors take a cast, which changes no number.
SELECT label FROM clip_classify(clip_embed_text('pizza', 'emoji')::halfvec::vector, ARRAY['guitar', 'pizza'], model => 'emoji') LIMIT 1;
SELECT round(n::numeric, 2) FROM note, unnest(clip_probabilities(embedding::vector, ARRAY[embedding::vector, embedding::vector])) AS n WHERE id = 6;
SELECT clip_classify(embedding, ARRAY['a boat', 'a car']) FROM note;

-- The type of a column can change. Its indexes name the type, so they are dropped before.
CREATE TABLE old (id int PRIMARY KEY, body text);
SELECT clip_auto_embed('old', 'body') IS NOT NULL AS attached;
INSERT INTO old VALUES (1, 'a cat');
SELECT clip_auto_embed('old', 'body', type => 'halfvec');
ALTER TABLE old ALTER embedding TYPE halfvec(32);
DROP INDEX old_embedding_idx;
ALTER TABLE old ALTER embedding TYPE sparsevec(32);
ALTER TABLE old ALTER embedding TYPE halfvec(64) USING NULL;
ALTER TABLE old ALTER embedding TYPE halfvec(32);
INSERT INTO old VALUES (2, 'a dog');
SELECT id, embedding = clip_embed_text(body)::halfvec AS same FROM old ORDER BY id;
SELECT :digest FROM clip_auto_embed('old', 'body') AS ddl;
ALTER TABLE old DROP COLUMN embedding CASCADE;

-- Embeddings that were computed before.
CREATE TABLE given (id int PRIMARY KEY, body text, embedding halfvec(32), other halfvec(31), text text);
INSERT INTO given SELECT 1, 'a cat', clip_embed_text('a cat');
SELECT clip_adopt('given', 'other', 'narrow');
SELECT clip_adopt('given', 'text', 'narrow');
SELECT clip_auto_embed('given', 'body', 'text');
SELECT key FROM clip_search('given', 'a cat', target => 'text');
SELECT :digest FROM clip_adopt('given', 'embedding', 'narrow') AS ddl;
SELECT key, distance FROM clip_search('given', 'a cat');
SELECT clip_auto_embed('given', 'body', on_vector => 'keep', create_index => false) LIKE '%USING hnsw (embedding public.halfvec_cosine_ops)%' AS shown;
INSERT INTO given VALUES (2, 'a dog', clip_embed_text('kept'));
INSERT INTO given VALUES (3, 'a cow');
SELECT id, embedding = clip_embed_text(body)::halfvec AS own, embedding = clip_embed_text('kept')::halfvec AS kept FROM given ORDER BY id;
SELECT clip_auto_embed_drop('given', keep_column => false);

-- Partitions have the type of their table.
CREATE TABLE part_of (id int, body text, embedding halfvec(32), PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF part_of FOR VALUES FROM (0) TO (10);
SELECT clip_auto_embed('part_of', 'body', mode => 'statement') IS NOT NULL AS attached;
CREATE TABLE later (id int PRIMARY KEY, body text);
SELECT clip_auto_embed('later', 'body', type => 'halfvec') IS NOT NULL AS attached;
INSERT INTO later VALUES (11, 'a lamp');
ALTER TABLE later ALTER id SET NOT NULL;
ALTER TABLE part_of ATTACH PARTITION later FOR VALUES FROM (10) TO (20);
INSERT INTO part_of VALUES (1, 'a cat'), (12, 'a dog');
UPDATE part_of SET id = 13 WHERE id = 1;
SELECT tableoid::regclass, id, embedding = clip_embed_text(body)::halfvec AS same FROM part_of ORDER BY id;
SELECT key FROM clip_search('part_of', 'a lamp', 1);

-- Another model.
SET client_min_messages = warning;
CALL clip_reembed('note', 'embedding', 'wide');
RESET client_min_messages;
SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a WHERE a.attrelid = 'note'::regclass AND a.attname = 'embedding';
SELECT indexdef FROM pg_indexes WHERE indexname = 'note_embedding_idx';
SELECT count(*), bool_and(embedding = clip_embed_text(body, 'wide')::halfvec) AS same FROM note WHERE body IS NOT NULL;

-- A pgvector without halfvec, and a type of that name that is not pgvector's.
ALTER EXTENSION vector DROP TYPE halfvec;
CREATE TABLE plain (id int PRIMARY KEY, body text);
\set VERBOSITY terse
SELECT clip_auto_embed('plain', 'body', type => 'halfvec');
SELECT clip_adopt('part_of', 'embedding', 'narrow');
\set VERBOSITY default
SELECT relation, target FROM clip_auto_embed_status;
ALTER EXTENSION vector ADD TYPE halfvec;
INSERT INTO note VALUES (8, 'a fish');
SELECT embedding = clip_embed_text(body, 'wide')::halfvec AS same FROM note WHERE id = 8;
DROP TABLE note, old, given, part_of, plain;
