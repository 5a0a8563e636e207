-- Here and in what follows without a search_path of its own, each name is qualified and each operator fits its types
-- exactly: what others put into the caller's search_path is not found. Everywhere, the extension's functions are called
-- with all arguments and these of the very types: what others put beside them, where they may, does not fit better.
CREATE FUNCTION _clip_column(relation regclass, target name) RETURNS _clip_columns
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col @extschema@._clip_columns%ROWTYPE;
BEGIN
	IF relation IS NULL OR target IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'relation and target must not be null';
	END IF;
	SELECT * INTO col FROM @extschema@._clip_columns AS c WHERE c.relation = _clip_column.relation AND c.target = _clip_column.target;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('column "%s" of table %s has no model', target, relation),
			HINT = 'The view clip_auto_embed_status lists the columns that have; clip_auto_embed makes one, clip_adopt stamps one.';
	END IF;
	RETURN col;
END
$$;
COMMENT ON FUNCTION _clip_column(regclass, name) IS 'internal: a column that has a model, or a clear error';

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
COMMENT ON FUNCTION _clip_require_owner(regclass) IS 'internal: refuse who does not own the table';

-- What is read of a table's columns and triggers stays so until the transaction ends: clip_reembed may be about to swap them.
-- Reading and writing go on. Whoever may not have the lock is told why by what follows.
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
COMMENT ON FUNCTION _clip_hold(regclass) IS 'internal: keep others from changing the columns and triggers of an owner''s table';

CREATE FUNCTION _clip_pending_index(relation regclass, source name, target name) RETURNS regclass
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT i.indexrelid::regclass
  FROM pg_index AS i
 WHERE i.indrelid = relation AND pg_get_expr(i.indpred, i.indrelid) = format('((%I IS NULL) AND (%I IS NOT NULL))', target, source)
 ORDER BY i.indexrelid LIMIT 1
$$;
COMMENT ON FUNCTION _clip_pending_index(regclass, name, name) IS 'internal: the index of the rows that wait';

-- Over the column itself, or over it as halfvec, which takes half the space; by a distance that orders vectors of length
-- one as the cosine does. Whole ones before partial ones.
CREATE FUNCTION _clip_vector_index(relation regclass, target name) RETURNS regclass
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT i.indexrelid::regclass
          FROM pg_index AS i
          JOIN pg_class AS c ON c.oid = i.indexrelid
          JOIN pg_am AS am ON am.oid = c.relam AND am.amname IN ('hnsw', 'ivfflat')
          JOIN pg_opclass AS oc ON oc.oid = i.indclass[0]
          JOIN pg_amop AS ao ON ao.amopfamily = oc.opcfamily AND ao.amoppurpose = 'o' AND ao.amoplefttype = oc.opcintype
          JOIN pg_operator AS o ON o.oid = ao.amopopr AND o.oprname IN ('<=>', '<->', '<#>')
          JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = target
         WHERE i.indrelid = relation AND i.indisvalid
           AND CASE i.indkey[0]
               WHEN a.attnum THEN oc.opcintype = a.atttypid
               WHEN 0 THEN starts_with(pg_get_indexdef(i.indexrelid, 1, false), format('((%I)::%I.halfvec(', target, @extschema@._clip_vector_schema()))
               END
         ORDER BY i.indpred IS NULL DESC, am.amname, i.indexrelid LIMIT 1);
END
$$;
COMMENT ON FUNCTION _clip_vector_index(regclass, name) IS 'internal: the index that serves searches';
