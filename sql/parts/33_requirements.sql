-- A table and all tables that inherit from it, partitions included. As in the server, a partition that is being detached does not belong to
-- its table any more, and the temporary tables of other sessions cannot be read.
CREATE FUNCTION _clip_inheritors(relation oid) RETURNS SETOF oid
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY WITH RECURSIVE tables (oid) AS (
		SELECT relation UNION SELECT i.inhrelid FROM tables AS t JOIN pg_inherits AS i ON i.inhparent = t.oid JOIN pg_class AS c ON c.oid = i.inhrelid
		 WHERE NOT i.inhdetachpending AND NOT pg_is_other_temp_schema(c.relnamespace)
	)
	SELECT t.oid FROM tables AS t;
END
$$;
COMMENT ON FUNCTION _clip_inheritors(oid) IS 'internal: a table and all tables that inherit from it';

CREATE FUNCTION _clip_has_foreign(relation regclass) RETURNS boolean
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM @extschema@._clip_inheritors(relation::oid) AS t (oid) JOIN pg_class AS c ON c.oid = t.oid WHERE c.relkind = 'f')
$$;
COMMENT ON FUNCTION _clip_has_foreign(regclass) IS 'internal: true if other servers store rows of a table';

-- In functions without a search_path of their own, here and below, each name is schema-qualified and each operator matches its
-- argument types exactly, so that objects in the caller's search_path are never found. All functions call the extension's
-- functions with all arguments, of exactly the declared types, so that functions which others create next to them never match
-- better.

CREATE FUNCTION _clip_require_names(relation regclass, target name) RETURNS void
	LANGUAGE plpgsql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF relation IS NULL OR target IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'relation and target must not be null';
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_names(regclass, name) IS 'internal: raise an error if the table or the column is NULL';

CREATE FUNCTION _clip_require_column(relation regclass, column_name name, kind text, argument text, OUT type oid, OUT modifier integer,
	OUT is_generated boolean)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT a.atttypid, a.atttypmod, a.attgenerated <> '' INTO type, modifier, is_generated FROM pg_attribute AS a
	 WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('column "%s" of table %s does not exist', column_name, relation),
			HINT = format('Name %s: %s => ''name''.', kind, argument);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_column(regclass, name, text, text) IS 'internal: the type of a column, or an error if it does not exist';

CREATE FUNCTION _clip_require_key(relation regclass, reason text, OUT names name[], OUT built_in boolean)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT k.names, k.built_in INTO names, built_in FROM @extschema@._clip_key(relation) AS k;
	IF NOT FOUND THEN
		IF @extschema@._clip_has_foreign(relation) THEN
			RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('table %s has foreign partitions', relation),
				DETAIL = reason || ' A table with foreign partitions cannot have a primary key.', HINT = 'Call the function on each server, for its own table.';
		END IF;
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table %s has no primary key', relation),
			DETAIL = reason, HINT = 'Add a primary key, or a unique index on columns that are NOT NULL.';
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_key(regclass, text) IS 'internal: the key of a table, or an error if it has none';

CREATE FUNCTION _clip_column(relation regclass, target name) RETURNS _clip.columns
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
BEGIN
	PERFORM @extschema@._clip_require_names(relation, target);
	SELECT * INTO col FROM _clip.columns AS c WHERE c.relation = _clip_column.relation AND c.target = _clip_column.target;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('column "%s" of table %s has no model', target, relation),
			HINT = 'Columns that have a model: SELECT relation, target, model FROM clip_auto_embed_status. Call clip_auto_embed to add a column, or clip_adopt to register existing embeddings.';
	END IF;
	RETURN col;
END
$$;
COMMENT ON FUNCTION _clip_column(regclass, name) IS 'internal: a column that has a model, or an error';

CREATE FUNCTION _clip_require_owner(relation regclass) RETURNS void
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT (SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = relation) THEN
		RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('must be owner of table %s', relation);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_owner(regclass) IS 'internal: raise an error unless the role owns the table';

