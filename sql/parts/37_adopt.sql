CREATE FUNCTION clip_adopt(relation regclass, target name, model text) RETURNS text
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col @extschema@._clip_columns%ROWTYPE;
	chosen record;
	target_column pg_attribute%ROWTYPE;
	trigger_name name;
	statements text[] := '{}';
BEGIN
	IF relation IS NULL OR target IS NULL OR model IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'relation, target and model must not be null';
	END IF;
	PERFORM @extschema@._clip_hold(relation);
	PERFORM @extschema@._clip_require_owner(relation);
	SELECT * INTO chosen FROM @extschema@._clip_resolve_model(model);
	SELECT * INTO target_column FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = target AND a.attnum > 0 AND NOT a.attisdropped;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('column "%s" of table %s does not exist', target, relation);
	END IF;
	IF target_column.atttypid <> format('%I.vector', @extschema@._clip_vector_schema())::regtype OR target_column.atttypmod NOT IN (-1, chosen.dimensions) THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
			MESSAGE = format('column "%s" has type %s', target, format_type(target_column.atttypid, target_column.atttypmod)),
			DETAIL = format('Vectors of model "%s" are of type vector(%s).', chosen.name, chosen.dimensions);
	END IF;
	SELECT * INTO col FROM @extschema@._clip_columns AS c WHERE c.relation = clip_adopt.relation AND c.target = clip_adopt.target;
	IF col.mode <> 'stamp' THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('column "%s" of table %s is embedded with model "%s"', target, relation, col.model),
			HINT = 'CALL clip_reembed changes the model of a column.';
	END IF;
	IF col.digest IS DISTINCT FROM chosen.digest THEN
		trigger_name := COALESCE(col.trigger_name, @extschema@._clip_trigger_name(target));
		IF col.mode IS NOT NULL THEN
			statements := @extschema@._clip_drop_triggers(relation, trigger_name);
		END IF;
		statements := statements || @extschema@._clip_stamp(relation, target, trigger_name, chosen.name, chosen.digest);
	END IF;
	RETURN @extschema@._clip_execute(statements, false);
END
$$;
COMMENT ON FUNCTION clip_adopt(regclass, name, text)
	IS 'record that a model made the vectors that a column holds already; returns the statements it ran';

CREATE FUNCTION clip_retry(relation regclass, target name DEFAULT 'embedding') RETURNS bigint
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	col @extschema@._clip_columns%ROWTYPE;
BEGIN
	SELECT * INTO col FROM @extschema@._clip_column(relation, target);
	PERFORM @extschema@._clip_require_owner(relation);
	IF col.mode = 'queue' THEN
		PERFORM @extschema@._clip_wake_worker();
	END IF;
	RETURN @extschema@._clip_forget_failures(relation, col.trigger_name::text);
END
$$;
COMMENT ON FUNCTION clip_retry(regclass, name)
	IS 'forget the failures of a column, so that its worker or the next backfill tries them again; returns their number';
