-- The rows of a table are stored in these tables. "recorded" is the table with the record of the column's model: the table itself, or a
-- partitioned table above it.
CREATE FUNCTION _clip_parts(relation regclass, target name) RETURNS TABLE (part regclass, is_foreign boolean, is_generated boolean, recorded regclass)
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT c.oid::regclass, c.relkind = 'f',
       EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = _clip_parts.target AND a.attgenerated <> ''),
       (SELECT k.relation FROM _clip.columns AS k
         WHERE k.target = _clip_parts.target AND (k.relation = c.oid OR k.relation IN (SELECT a.relid FROM pg_partition_ancestors(c.oid::regclass) AS a))
         ORDER BY k.relation = c.oid DESC, k.relation = pg_partition_root(c.oid::regclass) LIMIT 1)
  FROM pg_class AS c
 WHERE c.relkind IN ('r', 'f') AND (c.oid = relation OR c.oid IN (SELECT p.relid FROM pg_partition_tree(relation) AS p))
$$;
COMMENT ON FUNCTION _clip_parts(regclass, name) IS 'internal: the tables that store the rows of a table, with the table that records the model of a column';

CREATE FUNCTION _clip_is_true(question text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'clip_is_true_wrapper' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION _clip_is_true(text) IS 'internal: run a query that returns a boolean, without the policies that FORCE ROW LEVEL SECURITY imposes on the owner of a table';

-- A foreign table is read with the privileges of the caller, who named it.
CREATE FUNCTION _clip_part_is_filled(part regclass, target name, asked regclass) RETURNS boolean
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN (SELECT c.relkind = 'f' FROM pg_class AS c WHERE c.oid = part)
		THEN @extschema@._clip_is_true(format('SELECT EXISTS (SELECT FROM %s AS t WHERE t.%I IS NOT NULL)', part, target))
		ELSE @extschema@._clip_is_filled(part, target, asked) END;
END
$$;
COMMENT ON FUNCTION _clip_part_is_filled(regclass, name, regclass) IS 'internal: true if a row of a table has an embedding';

-- The server of a foreign table computes its embeddings, and records their model where this server cannot see it. So one row is embedded
-- again.
CREATE FUNCTION _clip_require_same_embedding(part regclass, col _clip.columns) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- Different processors compute embeddings with smaller distances.
	max_distance CONSTANT float8 := 0.001;
	is_image CONSTANT boolean := (SELECT a.atttypid = 'bytea'::regtype FROM pg_attribute AS a WHERE a.attrelid = col.relation AND a.attname = col.source);
	distance float8;
	reason text := 'No row of the table has an embedding.';
	difference text;
BEGIN
	BEGIN
		EXECUTE format('SELECT t.stored OPERATOR(%I.<=>) @extschema@.%I(t.source%s, %L::text) FROM (SELECT f.%I AS stored, f.%I AS source FROM %s AS f WHERE f.%I IS NOT NULL AND f.%I IS NOT NULL LIMIT 1) AS t',
			@extschema@._clip_vector_schema(), CASE WHEN is_image THEN 'clip_embed_image' ELSE 'clip_embed_text' END, CASE WHEN is_image THEN '' ELSE '::text' END, col.model,
			col.target, col.source, part, col.target, col.source) INTO distance;
	EXCEPTION
		-- pgvector's error about another number of dimensions.
		WHEN data_exception THEN
			difference := rtrim(sqlerrm, '.') || '.';
		WHEN OTHERS THEN
			reason := rtrim(sqlerrm, '.') || '.';
	END;
	IF distance <= max_distance THEN
		RETURN;
	ELSIF distance IS NOT NULL THEN
		difference := format('Model "%s" computes an embedding of column "%s" that has a cosine distance of %s from the stored one.', col.model, col.source, distance::numeric(4, 3));
	END IF;
	IF difference IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('embeddings of foreign table %s are not of model "%s"', part, col.model),
			DETAIL = difference,
			HINT = 'Install the same model on both servers, compare its digest in clip_models, and recompute the embeddings on the server of the table: CALL clip_reembed.';
	END IF;
	RAISE NOTICE USING MESSAGE = format('embeddings of foreign table %s are not checked', part),
		DETAIL = format('They must be of model "%s", computed from column "%s". %s', col.model, col.source, reason),
		HINT = format('Check them later: SELECT clip_auto_embed(%L, %L, %L).', col.relation, col.source, col.target);
END
$$;
COMMENT ON FUNCTION _clip_require_same_embedding(regclass, _clip.columns) IS 'internal: raise an error if the embeddings of a foreign table are not of the model of a column';

-- The embeddings that a table has must be of the model of the column, computed from its source. That is known of a managed column, and of
-- one that clip_adopt registered. A partition is managed with its root table: the function returns the statements that drop its own record.
CREATE FUNCTION _clip_require_matching(relation regclass, col _clip.columns) RETURNS text[]
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	statements text[] := '{}';
	part record;
	own _clip.columns%ROWTYPE;
	own_source text;
	unrecorded regclass[] := '{}';
	is_filled boolean;
	clear text;
BEGIN
	FOR part IN SELECT p.* FROM @extschema@._clip_parts(relation, col.target) AS p LOOP
		IF part.is_foreign AND part.part <> col.relation AND col.source IS NOT NULL THEN
			PERFORM @extschema@._clip_require_same_embedding(part.part, col);
			CONTINUE;
		END IF;
		IF col.source IS NOT NULL AND (part.is_generated OR EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = part.part AND a.attname = col.source AND a.attgenerated <> '')) THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_column_reference',
				MESSAGE = format('column "%s" of table %s is generated', CASE WHEN part.is_generated THEN col.target ELSE col.source END, part.part),
				DETAIL = 'PostgreSQL computes its value after BEFORE triggers have run.',
				HINT = format('Make it an ordinary column: ALTER TABLE %s ALTER COLUMN %I DROP EXPRESSION.', part.part, CASE WHEN part.is_generated THEN col.target ELSE col.source END);
		END IF;
		IF part.recorded IS NULL THEN
			unrecorded := unrecorded || part.part;
			CONTINUE;
		END IF;
		SELECT c.* INTO own FROM _clip.columns AS c WHERE c.relation = part.recorded AND c.target = col.target;
		-- clip_adopt replaces the record of the table itself.
		CONTINUE WHEN own.relation = col.relation AND col.source IS NULL;
		own_source := COALESCE(own.source::text, own.former_source);
		IF own.digest <> col.digest OR own_source <> col.source::text OR own.source IS NULL AND own.relation <> col.relation THEN
			is_filled := @extschema@._clip_part_is_filled(part.part, col.target, relation);
			clear := CASE WHEN own.source IS NULL THEN '' ELSE format('SELECT clip_auto_embed_drop(%L, %L); ', own.relation, col.target) END
				|| format('UPDATE %s SET %I = NULL.', own.relation, col.target);
			IF is_filled AND own.digest <> col.digest THEN
				RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
					MESSAGE = format('column "%s" of table %s has embeddings of model "%s"', col.target, own.relation, own.model),
					DETAIL = format('The column of table %s has embeddings of model "%s".', col.relation, col.model),
					HINT = CASE WHEN own.source IS NULL OR (SELECT c.relispartition FROM pg_class AS c WHERE c.oid = own.relation) THEN 'Clear the embeddings first: ' || clear
						ELSE format('Recompute them first: CALL clip_reembed(%L, %L, %L).', own.relation, col.target, col.model) END;
			ELSIF is_filled AND own_source <> col.source::text THEN
				RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
					MESSAGE = CASE WHEN starts_with(own_source, '........pg.dropped') THEN format('column "%s" of table %s has embeddings of a dropped column', col.target, own.relation)
						ELSE format('column "%s" of table %s has embeddings of column "%s"', col.target, own.relation, own_source) END,
					HINT = format('Clear them: %s If column "%s" has the same content, register them: SELECT clip_adopt(%L, %L, %L).',
						clear, col.source, own.relation, col.target, col.model);
			ELSIF is_filled AND col.source IS NOT NULL THEN
				RAISE NOTICE USING MESSAGE = format('table %s keeps its embeddings', own.relation),
					HINT = format('If sources have changed since, clear their embeddings: UPDATE %s SET %I = NULL WHERE ...', own.relation, col.target);
			END IF;
		END IF;
		IF own.relation <> col.relation THEN
			statements := statements || @extschema@._clip_drop_triggers(own.relation, own.trigger_name);
		END IF;
	END LOOP;
	IF unrecorded <> '{}' AND col.source IS NOT NULL
	   AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = col.target AND a.attnum > 0 AND NOT a.attisdropped)
	THEN
		IF (SELECT bool_or(@extschema@._clip_part_is_filled(p, col.target, relation)) FROM unnest(unrecorded) AS p) THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = format('column "%s" of table %s has embeddings of an unknown model', col.target, relation),
				HINT = format('If model "%s" computed them from column "%s", register them: SELECT clip_adopt(%L, %L, %L). Otherwise clear them: UPDATE %s SET %I = NULL.',
					col.model, col.source, relation, col.target, col.model, relation, col.target);
		END IF;
	END IF;
	RETURN (SELECT COALESCE(array_agg(DISTINCT s), '{}') FROM unnest(statements) AS s);
