-- What the extension consists of: names, volatility, cost, and a comment on everything.
SELECT p.oid::regprocedure AS function, provolatile AS volatile, proisstrict AS strict, proparallel AS parallel, procost AS cost,
       obj_description(p.oid, 'pg_proc') IS NOT NULL AS commented
  FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_clip' ORDER BY 1::text COLLATE "C";
SELECT c.oid::regclass AS view, obj_description(c.oid, 'pg_class') AS comment, count(col_description(c.oid, attnum)) = count(*) AS columns_commented
  FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_clip'
  JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0
 WHERE relkind = 'v' AND relname NOT LIKE '\_%' AND relnamespace <> '_clip'::regnamespace GROUP BY c.oid ORDER BY 1;
-- The index serves an order by distance to a text; the text is embedded once.
CREATE TABLE item AS SELECT i, embedding FROM clip_embed_texts(ARRAY(SELECT 'item ' || i FROM generate_series(1, 300) i), 'narrow') AS e(i, embedding);
ALTER TABLE item ALTER embedding TYPE vector(32);
CREATE INDEX ON item USING hnsw (embedding vector_cosine_ops);
SET enable_seqscan = off;
-- A plan, with the names that all releases of the server have for what an InitPlan gives.
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
    RETURN NEXT replace(replace(line, ' (returns $0)', ''), '$0', '(InitPlan 1).col1');
  END LOOP;
END $$;
SELECT plan($$SELECT i FROM item ORDER BY embedding <=> (SELECT clip_embed_text('item 7', 'narrow')) LIMIT 3$$);
EXPLAIN (COSTS off) SELECT i FROM item ORDER BY embedding <=> clip_embed_text('item 7') LIMIT 3;
SELECT i FROM item ORDER BY embedding <=> (SELECT clip_embed_text('item 7', 'narrow')) LIMIT 1;
DROP FUNCTION plan;
DROP TABLE item;
-- Another schema; dropped without a trace.
DROP EXTENSION pg_clip;
CREATE SCHEMA elsewhere;
CREATE EXTENSION pg_clip SCHEMA elsewhere;
SET search_path = '';
SELECT public.vector_dims(elsewhere.clip_embed_text('cat', 'wide'));
RESET search_path;
DROP EXTENSION pg_clip;
DROP SCHEMA elsewhere;
CREATE EXTENSION pg_clip;
