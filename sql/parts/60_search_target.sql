-- search
--
-- A search is one statement, built from one description of its target. Rust (src/search) runs it with the caller's privileges
-- and search_path, so that row-level security applies and a filter means the same as in the caller's own statement. All other
-- names in the statement are schema-qualified, because it is parsed under the caller's search_path.

CREATE FUNCTION _clip_require_expression(filter text) RETURNS void
	AS 'MODULE_PATHNAME', 'clip_require_expression_wrapper' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION _clip_require_expression(text) IS 'internal: raise an error if a filter is not one expression';

-- The record of the model that computed a column's embeddings, if there is one. The record of a partition is that of its table.
CREATE FUNCTION _clip_recorded(relation regclass, target name, OUT model text, OUT digest text, OUT mode text, OUT source name, OUT top regclass)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	SELECT c.model, c.digest, c.mode, c.source, c.relation INTO model, digest, mode, source, top FROM _clip.columns AS c
	 WHERE c.relation = _clip_recorded.relation AND c.target = _clip_recorded.target;
	IF NOT FOUND AND (SELECT k.relispartition FROM pg_class AS k WHERE k.oid = _clip_recorded.relation) THEN
		SELECT c.model, c.digest, c.mode, c.source, c.relation INTO model, digest, mode, source, top FROM _clip.columns AS c
		 WHERE c.relation IN (SELECT p.relid FROM pg_partition_ancestors(_clip_recorded.relation) AS p) AND c.target = _clip_recorded.target LIMIT 1;
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_recorded(regclass, name) IS 'internal: recorded model of a column, from the partitioned table for a partition';

CREATE FUNCTION _clip_require_vectors(relation regclass, target name) RETURNS void
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind oid;
BEGIN
	PERFORM @extschema@._clip_require_names(relation, target);
	IF NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = relation AND c.relkind IN ('r', 'p', 'v', 'm', 'f')) THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a table or view', relation);
	END IF;
	kind := (@extschema@._clip_require_column(relation, target, 'the embedding column'::text, 'target'::text)).type;
	IF kind NOT IN (SELECT v.type FROM @extschema@._clip_vector_types() AS v) THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('column "%s" has type %s', target, kind::regtype),
			DETAIL = 'An embedding column has type vector or halfvec.', HINT = 'Name the embedding column: target => ''name''.';
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_vectors(regclass, name) IS 'internal: raise an error if a column does not exist or is no embedding column';

-- The model for queries that are compared with a column.
CREATE FUNCTION _clip_query_model(relation regclass, target name, required boolean, OUT model text, OUT digest text, OUT named text)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT r.model, r.digest INTO model, digest FROM @extschema@._clip_recorded(relation, target) AS r;
	named := relation::text;
	IF model IS NULL THEN
		PERFORM @extschema@._clip_require_vectors(relation, target);
		IF required THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('column "%s" of table %s has no model', target, relation),
				DETAIL = 'The model that computed its embeddings is not recorded.',
				HINT = CASE WHEN (SELECT c.relkind IN ('r', 'p') FROM pg_class AS c WHERE c.oid = relation)
					THEN format('Record the model: SELECT clip_adopt(%L, %L, ''model''). Or name it in the query: clip_embed_text(''...'', ''model'').', relation, target)
					ELSE 'Name the table that contains the embeddings, or name the model: clip_embed_text(''...'', ''model'').' END;
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_query_model(regclass, name, boolean) IS 'internal: the model of a column, or an error if one is required';

-- A vector in the type of a column, as an expression.
CREATE FUNCTION _clip_cast_query(relation regclass, target name, query text) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN format('%s::%I.vector', query, @extschema@._clip_vector_schema()) || (
		SELECT CASE v.name WHEN 'vector' THEN '' ELSE '::' || v.written END FROM @extschema@._clip_vector_types() AS v
		 WHERE v.type = (@extschema@._clip_require_column(relation, target, 'the embedding column'::text, 'target'::text)).type);
END
$$;
COMMENT ON FUNCTION _clip_cast_query(regclass, name, text) IS 'internal: expression for a vector in the type of a column';

