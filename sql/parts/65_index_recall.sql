-- recall of an index

CREATE TYPE @extschema@.clip_recall AS (ef_search integer, recall real, median_ms real, queries integer);
COMMENT ON TYPE clip_recall IS 'a row of clip_index_recall';
COMMENT ON COLUMN clip_recall.ef_search IS 'the setting hnsw.ef_search';
COMMENT ON COLUMN clip_recall.recall IS 'average share of the k nearest rows that the index finds';
COMMENT ON COLUMN clip_recall.median_ms IS 'median duration of a search in milliseconds';
COMMENT ON COLUMN clip_recall.queries IS 'number of searches that were measured within the time limit';

CREATE FUNCTION _clip_index_recall(relation regclass, target name, sample integer, k integer, ef_search integer[], queries text[], time_limit interval,
	model text, index regclass) RETURNS SETOF clip_recall
	LANGUAGE plpgsql VOLATILE ROWS 4
	-- Measures the index with the settings of a search.
	SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	SET hnsw.iterative_scan = 'relaxed_order' SET hnsw.ef_search = 40
AS $$
#variable_conflict use_variable
DECLARE
	begun CONSTANT timestamptz := clock_timestamp();
	parts record;
	drawn record;
	-- The nearest rows, without the row whose embedding is the query.
	search CONSTANT text := 'SELECT array_agg(n.distance ORDER BY n.distance) FROM (%s) AS n';
	rows_read text;
	by_index text;
	exactly text;
	searched_by record;
	hits float8[];
	best float8[];
	started timestamptz;
	breadth integer;
	breadths integer[] := '{}';
	recalls real[] := '{}';
	times real[] := '{}';
	asked refcursor;
	-- The settings of this function, which the nodes of a distributed table need, too.
	settings CONSTANT text[] := ARRAY['enable_seqscan', 'jit', 'hnsw.iterative_scan', 'hnsw.ef_search'];
	is_distributed CONSTANT boolean := COALESCE(@extschema@._clip_citus_kind(relation) = 'distributed', false);
