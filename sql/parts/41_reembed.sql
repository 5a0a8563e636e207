-- The indexes that clip_reembed recreates: those without a condition on the embedding column, its cast to another type, or its bits.
-- HNSW indexes are created while the new column is empty, and filled row by row, because building one at the end would block all writers.
-- Other methods compute centroids from the rows when the index is built, or may do so: these indexes are built after the column is filled.
CREATE FUNCTION _clip_reembed_indexes(relation regclass, target name, shadow name, dimensions integer)
	RETURNS TABLE (index regclass, name name, is_late boolean, statement text)
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT i.indexrelid::regclass, c.relname, am.amname <> 'hnsw' OR n.is_rotated,
       CASE WHEN n.is_rotated
            THEN format('DO %L', format('BEGIN EXECUTE pg_catalog.format(%L, (%s)); END', replace(replace(w.statement, '%', '%%'), E'\x01', '%L'), r.mean))
            ELSE w.statement END
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
  JOIN pg_am AS am ON am.oid = c.relam
  JOIN pg_opclass AS oc ON oc.oid = i.indclass[0]
  JOIN pg_namespace AS s ON s.oid = oc.opcnamespace
  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = target
  LEFT JOIN @extschema@._clip_vector_indexes(relation, target) AS v ON v.index = i.indexrelid AND (v.dimensions = a.atttypmod OR v.bits = 'rotated')
 -- As many bits for each dimension as before, if the column has dimensions.
 CROSS JOIN LATERAL (SELECT v.bits IS NOT DISTINCT FROM 'rotated' AS is_rotated,
            CASE WHEN a.atttypmod > 0 THEN v.dimensions * _clip_reembed_indexes.dimensions / a.atttypmod ELSE v.dimensions END AS bits) AS n
 -- A rotation needs the mean of the new embeddings, which the statement computes when the column is filled.
 CROSS JOIN LATERAL (SELECT format('SELECT COALESCE(%1$s.avg(s.e), pg_catalog.array_fill(0::pg_catalog.float4, ARRAY[%2$s])::%1$s.vector)::%1$s.halfvec FROM (SELECT %3$I::%1$s.vector AS e FROM %4$s WHERE %3$I IS NOT NULL LIMIT %5$s) AS s',
             quote_ident(@extschema@._clip_vector_schema()), _clip_reembed_indexes.dimensions, shadow, s.source, s.row_limit) AS mean,
             CASE WHEN n.is_rotated THEN regexp_replace(v.after, '''[^'']*''(.*), [0-9]+\)\)(.*)\([0-9]+\)$', format(E'\x01\\1, %1$s))\\2(%1$s)', n.bits))
                  ELSE regexp_replace(v.after, '\([0-9]+\)$', format('(%s)', _clip_reembed_indexes.dimensions)) END AS after
      FROM @extschema@._clip_sample(relation, NULL::oid, target, 2000, 'false'::text) AS s) AS r
 CROSS JOIN LATERAL (SELECT format('CREATE INDEX %I ON %s USING %I (%s %I.%I)%s', @extschema@._clip_shadow_name(c.relname), relation, am.amname,
              CASE WHEN v.index IS NULL OR v.before || v.after = '' THEN quote_ident(shadow)
              ELSE format('(%s)', v.before || quote_ident(shadow) || r.after) END,
              s.nspname, oc.opcname,
              ' WITH (' || (SELECT string_agg(format('%I = %L', split_part(o.option, '=', 1), substr(o.option, strpos(o.option, '=') + 1)), ', ' ORDER BY o.i)
                              FROM unnest(c.reloptions) WITH ORDINALITY AS o (option, i)) || ')') AS statement) AS w
 WHERE i.indrelid = relation AND i.indnatts = 1 AND i.indpred IS NULL AND (i.indkey[0] = a.attnum OR v.index IS NOT NULL)
 ORDER BY c.oid
$$;
COMMENT ON FUNCTION _clip_reembed_indexes(regclass, name, name, integer) IS 'internal: indexes of a column, with statements that create them on its replacement';

CREATE FUNCTION _clip_reembed_plan(relation regclass, target name, model text,
	OUT shadow name, OUT shadow_trigger name, OUT same boolean, OUT index_names name[], OUT statements text[], OUT late text[])
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
	next_col _clip.columns%ROWTYPE;
	chosen record;
	column_type text;
	number smallint;
	obstacles text;
BEGIN
	SELECT * INTO col FROM @extschema@._clip_fillable(relation, target, 1);
	PERFORM @extschema@._clip_require_owner(relation);
	PERFORM @extschema@._clip_citus_reject(relation, 'clip_reembed'::text,
		format('Add a column for the other model: SELECT clip_auto_embed(%L, %L, %L, %L, ''queue''). Search it when clip_auto_embed_status shows no pending row.',
			relation, col.source, target || '_new', model));
	SELECT * INTO chosen FROM @extschema@._clip_resolve_model(model);
	same := col.digest = chosen.digest;
	IF same THEN
		-- The same model may be installed under another name.
		IF col.model <> chosen.name THEN
			col.model := chosen.name;
			statements := @extschema@._clip_drop_triggers(relation, col.trigger_name) || @extschema@._clip_create_triggers(col);
		END IF;
		RETURN;
	END IF;
	shadow := @extschema@._clip_shadow_name(target);
	SELECT a.attnum, v.written INTO number, column_type FROM pg_attribute AS a JOIN @extschema@._clip_vector_types() AS v ON v.type = a.atttypid
	 WHERE a.attrelid = relation AND a.attname = target;
	-- Reports dependent objects that cannot be recreated before the work starts.
	SELECT string_agg(pg_describe_object(d.classid, d.objid, d.objsubid), ', ') INTO obstacles
	  FROM pg_depend AS d
	 WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = relation AND d.refobjsubid = number
	   AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (
	            SELECT FROM pg_trigger AS t WHERE t.oid = d.objid AND t.tgname = col.trigger_name)
	            OR EXISTS (SELECT FROM @extschema@._clip_other_triggers(relation) AS o WHERE o.oid = d.objid AND o.row_trigger = col.trigger_name::text))
	   -- NOT NULL, which is set again, is a constraint of its own since PostgreSQL 18.
	   AND NOT (d.classid = 'pg_constraint'::regclass AND EXISTS (
	            SELECT FROM pg_constraint AS k WHERE k.oid = d.objid AND k.contype = 'n'))
	   AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (
	            SELECT FROM @extschema@._clip_pending_index(relation, col.source, target) AS p (oid) WHERE p.oid = d.objid
	            UNION ALL SELECT FROM @extschema@._clip_reembed_indexes(relation, target, shadow, chosen.dimensions) AS r WHERE r.index = d.objid));
	IF obstacles IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist', MESSAGE = format('column "%s" of table %s cannot be replaced', target, relation),
			DETAIL = format('These objects depend on it: %s.', obstacles), HINT = 'Drop these objects, and create them again afterwards.';
	END IF;
	SELECT array_agg(r.name), array_agg(r.statement) FILTER (WHERE r.is_late AND NOT EXISTS (
	            SELECT FROM pg_class AS c WHERE c.relname = @extschema@._clip_shadow_name(r.name) AND c.relnamespace = (SELECT t.relnamespace FROM pg_class AS t WHERE t.oid = relation)))
	  INTO index_names, late FROM @extschema@._clip_reembed_indexes(relation, target, shadow, chosen.dimensions) AS r;
	SELECT * INTO next_col FROM _clip.columns AS c WHERE c.relation = _clip_reembed_plan.relation AND c.target = shadow;
	IF next_col.digest = chosen.digest THEN
		-- Created by an interrupted call, which this call resumes.
		shadow_trigger := next_col.trigger_name;
		statements := '{}';
		IF (next_col.mode, next_col.on_error, next_col.on_vector, next_col.enabled) IS DISTINCT FROM (col.mode, col.on_error, col.on_vector, col.enabled) THEN
			next_col.mode := col.mode;
			next_col.on_error := col.on_error;
			next_col.on_vector := col.on_vector;
			next_col.enabled := col.enabled;
			statements := @extschema@._clip_drop_triggers(relation, shadow_trigger) || @extschema@._clip_create_triggers(next_col);
		END IF;
		RETURN;
	END IF;
	IF next_col.digest IS NOT NULL THEN
		statements := @extschema@._clip_drop_triggers(relation, next_col.trigger_name) || format('ALTER TABLE %s DROP COLUMN %I', relation, shadow);
	ELSIF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = shadow) THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_column', MESSAGE = format('column "%s" of table %s already exists', shadow, relation),
			DETAIL = 'clip_reembed computes the new embeddings in a column of this name.',
			HINT = format('Rename the column: ALTER TABLE %s RENAME COLUMN %I TO new_name. Or drop it.', relation, shadow);
	ELSE
		statements := '{}';
	END IF;
	-- The new triggers keep their name when the columns are swapped.
	shadow_trigger := @extschema@._clip_free_name(relation, target);
	next_col := col;
	next_col.target := shadow;
	next_col.trigger_name := shadow_trigger;
	next_col.model := chosen.name;
	next_col.digest := chosen.digest;
	statements := statements
		|| format('ALTER TABLE %s ADD COLUMN %I %s(%s)', relation, shadow, column_type, chosen.dimensions)
		|| @extschema@._clip_create_triggers(next_col)
		|| (SELECT COALESCE(array_agg(r.statement), '{}') FROM @extschema@._clip_reembed_indexes(relation, target, shadow, chosen.dimensions) AS r WHERE NOT r.is_late);
	-- Created in all modes: with this index the last check, which runs under an exclusive lock, takes no time.
	statements := statements || format('CREATE INDEX %I ON %s (%s) WHERE %I IS NULL AND %I IS NOT NULL', @extschema@._clip_index_name(relation, shadow, '_pending_idx'::text), relation,
		(SELECT string_agg(quote_ident(name), ', ' ORDER BY i) FROM unnest(col.key_names) WITH ORDINALITY AS k (name, i)), shadow, col.source);
END
$$;
COMMENT ON FUNCTION _clip_reembed_plan(regclass, name, text) IS 'internal: statements and names for clip_reembed, or an error if the column cannot be replaced';

CREATE FUNCTION _clip_reembed_swap(relation regclass, target name, shadow name, index_names name[]) RETURNS boolean
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
	-- Keys of failures are recorded under these settings and compared as texts.
	SET datestyle = 'ISO, YMD' SET intervalstyle = postgres SET timezone = 'UTC' SET extra_float_digits = 1 SET bytea_output = hex
	SET lc_monetary = 'C' SET xmlbinary = base64
AS $$
#variable_conflict use_column
DECLARE
	old_col _clip.columns%ROWTYPE;
	new_col _clip.columns%ROWTYPE;
	old_attribute pg_attribute%ROWTYPE;
	is_lacking boolean;
	statements text[];
	grants text[];
	index_name name;
	pending regclass;
BEGIN
	PERFORM @extschema@._clip_require_owner(relation);
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', relation);
	SELECT * INTO old_col FROM @extschema@._clip_column(relation, target);
	SELECT * INTO new_col FROM @extschema@._clip_column(relation, shadow);
	SELECT * INTO old_attribute FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = target;
	-- No row may lose its embedding, unless it has failed with the new model. Nobody else reads the table meanwhile.
	is_lacking := @extschema@._clip_is_true(format('SELECT EXISTS (SELECT FROM %s AS t WHERE t.%I IS NOT NULL AND t.%I IS NOT NULL AND t.%I IS NULL '
		'AND NOT EXISTS (SELECT FROM _clip.failed AS f WHERE f.relation = %s::oid AND f.trigger_name = %L AND f.waits AND f.key = %s))',
		old_col.rows_of, old_col.source, target, shadow, relation::oid, new_col.trigger_name, @extschema@._clip_key_object(old_col.key_names, 't'::text)));
	IF is_lacking THEN
		RETURN false;
	END IF;
	SELECT array_agg(format('GRANT %s (%I) ON %s TO %s%s', privilege_type, target, relation,
	                 CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
	  INTO grants FROM aclexplode(old_attribute.attacl);
	PERFORM @extschema@._clip_forget_failures(relation, old_col.trigger_name::text);
	statements := @extschema@._clip_drop_triggers(relation, old_col.trigger_name);
	pending := @extschema@._clip_pending_index(relation, old_col.source, CASE old_col.mode WHEN 'queue' THEN target ELSE shadow END);
	IF pending IS NOT NULL THEN
		statements := statements || format('DROP INDEX %s', pending);
		IF old_col.mode = 'queue' THEN
			statements := statements || format('ALTER INDEX %s RENAME TO %I', @extschema@._clip_pending_index(relation, new_col.source, shadow),
				(SELECT c.relname FROM pg_class AS c WHERE c.oid = pending));
		END IF;
	END IF;
	statements := statements
		|| format('ALTER TABLE %s DROP COLUMN %I', relation, target)
		|| format('ALTER TABLE %s RENAME COLUMN %I TO %I', relation, shadow, target);
	-- A call of clip_auto_embed during the re-embedding may have changed the old column's triggers.
	IF (new_col.mode, new_col.on_error, new_col.on_vector, new_col.enabled) IS DISTINCT FROM (old_col.mode, old_col.on_error, old_col.on_vector, old_col.enabled) THEN
		new_col.target := target;
		new_col.mode := old_col.mode;
		new_col.on_error := old_col.on_error;
		new_col.on_vector := old_col.on_vector;
		new_col.enabled := old_col.enabled;
		statements := statements || @extschema@._clip_drop_triggers(relation, new_col.trigger_name) || @extschema@._clip_create_triggers(new_col);
	END IF;
	IF old_attribute.attnotnull THEN
		statements := statements || format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', relation, target);
	END IF;
	FOREACH index_name IN ARRAY COALESCE(index_names, '{}') LOOP
		statements := statements || format('ALTER INDEX %I.%I RENAME TO %I',
			(SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation),
			@extschema@._clip_shadow_name(index_name), index_name);
	END LOOP;
	PERFORM @extschema@._clip_execute(statements || grants, false);
	IF old_col.mode = 'queue' THEN
		PERFORM @extschema@._clip_wake_worker();
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION _clip_reembed_swap(regclass, name, name, name[])
	IS 'internal: replace the old column by the new one; false if rows have no new embedding yet';

CREATE PROCEDURE clip_reembed(relation regclass, target name, model text, batch_size integer DEFAULT 64)
	LANGUAGE plpgsql
AS $$
DECLARE
	plan record;
BEGIN
	PERFORM @extschema@._clip_require_no_transaction('CALL clip_reembed'::pg_catalog.text, 'Run it outside a transaction block. An interrupted call can be resumed.'::pg_catalog.text);
	PERFORM @extschema@._clip_hold(relation);
	SELECT * INTO plan FROM @extschema@._clip_reembed_plan(relation, target, model);
	IF plan.same THEN
		PERFORM @extschema@._clip_execute(plan.statements, false);
		RAISE NOTICE 'column "%" of table % already has embeddings of this model', target, relation;
		RETURN;
	END IF;
	PERFORM @extschema@._clip_execute(plan.statements, false);
	COMMIT;
	-- From now on, rows that are written get an embedding of both models.
	LOOP
		CALL @extschema@.clip_backfill(relation, plan.shadow, batch_size);
		IF plan.late IS NOT NULL THEN
			PERFORM @extschema@._clip_execute(plan.late, false);
			plan.late := NULL;
			COMMIT;
		END IF;
		EXIT WHEN @extschema@._clip_reembed_swap(relation, target, plan.shadow, plan.index_names);
		COMMIT;
		-- Another session embeds the remaining rows.
		PERFORM pg_catalog.pg_sleep(1);
	END LOOP;
	COMMIT;
END
$$;
COMMENT ON PROCEDURE clip_reembed(regclass, name, text, integer)
	IS 'change the model of a column: builds a new column and index, and searches use the old ones until both are swapped at the end';
