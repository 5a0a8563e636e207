CREATE FUNCTION clip_auto_embed(relation regclass, source name, target name DEFAULT 'embedding', model text DEFAULT NULL,
	mode text DEFAULT 'row', create_index boolean DEFAULT true, dry_run boolean DEFAULT false, on_error text DEFAULT 'error',
	on_vector text DEFAULT 'replace') RETURNS text
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	vectors CONSTANT text := @extschema@._clip_vector_schema();
	-- pgvector's limit for an index on vector.
	most_indexed CONSTANT integer := 2000;
	tab pg_class%ROWTYPE;
	source_column pg_attribute%ROWTYPE;
	target_column pg_attribute%ROWTYPE;
	col @extschema@._clip_columns%ROWTYPE;
	chosen record;
	filled boolean := false;
	statements text[] := '{}';
	done text;
BEGIN
	IF relation IS NULL OR source IS NULL OR target IS NULL OR mode IS NULL OR create_index IS NULL OR dry_run IS NULL OR on_error IS NULL OR on_vector IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'only the argument model may be null';
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
			HINT = 'Available values: "replace": the source decides; "keep": a vector that a statement writes is kept.';
	END IF;
	IF NOT dry_run THEN
		PERFORM @extschema@._clip_hold(relation);
	END IF;
	SELECT * INTO tab FROM pg_class AS c WHERE c.oid = relation;
	PERFORM @extschema@._clip_require_owner(relation);
	IF tab.relkind NOT IN ('r', 'p') THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a table', relation),
			HINT = 'Rows embed themselves in ordinary and partitioned tables; of a view, name the table below it.';
	END IF;
	IF tab.relispartition THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is a partition', relation),
			HINT = 'Name the partitioned table: its partitions follow.';
	END IF;
	SELECT * INTO source_column FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = source AND a.attnum > 0 AND NOT a.attisdropped;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('column "%s" of table %s does not exist', source, relation);
	END IF;
	IF source_column.atttypid NOT IN ('text'::regtype, 'varchar'::regtype, 'bytea'::regtype) THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('column "%s" has type %s', source, format_type(source_column.atttypid, source_column.atttypmod)),
			HINT = 'Texts are text or varchar; pictures are the bytes of image files, in bytea.';
	END IF;
	IF source_column.attgenerated <> '' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_column_reference', MESSAGE = format('column "%s" is generated', source),
			DETAIL = 'Its value is not known yet when triggers run.',
			HINT = 'Let a trigger fill an ordinary column instead; clip_auto_embed''s trigger runs after it.';
	END IF;
	SELECT * INTO target_column FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = target AND a.attnum > 0 AND NOT a.attisdropped;
	SELECT * INTO col FROM @extschema@._clip_columns AS c WHERE c.relation = clip_auto_embed.relation AND c.target = clip_auto_embed.target;

	-- The model, and what may not change.
	IF col.mode <> 'stamp' AND col.source <> source THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('column "%s" of table %s is embedded from column "%s" already', target, relation, col.source),
			HINT = 'Name another target, or call clip_auto_embed_drop first.';
	END IF;
	SELECT * INTO chosen FROM @extschema@._clip_resolve_model(COALESCE(model, col.model));
	IF col.digest <> chosen.digest THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('column "%s" of table %s holds vectors of model "%s"', target, relation, col.model),
			DETAIL = format('Model "%s" is another: vectors of two models cannot be compared.', chosen.name),
			HINT = 'CALL clip_reembed changes the model of a column while searches go on.';
	END IF;
	IF model IS NULL AND col.model <> current_setting('clip.default_model') THEN
		RAISE WARNING USING MESSAGE = format('column "%s" of table %s keeps model "%s"', target, relation, col.model),
			DETAIL = format('The default model is now "%s".', current_setting('clip.default_model')),
			HINT = 'CALL clip_reembed changes the model of a column.';
	END IF;

	-- The column.
	IF target_column.attname IS NULL THEN
		statements := statements || format('ALTER TABLE %s ADD COLUMN %I %I.vector(%s)', relation, target, vectors, chosen.dimensions);
	ELSIF target_column.atttypid <> format('%I.vector', vectors)::regtype OR target_column.atttypmod <> chosen.dimensions THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
			MESSAGE = format('column "%s" has type %s', target, format_type(target_column.atttypid, target_column.atttypmod)),
			DETAIL = format('Vectors of model "%s" are of type vector(%s).', chosen.name, chosen.dimensions),
			HINT = 'Name another target: a column that does not exist is added.';
	ELSIF target_column.attgenerated <> '' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_column_reference', MESSAGE = format('column "%s" is generated', target),
			HINT = 'It embeds itself already. Name another target.';
	ELSIF target_column.attnotnull AND mode <> 'row' THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('column "%s" of table %s must not be null', target, relation),
			DETAIL = format('In mode "%s" a row is stored before it has a vector.', mode),
			HINT = 'Drop the constraint NOT NULL, or use mode "row".';
	ELSIF col.model IS NULL THEN
		EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %I IS NOT NULL)', relation, target) INTO filled;
		IF filled THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = format('column "%s" of table %s holds vectors of an unknown model', target, relation),
				HINT = format('If model "%s" made them, say so: SELECT clip_adopt(''%s'', ''%s'', ''%s''). Else name another target.',
					chosen.name, relation, target, chosen.name);
		END IF;
	END IF;

	-- The triggers.
	IF mode IN ('statement', 'queue') AND NOT EXISTS (SELECT FROM @extschema@._clip_key(relation)) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table %s has no primary key', relation),
			DETAIL = format('Mode "%s" finds rows again by their key.', mode),
			HINT = 'Add a primary key, or a unique index over columns that are not null; or use mode "row".';
	END IF;
	IF mode = 'queue' AND tab.relpersistence = 't' THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('table %s is temporary', relation),
			DETAIL = 'Workers do not see tables of other sessions.', HINT = 'Use mode "row" or "statement".';
	END IF;
	IF (col.mode, col.on_error, col.on_vector) IS DISTINCT FROM (mode, on_error, on_vector) THEN
		-- Those of a column whose source was dropped are left behind.
		statements := statements || COALESCE(@extschema@._clip_drop_triggers(relation, COALESCE(col.trigger_name, @extschema@._clip_trigger_name(target))), '{}');
		-- The name begins with zz because triggers fire in the order of their names: those that write the source come first.
		statements := statements || @extschema@._clip_create_triggers(relation, source, target, COALESCE(col.trigger_name, @extschema@._clip_trigger_name(target)),
			mode, chosen.name, chosen.digest, on_error, on_vector);
	END IF;

	-- The indexes.
	IF mode = 'queue' AND @extschema@._clip_pending_index(relation, source, target) IS NULL THEN
		statements := statements || format('CREATE INDEX ON %s (%s) WHERE %I IS NULL AND %I IS NOT NULL', relation,
			(SELECT string_agg(quote_ident(name), ', ' ORDER BY i) FROM @extschema@._clip_key(relation), unnest(names) WITH ORDINALITY AS k (name, i)), target, source);
	ELSIF mode <> 'queue' AND col.mode = 'queue' AND @extschema@._clip_pending_index(relation, source, target) IS NOT NULL THEN
		statements := statements || format('DROP INDEX %s', @extschema@._clip_pending_index(relation, source, target));
	END IF;
	IF create_index AND @extschema@._clip_vector_index(relation, target) IS NULL THEN
		IF chosen.dimensions > most_indexed THEN
			RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('vectors with %s dimensions cannot be indexed', chosen.dimensions),
				DETAIL = format('The limit of pgvector is %s.', most_indexed), HINT = 'Pass create_index => false; an index on a cast to halfvec takes up to 4000.';
		END IF;
		statements := statements || format('CREATE INDEX ON %s USING hnsw (%I %I.vector_cosine_ops)', relation, target, vectors);
	END IF;
	PERFORM @extschema@._clip_notice_source(relation, source, source_column.atttypid);

	done := @extschema@._clip_execute(statements, dry_run);
	IF NOT create_index AND chosen.dimensions <= most_indexed AND @extschema@._clip_vector_index(relation, target) IS NULL THEN
		done := done || format(E'\n-- The index, while others write: CREATE INDEX CONCURRENTLY ON %s USING hnsw (%I %I.vector_cosine_ops)', relation, target, vectors);
	END IF;
	IF dry_run THEN
		RETURN done;
	END IF;
	IF mode = 'queue' THEN
		PERFORM @extschema@._clip_wake_worker();
	END IF;
	RETURN done || @extschema@._clip_notice_rows(relation, @extschema@._clip_column(relation, target), COALESCE(col.mode = 'stamp', false));
