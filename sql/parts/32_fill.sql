-- The statements that fill the pending rows of a column. They pass a key as the values of its columns, so that no value is
-- converted to text and back. All names are schema-qualified, because the statements run under the caller's search_path.
CREATE FUNCTION _clip_filling(relation regclass, trigger_name name, OUT owner oid, OUT mode text, OUT model text,
	OUT digest text, OUT on_error text, OUT is_image boolean, OUT target_type oid, OUT key_types oid[], OUT is_ordered boolean,
	OUT has_failures boolean, OUT inserted text, OUT updated text, OUT first_rows text, OUT next_rows text, OUT any_row text,
	OUT count_rows text, OUT store text, OUT is_left text, OUT key_object text, OUT gone text)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
	keys text;
	-- The source as text or bytea; a varchar is cast to text.
	source text;
	waiting text;
	failures_of text;
	failed text;
	object text;
	digest_of text;
BEGIN
	SELECT * INTO col FROM _clip.columns AS c
	 WHERE c.relation = _clip_filling.relation AND c.trigger_name = _clip_filling.trigger_name AND c.source IS NOT NULL AND c.key_names IS NOT NULL;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	owner := col.owner;
	mode := col.mode;
	model := col.model;
	digest := col.digest;
	on_error := col.on_error;
	is_image := col.source_type = 'bytea'::regtype;
	target_type := col.target_type;
	key_types := col.key_types;
	is_ordered := col.key_built_in;
	has_failures := EXISTS (SELECT FROM _clip.failures AS f WHERE f.relation = col.relation AND f.trigger_name = col.trigger_name);
	SELECT string_agg(format('t.%I', name), ', ' ORDER BY i) INTO keys FROM unnest(col.key_names) WITH ORDINALITY AS k (name, i);
	source := format('t.%I::pg_catalog.%s', col.source, CASE WHEN is_image THEN 'bytea' ELSE 'text' END);
	object := @extschema@._clip_key_object(col.key_names, 't'::text);
	waiting := format(' FROM %s AS t WHERE t.%I IS NULL AND t.%I IS NOT NULL', col.rows_of, col.target, col.source);
	count_rows := 'SELECT pg_catalog.count(*)' || waiting;
	IF @extschema@._clip_citus_kind(col.relation) = 'reference' THEN
		IF (SELECT c.relrowsecurity AND c.relforcerowsecurity FROM pg_class AS c WHERE c.oid = col.relation) THEN
			RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('reference table %s of Citus has FORCE ROW LEVEL SECURITY', col.relation),
				DETAIL = 'The policies would hide rows on the other nodes from the owner of the table, who writes the embeddings.',
				HINT = format('Run: ALTER TABLE %s NO FORCE ROW LEVEL SECURITY. The policies then apply to all other roles.', col.relation);
		END IF;
		-- In a query of a Citus table, Citus reads the tables of a view with the privileges of the caller.
		SELECT format('pg_catalog.jsonb_to_recordset(%L::pg_catalog.jsonb) AS f (key pg_catalog.jsonb, source_digest pg_catalog.text, waits pg_catalog.bool) WHERE true',
			COALESCE(jsonb_agg(jsonb_build_object('key', f.key, 'source_digest', f.source_digest,
				'waits', f.retry_at > now() AND (f.last_failed_at <= now() OR f.retry_at = 'infinity'))), '[]'))
		  INTO failures_of FROM _clip.failures AS f WHERE f.relation = col.relation AND f.trigger_name = col.trigger_name;
	ELSE
		failures_of := format('_clip.failed AS f WHERE f.relation::pg_catalog.oid OPERATOR(pg_catalog.=) %s::pg_catalog.oid '
			'AND f.trigger_name OPERATOR(pg_catalog.=) %L::pg_catalog.name', col.relation::oid, col.trigger_name);
	END IF;
	gone := format('SELECT COALESCE(pg_catalog.array_agg(f.key), ''{}'') FROM %s '
		'AND f.key OPERATOR(pg_catalog.<>) ''null''::pg_catalog.jsonb AND NOT EXISTS (SELECT FROM (SELECT %s AS key%s) AS w WHERE w.key OPERATOR(pg_catalog.=) f.key)',
		failures_of, object, waiting);
	IF has_failures THEN
		digest_of := CASE WHEN is_image THEN format('pg_catalog.encode(pg_catalog.sha256(t.%I), ''hex'')', col.source)
			ELSE format('pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(t.%I::pg_catalog.text, pg_catalog.getdatabaseencoding())), ''hex'')', col.source) END;
		failed := format('FROM %s AND f.waits', failures_of);
		-- The subqueries are evaluated once, because no index is used behind a security_barrier view. The source is read only if
		-- its row has failed before.
		waiting := waiting || format(' AND CASE WHEN %1$s OPERATOR(pg_catalog.=) ANY (SELECT f.key %2$s) THEN '
			-- A source above the size limit has no digest. Its row is skipped as long as it is above the limit.
			'NOT (pg_catalog.octet_length(t.%3$I)::pg_catalog.int8 OPERATOR(pg_catalog.>) %4$s::pg_catalog.int8 '
			'AND %1$s OPERATOR(pg_catalog.=) ANY (SELECT f.key %2$s AND f.source_digest OPERATOR(pg_catalog.=) '''')) '
			'AND NOT (CASE WHEN pg_catalog.octet_length(t.%3$I)::pg_catalog.int8 OPERATOR(pg_catalog.<=) %4$s::pg_catalog.int8 THEN ROW(%1$s, %5$s) '
			'OPERATOR(pg_catalog.=) ANY (SELECT f.key, f.source_digest %2$s) ELSE false END) ELSE true END',
			object, failed, col.source, @extschema@._clip_max_bytes(is_image), digest_of);
	END IF;
	any_row := format('SELECT EXISTS (SELECT%s)', waiting);
	first_rows := format('SELECT %s, %s%s ORDER BY %s LIMIT $1 FOR NO KEY UPDATE OF t SKIP LOCKED', keys, source, waiting, keys);
	next_rows := format('SELECT %s, %s%s AND ROW(%s) OPERATOR(pg_catalog.>) ROW(%s) ORDER BY %s LIMIT $1 FOR NO KEY UPDATE OF t SKIP LOCKED',
		keys, source, waiting, keys, (SELECT string_agg('$' || i + 1, ', ' ORDER BY i) FROM generate_subscripts(col.key_names, 1) AS i), keys);
	inserted := format('SELECT %s, %s FROM clip_new AS t WHERE t.%I IS NULL AND t.%I IS NOT NULL', keys, source, col.target, col.source);
	-- Rows that were pending before the update, and whose source did not change, are left to a backfill.
	updated := inserted || format(' AND NOT EXISTS (SELECT FROM clip_old AS o WHERE %s AND o.%I IS NULL AND o.%I%s OPERATOR(pg_catalog.=) t.%I)',
		(SELECT string_agg(format('t.%I %s o.%I', name, operator, name), ' AND ' ORDER BY i)
		   FROM unnest(col.key_names, col.key_operators) WITH ORDINALITY AS k (name, operator, i)),
		-- A collation of the column may call different texts equal.
		col.target, col.source, CASE WHEN is_image THEN '' ELSE ' COLLATE pg_catalog."C"' END, col.source);
	store := format('UPDATE %s AS t SET %I = $1 WHERE t.%I IS NULL AND %s RETURNING t.%I IS NOT NULL', col.rows_of, col.target, col.target,
		(SELECT string_agg(format('t.%I %s $%s', name, operator, i + 1), ' AND ' ORDER BY i)
		   FROM unnest(col.key_names, col.key_operators) WITH ORDINALITY AS k (name, operator, i)), col.target);
	is_left := format('SELECT EXISTS (SELECT FROM %s AS t WHERE t.%I IS NULL AND t.%I IS NOT NULL AND %s)', col.rows_of, col.target, col.source,
		(SELECT string_agg(format('t.%I %s $%s', name, operator, i), ' AND ' ORDER BY i)
		   FROM unnest(col.key_names, col.key_operators) WITH ORDINALITY AS k (name, operator, i)));
	SELECT format('SELECT pg_catalog.jsonb_build_object(%s)', string_agg(format('%L, $%s', name, i), ', ' ORDER BY i)) INTO key_object
	  FROM unnest(col.key_names) WITH ORDINALITY AS k (name, i);
END
$$;
COMMENT ON FUNCTION _clip_filling(regclass, name) IS 'internal: the record and the statements to fill a column; NULLs if it has no key or does not exist';

CREATE FUNCTION clip_auto_embed_statement() RETURNS trigger
	AS 'MODULE_PATHNAME', 'clip_auto_embed_statement_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION clip_auto_embed_statement()
	IS 'AFTER STATEMENT trigger that embeds all rows of a statement in batches; its argument is the name of the table''s row trigger';
