CREATE FUNCTION _clip_fillable(relation regclass, target name, batch_size integer) RETURNS _clip.columns
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	col _clip.columns%ROWTYPE;
BEGIN
	SELECT * INTO col FROM @extschema@._clip_column(relation, target);
	IF batch_size IS NULL OR batch_size NOT BETWEEN 1 AND 10000 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'batch_size must be between 1 and 10000';
	END IF;
	IF col.source IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('column "%s" of table %s has no source column', target, relation),
			DETAIL = 'Its embeddings were registered by clip_adopt, or kept by clip_auto_embed_drop.',
			HINT = format('Name the source column: SELECT clip_auto_embed(%L, ''source'', %L).', relation, target);
	END IF;
	PERFORM @extschema@._clip_require_key(relation, 'A backfill identifies rows by their key.'::text);
	RETURN col;
END
$$;
COMMENT ON FUNCTION _clip_fillable(regclass, name, integer) IS 'internal: a column that a backfill can embed, or an error';

CREATE FUNCTION _clip_rows(n bigint) RETURNS text
	LANGUAGE sql IMMUTABLE
RETURN n::pg_catalog.text OPERATOR(pg_catalog.||) CASE WHEN n OPERATOR(pg_catalog.=) 1::pg_catalog.int8 THEN ' row' ELSE ' rows' END;
COMMENT ON FUNCTION _clip_rows(bigint) IS 'internal: a number of rows as text';

CREATE FUNCTION clip_backfill_batch(relation regclass, target name DEFAULT 'embedding', batch_size integer DEFAULT 64) RETURNS bigint
	LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	IF @extschema@._clip_citus_kind(relation) OPERATOR(pg_catalog.=) 'distributed'::pg_catalog.text THEN
		PERFORM @extschema@._clip_citus_reject(relation, 'clip_backfill_batch'::pg_catalog.text, pg_catalog.format('CALL clip_backfill(%L, %L).', relation, target));
	END IF;
	RETURN @extschema@._clip_backfill_rows(relation, (@extschema@._clip_fillable(relation, target, batch_size)).trigger_name::pg_catalog.text, batch_size);
END
$$;
COMMENT ON FUNCTION clip_backfill_batch(regclass, name, integer)
	IS 'embed up to batch_size pending rows in this transaction; returns the number of embedded rows, 0 if no row is left to embed';

CREATE PROCEDURE clip_backfill(relation regclass, target name DEFAULT 'embedding', batch_size integer DEFAULT 64)
	LANGUAGE plpgsql
AS $$
DECLARE
	column_trigger pg_catalog.text;
	step pg_catalog.record;
	embedded pg_catalog.int8 := 0;
	failed pg_catalog.int8 := 0;
	is_distributed pg_catalog.bool;
BEGIN
	PERFORM @extschema@._clip_require_no_transaction('CALL clip_backfill'::pg_catalog.text, 'Inside a transaction block, call clip_backfill_batch until it returns 0.'::pg_catalog.text);
	column_trigger := (@extschema@._clip_fillable(relation, target, batch_size)).trigger_name;
	is_distributed := COALESCE(@extschema@._clip_citus_kind(relation) OPERATOR(pg_catalog.=) 'distributed'::pg_catalog.text, false);
	WHILE is_distributed LOOP
		SELECT s.embedded, s.failed, s.finished INTO step FROM @extschema@._clip_citus_backfill_step(relation, target, batch_size) AS s;
		embedded := embedded OPERATOR(pg_catalog.+) step.embedded;
		failed := failed OPERATOR(pg_catalog.+) step.failed;
		COMMIT;
		EXIT WHEN step.finished;
	END LOOP;
	IF NOT is_distributed THEN
		SELECT s.embedded, s.failed, s.finished INTO step FROM @extschema@._clip_backfill_step(relation, column_trigger, batch_size, true) AS s;
	END IF;
	LOOP
		COMMIT;
		EXIT WHEN step.finished;
		SELECT s.embedded, s.failed, s.finished INTO step FROM @extschema@._clip_backfill_step(relation, column_trigger, batch_size, false) AS s;
		embedded := embedded OPERATOR(pg_catalog.+) step.embedded;
		failed := failed OPERATOR(pg_catalog.+) step.failed;
	END LOOP;
	IF failed OPERATOR(pg_catalog.>) 0::pg_catalog.int8 THEN
		RAISE WARNING USING MESSAGE = pg_catalog.format('%s of %s embedded, %s failed', @extschema@._clip_rows(embedded), relation::pg_catalog.text, failed::pg_catalog.text),
			HINT = 'To see the rows and the reasons: SELECT relation, key, message FROM clip_failures.';
	ELSE
		RAISE NOTICE '% of % embedded', @extschema@._clip_rows(embedded), relation;
	END IF;
END
$$;
COMMENT ON PROCEDURE clip_backfill(regclass, name, integer)
	IS 'embed all pending rows, with a commit after each batch; several sessions can run it at the same time';