END
$$;
COMMENT ON FUNCTION clip_auto_embed(regclass, name, name, text, text, boolean, boolean, text, text)
	IS 'let the rows of a table embed themselves: adds the column, its triggers and its index; returns the statements it ran';

-- A disabled trigger: it says whose the vectors are, and costs nothing.
CREATE FUNCTION _clip_stamp(relation regclass, target name, trigger_name name, model text, digest text) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT ARRAY[format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW WHEN (NEW.%I IS NOT NULL) '
           'EXECUTE FUNCTION @extschema@.clip_auto_embed_row(%L, %L, %L, %L)', trigger_name, relation, target, 'stamp', model, digest, 'error'),
       format('ALTER TABLE %s DISABLE TRIGGER %I', relation, trigger_name)]
$$;
COMMENT ON FUNCTION _clip_stamp(regclass, name, name, text, text) IS 'internal: the DDL of the record of a column''s model';

CREATE FUNCTION clip_auto_embed_drop(relation regclass, target name DEFAULT 'embedding', keep_column boolean DEFAULT true) RETURNS text
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col @extschema@._clip_columns%ROWTYPE;
	statements text[];
	pending regclass;
BEGIN
	IF keep_column IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'keep_column must not be null';
	END IF;
	PERFORM @extschema@._clip_hold(relation);
	-- Triggers without the one that names the columns are left where the source was dropped.
	statements := @extschema@._clip_drop_triggers(relation, @extschema@._clip_trigger_name(target));
	IF statements IS NULL OR EXISTS (SELECT FROM @extschema@._clip_columns AS c WHERE c.relation = clip_auto_embed_drop.relation AND c.target = clip_auto_embed_drop.target) THEN
		SELECT * INTO col FROM @extschema@._clip_column(relation, target);
		statements := @extschema@._clip_drop_triggers(relation, col.trigger_name);
	END IF;
	PERFORM @extschema@._clip_require_owner(relation);
	IF col.trigger_name IS NOT NULL THEN
		-- The record of the model stays as long as the vectors do: clip_auto_embed takes the column over again.
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
			statements := statements || @extschema@._clip_stamp(relation, target, col.trigger_name, col.model, col.digest);
		END IF;
	END IF;
	IF NOT keep_column THEN
		statements := statements || format('ALTER TABLE %s DROP COLUMN %I', relation, target);
	END IF;
	RETURN @extschema@._clip_execute(statements, false);
END
$$;
COMMENT ON FUNCTION clip_auto_embed_drop(regclass, name, boolean)
	IS 'end what clip_auto_embed or clip_adopt began; the column and its index stay, unless keep_column is false';
