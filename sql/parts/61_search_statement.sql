-- The equality operator of a type, from its default operator class.
CREATE FUNCTION _clip_equality(kind oid) RETURNS text
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE base (oid, typtype, typbasetype) AS (
	SELECT t.oid, t.typtype, t.typbasetype FROM pg_type AS t WHERE t.oid = kind
	UNION ALL
	SELECT t.oid, t.typtype, t.typbasetype FROM base AS b JOIN pg_type AS t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
)
SELECT COALESCE((
	SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
	  FROM pg_opclass AS oc JOIN pg_am AS m ON m.oid = oc.opcmethod AND m.amname = 'btree'
	  JOIN pg_amop AS am ON am.amopfamily = oc.opcfamily AND am.amopstrategy = 3 AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
	  JOIN pg_operator AS o ON o.oid = am.amopopr JOIN pg_namespace AS n ON n.oid = o.oprnamespace
	 WHERE oc.opcdefault AND oc.opcintype = (SELECT b.oid FROM base AS b WHERE b.typtype <> 'd')), 'OPERATOR(pg_catalog.=)')
$$;
COMMENT ON FUNCTION _clip_equality(oid) IS 'internal: the equality operator of a type';

-- The name of a type without a length, in a form that no search_path changes.
CREATE FUNCTION _clip_type_name(kind oid) RETURNS text
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('%I.%I', n.nspname, t.typname) FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE t.oid = kind
$$;
COMMENT ON FUNCTION _clip_type_name(oid) IS 'internal: the qualified name of a type';

-- The columns that identify the rows of a search: the key of the table, or "key_column" if the caller names it, for example for a
-- view.
CREATE FUNCTION _clip_search_key(relation regclass, key_column name, OUT names name[], OUT types oid[])
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF key_column IS NOT NULL THEN
		names := ARRAY[key_column];
		types := ARRAY[(@extschema@._clip_require_column(relation, key_column, 'the column that identifies rows'::text, 'key_column'::text)).type];
		RETURN;
	END IF;
	SELECT k.names, k.types INTO names, types FROM @extschema@._clip_key(relation) AS k;
	IF names IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('%s has no primary key', relation),
			DETAIL = 'A search returns the keys of rows.',
			HINT = format('Name a column that identifies rows: key_column => %L.', COALESCE(
				(SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
					AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype) ORDER BY a.attname <> 'id', a.attnum LIMIT 1), 'id'));
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_search_key(regclass, name) IS 'internal: columns that identify the rows of a search, with their types';

-- The expressions for key, key_text, key_uuid and key_json of a search result.
CREATE FUNCTION _clip_search_columns(names name[], types oid[], alias text) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	columns CONSTANT text := '%s::pg_catalog.int8 AS key, %s::pg_catalog.text AS key_text, %s::pg_catalog.uuid AS key_uuid, %s AS key_json';
	is_number boolean := false;
	is_uuid boolean := false;
	is_text boolean := false;
	called text;
BEGIN
	IF cardinality(names) = 1 THEN
		WITH RECURSIVE base (oid, typtype, typbasetype, typcategory) AS (
			SELECT t.oid, t.typtype, t.typbasetype, t.typcategory FROM pg_type AS t WHERE t.oid = types[1]
			UNION ALL
			SELECT t.oid, t.typtype, t.typbasetype, t.typcategory FROM base AS b JOIN pg_type AS t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
		)
		SELECT b.oid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AS is_number, b.oid = 'uuid'::regtype AS is_uuid, b.typcategory = 'S' AS is_text
		  INTO is_number, is_uuid, is_text FROM base AS b WHERE b.typtype <> 'd';
		called := format('%s.%I', alias, names[1]);
	END IF;
	RETURN format(columns, CASE WHEN is_number THEN called ELSE 'NULL' END, CASE WHEN is_text THEN called ELSE 'NULL' END,
		CASE WHEN is_uuid THEN called ELSE 'NULL' END, @extschema@._clip_key_object(names, alias));