END
$$;
COMMENT ON FUNCTION _clip_require_matching(regclass, _clip.columns) IS 'internal: raise an error if the embeddings of a table do not match a column; returns DDL that drops the records of its partitions';

-- A partition brings its rows with it, and gets copies of the triggers of its root table.
CREATE FUNCTION _clip_attach(parent regclass, partition regclass, role oid) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	root CONSTANT regclass := COALESCE(pg_partition_root(parent), parent);
	col _clip.columns%ROWTYPE;
	own _clip.columns%ROWTYPE;
	statements text[];
BEGIN
	IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = root AND t.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure)
	   -- PostgreSQL rejects these itself.
	   OR NOT (SELECT bool_and(pg_has_role(role, c.relowner, 'USAGE') AND c.relkind IN ('r', 'p', 'f') AND (NOT c.relispartition OR c.oid = parent)) FROM pg_class AS c WHERE c.oid IN (parent, partition))
	   OR @extschema@._clip_citus_repeats(parent)
	THEN
		RETURN;
	END IF;
	-- In the order of every other session: the table before its partition.
	EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', parent);
	IF (SELECT c.relkind <> 'f' FROM pg_class AS c WHERE c.oid = partition) THEN
		EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', partition);
	END IF;
	FOR col IN SELECT c.* FROM _clip.columns AS c WHERE c.relation = root LOOP
		CONTINUE WHEN NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = partition AND a.attname = col.target AND a.attnum > 0 AND NOT a.attisdropped);
		IF @extschema@._clip_citus_kind(partition) IS NOT NULL THEN
			-- Citus does not run queries on a distributed table inside an ALTER TABLE. clip_auto_embed has checked the embeddings.
			IF NOT EXISTS (SELECT FROM _clip.columns AS c WHERE c.relation = partition AND c.target = col.target AND c.digest = col.digest
				AND (col.source IS NULL OR c.source = col.source))
			THEN
				RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
					MESSAGE = format('column "%s" of table %s can have embeddings of another model', col.target, partition),
					DETAIL = format('Table %s has embeddings of model "%s". Citus cannot read a table while it becomes a partition.', root, col.model),
					HINT = CASE WHEN col.source IS NULL THEN format('Register its embeddings first: SELECT clip_adopt(%L, %L, %L).', partition, col.target, col.model)
						ELSE format('Embed the table first: SELECT clip_auto_embed(%L, %L, %L, %L, %L).', partition, col.source, col.target, col.model, col.mode) END;
			END IF;
			CONTINUE WHEN col.source IS NULL;
		END IF;
		statements := @extschema@._clip_require_matching(partition, col);
		-- Where only the model of a column is recorded, a partition may maintain its embeddings.
		IF col.source IS NOT NULL THEN
			PERFORM @extschema@._clip_execute(@extschema@._clip_citus_allowing(partition, statements), false);
		END IF;
	END LOOP;
	-- The copies of the root table's triggers need their names.
	FOR own IN
		SELECT c.* FROM _clip.columns AS c JOIN @extschema@._clip_inheritors(partition::oid) AS p (oid) ON p.oid = c.relation
		 WHERE EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = root AND t.tgname = c.trigger_name)
	LOOP
		EXECUTE format('ALTER TRIGGER %I ON %s RENAME TO %I', own.trigger_name, own.relation,
			@extschema@._clip_other_name(@extschema@._clip_trigger_name(own.target), '_' || own.trigger_oid));
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_attach(regclass, regclass, oid) IS 'internal: raise an error if a table cannot become a partition because of its embeddings; drops its own triggers';