-- The description of a target, from which statements about an embedding column are built. "query" is an expression whose value is a vector.
--   present      condition that the row has an embedding
--   filtered     the filter, as an additional condition
--   distance     cosine distance to the query, in the type of the column
--   place        expression that sorts in the same order, in the form that the index supports
--   exact_place  the same, in a form that no index supports
--   index        the named index, or the preferred one; NULL if no usable index is known, for example for a view
--   bits         the kind of bits, if the index sorts by bits, so that a search sorts the rows again by their distance; otherwise NULL
--   may_omit     true if the server may use an index that does not find all rows
CREATE FUNCTION _clip_searched(relation regclass, target name, filter text, query text, named_index regclass, OUT rows_of text, OUT alias text, OUT present text, OUT filtered text,
	OUT distance text, OUT place text, OUT exact_place text, OUT index regclass, OUT bits text, OUT may_omit boolean, OUT model text, OUT digest text)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	tab record;
	target_column text;
	found record;
BEGIN
	PERFORM @extschema@._clip_require_vectors(relation, target);
	PERFORM @extschema@._clip_require_expression(filter);
	SELECT c.relkind, c.relname, c.relhassubclass, n.nspname INTO tab FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation;
	SELECT r.model, r.digest INTO model, digest FROM @extschema@._clip_recorded(relation, target) AS r;
	rows_of := format('%I.%I', tab.nspname, tab.relname);
	alias := quote_ident(tab.relname);
	target_column := format('%s.%I', alias, target);
	present := target_column || ' IS NOT NULL';
	filtered := COALESCE(E' AND (\n' || filter || E'\n)', '');
	query := @extschema@._clip_cast_query(relation, target, query);
	distance := format('%s OPERATOR(%I.<=>) %s', target_column, @extschema@._clip_vector_schema(), query);
	-- For vectors of length one, all operators sort in the same order. Vectors of an unknown model may not have length one.
	SELECT i.* INTO found FROM @extschema@._clip_vector_indexes(relation, target) AS i
	 WHERE (i.is_cosine OR _clip_searched.model IS NOT NULL) AND i.index = COALESCE(named_index, i.index) LIMIT 1;
	IF found.index IS NULL AND named_index IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('index %s cannot be used to search column "%s" of table %s', named_index, target, relation),
			DETAIL = 'The operator class of a usable index orders the column, its cast to halfvec, or its bits by a distance of pgvector.',
			HINT = COALESCE((SELECT format('Usable indexes: %s.', string_agg(i.index::text, ', ')) FROM @extschema@._clip_vector_indexes(relation, target) AS i WHERE i.is_cosine OR _clip_searched.model IS NOT NULL),
				'The table has no usable index. Leave out the argument for an exact search.');
	END IF;
	index := found.index;
	bits := found.bits;
	place := COALESCE(found.before || target_column || found.after || ' ' || found.operator || ' ' || found.before || query || found.after, distance);
	-- No index supports a sum.
	exact_place := format('(%s) OPERATOR(pg_catalog.+) 0::pg_catalog.float8', CASE WHEN bits IS NULL THEN place ELSE distance END);
	may_omit := index IS NOT NULL OR tab.relhassubclass OR tab.relkind NOT IN ('r', 'm');
	IF NOT may_omit THEN
		-- An index of any access method counts, also if the column is not its first one.
		may_omit := EXISTS (
			SELECT FROM pg_index AS i CROSS JOIN unnest(i.indclass::oid[]) AS k (opclass) JOIN pg_opclass AS oc ON oc.oid = k.opclass
			  JOIN pg_amop AS ao ON ao.amopfamily = oc.opcfamily AND ao.amoppurpose = 'o'
			 WHERE i.indrelid = relation AND ao.amoplefttype IN (SELECT v.type FROM @extschema@._clip_vector_types() AS v));
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_searched(regclass, name, text, text, regclass) IS 'internal: the description of a search target, or an error';

-- The statement that reads the nearest rows. "rows_read" is a SELECT without ORDER BY, whose column "distance" is the distance. If the index
-- sorts by bits, the statement reads "considered" rows, and returns the nearest of them by the distance.
CREATE FUNCTION _clip_nearest(rows_read text, place text, row_limit text, considered bigint, distance name) RETURNS text
	LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN considered IS NULL THEN format(E'%s\n ORDER BY %s\n LIMIT %s', rows_read, place, row_limit)
	ELSE format(E'SELECT * FROM (\n%s\n ORDER BY %s\n LIMIT greatest(%s, %s)\n) AS considered\n ORDER BY considered.%I\n LIMIT %s', rows_read, place, row_limit, considered, distance, row_limit) END
