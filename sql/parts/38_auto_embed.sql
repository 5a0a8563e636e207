CREATE FUNCTION clip_auto_embed(relation regclass, source name, target name DEFAULT 'embedding', model text DEFAULT NULL,
	mode text DEFAULT 'row', create_index boolean DEFAULT true, dry_run boolean DEFAULT false, on_error text DEFAULT 'error',
	on_vector text DEFAULT 'replace', type text DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	tab pg_class%ROWTYPE;
	source_column record;
	target_column pg_attribute%ROWTYPE;
	col _clip.columns%ROWTYPE;
	chosen record;
	kind record;
	wanted _clip.columns%ROWTYPE;
	statements text[] := '{}';
	done text;
BEGIN
	IF relation IS NULL OR source IS NULL OR target IS NULL OR mode IS NULL OR create_index IS NULL OR dry_run IS NULL OR on_error IS NULL OR on_vector IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'only the arguments "model" and "type" can be null';
	END IF;
	IF mode NOT IN ('row', 'statement', 'queue') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid value for parameter "mode": "%s"', mode),
			HINT = 'Available values: "row", "statement" and "queue".';
	END IF;
	IF on_error <> 'error' AND on_error <> (CASE mode WHEN 'queue' THEN 'skip' ELSE 'null' END) THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid value for parameter "on_error": "%s"', on_error),
			DETAIL = format('The mode is "%s".', mode),
			HINT = 'Available values: "error"; in modes "row" and "statement" also "null"; in mode "queue" also "skip".';
	END IF;
	IF on_vector NOT IN ('replace', 'keep') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid value for parameter "on_vector": "%s"', on_vector),
			HINT = 'Available values: "replace" computes every embedding from the source; "keep" keeps an embedding that a statement writes.';
	END IF;
	IF type NOT IN ('vector', 'halfvec') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid value for parameter "type": "%s"', type),
			HINT = 'Available values: "vector" and "halfvec". An existing column keeps its type if the argument is null.';
	END IF;
	IF NOT dry_run THEN
		PERFORM @extschema@._clip_hold(relation);
	END IF;
	SELECT * INTO tab FROM pg_class AS c WHERE c.oid = relation;
	PERFORM @extschema@._clip_require_owner(relation);
	IF tab.relkind NOT IN ('r', 'p') THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a table', relation),
			HINT = 'clip_auto_embed works on ordinary and partitioned tables. For a view, name the underlying table.';
	END IF;
	IF tab.relispartition THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is a partition', relation),
			HINT = format('Name the partitioned table, which includes all partitions: SELECT clip_auto_embed(%L, %L, %L).', pg_partition_root(relation), source, target);
	END IF;
	PERFORM @extschema@._clip_citus_require(relation, mode);
	-- The embeddings of a reference table are computed once, and Citus writes them to all nodes.
	IF @extschema@._clip_citus_kind(relation) = 'reference' THEN
		on_vector := 'keep';
	END IF;
	SELECT * INTO source_column FROM @extschema@._clip_require_column(relation, source, 'the source column'::text, 'source'::text);
	IF source_column.type NOT IN ('text'::regtype, 'varchar'::regtype, 'bytea'::regtype) THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('column "%s" has type %s', source, format_type(source_column.type, source_column.modifier)),
			DETAIL = 'A source column has type text or varchar for texts, or bytea for the contents of image files.',
			HINT = 'Name a column of one of these types.';
	END IF;
	IF source_column.is_generated THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_column_reference', MESSAGE = format('column "%s" is generated', source),
			DETAIL = 'PostgreSQL computes its value after BEFORE triggers have run.',
			HINT = 'Set an ordinary column in a BEFORE trigger instead. The trigger of clip_auto_embed runs after it.';
	END IF;
	SELECT * INTO target_column FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = target AND a.attnum > 0 AND NOT a.attisdropped;
	SELECT * INTO col FROM _clip.columns AS c WHERE c.relation = clip_auto_embed.relation AND c.target = clip_auto_embed.target;

	-- The model. A managed column keeps its source and its model.
	IF col.mode <> 'stamp' AND col.source <> source THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('column "%s" of table %s is already embedded from column "%s"', target, relation, col.source),
			HINT = format('Name another target, or stop maintaining the column first: SELECT clip_auto_embed_drop(%L, %L).', relation, target);
	END IF;
	SELECT * INTO chosen FROM @extschema@._clip_resolve_model(COALESCE(model, col.model));
	IF col.digest <> chosen.digest THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('column "%s" of table %s has embeddings of model "%s"', target, relation, col.model),
			DETAIL = CASE WHEN chosen.name = col.model THEN format('The column records the digest %s; the installed model has the digest %s.', col.digest, chosen.digest)
				ELSE format('Embeddings of model "%s" cannot be compared with them.', chosen.name) END,
			HINT = format('To change the model while searches continue: CALL clip_reembed(%L, %L, %L).', relation, target, chosen.name);
	END IF;
	IF model IS NULL AND col.model <> current_setting('clip.default_model') THEN
		RAISE WARNING USING MESSAGE = format('column "%s" of table %s keeps model "%s"', target, relation, col.model),
			DETAIL = format('The default model is now "%s".', current_setting('clip.default_model')),
			HINT = format('To change the model of the column: CALL clip_reembed(%L, %L, %L).', relation, target, current_setting('clip.default_model'));
	END IF;

	-- The column. An existing one keeps its type.
	SELECT v.* INTO kind FROM @extschema@._clip_vector_types() AS v
	 WHERE CASE WHEN target_column.attname IS NULL OR clip_auto_embed.type IS NOT NULL THEN v.name = COALESCE(clip_auto_embed.type, 'vector') ELSE v.type = target_column.atttypid END;
	IF kind IS NULL AND clip_auto_embed.type IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('type %s does not exist', clip_auto_embed.type),
			DETAIL = format('The extension vector has version %s. halfvec exists since version 0.7.0.', (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'vector')),
			HINT = 'Install a newer version of pgvector, then run: ALTER EXTENSION vector UPDATE.';
	ELSIF target_column.attname IS NULL THEN
		statements := statements || format('ALTER TABLE %s ADD COLUMN %I %s(%s)', relation, target, kind.written, chosen.dimensions);
	ELSIF target_column.atttypid IS DISTINCT FROM kind.type OR target_column.atttypmod <> chosen.dimensions THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
			MESSAGE = format('column "%s" has type %s', target, format_type(target_column.atttypid, target_column.atttypmod)),
			DETAIL = CASE WHEN clip_auto_embed.type IS NULL THEN format('Embeddings of model "%s" have type %s.', chosen.name, @extschema@._clip_types_of(chosen.dimensions))
				ELSE format('The argument "type" is "%s". Embeddings of model "%s" have %s dimensions.', clip_auto_embed.type, chosen.name, chosen.dimensions) END,
			HINT = CASE WHEN target_column.atttypid IN (SELECT v.type FROM @extschema@._clip_vector_types() AS v) AND clip_auto_embed.type IS NOT NULL
				THEN format('Drop the indexes of the column, then change its type: ALTER TABLE %s ALTER COLUMN %I TYPE %s(%s).', relation, target, kind.name, chosen.dimensions)
				ELSE 'Name another target. clip_auto_embed adds a column that does not exist.' END;
	ELSIF target_column.attgenerated <> '' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_column_reference', MESSAGE = format('column "%s" is generated', target),
			DETAIL = 'A trigger cannot maintain a generated column.', HINT = 'Name another target.';
	ELSIF target_column.attnotnull AND mode <> 'row' THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('column "%s" of table %s is NOT NULL', target, relation),
			DETAIL = format('In mode "%s", rows are stored before they are embedded.', mode),
			HINT = format('Use mode "row", or drop the constraint: ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL.', relation, target);
	END IF;

	-- The triggers.
	IF mode IN ('statement', 'queue') THEN
		PERFORM @extschema@._clip_require_key(relation, format('Mode "%s" identifies rows by their key. Mode "row" works without a key.', mode));
	END IF;
	IF mode = 'queue' AND tab.relpersistence = 't' THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('table %s is temporary', relation),
			DETAIL = 'A worker cannot read temporary tables of other sessions.', HINT = 'Use mode "row" or "statement".';
	END IF;
	wanted := col;
	wanted.relation := relation;
	wanted.trigger_name := COALESCE(col.trigger_name, @extschema@._clip_free_name(relation, target));
	wanted.enabled := CASE WHEN col.mode <> 'stamp' THEN col.enabled ELSE 'O' END;
	wanted.source := source;
	wanted.target := target;
	wanted.mode := mode;
	wanted.model := chosen.name;
	wanted.digest := chosen.digest;
	wanted.on_error := on_error;
	wanted.on_vector := on_vector;
	statements := statements || @extschema@._clip_require_matching(relation, wanted);
	IF (col.mode, col.on_error, col.on_vector) IS DISTINCT FROM (mode, on_error, on_vector) THEN
		-- Triggers fire in the order of their names. The prefix zz makes the application's triggers, which may write the source, fire first.
		statements := statements || @extschema@._clip_drop_orphans(relation) || @extschema@._clip_drop_triggers(relation, col.trigger_name)
			|| @extschema@._clip_create_triggers(wanted);
	END IF;

	-- The indexes.
	IF mode = 'queue' AND @extschema@._clip_pending_index(relation, source, target) IS NULL THEN
		statements := statements || format('CREATE INDEX %I ON %s (%s) WHERE %I IS NULL AND %I IS NOT NULL', @extschema@._clip_index_name(relation, target, '_pending_idx'::text), relation,
			(SELECT string_agg(quote_ident(name), ', ' ORDER BY i) FROM @extschema@._clip_key(relation), unnest(names) WITH ORDINALITY AS k (name, i)), target, source);
	ELSIF mode <> 'queue' AND col.mode = 'queue' AND @extschema@._clip_pending_index(relation, source, target) IS NOT NULL THEN
		statements := statements || format('DROP INDEX %s', @extschema@._clip_pending_index(relation, source, target));
	END IF;
	IF create_index AND @extschema@._clip_vector_index(relation, target) IS NULL THEN
		IF chosen.dimensions > kind.max_indexed THEN
			RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('vectors with %s dimensions cannot be indexed', chosen.dimensions),
				DETAIL = format('pgvector indexes columns of type %s with up to %s dimensions.', kind.name, kind.max_indexed),
				HINT = 'Pass create_index => false. You can create an index on a cast to halfvec, which has up to 4000 dimensions, or on the bits.';
		END IF;
		statements := statements || format('CREATE INDEX %s', @extschema@._clip_index_definition(relation, target, kind.operator_class));
	END IF;
	PERFORM @extschema@._clip_notice_source(relation, source, source_column.type);
	IF EXISTS (SELECT FROM pg_subscription_rel AS s WHERE s.srrelid = relation OR s.srrelid IN (SELECT p.relid FROM pg_partition_tree(relation) AS p)) THEN
		RAISE WARNING USING MESSAGE = format('table %s is filled by a subscription', relation),
			DETAIL = 'Triggers do not fire for rows from a publisher. A row that the publisher changes keeps its former embedding.',
			HINT = format('Let the trigger fire for them: ALTER TABLE %s ENABLE ALWAYS TRIGGER %I. Modes "statement" and "queue" do not embed them.',
				relation, wanted.trigger_name);
	END IF;

	done := @extschema@._clip_execute(@extschema@._clip_citus_allowing(relation, statements), dry_run);
	IF NOT create_index AND chosen.dimensions <= kind.max_indexed AND @extschema@._clip_vector_index(relation, target) IS NULL THEN
		done := done || format(E'\n-- To create the index without blocking writers: CREATE INDEX CONCURRENTLY %s', @extschema@._clip_index_definition(relation, target, kind.operator_class));
	END IF;
	IF dry_run THEN
		RETURN done;
	END IF;
	IF mode = 'queue' THEN
		PERFORM @extschema@._clip_wake_worker();
		PERFORM @extschema@._clip_citus_wake(relation);
	END IF;
	RETURN done || @extschema@._clip_notice_rows(relation, @extschema@._clip_column(relation, target), COALESCE(col.mode = 'stamp', false));
END
$$;
COMMENT ON FUNCTION clip_auto_embed(regclass, name, name, text, text, boolean, boolean, text, text, text)
	IS 'maintain an embedding column automatically: adds the column, its triggers and its index; returns the statements it ran';

-- A disabled trigger records the model of a column and never runs.
CREATE FUNCTION _clip_stamp(col _clip.columns) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT ARRAY[format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW WHEN (NEW.%I IS NOT NULL) '
           'EXECUTE FUNCTION @extschema@.clip_auto_embed_row(%L, %L, %L, %L, %L, %L, %L)',
           col.trigger_name, col.relation, col.target, 'stamp', col.model, col.digest, 'error', 'replace', COALESCE(col.former_source, ''),
           COALESCE((SELECT format('%s.%s', a.attrelid, a.attnum) FROM pg_attribute AS a WHERE a.attrelid = col.relation AND a.attname = col.former_source), ''))]
       || @extschema@._clip_set_state(col.relation, col.trigger_name, 'D')
