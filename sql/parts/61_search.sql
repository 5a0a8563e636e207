CREATE FUNCTION _clip_search_sql(relation regclass, k integer, target name, filter text, index regclass) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts record;
	called text := 'distance';
	number integer := 1;
	-- As in a search, the index of another server is not used if the options of the server do not set its breadth.
	is_exact CONSTANT boolean := EXISTS (SELECT FROM @extschema@._clip_leaves(relation, (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user), target) AS l
		WHERE l.is_foreign AND NOT l.is_indexed);
BEGIN
	SELECT * INTO parts FROM @extschema@._clip_searched(relation, target, filter, '$1'::pg_catalog.text, index);
	PERFORM @extschema@._clip_require_number('k'::pg_catalog.text, k, 1);
	-- Finds a name that no column of the table has.
	WHILE EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = called) LOOP
		called := 'clip_distance' || CASE number WHEN 1 THEN '' ELSE '_' || number END;
		number := number + 1;
	END LOOP;
	RETURN format(E'WITH nearest AS MATERIALIZED (\n%s\n)\nSELECT * FROM nearest ORDER BY %s', @extschema@._clip_nearest(
		format(E'SELECT %s.*, %s AS %s\n  FROM %s\n WHERE %s', parts.alias, parts.distance, called, parts.rows_of, parts.present || parts.filtered),
		CASE WHEN is_exact THEN parts.exact_place ELSE parts.place END, k::text, @extschema@._clip_considered(k::bigint, 'text'::text, parts.bits), called::name), called);
END
$$;
COMMENT ON FUNCTION _clip_search_sql(regclass, integer, name, text, regclass) IS 'internal: search statement that returns complete rows';

CREATE FUNCTION clip_search_sql(relation regclass, k integer DEFAULT 10, target name DEFAULT 'embedding', filter text DEFAULT NULL, index regclass DEFAULT NULL) RETURNS text
	AS 'MODULE_PATHNAME', 'clip_search_sql_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION clip_search_sql(regclass, integer, name, text, regclass)
	IS 'return a search statement that returns complete rows; $1 is the query vector';

CREATE FUNCTION clip_query(relation regclass, query text, target name DEFAULT 'embedding') RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_query_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_query(regclass, text, name)
	IS 'embed a text with the model that computed a column''s embeddings';

CREATE FUNCTION clip_query_image(relation regclass, query bytea, target name DEFAULT 'embedding') RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_query_image_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_query_image(regclass, bytea, name)
	IS 'embed an encoded image with the model that computed a column''s embeddings';

CREATE FUNCTION _clip_query(relation regclass, target name, query text, model text) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_query_with_wrapper' LANGUAGE C STABLE COST 10000;
COMMENT ON FUNCTION _clip_query(regclass, name, text, text)
	IS 'internal: embed a text with the named model, or with the column''s model, or with the default model';

-- The statement that looks for pending rows, requested once per session and column. It reads the index of pending rows, or all of
-- a small table, or some blocks of a large table. "failed" is the number of failures.
CREATE FUNCTION _clip_pending_statement(role oid, relation regclass, target name, OUT statement text, OUT sampled boolean, OUT failed bigint, OUT queued boolean, OUT top regclass)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	-- A table of up to so many pages is read completely, which takes some milliseconds.
	small CONSTANT bigint := 1000;
	-- So many blocks of a larger table are read.
	blocks CONSTANT integer := 64;
	-- A table of more pages is not read, because even the choice of the blocks would take too long.
	large CONSTANT bigint := 4000000;
	col CONSTANT record := @extschema@._clip_recorded(relation, target);
	pages bigint;
	source text;