BEGIN
	SELECT * INTO parts FROM @extschema@._clip_searched(relation, target, NULL::pg_catalog.text, '$1'::pg_catalog.text, index);
	PERFORM @extschema@._clip_require_number('k'::pg_catalog.text, k, 1);
	PERFORM @extschema@._clip_require_number('sample'::pg_catalog.text, sample, 1);
	IF time_limit IS NULL OR COALESCE(cardinality(ef_search), 0) = 0 OR array_position(ef_search, NULL) IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'ef_search and time_limit must not be empty or null';
	END IF;
	IF @extschema@._clip_has_foreign(relation) THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('table %s has foreign partitions', relation),
			DETAIL = 'Each server has an index of its own.', HINT = 'Call clip_index_recall on each server.';
	END IF;
	IF parts.index IS NULL OR (SELECT am.amname <> 'hnsw' FROM pg_class AS c JOIN pg_am AS am ON am.oid = c.relam WHERE c.oid = parts.index) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table %s has no HNSW index on column "%s"', relation, target),
			DETAIL = CASE WHEN parts.index IS NULL THEN 'Searches without an index are exact.' ELSE 'The function measures values of hnsw.ef_search, which indexes of other methods do not read.' END,
			HINT = format('Create an index: CREATE INDEX %s.', @extschema@._clip_index_definition(relation, target, (SELECT v.operator_class FROM @extschema@._clip_vector_types() AS v
				WHERE v.type = (@extschema@._clip_require_column(relation, target, 'the embedding column'::text, 'target'::text)).type)));
	END IF;
	rows_read := format('SELECT %1$s AS distance FROM %2$s WHERE %3$s AND (%4$s.tableoid, %4$s.ctid) IS DISTINCT FROM ($2, $3)', parts.distance, parts.rows_of, parts.present, parts.alias);
	by_index := format(search, @extschema@._clip_nearest(rows_read, parts.place, k::text, @extschema@._clip_considered(k::bigint, CASE WHEN queries IS NULL THEN 'image' ELSE 'text' END::text, parts.bits), 'distance'::name));
	exactly := format(search, @extschema@._clip_nearest(rows_read, parts.exact_place, k::text, NULL::bigint, 'distance'::name));
	IF queries IS NOT NULL THEN
		OPEN asked NO SCROLL FOR SELECT @extschema@._clip_query(relation, target, q.words, model) AS vector, NULL::oid AS t, NULL::tid AS c
			FROM unnest(queries) AS q (words);
	ELSE
		SELECT * INTO drawn FROM @extschema@._clip_sample(relation, (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user), target, sample, 'false'::text);
		OPEN asked NO SCROLL FOR EXECUTE format('SELECT %1$s.%2$I::%6$I.vector AS vector, %1$s.tableoid AS t, %1$s.ctid AS c FROM %3$s WHERE %4$s ORDER BY random() LIMIT %5$s',
			parts.alias, target, drawn.source, parts.present, sample, @extschema@._clip_vector_schema());
	END IF;
	IF is_distributed THEN
		PERFORM @extschema@._clip_citus_set(settings, ARRAY(SELECT current_setting(s) FROM unnest(settings) WITH ORDINALITY AS o (s, i) ORDER BY i));
	END IF;
	LOOP
		FETCH asked INTO searched_by;
		EXIT WHEN NOT FOUND OR clock_timestamp() > begun + time_limit;
		EXECUTE exactly INTO best USING searched_by.vector, searched_by.t, searched_by.c;
		CONTINUE WHEN best IS NULL;
		-- An unmeasured search reads the pages from disk, so that the measured ones find them in memory.
		PERFORM set_config('hnsw.ef_search', (SELECT max(b) FROM unnest(ef_search) AS b)::text, true);
		IF is_distributed THEN
			PERFORM @extschema@._clip_citus_set(ARRAY['hnsw.ef_search'], ARRAY[current_setting('hnsw.ef_search')]);
		END IF;
		EXECUTE by_index INTO hits USING searched_by.vector, searched_by.t, searched_by.c;
		FOREACH breadth IN ARRAY ef_search LOOP
			PERFORM set_config('hnsw.ef_search', breadth::text, true);
			IF is_distributed THEN
				PERFORM @extschema@._clip_citus_set(ARRAY['hnsw.ef_search'], ARRAY[breadth::text]);
			END IF;
			started := clock_timestamp();
			EXECUTE by_index INTO hits USING searched_by.vector, searched_by.t, searched_by.c;
			times := times || (extract(epoch FROM clock_timestamp() - started) * 1000)::real;
			breadths := breadths || breadth;
			-- Any row at the distance of the last of the k nearest rows counts as found.
			recalls := recalls || ((SELECT count(*) FROM unnest(hits) AS d WHERE d <= best[cardinality(best)]) / cardinality(best)::real)::real;
		END LOOP;
	END LOOP;
	CLOSE asked;
	IF is_distributed THEN
		PERFORM @extschema@._clip_citus_set(settings, array_fill(NULL::text, ARRAY[cardinality(settings)]));
	END IF;
	RETURN QUERY SELECT m.breadth, avg(m.recall)::real, percentile_cont(0.5) WITHIN GROUP (ORDER BY m.ms)::real, count(*)::integer
	  FROM unnest(breadths, recalls, times) AS m (breadth, recall, ms) GROUP BY m.breadth ORDER BY m.breadth;
END
$$;
COMMENT ON FUNCTION _clip_index_recall(regclass, name, integer, integer, integer[], text[], interval, text, regclass) IS 'internal: result of clip_index_recall';

CREATE FUNCTION clip_index_recall(relation regclass, target name DEFAULT 'embedding', sample integer DEFAULT 100, k integer DEFAULT 10,
	ef_search integer[] DEFAULT ARRAY[40, 100, 200, 400], queries text[] DEFAULT NULL, time_limit interval DEFAULT '1 minute', model text DEFAULT NULL,
	index regclass DEFAULT NULL)
	RETURNS SETOF clip_recall
	AS 'MODULE_PATHNAME', 'clip_index_recall_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 4;
COMMENT ON FUNCTION clip_index_recall(regclass, name, integer, integer, integer[], text[], interval, text, regclass)
	IS 'recall and speed of the index: compares index searches with exact searches, for a sample of the table''s rows or for texts';