END
$$;
COMMENT ON FUNCTION _clip_search_columns(name[], oid[], text) IS 'internal: expressions for the keys of a search result';

-- A condition that is true for the rows with these keys. "keys" is a key or an array of keys, as values or as in key_json. "is_named"
-- is true if the caller names the column.
CREATE FUNCTION _clip_in_keys(names name[], types oid[], is_named boolean, alias text, keys jsonb) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	listed CONSTANT jsonb := CASE jsonb_typeof(keys) WHEN 'array' THEN keys ELSE jsonb_build_array(keys) END;
	wrong jsonb;
BEGIN
	SELECT e INTO wrong FROM jsonb_array_elements(listed) AS e
	 WHERE CASE jsonb_typeof(e) WHEN 'object' THEN EXISTS (SELECT FROM unnest(names) AS n WHERE NOT e ? n::text)
	            WHEN 'array' THEN true WHEN 'null' THEN true ELSE cardinality(names) > 1 END LIMIT 1;
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'invalid exclude: an element is no key of the table',
			DETAIL = format('The key has %s: %s.', CASE cardinality(names) WHEN 1 THEN 'one column' ELSE 'several columns' END,
				(SELECT string_agg(quote_ident(n), ', ' ORDER BY i) FROM unnest(names) WITH ORDINALITY AS k (n, i))),
			HINT = CASE cardinality(names) WHEN 1 THEN 'Pass a JSON array of keys, for example: exclude => ''[1, 2]''.'
				ELSE 'Pass a JSON array of values of key_json.' END;
	END IF;
	IF cardinality(names) = 1 THEN
		-- A column that the caller names can be NULL.
		RETURN format(CASE WHEN is_named THEN 'COALESCE(%1$s.%2$I %3$s ANY (%4$L::%5$s[]), %6$s)' ELSE '%1$s.%2$I %3$s ANY (%4$L::%5$s[])' END, alias, names[1], @extschema@._clip_equality(types[1]),
			ARRAY(SELECT CASE jsonb_typeof(e) WHEN 'object' THEN e->>names[1] ELSE e#>>'{}' END FROM jsonb_array_elements(listed) AS e
			       WHERE jsonb_typeof(e) <> 'object' OR e->>names[1] IS NOT NULL), @extschema@._clip_type_name(types[1]),
			CASE WHEN EXISTS (SELECT FROM jsonb_array_elements(listed) AS e WHERE jsonb_typeof(e) = 'object' AND e->>names[1] IS NULL) THEN format('%s.%I IS NULL', alias, names[1]) ELSE 'false' END);
	END IF;
	RETURN COALESCE((SELECT string_agg((SELECT format('(%s)', string_agg(format('%s.%I %s %L::%s', alias, k.name, @extschema@._clip_equality(k.type), e->>k.name::text,
			@extschema@._clip_type_name(k.type)), ' AND ' ORDER BY k.i)) FROM unnest(names, types) WITH ORDINALITY AS k (name, type, i)), ' OR ')
		FROM jsonb_array_elements(listed) AS e), 'false');
END
$$;
COMMENT ON FUNCTION _clip_in_keys(name[], oid[], boolean, text, jsonb) IS 'internal: condition for the rows with these keys';

-- The number of rows that an index should consider. Texts are far from all images, so a search by a text starts far from the
-- nearest rows. docs/design/search.md has the measurements.
CREATE FUNCTION _clip_candidates(relation regclass, k bigint) RETURNS integer
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN least(1000000, greatest(2 * k, CASE WHEN @extschema@._clip_estimated_rows(relation) BETWEEN 30000 AND 300000 THEN 450 ELSE 800 END));
END
$$;
COMMENT ON FUNCTION _clip_candidates(regclass, bigint) IS 'internal: number of rows that the index considers in a search';

