-- A search of a table with foreign tables below it reads each of its tables ("leaves") by a subquery of its own. Only the LIMIT of a query of
-- one foreign table reaches its server, and without it the server may not use its index. See docs/design/search.md.
--   is_indexed  true if the leaf may be searched by an index that omits rows. The index of another server is used only if the options of
--               the server set its breadth, because this session cannot.
--   denied      why the role cannot read the table and all leaves directly: then the table is searched as a whole, without an index, or the
--               search fails. A policy of the table does not apply to its leaves.
CREATE FUNCTION _clip_leaves(relation regclass, role oid, target name) RETURNS TABLE (number integer, leaf regclass, rows_of text, is_foreign boolean, server text, is_indexed boolean, denied text)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY WITH tables AS MATERIALIZED (
		SELECT c.oid, c.relname, c.relkind, c.relrowsecurity, n.nspname, s.srvname, s.srvoptions,
		       has_schema_privilege(role, n.oid, 'USAGE') AND has_table_privilege(role, c.oid, 'SELECT') AS may_read
		  FROM @extschema@._clip_inheritors(relation::oid) AS t (oid) JOIN pg_class AS c ON c.oid = t.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
		  LEFT JOIN pg_foreign_table AS f ON f.ftrelid = c.oid LEFT JOIN pg_foreign_server AS s ON s.oid = f.ftserver
	)
	SELECT (row_number() OVER (ORDER BY t.nspname, t.relname))::integer, t.oid::regclass, format('ONLY %I.%I', t.nspname, t.relname), t.relkind = 'f', t.srvname::text,
	       t.relkind = 'r' AND @extschema@._clip_vector_index(t.oid::regclass, target) IS NOT NULL OR EXISTS (SELECT FROM unnest(t.srvoptions) AS o WHERE o ~ '^options=.*(hnsw\.ef_search|ivfflat\.probes)'),
	       COALESCE((SELECT format('Table %s has row-level security.', d.oid::regclass) FROM tables AS d WHERE d.relrowsecurity LIMIT 1),
	                (SELECT format('The role cannot read table %s.', d.oid::regclass) FROM tables AS d WHERE (d.relkind <> 'p' OR d.oid = relation) AND NOT d.may_read ORDER BY d.nspname, d.relname LIMIT 1))
	  FROM tables AS t WHERE t.relkind IN ('r', 'f') AND EXISTS (SELECT FROM tables AS f WHERE f.relkind = 'f');
END
$$;
COMMENT ON FUNCTION _clip_leaves(regclass, oid, name) IS 'internal: the tables that a search of a table with foreign partitions reads one by one';

-- The rows of all leaves, as subqueries. Each has the number of its leaf in the column "leaf", and without "order_by" its distance from the
-- vector "query" in the column "distance".
--   columns, condition   in terms of the name of the table
--   order_by             '' for no order, NULL for the nearest rows
--   exact_if, skip_if    conditions with %s for the number of a leaf: do not use its index; leave it out
--   named_index          the only index of the table that is used, with its partitions; NULL for any
CREATE FUNCTION _clip_leaf_rows(relation regclass, role oid, target name, query text, columns text, condition text, order_by text, row_limit text,
	exact_if text, skip_if text, named_index regclass) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	template CONSTANT text := '(SELECT %1$s AS leaf, %2$s FROM %3$s AS %4$s WHERE %5$s AND NOT (%6$s)%7$s LIMIT %8$s)';
	alias CONSTANT text := (SELECT quote_ident(c.relname) FROM pg_class AS c WHERE c.oid = relation);
	vector CONSTANT text := @extschema@._clip_cast_query(relation, target, query);
	distance CONSTANT text := format('%s.%I OPERATOR(%I.<=>) %s', alias, target, @extschema@._clip_vector_schema(), vector);
	leaf record;
	place record;
	rows_of text[] := '{}';