$$;
COMMENT ON FUNCTION _clip_nearest(text, text, text, bigint, name) IS 'internal: statement that reads the nearest rows';

-- The statement that reads the nearest rows in several steps. If the rows of a table form tight groups, the graph of an HNSW index can
-- lack connections between the groups, and a scan stays in the groups near its start. So if the nearest rows found are close to each
-- other, further steps start elsewhere: the query of each is moved away from the nearest rows of the step before. The rows of all steps
-- are sorted by their distance to the query of the search. docs/design/search.md has the measurements. "rows_read" has the columns
-- distance, key_json and clip_embedding; "query" is the query in "place".
CREATE FUNCTION _clip_nearest_in_steps(rows_read text, place text, query text, row_limit text, first_limit text, step_limit text) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	steps CONSTANT integer := 4;
	-- Rows of a group are close to each other if their mean is longer than this. Their embeddings have length one.
	length_of_mean CONSTANT real := 0.9;
	-- The part of the mean that is subtracted from the query.
	share CONSTANT real := 0.2;
	-- So many of the nearest rows have this mean.
	group_size CONSTANT integer := 10;
	vectors CONSTANT text := quote_ident(@extschema@._clip_vector_schema());
	mean CONSTANT text := format('%1$s.avg(%1$s.l2_normalize(b.clip_embedding::%1$s.vector))', vectors);
	-- The parts of the statement that are the same in each step.
	share_of_mean CONSTANT text := format('%1$s OPERATOR(%2$s.*) pg_catalog.array_fill(%3$s::pg_catalog.float4, ARRAY[%2$s.vector_dims(%4$s)])::%2$s.vector', mean, vectors, share, query);
	is_close CONSTANT text := format('pg_catalog.count(*) OPERATOR(pg_catalog.=) %s AND %s.vector_norm(%s) OPERATOR(pg_catalog.>) %s', group_size, vectors, mean, length_of_mean);
	step_template CONSTANT text := E', _clip_query_%1$s AS MATERIALIZED (\nSELECT %3$s OPERATOR(%4$s.-) (%5$s) AS moved, %6$s AS is_close\n'
		'  FROM (SELECT r.clip_embedding FROM _clip_rows_%2$s AS r ORDER BY r.distance LIMIT %7$s) AS b\n'
		'), _clip_rows_%1$s AS MATERIALIZED (\n%8$s\n   AND (SELECT q.is_close FROM _clip_query_2 AS q)\n ORDER BY %9$s\n LIMIT %10$s\n)';
	moved text := format('%s.l2_normalize(%s)', vectors, query);
	next text;
	statement text := format(E'WITH _clip_rows_1 AS MATERIALIZED (\n%s\n ORDER BY %s\n LIMIT %s\n)', rows_read, place, first_limit);
BEGIN
	FOR step IN 2 .. steps LOOP
		next := format('(SELECT q.moved FROM _clip_query_%s AS q)', step);
		statement := statement || format(step_template, step, step - 1, moved, vectors, share_of_mean, is_close, group_size, rows_read, replace(place, query, next), step_limit);
		moved := next;
	END LOOP;
	RETURN statement || format(E'\nSELECT d.* FROM (SELECT DISTINCT ON (u.key_json) u.* FROM (%s) AS u) AS d\n ORDER BY d.distance\n LIMIT %s',
		(SELECT string_agg(format('SELECT * FROM _clip_rows_%s', step), ' UNION ALL ' ORDER BY step) FROM generate_series(1, steps) AS step), row_limit);
END
$$;
COMMENT ON FUNCTION _clip_nearest_in_steps(text, text, text, text, text, text) IS 'internal: statement that reads the nearest rows in several steps';

-- The number of rows whose embeddings a search reads if its index sorts by bits, otherwise NULL. The bits of a text have little in common
-- with those of an image unless they are rotated, and those of near-duplicates are almost equal. docs/operations/scale.md has the
-- measurements. pgvector stops after 20,000 rows by default. "query" is text, image or duplicate.
CREATE FUNCTION _clip_considered(k bigint, query text, bits text) RETURNS bigint
	LANGUAGE plpgsql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN bits IS NOT NULL THEN greatest(k, least(20000, greatest(20 * k, CASE
		WHEN query = 'duplicate' THEN 400
		WHEN bits = 'rotated' THEN 2000
		WHEN query = 'image' THEN 1600 ELSE 3200 END)))::bigint END;