-- A detached partition keeps its columns managed: otherwise a change of a source would leave an embedding that does not match it.
CREATE FUNCTION _clip_detached(parent regclass, partition regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
BEGIN
	IF (SELECT c.relispartition FROM pg_class AS c WHERE c.oid = partition) THEN
		RETURN;
	END IF;
	FOR col IN SELECT c.* FROM _clip.columns AS c WHERE c.relation = COALESCE(pg_partition_root(parent), parent) LOOP
		CONTINUE WHEN col.source IS NULL AND EXISTS (SELECT FROM _clip.columns AS c WHERE c.relation = partition AND c.target = col.target);
		PERFORM @extschema@._clip_execute(@extschema@._clip_citus_here(partition, @extschema@._clip_drop_triggers(partition, c.trigger_name)), false)
		   FROM _clip.columns AS c WHERE c.relation = partition AND c.target = col.target;
		col.relation := partition;
		col.trigger_name := @extschema@._clip_citus_trigger_name(partition, @extschema@._clip_free_name(partition, col.target));
		PERFORM @extschema@._clip_execute(@extschema@._clip_citus_here(partition,
			CASE WHEN col.source IS NULL THEN @extschema@._clip_stamp(col) ELSE @extschema@._clip_create_triggers(col) END), false);
	END LOOP;
	PERFORM @extschema@._clip_settle(partition);
END
$$;
COMMENT ON FUNCTION _clip_detached(regclass, regclass) IS 'internal: create the triggers of a table on a partition that was detached from it';