-- The statements of a search, which return keys.
--   nearest   the k nearest rows by the index; with "per", of the nearest $2 rows the best "per_size" rows of the k best groups
--   exact     the same in a form that no index supports, or NULL if it would find the same rows
-- If the table is read leaf by leaf, both are the same statement: it does not use the indexes of the leaves $3, and of all leaves if $3 is
-- NULL; it leaves out the leaves $4. Its last column is an array of the leaves whose index may have omitted rows.
CREATE FUNCTION _clip_search_statements(relation regclass, k integer, target name, filter text, key_column name, role oid, partial boolean,
	min_relevance double precision, per name, per_size integer, exclude jsonb, index regclass, by_image boolean,
	OUT nearest text, OUT exact text, OUT candidates integer, OUT model text, OUT digest text, OUT named text, OUT names text[], OUT probes text[])
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- Two steps, because an index scan in relaxed order finds more rows but returns them slightly out of order.
	search CONSTANT text := E'WITH %s\n'
		'SELECT f.key, f.key_text, f.key_uuid, f.key_json, f.distance, f.rank::pg_catalog.int4 AS rank, %s AS relevance, %s AS is_relevant, %s AS short\n'
		'  FROM %s AS f%s\n ORDER BY f.rank, f.distance';
	one_step CONSTANT text := E'nearest AS MATERIALIZED (\n%s\n)';
	by_leaf CONSTANT text := E'clip_reached AS MATERIALIZED (\n%s\n), nearest AS MATERIALIZED (\nSELECT r.* FROM %s AS r ORDER BY r.distance LIMIT %s\n)';
	every_row CONSTANT text := '(SELECT n.*, pg_catalog.row_number() OVER (ORDER BY n.distance) AS rank FROM nearest AS n)';
	-- The best rows of each group, and the best groups.
	grouped CONSTANT text := '(SELECT r.* FROM (SELECT p.*, pg_catalog.dense_rank() OVER (ORDER BY p.best, p.group_of) AS rank FROM ('
		'SELECT n.*, pg_catalog.row_number() OVER (PARTITION BY n.group_of ORDER BY n.distance) AS place, pg_catalog.min(n.distance) OVER (PARTITION BY n.group_of) AS best FROM nearest AS n'
		') AS p WHERE p.place OPERATOR(pg_catalog.<=) %s::pg_catalog.int8) AS r WHERE r.rank OPERATOR(pg_catalog.<=) %s::pg_catalog.int8)';
	-- The rows of the groups that "%3$s" contains.
	of_groups CONSTANT text := E'(%1$s %2$s ANY (ARRAY(SELECT g.group_of FROM %3$s AS g)) OR %1$s IS NULL AND EXISTS (SELECT 1 FROM %3$s AS g WHERE g.group_of IS NULL))';
	-- Without a limit, no number of rows shows that an index omitted some.
	exact_if CONSTANT text := CASE WHEN per IS NOT NULL THEN '$2 IS NULL OR ' ELSE '' END || 'COALESCE(%s OPERATOR(pg_catalog.=) ANY ($3::pg_catalog.int4[]), true)';
	skip_if CONSTANT text := '%s OPERATOR(pg_catalog.=) ANY ($4::pg_catalog.int4[])';
	no_short CONSTANT text := 'NULL::pg_catalog.int4[]';
	read CONSTANT text := E'SELECT %s\n  FROM %s\n WHERE %s';
	parts record;
	key record;
	reading record;
	group_type oid;
	group_of text;
	columns text;
	condition text;
	rows_read text;
	is_excluded text;
	excluded text;
	reached text;
	short text;
	near text;
	in_steps boolean;
	kind CONSTANT text := CASE WHEN by_image THEN 'image' ELSE 'text' END;
	outcome text;
	relevance text := 'NULL::pg_catalog.float8';
	is_relevant text := 'true';
	sample record;
	typical text := '';
	row_limit text := k;
