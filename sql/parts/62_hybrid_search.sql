-- Combines two rankings by reciprocal rank fusion (Cormack et al. 2009). Rows of both rankings are joined by tableoid and ctid,
-- which do not change within a statement. They identify no row on several nodes of Citus, so there the rows are joined by their keys. The
-- table of another server can have partitions, whose rows have the same ctid. So the rows of foreign tables are also compared by their keys.
-- The statement uses subqueries, because a filter could use a table with the name of a WITH query.
CREATE FUNCTION _clip_hybrid_statements(relation regclass, words name, k integer, target name, filter text, key_column name, role oid, partial boolean, index regclass,
	OUT nearest text, OUT exact text, OUT candidates integer, OUT model text, OUT digest text, OUT named text, OUT names text[], OUT probes text[])
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- The best value of the paper, which others use, too.
	smoothing CONSTANT integer := 60;
	parts record;
	key record;
	reading record;
	kind text;
	columns text;
	-- The rows of each ranking.
	near text;
	considered bigint;
	same_row text;
	same_place CONSTANT text := 'v.t OPERATOR(pg_catalog.=) w.t AND v.c OPERATOR(pg_catalog.=) w.c';
	same_key CONSTANT text := 'pg_catalog.jsonb_build_array(v.key, v.key_text, v.key_uuid, v.key_json) OPERATOR(pg_catalog.=) pg_catalog.jsonb_build_array(w.key, w.key_text, w.key_uuid, w.key_json)';
	words_rows text;
	similarity text;
	matches text;
	short text := 'NULL::pg_catalog.int4[]';
	before text := '';
	exact_if CONSTANT text := 'COALESCE(%s OPERATOR(pg_catalog.=) ANY ($3::pg_catalog.int4[]), true)';
	skip_if CONSTANT text := '%s OPERATOR(pg_catalog.=) ANY ($4::pg_catalog.int4[])';
	search CONSTANT text := E'%1$sSELECT COALESCE(v.key, w.key) AS key, COALESCE(v.key_text, w.key_text) AS key_text, COALESCE(v.key_uuid, w.key_uuid) AS key_uuid,\n'
		'       COALESCE(v.key_json, w.key_json) AS key_json,\n'
		'       COALESCE(1::pg_catalog.float8 OPERATOR(pg_catalog./) (%2$s::pg_catalog.float8 OPERATOR(pg_catalog.+) v.place::pg_catalog.float8), 0)\n'
		'       OPERATOR(pg_catalog.+) COALESCE(1::pg_catalog.float8 OPERATOR(pg_catalog./) (%2$s::pg_catalog.float8 OPERATOR(pg_catalog.+) w.place::pg_catalog.float8), 0) AS score,\n'
		'       v.place::pg_catalog.int4 AS vector_place, w.place::pg_catalog.int4 AS words_place, %3$s AS short\n'
		'  FROM (SELECT near.*, pg_catalog.rank() OVER (ORDER BY near.distance) AS place FROM (\n%4$s\n'
		') AS near) AS v FULL JOIN (SELECT named.*, pg_catalog.rank() OVER (ORDER BY named.similarity DESC) AS place FROM (\n%5$s\n'
		') AS named) AS w ON %7$s\n'
		' ORDER BY score DESC, v.place, w.place LIMIT %6$s';