BEGIN
	FOR leaf IN SELECT * FROM @extschema@._clip_leaves(relation, role, target) LOOP
		IF order_by IS NOT NULL THEN
			rows_of := rows_of || format(template, leaf.number, columns, leaf.rows_of, alias, condition, format(skip_if, leaf.number),
				CASE order_by WHEN '' THEN '' ELSE ' ORDER BY ' || order_by END, row_limit);
			CONTINUE;
		END IF;
		SELECT * INTO place FROM @extschema@._clip_place(leaf.leaf, target, alias, vector, named_index);
		-- The distance is the expression that sorts the rows of another server, because LIMIT reaches the server only if that is cheaper, and each
		-- more expression costs more.
		IF leaf.is_indexed THEN
			rows_of := rows_of || format(template, leaf.number, format('%s, %s AS distance', columns, CASE WHEN leaf.is_foreign THEN place.place ELSE distance END),
				leaf.rows_of, alias, condition, format('%s OR %s', format(skip_if, leaf.number), format(exact_if, leaf.number)), ' ORDER BY ' || place.place, row_limit);
		END IF;
		rows_of := rows_of || format(template, leaf.number, format('%s, %s AS distance', columns, CASE WHEN leaf.is_foreign THEN place.exact_place ELSE distance END),
			leaf.rows_of, alias, condition || CASE WHEN leaf.is_indexed THEN format(' AND (%s)', format(exact_if, leaf.number)) ELSE '' END,
			format(skip_if, leaf.number), ' ORDER BY ' || place.exact_place, row_limit);
	END LOOP;
	RETURN array_to_string(rows_of, E'\nUNION ALL\n');
END
$$;
COMMENT ON FUNCTION _clip_leaf_rows(regclass, oid, name, text, text, text, text, text, text, text, regclass) IS 'internal: rows of the leaves of a table with foreign partitions';

-- The numbers of the leaves whose index may have omitted rows: those with fewer rows in "reached" than the limit.
CREATE FUNCTION _clip_short_leaves(relation regclass, role oid, target name, reached text, row_limit text, exact_if text, skip_if text) RETURNS text
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('(SELECT pg_catalog.array_agg(l.n) FROM pg_catalog.unnest(%L::pg_catalog.int4[]) AS l (n) WHERE NOT (%s) AND NOT (%s) '
	'AND (SELECT pg_catalog.count(*) FROM %s AS r WHERE r.leaf OPERATOR(pg_catalog.=) l.n) OPERATOR(pg_catalog.<) %s::pg_catalog.int8)',
	COALESCE((SELECT array_agg(l.number) FROM @extschema@._clip_leaves(relation, role, target) AS l WHERE l.is_indexed), '{}'),
	format(exact_if, 'l.n'), format(skip_if, 'l.n'), reached, row_limit)
$$;
COMMENT ON FUNCTION _clip_short_leaves(regclass, oid, name, text, text, text, text) IS 'internal: expression for the leaves whose index may have omitted rows';

-- How a search reads a table: as a whole ("is_split" is false), or leaf by leaf. "probes" has a statement for each leaf that fails if its
-- server does not answer, and NULL for a table of this server.
CREATE FUNCTION _clip_reading(relation regclass, role oid, target name, partial boolean, OUT is_foreign boolean, OUT is_split boolean, OUT names text[], OUT probes text[])
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	reason text;
BEGIN
	SELECT count(*) > 0, array_agg(l.leaf::text ORDER BY l.number), min(l.denied),
	       array_agg(CASE WHEN l.is_foreign THEN format('SELECT FROM %s LIMIT 1', l.rows_of) END ORDER BY l.number)
	  INTO is_foreign, names, reason, probes FROM @extschema@._clip_leaves(relation, role, target) AS l;
	is_split := is_foreign AND reason IS NULL;
	IF partial IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'partial must not be null';
	ELSIF partial AND is_foreign AND NOT is_split THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table %s cannot be searched in part', relation),
			DETAIL = reason, HINT = 'A partial search reads each partition directly. Grant the role SELECT on the partitions, or search without partial => true.';
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_reading(regclass, oid, name, boolean) IS 'internal: how a search reads a table with foreign partitions, or an error';