BEGIN
	SELECT * INTO parts FROM @extschema@._clip_searched(relation, target, filter, '$1'::pg_catalog.text, index);
	PERFORM @extschema@._clip_require_number('k'::pg_catalog.text, k, 1);
	PERFORM @extschema@._clip_require_number('per_size'::pg_catalog.text, per_size, 1);
	IF min_relevance = 'NaN' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'invalid min_relevance: NaN',
			HINT = 'Pass a number of standard deviations, for example 3.';
	END IF;
	SELECT * INTO key FROM @extschema@._clip_search_key(relation, key_column);
	SELECT * INTO reading FROM @extschema@._clip_reading(relation, role, target, partial);
	-- The steps tell rows apart by their keys. Tables that inherit from a table can have its keys.
	in_steps := parts.index IS NOT NULL AND parts.bits IS NULL AND key_column IS NULL AND reading.is_foreign IS NOT TRUE
		AND @extschema@._clip_citus_kind(relation) IS NULL AND (SELECT c.relkind = 'p' OR NOT c.relhassubclass FROM pg_class AS c WHERE c.oid = relation);
	candidates := greatest(@extschema@._clip_candidates(relation, k), @extschema@._clip_considered(k::bigint, kind, parts.bits));
	model := parts.model;
	digest := parts.digest;
	named := relation::text;
	IF min_relevance IS NOT NULL THEN
		SELECT * INTO sample FROM @extschema@._clip_sample(relation, role, target, 1000, skip_if);
		-- The cosine distance of a vector of length zero is NaN.
		relevance := 'CASE WHEN f.distance OPERATOR(pg_catalog.=) ''NaN''::pg_catalog.float8 THEN ''-Infinity''::pg_catalog.float8 ELSE COALESCE((t.mean OPERATOR(pg_catalog.-) f.distance) OPERATOR(pg_catalog./) t.deviation, 0::pg_catalog.float8) END';
		is_relevant := format('%s OPERATOR(pg_catalog.>=) %L::pg_catalog.float8', relevance, min_relevance);
		typical := format(E',\n       (SELECT pg_catalog.avg(s.distance) AS mean, CASE WHEN pg_catalog.stddev_pop(s.distance) OPERATOR(pg_catalog.<>) 0::pg_catalog.float8 THEN pg_catalog.stddev_pop(s.distance) END AS deviation FROM (SELECT %s AS distance FROM %s WHERE %s LIMIT %s) AS s WHERE s.distance OPERATOR(pg_catalog.<>) ''NaN''::pg_catalog.float8) AS t',
			parts.distance, sample.source, parts.present, sample.row_limit);
	END IF;
	IF per IS NOT NULL THEN
		group_type := (@extschema@._clip_require_column(relation, per, 'the column of the groups'::text, 'per'::text)).type;
		group_of := format('%s.%I', parts.alias, per);
		row_limit := '$2';
	END IF;
	columns := @extschema@._clip_search_columns(key.names, key.types, parts.alias) || COALESCE(', ' || group_of || ' AS group_of', '');
	condition := parts.present || parts.filtered;
	IF exclude IS NOT NULL THEN
		is_excluded := @extschema@._clip_in_keys(key.names, key.types, key_column IS NOT NULL, parts.alias, exclude);
		IF per IS NULL THEN
			condition := condition || format(E'\n   AND NOT (%s)', is_excluded);
		ELSE
			-- The groups of the excluded rows.
			excluded := CASE WHEN reading.is_split
				THEN '(' || @extschema@._clip_leaf_rows(relation, role, target, '$1'::text, group_of || ' AS group_of', is_excluded, ''::text, 'ALL'::text, exact_if, skip_if, NULL::regclass) || ')'
				ELSE format('(SELECT %s AS group_of FROM %s WHERE %s)', group_of, parts.rows_of, is_excluded) END;
			condition := condition || E'\n   AND NOT COALESCE(' || format(of_groups, group_of, @extschema@._clip_equality(group_type), excluded) || ', false)';
		END IF;
	END IF;
	outcome := CASE WHEN per IS NULL THEN every_row ELSE format(grouped, per_size, k) END;
	IF reading.is_split THEN
		names := reading.names;
		probes := reading.probes;
		reached := @extschema@._clip_leaf_rows(relation, role, target, '$1'::text, columns, condition, NULL::text, row_limit, exact_if, skip_if, index);
		short := @extschema@._clip_short_leaves(relation, role, target, 'clip_reached'::text, row_limit, exact_if, skip_if);
		IF per IS NOT NULL AND per_size > 1 THEN
			-- All rows of the groups that the nearest rows belong to. Of the other groups, none is nearer.
			reached := reached || format(E'\n), clip_near AS MATERIALIZED (\nSELECT r.group_of FROM clip_reached AS r ORDER BY r.distance LIMIT %s\n), clip_groups AS MATERIALIZED (\n%s', row_limit,
				@extschema@._clip_leaf_rows(relation, role, target, '$1'::text, format('%s, %s AS distance', columns, parts.distance),
					condition || E'\n   AND ' || format(of_groups, group_of, @extschema@._clip_equality(group_type), 'clip_near'), ''::text, 'ALL'::text, exact_if, skip_if, NULL::regclass));
			nearest := format(search, format(by_leaf, reached, 'clip_groups', 'ALL'), relevance, is_relevant, short, outcome, typical);
		ELSE
			nearest := format(search, format(by_leaf, reached, 'clip_reached', row_limit), relevance, is_relevant, short, outcome, typical);
		END IF;
		exact := nearest;
		RETURN;
	END IF;
	rows_read := format(read, format('%s, %s AS distance', columns, parts.distance), parts.rows_of, condition);
	exact := format(search, format(one_step, @extschema@._clip_nearest(rows_read, parts.exact_place, row_limit, NULL::bigint, 'distance'::name)), relevance, is_relevant, no_short, outcome, typical);
	IF in_steps THEN
		near := @extschema@._clip_nearest_in_steps(format(read, format('%s, %s AS distance, %s.%I AS clip_embedding', columns, parts.distance, parts.alias, target), parts.rows_of, condition),
			parts.place, format('$1::%I.vector', @extschema@._clip_vector_schema()), row_limit, format('GREATEST(%s, 10)', row_limit),
			CASE WHEN per IS NULL THEN greatest(2 * k::bigint, 30)::text ELSE row_limit END);
	ELSIF reading.is_foreign THEN
		near := @extschema@._clip_nearest(rows_read, parts.exact_place, row_limit, NULL::bigint, 'distance'::name);
	ELSE
		near := @extschema@._clip_nearest(rows_read, parts.place, row_limit, @extschema@._clip_considered(k::bigint * CASE WHEN per IS NULL THEN 1 ELSE per_size END, kind, parts.bits), 'distance'::name);
	END IF;
	nearest := format(search, format(one_step, near), relevance, is_relevant, no_short, outcome, typical);
	IF per IS NOT NULL AND per_size > 1 AND parts.may_omit THEN
		nearest := format(search, format(one_step, @extschema@._clip_nearest(rows_read || E'\n   AND ' || format(of_groups, group_of, @extschema@._clip_equality(group_type),
				format(E'(SELECT i.group_of FROM (%s) AS i)', near)), parts.exact_place, 'ALL'::text, NULL::bigint, 'distance'::name)), relevance, is_relevant, no_short, outcome, typical);
	END IF;
	IF NOT parts.may_omit OR reading.is_foreign AND per IS NULL THEN
		exact := NULL;
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_search_statements(regclass, integer, name, text, name, oid, boolean, double precision, name, integer, jsonb, regclass, boolean) IS 'internal: statements of a search, and the model of its column';