-- Prevents changes to a table's columns and triggers until the transaction ends, because clip_reembed may be about to swap
-- them. Other sessions can still read and write the table. A role that may not take the lock gets an error from a later check.
CREATE FUNCTION _clip_hold(relation regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM pg_class AS c WHERE c.oid = relation AND c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'USAGE')) THEN
		EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', relation);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_hold(regclass) IS 'internal: lock a table of the role against changes to its columns and triggers';

CREATE FUNCTION _clip_pending_index(relation regclass, source name, target name) RETURNS regclass
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT i.indexrelid::regclass
  FROM pg_index AS i
 WHERE i.indrelid = relation AND pg_get_expr(i.indpred, i.indrelid) = format('((%I IS NULL) AND (%I IS NOT NULL))', target, source)
 ORDER BY i.indexrelid LIMIT 1
$$;
COMMENT ON FUNCTION _clip_pending_index(regclass, name, name) IS 'internal: index of the pending rows';

-- The name of a new index: of its table, its column and an ending, with a number if another relation has that name. Tools declare the
-- index under this name.
CREATE FUNCTION _clip_index_name(relation regclass, target name, ending text) RETURNS name
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tab CONSTANT record := (SELECT c FROM pg_class AS c WHERE c.oid = relation);
	preferred CONSTANT text := @extschema@._clip_short(tab.relname::text || '_' || target::text, 63 - octet_length(ending)) || ending;
	free text := preferred;
	number integer := 0;
BEGIN
	WHILE EXISTS (SELECT FROM pg_class AS c WHERE c.relname::text = free AND c.relnamespace = tab.relnamespace) LOOP
		number := number + 1;
		free := @extschema@._clip_short(preferred, 60) || number;
	END LOOP;
	RETURN free::name;
END
$$;
COMMENT ON FUNCTION _clip_index_name(regclass, name, text) IS 'internal: name of a new index of a column';

-- The new HNSW index of an embedding column, after the words CREATE INDEX. pgvector builds the graph from 64 candidates for each row by
-- default. With 200, searches of large tables find more of the nearest rows, and the index has the same size. docs/design/search.md
-- has the measurements.
CREATE FUNCTION _clip_index_definition(relation regclass, target name, operator_class text) RETURNS text
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('%I ON %s USING hnsw (%I %s) WITH (ef_construction = 200)', @extschema@._clip_index_name(relation, target, '_idx'::text), relation, target, operator_class)
$$;
COMMENT ON FUNCTION _clip_index_definition(regclass, name, text) IS 'internal: new index of an embedding column';

-- The indexes that order the rows of a table by the distance of an embedding column to a vector, the preferred one first. An index of any
-- access method counts, if its operator class orders by an operator of pgvector that sorts vectors of length one as the cosine distance
-- does. Complete indexes come before partial ones, and HNSW before other methods.
--   before, after  the text around the column in the indexed expression: the column itself, its cast to another type, or its bits
--   operator       operator that orders the rows
--   dimensions     number of dimensions of the indexed values
--   bits           if the index orders by the bits of binary_quantize, so that a search sorts more rows by their embeddings: plain, or
--                  rotated for the bits of clip_rotate
--   is_cosine      true if the order does not depend on the lengths of the vectors
CREATE FUNCTION _clip_vector_indexes(relation regclass, target name)
	RETURNS TABLE (index regclass, method name, before text, after text, operator text, dimensions integer, bits text, is_cosine boolean)
	LANGUAGE plpgsql STABLE ROWS 1
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	vectors CONSTANT text := quote_ident(@extschema@._clip_vector_schema());
	rotate CONSTANT text := '@extschema@' || '.clip_rotate(';
	types CONSTANT oid[] := ARRAY(SELECT v.type FROM @extschema@._clip_vector_types() AS v);
