-- near-duplicates

CREATE FUNCTION _clip_duplicates_sql(relation regclass, target name, filter text, max_distance double precision, neighbours integer, index regclass) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts record;
	key record;
	keys text;
	-- An alias that differs from the name of the table, which the similar rows have as their alias.
	one CONSTANT text := (SELECT CASE c.relname WHEN 'one' THEN 'this_one' ELSE 'one' END FROM pg_class AS c WHERE c.oid = relation);
BEGIN
	PERFORM @extschema@._clip_citus_reject(relation, 'clip_near_duplicates'::text,
		format('Read the embedding of one row, and search its neighbours with it: SELECT * FROM clip_search_vector(%L, ''[...]'').', relation));
	SELECT * INTO parts FROM @extschema@._clip_searched(relation, target, filter, one || '.embedding'::pg_catalog.text, index);
	SELECT * INTO key FROM @extschema@._clip_require_key(relation, 'Duplicates are identified by their keys.'::text);
	keys := @extschema@._clip_key_object(key.names, parts.alias);
	PERFORM @extschema@._clip_require_number('neighbours'::pg_catalog.text, neighbours, 1);
	IF max_distance IS NULL OR NOT max_distance BETWEEN 0 AND 2 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid max_distance: %s', COALESCE(max_distance::text, 'null')),
			DETAIL = 'Cosine distances are between 0 and 2.';
	END IF;
	RETURN format(E'SELECT LEAST(%6$s.key, other.key) AS key, GREATEST(%6$s.key, other.key) AS duplicate, pg_catalog.min(other.distance) AS distance\n'
		'  FROM (SELECT %1$s AS key, %2$s.%3$I AS embedding FROM %4$s WHERE %5$s%7$s) AS %6$s\n'
		' CROSS JOIN LATERAL (%8$s) AS other\n'
		' WHERE other.distance OPERATOR(pg_catalog.<=) $1 AND %6$s.key OPERATOR(pg_catalog.<>) other.key\n'
		' GROUP BY 1, 2 ORDER BY 3, 1, 2',
		keys, parts.alias, target, parts.rows_of, parts.present, one, parts.filtered,
		@extschema@._clip_nearest(format('SELECT %s AS key, %s AS distance FROM %s WHERE %s', keys, parts.distance, parts.rows_of, parts.present), parts.place,
			(neighbours::bigint + 1)::text, @extschema@._clip_considered(neighbours::bigint + 1, 'duplicate'::text, parts.bits), 'distance'::name));
END
$$;
COMMENT ON FUNCTION _clip_duplicates_sql(regclass, name, text, double precision, integer, regclass) IS 'internal: statement that finds near-duplicates';

CREATE FUNCTION clip_near_duplicates(relation regclass, target name DEFAULT 'embedding', max_distance double precision DEFAULT 0.01,
	filter text DEFAULT NULL, neighbours integer DEFAULT 20, index regclass DEFAULT NULL) RETURNS TABLE (key jsonb, duplicate jsonb, distance double precision)
	AS 'MODULE_PATHNAME', 'clip_near_duplicates_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 1000;
COMMENT ON FUNCTION clip_near_duplicates(regclass, name, double precision, text, integer, regclass)
	IS 'pairs of rows with nearly equal embeddings, each pair once; compares each row that matches the filter with all rows';

-- Connected components of pairs of numbers: for each of the numbers 1, 2, 3 and so on, the smallest number of its component.
CREATE FUNCTION _clip_components(ones integer[], others integer[]) RETURNS integer[]
	LANGUAGE plpgsql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	largest CONSTANT integer := greatest((SELECT max(n) FROM unnest(ones) AS n), (SELECT max(n) FROM unnest(others) AS n));
	parents integer[] := ARRAY(SELECT generate_series(1, largest));
	one integer;
	other integer;
BEGIN
	FOR i IN 1 .. COALESCE(cardinality(ones), 0) LOOP
		one := ones[i];
		WHILE parents[one] <> one LOOP
			parents[one] := parents[parents[one]];
			one := parents[one];
		END LOOP;
		other := others[i];
		WHILE parents[other] <> other LOOP
			parents[other] := parents[parents[other]];
			other := parents[other];
		END LOOP;
		parents[greatest(one, other)] := least(one, other);
	END LOOP;
	-- A parent is never larger than its child, so one pass in ascending order finds all roots.
	FOR i IN 1 .. COALESCE(largest, 0) LOOP
		parents[i] := parents[parents[i]];
	END LOOP;
	RETURN parents;
END
$$;
COMMENT ON FUNCTION _clip_components(integer[], integer[]) IS 'internal: connected components of pairs';

CREATE FUNCTION _clip_duplicate_groups(relation regclass, target name, max_distance double precision, filter text, neighbours integer, index regclass)
	RETURNS TABLE (group_number integer, key jsonb)
	LANGUAGE sql STABLE ROWS 1000
BEGIN ATOMIC
WITH pairs AS MATERIALIZED (
	SELECT p.key, p.duplicate FROM @extschema@.clip_near_duplicates(relation, target, max_distance, filter, neighbours, index) AS p
), keys AS MATERIALIZED (
	SELECT k.key, (pg_catalog.row_number() OVER (ORDER BY k.key))::integer AS n
	  FROM (SELECT p.key FROM pairs AS p UNION SELECT p.duplicate FROM pairs AS p) AS k
), roots AS MATERIALIZED (
	SELECT @extschema@._clip_components(pg_catalog.array_agg(a.n), pg_catalog.array_agg(b.n)) AS of
	  FROM pairs AS p JOIN keys AS a ON a.key OPERATOR(pg_catalog.=) p.key JOIN keys AS b ON b.key OPERATOR(pg_catalog.=) p.duplicate
)
SELECT (pg_catalog.dense_rank() OVER (ORDER BY r.of[k.n]))::integer, k.key FROM keys AS k CROSS JOIN roots AS r ORDER BY 1, 2;
END;
COMMENT ON FUNCTION _clip_duplicate_groups(regclass, name, double precision, text, integer, regclass) IS 'internal: result of clip_duplicate_groups';

CREATE FUNCTION clip_duplicate_groups(relation regclass, target name DEFAULT 'embedding', max_distance double precision DEFAULT 0.01,
	filter text DEFAULT NULL, neighbours integer DEFAULT 20, index regclass DEFAULT NULL) RETURNS TABLE (group_number integer, key jsonb)
	AS 'MODULE_PATHNAME', 'clip_duplicate_groups_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 1000;
COMMENT ON FUNCTION clip_duplicate_groups(regclass, name, double precision, text, integer, regclass)
	IS 'near-duplicates in groups; rows in a group are near-duplicates directly or through other rows';
