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
          FROM (SELECT name FROM emoji ORDER BY embedding <=> (SELECT clip_embed_text(query)) LIMIT 5) AS best) AS "best five"
  FROM unnest('{dessert,musical instrument,rainy weather,happy birthday,boat on the water,an angry face,a fruit}'::text[]) AS query;

\echo
\echo '— pictures like a picture: the neighbours of the guitar'
SELECT name, round((embedding <=> (SELECT embedding FROM emoji WHERE name = 'guitar'))::numeric, 3) AS distance
  FROM emoji
 ORDER BY embedding <=> (SELECT embedding FROM emoji WHERE name = 'guitar')
 LIMIT 5;

\echo
\echo '— the index serves such a query (this table is so small that Postgres would read all of it: so it is told not to)'
SET enable_seqscan = off;
EXPLAIN (COSTS off)
SELECT name FROM emoji ORDER BY embedding <=> (SELECT clip_embed_text('musical instrument')) LIMIT 5;
RESET enable_seqscan;

\echo
\echo '— what this connection has in memory'
SELECT model, tower, round(load_ms::numeric, 1) AS load_ms, calls, items, round(total_ms::numeric, 1) AS total_ms, cache_hits
  FROM clip_loaded_models;
