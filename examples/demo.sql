-- A demonstration of pg_clip in a few statements. `make demo` runs this file on a temporary server.
\set QUIET on
\pset border 0
\set SHOW_CONTEXT never
\pset footer off

CREATE EXTENSION pg_clip CASCADE;

\echo
\echo '— one call makes an ordinary table of images searchable, and returns the statements that it ran'
CREATE TABLE emoji (name text PRIMARY KEY, image bytea NOT NULL);
\pset tuples_only on
\pset format unaligned
SELECT regexp_replace(ddl, '([0-9a-f]{12})[0-9a-f]{52}', '\1…') FROM clip_auto_embed('emoji', 'image') AS ddl;
\pset tuples_only off
\pset format aligned

\echo
\echo '— COPY loads 320 images of emoji; the trigger embeds each row'
\timing on
\copy emoji (name, image) FROM 'examples/emoji.tsv'
\timing off
ANALYZE emoji;

\echo
\echo '— search images by text'
SELECT query,
       (SELECT string_agg(name, ', ')
          FROM (SELECT name FROM emoji ORDER BY embedding <=> (SELECT clip_query('emoji', query)) LIMIT 5) AS best) AS "best five"
  FROM unnest('{dessert,musical instrument,rainy weather,happy birthday,boat on the water,an angry face,a fruit}'::text[]) AS query;

\echo
\echo '— search images by an image: the nearest images to the guitar'
SELECT name, round((embedding <=> (SELECT embedding FROM emoji WHERE name = 'guitar'))::numeric, 3) AS distance
  FROM emoji
 ORDER BY embedding <=> (SELECT embedding FROM emoji WHERE name = 'guitar')
 LIMIT 5;

\echo
\echo '— search with a filter: the result has k rows if k rows match; a plain index scan can return fewer'
SELECT key_text AS name, round(distance::numeric, 3) AS distance
  FROM clip_search('emoji', 'something to wear', 4, filter => 'length(name) < 8');

\echo
\echo '— search by a combination: an automobile, with a bit of police'
SELECT key_text AS name, round(distance::numeric, 3) AS distance
  FROM clip_search_vector('emoji', (
       SELECT clip_blend(ARRAY[embedding, clip_query('emoji', 'police')], ARRAY[1, 0.7]) FROM emoji WHERE name = 'automobile'), 3);

\echo
\echo '— classify images: the labels are texts, and nothing was trained for them'
SELECT name, label, round(probability::numeric, 3) AS probability
  FROM emoji CROSS JOIN LATERAL (
       SELECT * FROM clip_classify(embedding, '{food,animal,vehicle,weapon,plant,building}', '{"{}","a picture of a {}"}') LIMIT 1) AS best
 WHERE name IN ('pizza', 'koala', 'ambulance', 'bow and arrow', 'sunflower', 'castle')
 ORDER BY name;

\echo
\echo '— find near-duplicates: two images are stored again, with one more byte'
INSERT INTO emoji SELECT name || ' (copy)', image || '\x00' FROM emoji WHERE name IN ('guitar', 'rose');
SELECT key->>'name' AS image, duplicate->>'name' AS duplicate, round(distance::numeric, 4) AS distance FROM clip_near_duplicates('emoji');

\echo
\echo '— the plan of a search with the index (enable_seqscan is off, because Postgres reads small tables completely)'
SET enable_seqscan = off;
EXPLAIN (COSTS off)
SELECT name FROM emoji ORDER BY embedding <=> (SELECT clip_query('emoji', 'musical instrument')) LIMIT 5;
RESET enable_seqscan;

\echo
\echo '— the encoders in the memory of this session'
SELECT model, tower, round(load_ms::numeric, 1) AS load_ms, calls, items, round(total_ms::numeric, 1) AS total_ms, cache_hits
  FROM clip_loaded_models;