BEGIN
	RETURN QUERY
	SELECT i.indexrelid::regclass, am.amname, k.before, k.after, format('OPERATOR(%s.%s)', vectors, o.oprname), e.atttypmod, k.bits, o.oprname IN ('<=>', '<~>')
	  FROM pg_index AS i
	  JOIN pg_class AS c ON c.oid = i.indexrelid
	  JOIN pg_am AS am ON am.oid = c.relam
	  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = target AND a.attnum > 0
	  JOIN pg_attribute AS e ON e.attrelid = i.indexrelid AND e.attnum = 1
	  JOIN pg_opclass AS oc ON oc.oid = i.indclass[0]
	  JOIN pg_amop AS ao ON ao.amopfamily = oc.opcfamily AND ao.amoppurpose = 'o' AND ao.amoplefttype = oc.opcintype
	  JOIN pg_operator AS o ON o.oid = ao.amopopr
	 CROSS JOIN format_type(e.atttypid, e.atttypmod) AS f (type)
	 -- Expressions are compared as the server writes them. A rotation has constants: the mean of embeddings and the number of bits.
	 -- The server locks the table to write an expression, so it writes no others.
	 CROSS JOIN LATERAL (SELECT CASE i.indkey[0] WHEN 0 THEN pg_get_indexdef(i.indexrelid, 1, false) END AS written) AS d
	 CROSS JOIN (VALUES (''), (format('::%s.vector', vectors))) AS l (cast_to)
	 CROSS JOIN LATERAL (SELECT format('((%s.binary_quantize(%s%s, ', vectors, rotate, CASE l.cast_to WHEN '' THEN quote_ident(target) ELSE format('(%I)%s', target, l.cast_to) END) AS opening, format(')))::%s)', f.type) AS ending) AS r
	 CROSS JOIN LATERAL (SELECT substr(d.written, length(r.opening) + 1, greatest(0, length(d.written) - length(r.opening) - length(r.ending))) AS constants) AS m
	 CROSS JOIN LATERAL (
	       SELECT n.* FROM (VALUES ('', '', NULL, NULL),
	              ('', '::' || f.type, format('((%I)::%s)', target, f.type), NULL),
	              (vectors || '.binary_quantize(', ')::pg_catalog.' || f.type, format('((%s.binary_quantize(%I))::%s)', vectors, target, f.type), 'plain')) AS n
	        WHERE l.cast_to = ''
	       UNION ALL SELECT vectors || '.binary_quantize(' || rotate, format('%s, %s))::pg_catalog.%s', l.cast_to, m.constants, f.type),
	              CASE WHEN m.constants ~ '^\(?''\[[-+.,e0-9]*\]''::[^'']*, [0-9]+$' THEN r.opening || m.constants || r.ending END, 'rotated'
	       ) AS k (before, after, definition, bits)
	 WHERE i.indrelid = relation AND i.indisvalid AND o.oprnamespace = to_regnamespace(vectors)
	   AND CASE WHEN k.bits IS NOT NULL THEN oc.opcintype = 'bit'::regtype AND o.oprname = '<~>' ELSE oc.opcintype = ANY (types) AND o.oprname IN ('<=>', '<->', '<#>') END
	   AND CASE i.indkey[0] WHEN 0 THEN d.written = k.definition WHEN a.attnum THEN k.definition IS NULL AND k.bits IS NULL END
	 ORDER BY i.indpred IS NULL DESC, am.amname <> 'hnsw', k.bits IS NOT NULL, k.bits DESC, am.amname, i.indexrelid;
END
$$;
COMMENT ON FUNCTION _clip_vector_indexes(regclass, name) IS 'internal: indexes that searches of a column can use';

CREATE FUNCTION _clip_other_indexes(relation regclass, target name, index regclass) RETURNS oid[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
WITH tables (oid) AS (SELECT relation::oid UNION SELECT p.relid FROM pg_partition_tree(relation) AS p)
SELECT ARRAY(SELECT i.index::oid FROM tables AS t, @extschema@._clip_vector_indexes(t.oid::regclass, target) AS i
              WHERE i.index <> _clip_other_indexes.index AND NOT EXISTS (SELECT FROM pg_partition_tree(_clip_other_indexes.index) AS p WHERE p.relid = i.index))
$$;
COMMENT ON FUNCTION _clip_other_indexes(regclass, name, regclass) IS 'internal: indexes that a search by a named index does not use, those of partitions included';

CREATE FUNCTION _clip_vector_index(relation regclass, target name) RETURNS regclass
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT i.index FROM @extschema@._clip_vector_indexes(relation, target) AS i LIMIT 1);
END
$$;
COMMENT ON FUNCTION _clip_vector_index(regclass, name) IS 'internal: index that searches use';