$$;
COMMENT ON FUNCTION _clip_stamp(_clip.columns) IS 'internal: DDL that records the model of a column';

CREATE FUNCTION clip_auto_embed_drop(relation regclass, target name DEFAULT 'embedding', keep_column boolean DEFAULT true) RETURNS text
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
	statements text[];
	done text;
	pending regclass;
BEGIN
	IF keep_column IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'keep_column must not be null';
	END IF;
	PERFORM @extschema@._clip_hold(relation);
	SELECT * INTO col FROM _clip.columns AS c WHERE c.relation = clip_auto_embed_drop.relation AND c.target = clip_auto_embed_drop.target;
	-- If the source column was dropped, the row trigger is gone, and other triggers of the column remain.
	statements := @extschema@._clip_drop_orphans(relation);
	IF col.trigger_name IS NOT NULL THEN
		statements := statements || @extschema@._clip_drop_triggers(relation, col.trigger_name);
	ELSIF statements IS NULL OR NOT EXISTS (
		SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = target AND a.atttypid IN (SELECT v.type FROM @extschema@._clip_vector_types() AS v) AND NOT a.attisdropped)
	THEN
		-- Raises the error.
		SELECT * INTO col FROM @extschema@._clip_column(relation, target);
	END IF;
	PERFORM @extschema@._clip_require_owner(relation);
	IF col.trigger_name IS NOT NULL THEN
		-- The record of the model stays as long as the embeddings, so that clip_auto_embed can maintain the column again.
		IF keep_column AND col.source IS NULL THEN
			RETURN '-- nothing to do';
		END IF;
		PERFORM @extschema@._clip_forget_failures(relation, col.trigger_name::text);
		IF col.source IS NOT NULL THEN
			pending := @extschema@._clip_pending_index(relation, col.source, target);
		END IF;
		IF pending IS NOT NULL THEN
			statements := statements || format('DROP INDEX %s', pending);
		END IF;
		IF keep_column THEN
			col.former_source := col.source::text;
			statements := statements || @extschema@._clip_stamp(col);
		END IF;
	END IF;
	IF NOT keep_column THEN
		statements := statements || format('ALTER TABLE %s DROP COLUMN %I', relation, target);
	END IF;
	done := @extschema@._clip_execute(@extschema@._clip_citus_allowing(relation, statements), false);
	-- From now on the shards are locked, so no worker records a failure that it does not clear.
	IF col.source IS NOT NULL AND @extschema@._clip_citus_kind(relation) = 'distributed' THEN
		PERFORM @extschema@._clip_citus_retry(relation, target);
	END IF;
	RETURN done;
END
$$;
COMMENT ON FUNCTION clip_auto_embed_drop(regclass, name, boolean)
	IS 'stop maintaining an embedding column; the column and its index stay unless keep_column is false';