BEGIN
	IF col.source IS NULL THEN
		RETURN;
	END IF;
	-- Each server reports the pending rows of its own table.
	IF @extschema@._clip_has_foreign(relation) THEN
		RETURN;
	END IF;
	SELECT CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || format('%I.%I', n.nspname, c.relname) INTO source
	  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
	 WHERE c.oid = relation AND has_schema_privilege(role, n.oid, 'USAGE')
	   AND has_column_privilege(role, c.oid, col.source, 'SELECT') AND has_column_privilege(role, c.oid, target, 'SELECT');
	IF source IS NULL THEN
		RETURN;
	END IF;
	SELECT sum(pg_relation_size(c.oid)) / current_setting('block_size')::bigint INTO pages FROM pg_class AS c
	 WHERE c.oid = relation AND c.relkind = 'r' OR c.oid IN (SELECT p.relid FROM pg_partition_tree(relation) AS p WHERE p.isleaf);
	sampled := pages > small AND @extschema@._clip_pending_index(relation, col.source, target) IS NULL;
	IF sampled AND pages > large OR @extschema@._clip_citus_kind(relation) = 'distributed' AND @extschema@._clip_pending_index(relation, col.source, target) IS NULL THEN
		RETURN;
	END IF;
	IF sampled THEN
		source := source || format(' TABLESAMPLE SYSTEM (%s)', 100.0 * blocks / pages);
	END IF;
	statement := format('SELECT pg_catalog.count(*) FROM (SELECT 1 FROM %s WHERE %I IS NULL AND %I IS NOT NULL LIMIT 1001) AS pending', source, target, col.source);
	failed := (SELECT count(*) FROM _clip.failed AS f JOIN _clip.columns AS c ON c.relation = f.relation AND c.trigger_name = f.trigger_name
	            WHERE f.relation = col.top AND c.target = _clip_pending_statement.target AND f.key <> 'null');
	queued := col.mode = 'queue';
	top := col.top;
END
$$;
COMMENT ON FUNCTION _clip_pending_statement(oid, regclass, name) IS 'internal: statement that looks for pending rows, which searches do not find';

CREATE FUNCTION clip_search(relation regclass, query text, k integer DEFAULT 10, target name DEFAULT 'embedding', filter text DEFAULT NULL,
	model text DEFAULT NULL, key_column name DEFAULT NULL, min_relevance double precision DEFAULT NULL, per name DEFAULT NULL,
	per_size integer DEFAULT 1, exclude jsonb DEFAULT NULL, index regclass DEFAULT NULL, partial boolean DEFAULT false)
	RETURNS TABLE (key bigint, key_text text, key_uuid uuid, key_json jsonb, distance double precision, rank integer, relevance double precision)
	AS 'MODULE_PATHNAME', 'clip_search_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION clip_search(regclass, text, integer, name, text, text, name, double precision, name, integer, jsonb, regclass, boolean)
	IS 'search by a text: keys of the k most similar rows that match a filter, with distance, rank and relevance';

CREATE FUNCTION clip_search_image(relation regclass, query bytea, k integer DEFAULT 10, target name DEFAULT 'embedding', filter text DEFAULT NULL,
	model text DEFAULT NULL, key_column name DEFAULT NULL, min_relevance double precision DEFAULT NULL, per name DEFAULT NULL,
	per_size integer DEFAULT 1, exclude jsonb DEFAULT NULL, index regclass DEFAULT NULL, partial boolean DEFAULT false)
	RETURNS TABLE (key bigint, key_text text, key_uuid uuid, key_json jsonb, distance double precision, rank integer, relevance double precision)
	AS 'MODULE_PATHNAME', 'clip_search_image_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION clip_search_image(regclass, bytea, integer, name, text, text, name, double precision, name, integer, jsonb, regclass, boolean)
	IS 'search by an encoded image: keys of the k most similar rows that match a filter, with distance, rank and relevance';

CREATE FUNCTION clip_search_vector(relation regclass, query vector, k integer DEFAULT 10, target name DEFAULT 'embedding', filter text DEFAULT NULL,
	key_column name DEFAULT NULL, min_relevance double precision DEFAULT NULL, per name DEFAULT NULL,
	per_size integer DEFAULT 1, exclude jsonb DEFAULT NULL, index regclass DEFAULT NULL, partial boolean DEFAULT false)
	RETURNS TABLE (key bigint, key_text text, key_uuid uuid, key_json jsonb, distance double precision, rank integer, relevance double precision)
	AS 'MODULE_PATHNAME', 'clip_search_vector_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION clip_search_vector(regclass, vector, integer, name, text, name, double precision, name, integer, jsonb, regclass, boolean)
	IS 'search by a vector: keys of the k most similar rows that match a filter, with distance, rank and relevance';