BEGIN
	SELECT * INTO parts FROM @extschema@._clip_searched(relation, target, filter, '$1'::pg_catalog.text, index);
	PERFORM @extschema@._clip_require_number('k'::pg_catalog.text, k, 1);
	IF (SELECT c.relkind NOT IN ('r', 'p', 'm', 'f') FROM pg_class AS c WHERE c.oid = relation) THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a table', relation),
			HINT = 'Search the underlying table.';
	END IF;
	kind := format_type((@extschema@._clip_require_column(relation, words, 'a column of type tsvector'::text, 'words'::text)).type, NULL);
	IF kind <> 'tsvector' THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('column "%s" has type %s', words, kind),
			DETAIL = 'Full-text search needs a column of type tsvector.',
			HINT = format('Add a column, and a GIN index on it: ALTER TABLE %s ADD COLUMN words tsvector GENERATED ALWAYS AS (to_tsvector(''english'', title)) STORED.', relation);
	END IF;
	SELECT * INTO key FROM @extschema@._clip_search_key(relation, key_column);
	SELECT * INTO reading FROM @extschema@._clip_reading(relation, role, target, partial);
	columns := format('%s, %s.tableoid AS t, %s.ctid AS c', @extschema@._clip_search_columns(key.names, key.types, parts.alias), parts.alias, parts.alias);
	same_row := CASE WHEN @extschema@._clip_citus_kind(relation) = 'distributed' THEN same_key WHEN reading.is_foreign THEN same_place || ' AND ' || same_key ELSE same_place END;
	-- Rows with lower ranks contribute little.
	candidates := greatest(100, least(2 * k::bigint, 1000000));
	considered := @extschema@._clip_considered(candidates::bigint, 'text'::text, parts.bits);
	similarity := format('pg_catalog.ts_rank_cd(%s.%I, $2)', parts.alias, words);
	matches := format('%s.%I OPERATOR(pg_catalog.@@) $2%s', parts.alias, words, parts.filtered);
	IF reading.is_split THEN
		names := reading.names;
		probes := reading.probes;
		before := format(E'WITH clip_reached AS MATERIALIZED (\n%s\n)\n', @extschema@._clip_leaf_rows(relation, role, target, '$1'::text, columns, parts.present || parts.filtered, NULL::text, candidates::text, exact_if, skip_if, index));
		short := @extschema@._clip_short_leaves(relation, role, target, 'clip_reached'::text, candidates::text, exact_if, skip_if);
		near := format('SELECT r.* FROM clip_reached AS r ORDER BY r.distance LIMIT %s', candidates);
		words_rows := format(E'SELECT r.* FROM (\n%s\n) AS r ORDER BY r.similarity DESC LIMIT %s', @extschema@._clip_leaf_rows(relation, role, target, '$1'::text,
			format('%s, %s AS similarity', columns, similarity), matches, similarity || ' DESC', candidates::text, exact_if, skip_if, NULL::regclass), candidates);
		nearest := format(search, before, smoothing, short, near, words_rows, k, same_row);
		exact := nearest;
	ELSE
		near := format('SELECT %s, %s AS distance FROM %s WHERE %s%s', columns, parts.distance, parts.rows_of, parts.present, parts.filtered);
		words_rows := format(E'SELECT %s, %s AS similarity FROM %s\n WHERE %s ORDER BY similarity DESC LIMIT %s', columns, similarity, parts.rows_of, matches, candidates);
		exact := format(search, before, smoothing, short, @extschema@._clip_nearest(near, parts.exact_place, candidates::text, NULL::bigint, 'distance'::name), words_rows, k, same_row);
		nearest := CASE WHEN reading.is_foreign THEN exact ELSE format(search, before, smoothing, short, @extschema@._clip_nearest(near, parts.place, candidates::text, considered, 'distance'::name), words_rows, k, same_row) END;
		IF NOT parts.may_omit OR reading.is_foreign THEN
			exact := NULL;
		END IF;
	END IF;
	candidates := greatest(candidates, considered, @extschema@._clip_candidates(relation, k));
	model := parts.model;
	digest := parts.digest;
	named := relation::text;
END
$$;
COMMENT ON FUNCTION _clip_hybrid_statements(regclass, name, integer, name, text, name, oid, boolean, regclass) IS 'internal: statements of a hybrid search, and the number of rows that each ranking contributes';

CREATE FUNCTION clip_hybrid_search(relation regclass, query text, words name, k integer DEFAULT 10, target name DEFAULT 'embedding',
	filter text DEFAULT NULL, configuration regconfig DEFAULT NULL, model text DEFAULT NULL, key_column name DEFAULT NULL,
	index regclass DEFAULT NULL, partial boolean DEFAULT false)
	RETURNS TABLE (key bigint, key_text text, key_uuid uuid, key_json jsonb, score double precision, vector_place integer, words_place integer)
	AS 'MODULE_PATHNAME', 'clip_hybrid_search_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION clip_hybrid_search(regclass, text, name, integer, name, text, regconfig, text, name, regclass, boolean)
	IS 'full-text search combined with a search by embedding: keys of the k rows with the highest combined rank; words is a column of type tsvector';
