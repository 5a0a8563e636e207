-- What pg_clip does, in a few statements. `make demo` plays this file on a throw-away server.
\set QUIET on
\pset border 0
\set SHOW_CONTEXT never
\pset footer off

CREATE EXTENSION pg_clip CASCADE;

\echo
\echo '— an ordinary table of pictures becomes searchable by one call, which says what it did'
CREATE TABLE emoji (name text PRIMARY KEY, picture bytea NOT NULL);
\pset tuples_only on
\pset format unaligned
SELECT regexp_replace(ddl, '([0-9a-f]{12})[0-9a-f]{52}', '\1…') FROM clip_auto_embed('emoji', 'picture') AS ddl;
\pset tuples_only off
\pset format aligned

\echo
\echo '— 320 emoji, as pictures, by COPY: each row embeds itself'
\timing on
\copy emoji (name, picture) FROM 'examples/emoji.tsv'
\timing off
ANALYZE emoji;

\echo
\echo '— pictures found by words'
SELECT query,
       (SELECT string_agg(name, ', ')
          FROM (SELECT name FROM emoji ORDER BY embedding <=> (SELECT clip_query('emoji', query)) LIMIT 5) AS best) AS "best five"
  FROM unnest('{dessert,musical instrument,rainy weather,happy birthday,boat on the water,an angry face,a fruit}'::text[]) AS query;

\echo
\echo '— pictures like a picture: the neighbours of the guitar'
SELECT name, round((embedding <=> (SELECT embedding FROM emoji WHERE name = 'guitar'))::numeric, 3) AS distance
  FROM emoji
 ORDER BY embedding <=> (SELECT embedding FROM emoji WHERE name = 'guitar')
 LIMIT 5;

\echo
\echo '— search with a filter: k rows wherever k rows match, which the index alone does not promise'
SELECT key_text AS name, round(distance::numeric, 3) AS distance
  FROM clip_search('emoji', 'something to wear', 4, filter => 'length(name) < 8');

\echo
\echo '— like this, but: an automobile, and a bit of police'
SELECT key_text AS name, round(distance::numeric, 3) AS distance
  FROM clip_search_vector('emoji', (
       SELECT clip_blend(ARRAY[embedding, clip_query('emoji', 'police')], ARRAY[1, 0.7]) FROM emoji WHERE name = 'automobile'), 3);

\echo
\echo '— which label is it: nothing was trained for these'
SELECT name, label, round(probability::numeric, 3) AS probability
  FROM emoji CROSS JOIN LATERAL (
       SELECT * FROM clip_classify(embedding, '{food,animal,vehicle,weapon,plant,building}', '{"{}","a picture of a {}"}') LIMIT 1) AS best
 WHERE name IN ('pizza', 'koala', 'ambulance', 'bow and arrow', 'sunflower', 'castle')
 ORDER BY name;

\echo
\echo '— the same picture twice, saved anew: found by the index, among all pairs'
INSERT INTO emoji SELECT name || ' (copy)', picture || '\x00' FROM emoji WHERE name IN ('guitar', 'rose');
SELECT key->>'name' AS picture, duplicate->>'name' AS duplicate, round(distance::numeric, 4) AS distance FROM clip_near_duplicates('emoji');

\echo
\echo '— the index serves such a query (this table is so small that Postgres would read all of it: so it is told not to)'
SET enable_seqscan = off;
EXPLAIN (COSTS off)
SELECT name FROM emoji ORDER BY embedding <=> (SELECT clip_query('emoji', 'musical instrument')) LIMIT 5;
RESET enable_seqscan;

\echo
\echo '— what this connection has in memory'
SELECT model, tower, round(load_ms::numeric, 1) AS load_ms, calls, items, round(total_ms::numeric, 1) AS total_ms, cache_hits
  FROM clip_loaded_models;