END
$$;
COMMENT ON FUNCTION _clip_considered(bigint, text, text) IS 'internal: number of rows that a search by bits sorts by their embeddings';

-- The expressions by which the rows of a leaf are sorted, in the form that its index supports, and in a form that no index supports. "query"
-- has the type of the column. A named index of the table has a partition for each leaf that is a partition.
CREATE FUNCTION _clip_place(relation regclass, target name, alias text, query text, named_index regclass, OUT place text, OUT exact_place text)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target_column CONSTANT text := format('%s.%I', alias, target);
	found record;
BEGIN
	-- Vectors of an unknown model may not have length one. A search by bits would need a second sort.
	SELECT i.* INTO found FROM @extschema@._clip_vector_indexes(relation, target) AS i
	 WHERE i.bits IS NULL AND (i.is_cosine OR (@extschema@._clip_recorded(relation, target)).model IS NOT NULL)
	   AND (named_index IS NULL OR i.index = named_index OR EXISTS (SELECT FROM pg_partition_tree(named_index) AS p WHERE p.relid = i.index)) LIMIT 1;
	place := COALESCE(found.before || target_column || found.after || ' ' || found.operator || ' ' || found.before || query || found.after,
		format('%s OPERATOR(%I.<=>) %s', target_column, @extschema@._clip_vector_schema(), query));
	-- No index supports a sum.
	exact_place := format('(%s) OPERATOR(pg_catalog.+) 0::pg_catalog.float8', place);
END
$$;
COMMENT ON FUNCTION _clip_place(regclass, name, text, text, regclass) IS 'internal: expressions that sort the rows of a leaf';

-- A FROM clause and a LIMIT to read some rows of a table, at random if it is large. TABLESAMPLE reads whole blocks, so the
-- clause asks for at least five times the wanted rows and for at least 5000. A view is read from its first row. Of foreign tables, only the
-- wanted rows cross the network. "skip_if" is explained at _clip_leaf_rows.
CREATE FUNCTION _clip_sample(relation regclass, role oid, target name, wanted integer, skip_if text, OUT source text, OUT row_limit bigint)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	aim CONSTANT bigint := greatest(5 * wanted::bigint, 5000);
	alias CONSTANT text := (SELECT quote_ident(c.relname) FROM pg_class AS c WHERE c.oid = relation);
	estimate real;
	leaves bigint;
	is_denied boolean;
BEGIN
	SELECT count(*), bool_or(l.denied IS NOT NULL) INTO leaves, is_denied FROM @extschema@._clip_leaves(relation, role, target) AS l;
	IF leaves > 0 THEN
		row_limit := wanted;
		source := CASE WHEN is_denied THEN (SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation)
			ELSE format('(%s) AS %s', @extschema@._clip_leaf_rows(relation, role, target, '$1'::text, format('%s.%I', alias, target), format('%s.%I IS NOT NULL', alias, target),
				''::text, ((wanted + leaves - 1) / leaves)::text, 'false'::text, skip_if, NULL::regclass), alias) END;
		RETURN;
	END IF;
	SELECT sum(c.reltuples) INTO estimate FROM pg_class AS c
	 WHERE c.oid = relation AND c.relkind IN ('r', 'm') OR c.oid IN (SELECT p.relid FROM pg_partition_tree(relation) AS p WHERE p.isleaf);
	row_limit := 2 * aim;
	SELECT format('%I.%I', n.nspname, c.relname) || CASE WHEN estimate > row_limit THEN format(' TABLESAMPLE SYSTEM (%s)', 100 * aim / estimate) ELSE '' END
	  INTO source FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation;
END
$$;
COMMENT ON FUNCTION _clip_sample(regclass, oid, name, integer, text) IS 'internal: FROM clause and LIMIT for a sample of a table';

CREATE FUNCTION _clip_require_number(name text, value integer, minimum integer) RETURNS void
	LANGUAGE plpgsql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF value IS NULL OR value < minimum THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid %s: %s', name, COALESCE(value::text, 'null')),
			DETAIL = format('Valid values are %s and larger.', minimum);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_number(text, integer, integer) IS 'internal: raise an error if a number of rows is too small';
