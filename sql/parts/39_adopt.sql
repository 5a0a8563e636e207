CREATE FUNCTION clip_adopt(relation regclass, target name, model text) RETURNS text
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
	chosen record;
	target_column record;
	wanted _clip.columns%ROWTYPE;
	statements text[] := '{}';
BEGIN
	IF relation IS NULL OR target IS NULL OR model IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'relation, target and model must not be null';
	END IF;
	PERFORM @extschema@._clip_hold(relation);
	PERFORM @extschema@._clip_require_owner(relation);
	SELECT * INTO chosen FROM @extschema@._clip_resolve_model(model);
	SELECT * INTO target_column FROM @extschema@._clip_require_column(relation, target, 'the embedding column'::text, 'target'::text);
	IF target_column.type NOT IN (SELECT v.type FROM @extschema@._clip_vector_types() AS v) OR target_column.modifier NOT IN (-1, chosen.dimensions) THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
			MESSAGE = format('column "%s" has type %s', target, format_type(target_column.type, target_column.modifier)),
			DETAIL = format('Embeddings of model "%s" have type %s.', chosen.name, @extschema@._clip_types_of(chosen.dimensions));
	END IF;
	SELECT * INTO col FROM _clip.columns AS c WHERE c.relation = clip_adopt.relation AND c.target = clip_adopt.target;
	IF col.mode <> 'stamp' THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('column "%s" of table %s is already embedded with model "%s"', target, relation, col.model),
			HINT = format('To change its model: CALL clip_reembed(%L, %L, %L).', relation, target, chosen.name);
	END IF;
	IF col.mode IS NULL AND (@extschema@._clip_recorded(relation, target)).top <> relation THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is a partition', relation),
			HINT = format('Name the partitioned table, which includes all partitions: SELECT clip_adopt(%L, %L, %L).', pg_partition_root(relation), target, chosen.name);
	END IF;
	wanted.relation := relation;
	wanted.target := target;
	wanted.trigger_name := COALESCE(col.trigger_name, @extschema@._clip_free_name(relation, target));
	wanted.model := chosen.name;
	wanted.digest := chosen.digest;
	PERFORM @extschema@._clip_require_matching(relation, wanted);
	IF col.digest IS DISTINCT FROM chosen.digest OR col.former_source IS NOT NULL THEN
		statements := COALESCE(@extschema@._clip_drop_triggers(relation, col.trigger_name), '{}') || @extschema@._clip_stamp(wanted);
	END IF;
	RETURN @extschema@._clip_execute(@extschema@._clip_citus_allowing(relation, statements), false);
END
$$;
COMMENT ON FUNCTION clip_adopt(regclass, name, text)
	IS 'record the model that computed the existing embeddings of a column; returns the statements it ran';

CREATE FUNCTION clip_retry(relation regclass, target name DEFAULT 'embedding') RETURNS bigint
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	col _clip.columns%ROWTYPE;
BEGIN
	SELECT * INTO col FROM @extschema@._clip_column(relation, target);
	PERFORM @extschema@._clip_require_owner(relation);
	IF @extschema@._clip_citus_kind(relation) = 'distributed' THEN
		RETURN @extschema@._clip_citus_retry(relation, target);
	ELSIF @extschema@._clip_citus_repeats(relation) THEN
		PERFORM @extschema@._clip_citus_reject(relation, 'clip_retry on this node'::text, 'Call it on the coordinator, which embeds the table and records its failures.'::text);
	END IF;
	IF col.mode = 'queue' THEN
		PERFORM @extschema@._clip_wake_worker();
	END IF;
	RETURN @extschema@._clip_forget_failures(relation, col.trigger_name::text);
END
$$;
COMMENT ON FUNCTION clip_retry(regclass, name)
	IS 'clear the failures of a column, so that a worker or the next backfill retries the rows; returns their number';
