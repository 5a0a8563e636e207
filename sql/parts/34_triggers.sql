CREATE FUNCTION _clip_create_triggers(relation regclass, source name, target name, trigger_name name, mode text, model text, digest text,
	on_error text, on_vector text) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT ARRAY[format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW WHEN (NEW.%I IS NOT NULL OR NEW.%I IS NOT NULL) '
           'EXECUTE FUNCTION @extschema@.clip_auto_embed_row(%L, %L, %L, %L, %L)',
           trigger_name, relation, source, target, mode, model, digest, on_error, on_vector)]
       || CASE mode WHEN 'statement' THEN ARRAY[
           format('CREATE TRIGGER %I AFTER INSERT ON %s REFERENCING NEW TABLE AS clip_new FOR EACH STATEMENT '
               'EXECUTE FUNCTION @extschema@.clip_auto_embed_statement(%L)', trigger_name || '_insert', relation, trigger_name),
           format('CREATE TRIGGER %I AFTER UPDATE ON %s REFERENCING OLD TABLE AS clip_old NEW TABLE AS clip_new FOR EACH STATEMENT '
               'EXECUTE FUNCTION @extschema@.clip_auto_embed_statement(%L)', trigger_name || '_update', relation, trigger_name)]
       ELSE '{}' END
$$;
COMMENT ON FUNCTION _clip_create_triggers(regclass, name, name, name, text, text, text, text, text) IS 'internal: DDL that creates a column''s triggers';

-- The other triggers of a column have the name of its row trigger as their argument. A column can be renamed, and the names of two
-- columns can differ by an ending: so a trigger is never found by the name that it would have.
CREATE FUNCTION _clip_other_triggers(relation regclass) RETURNS TABLE (oid oid, name name, row_trigger text)
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT t.oid, t.tgname, convert_from(substring(t.tgargs FROM 1 FOR octet_length(t.tgargs) - 1), getdatabaseencoding())
  FROM pg_trigger AS t
 WHERE t.tgrelid = relation AND t.tgparentid = 0 AND t.tgnargs = 1
   AND t.tgfoid IN ('@extschema@.clip_auto_embed_statement()'::regprocedure, '@extschema@.clip_auto_embed_check()'::regprocedure)
$$;
COMMENT ON FUNCTION _clip_other_triggers(regclass) IS 'internal: statement and check triggers of a table, with the names of their row triggers';

CREATE FUNCTION _clip_drop_triggers(relation regclass, trigger_name name) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT array_agg(format('DROP TRIGGER %I ON %s', t.name, relation) ORDER BY t.name)
  FROM (SELECT t.tgname FROM pg_trigger AS t
         WHERE t.tgrelid = relation AND t.tgparentid = 0 AND t.tgname = trigger_name AND t.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure
        UNION ALL SELECT o.name FROM @extschema@._clip_other_triggers(relation) AS o WHERE o.row_trigger = trigger_name::text) AS t (name)
$$;
COMMENT ON FUNCTION _clip_drop_triggers(regclass, name) IS 'internal: DDL that drops a column''s triggers';

-- If a source column is dropped, PostgreSQL drops the row trigger of its embedding column, and the others stay.
CREATE FUNCTION _clip_drop_orphans(relation regclass) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT array_agg(format('DROP TRIGGER %I ON %s', o.name, relation) ORDER BY o.name)
  FROM @extschema@._clip_other_triggers(relation) AS o
 WHERE NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = relation AND t.tgname::text = o.row_trigger)
$$;
COMMENT ON FUNCTION _clip_drop_orphans(regclass) IS 'internal: DDL that drops triggers whose row trigger is gone';

-- A name for a new row trigger that leaves room for the other triggers of the column.
CREATE FUNCTION _clip_free_name(relation regclass, target name) RETURNS name
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	preferred CONSTANT text := @extschema@._clip_trigger_name(target);
	free text := preferred;
	number integer := 1;
BEGIN
	WHILE EXISTS (
		SELECT FROM pg_trigger AS t
		 WHERE (t.tgrelid = relation OR t.tgrelid IN (SELECT p.relid FROM pg_partition_tree(relation) AS p))
		   AND t.tgname::text IN (free, free || '_insert', free || '_update', free || '_check'))
	LOOP
		number := number + 1;
		free := preferred || number;
	END LOOP;
	RETURN free::name;
END
$$;
COMMENT ON FUNCTION _clip_free_name(regclass, name) IS 'internal: name for a new row trigger of a column';

CREATE FUNCTION clip_auto_embed_check() RETURNS trigger
	AS 'MODULE_PATHNAME', 'clip_auto_embed_check_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION clip_auto_embed_check()
	IS 'AFTER ROW trigger that rejects a row if its source was changed after it was embedded; its argument is the name of the table''s row trigger';

-- A BEFORE trigger that fires after ours may change a source after its embedding was computed. If a table has such a trigger,
-- the check trigger compares the stored row.
CREATE FUNCTION _clip_settle(relation regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	root CONSTANT regclass := COALESCE(pg_partition_root(relation), relation);
	col @extschema@._clip_columns%ROWTYPE;
	check_name name;
	is_followed boolean;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = root AND t.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure) THEN
		RETURN;
	END IF;
	FOR col IN SELECT c.* FROM @extschema@._clip_columns AS c WHERE c.relation = root AND c.source IS NOT NULL LOOP
		is_followed := EXISTS (
			SELECT FROM pg_trigger AS t
			 WHERE (t.tgrelid = root OR t.tgrelid IN (SELECT p.relid FROM pg_partition_tree(root) AS p)) AND t.tgname > col.trigger_name
			   -- Bits of tgtype: FOR EACH ROW (1), BEFORE (2), INSERT (4), UPDATE (16).
			   AND t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0 AND NOT t.tgisinternal AND t.tgfoid <> '@extschema@.clip_auto_embed_row()'::regprocedure);
		SELECT t.tgname INTO check_name FROM @extschema@._clip_other_triggers(root) AS o JOIN pg_trigger AS t ON t.oid = o.oid
		 WHERE o.row_trigger = col.trigger_name::text AND t.tgfoid = '@extschema@.clip_auto_embed_check()'::regprocedure;
		IF is_followed AND check_name IS NULL THEN
			EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE ON %s FOR EACH ROW WHEN (NEW.%I IS NOT NULL) EXECUTE FUNCTION @extschema@.clip_auto_embed_check(%L)',
				col.trigger_name || '_check', root, col.target, col.trigger_name);
		ELSIF check_name IS NOT NULL AND NOT is_followed THEN
			EXECUTE format('DROP TRIGGER %I ON %s', check_name, root);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_settle(regclass) IS 'internal: create the check trigger if a trigger of the application fires after ours, otherwise drop it';

-- A table and all tables that inherit from it, partitions included.
CREATE FUNCTION _clip_inheritors(relation oid) RETURNS SETOF oid
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE tables (oid) AS (
	SELECT relation UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tables AS t ON t.oid = i.inhparent
)
SELECT t.oid FROM tables AS t
$$;
COMMENT ON FUNCTION _clip_inheritors(oid) IS 'internal: a table and all tables that inherit from it';

-- PostgreSQL does not change the type of a column that a trigger's condition names. So this function drops the triggers before
-- the change, and returns the statements that create them again after it. The statements that clear embeddings are for a
-- change that computes new source values.
CREATE FUNCTION _clip_release(relation regclass, columns text[], role oid) RETURNS TABLE (statement text, owner oid, is_left text)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col @extschema@._clip_columns%ROWTYPE;
BEGIN
	IF NOT EXISTS (
		SELECT FROM @extschema@._clip_inheritors(_clip_release.relation::oid) AS t (oid) JOIN pg_trigger AS g ON g.tgrelid = t.oid JOIN pg_class AS c ON c.oid = t.oid
		 WHERE g.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure AND pg_has_role(role, c.relowner, 'USAGE'))
	THEN
		RETURN;
	END IF;
	-- Locks the table before its partitions, in the order of every writer. The tree is read again once it is locked.
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', relation);
	FOR col IN
		SELECT c.* FROM @extschema@._clip_columns AS c JOIN @extschema@._clip_inheritors(_clip_release.relation::oid) AS t (oid) ON t.oid = c.relation
		 WHERE c.source IN (SELECT convert_from(decode(n, 'hex'), getdatabaseencoding()) FROM unnest(columns) AS n) AND pg_has_role(role, c.owner, 'USAGE')
	LOOP
		owner := col.owner;
		statement := format('UPDATE %s AS t SET %I = NULL WHERE t.%I IS NOT NULL', col.rows_of, col.target, col.target);
		is_left := format('SELECT EXISTS (SELECT FROM %s AS t WHERE t.%I IS NOT NULL)', col.rows_of, col.target);
		RETURN NEXT;
		RETURN QUERY SELECT s, col.owner, NULL FROM unnest(@extschema@._clip_create_triggers(col.relation, col.source, col.target, col.trigger_name,
			col.mode, col.model, col.digest, col.on_error, col.on_vector)) AS s;
		RETURN QUERY SELECT format('ALTER TABLE %s %s TRIGGER %I', col.relation,
			CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, t.tgname), col.owner, NULL
			FROM pg_trigger AS t WHERE t.tgrelid = col.relation AND t.tgenabled <> 'O'
			 AND (t.tgname = col.trigger_name OR t.oid IN (SELECT o.oid FROM @extschema@._clip_other_triggers(col.relation) AS o WHERE o.row_trigger = col.trigger_name::text)
			      AND t.tgfoid <> '@extschema@.clip_auto_embed_check()'::regprocedure);
		statement := format('SELECT @extschema@._clip_require_source(%L::pg_catalog.regclass, %L::pg_catalog.name)', col.relation, col.trigger_name);
		is_left := NULL;
		RETURN NEXT;
		PERFORM @extschema@._clip_execute(@extschema@._clip_drop_triggers(col.relation, col.trigger_name), false);
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_release(regclass, text[], oid) IS 'internal: drop the triggers of columns whose source changes its type; returns the statements that clear embeddings (with a query: is one left?) and those that create the triggers again';

CREATE FUNCTION _clip_require_source(relation regclass, trigger_name name) RETURNS void
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col @extschema@._clip_columns%ROWTYPE;
BEGIN
	SELECT * INTO col FROM @extschema@._clip_columns AS c WHERE c.relation = _clip_require_source.relation AND c.trigger_name = _clip_require_source.trigger_name;
	IF col.source_type NOT IN ('text'::regtype, 'varchar'::regtype, 'bytea'::regtype) THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('type of column "%s" of table %s cannot be changed to %s', col.source, relation, col.source_type),
			DETAIL = format('Column "%s" is embedded from it. A source column has type text, varchar or bytea.', col.target),
			HINT = format('To stop maintaining the embeddings first: SELECT clip_auto_embed_drop(%L, %L).', relation, col.target);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_source(regclass, name) IS 'internal: raise an error if the new type of a source cannot be embedded';

-- Triggers follow a renamed row trigger, and so do the failures that were recorded under its name.
CREATE FUNCTION _clip_follow(relation regclass, old_name text, new_name text) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	old CONSTANT name := convert_from(decode(old_name, 'hex'), getdatabaseencoding());
	col @extschema@._clip_columns%ROWTYPE;
BEGIN
	SELECT c.* INTO col FROM @extschema@._clip_columns AS c
	 WHERE c.relation = _clip_follow.relation AND c.trigger_name = convert_from(decode(new_name, 'hex'), getdatabaseencoding())::name;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	PERFORM @extschema@._clip_execute(@extschema@._clip_drop_triggers(relation, old)
		|| (@extschema@._clip_create_triggers(relation, col.source, col.target, col.trigger_name, col.mode, col.model, col.digest, col.on_error, col.on_vector))[2:], false);
	UPDATE _clip.failures AS f SET trigger_name = col.trigger_name WHERE f.relation = _clip_follow.relation AND f.trigger_name = old;
END
$$;
COMMENT ON FUNCTION _clip_follow(regclass, text, text) IS 'internal: adapt a column''s other triggers and failures to a renamed row trigger';

-- A partition brings its rows with it. Their embeddings must be of the model of the table, computed from the same source: known of a
-- managed column, and of one that clip_adopt registered. The triggers of the partition are dropped, as it gets those of the table.
CREATE FUNCTION _clip_attach(parent regclass, partition regclass, role oid) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	root CONSTANT regclass := COALESCE(pg_partition_root(parent), parent);
	col @extschema@._clip_columns%ROWTYPE;
	own @extschema@._clip_columns%ROWTYPE;
	filled boolean;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = root AND t.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure)
	   -- PostgreSQL rejects these itself.
	   OR NOT (SELECT bool_and(pg_has_role(role, c.relowner, 'USAGE') AND c.relkind IN ('r', 'p') AND (NOT c.relispartition OR c.oid = parent)) FROM pg_class AS c WHERE c.oid IN (parent, partition))
	THEN
		RETURN;
	END IF;
	-- In the order of every other session: the table before its partition.
	EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', parent);
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', partition);
	FOR col IN SELECT c.* FROM @extschema@._clip_columns AS c WHERE c.relation = root AND c.source IS NOT NULL LOOP
		CONTINUE WHEN NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = partition AND a.attname = col.target AND a.attnum > 0 AND NOT a.attisdropped);
		SELECT c.* INTO own FROM @extschema@._clip_columns AS c WHERE c.relation = partition AND c.target = col.target;
		EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %I IS NOT NULL)', partition, col.target) INTO filled;
		IF filled AND own.digest IS NULL THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = format('column "%s" of table %s has embeddings of an unknown model', col.target, partition),
				DETAIL = format('Column "%s" of table %s is embedded from column "%s" with model "%s".', col.target, root, col.source, col.model),
				HINT = format('If this model computed them from column "%s", register them: SELECT clip_adopt(%L, %L, %L). Otherwise clear them: UPDATE %s SET %I = NULL.',
					col.source, partition, col.target, col.model, partition, col.target);
		ELSIF filled AND own.digest <> col.digest THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = format('column "%s" of table %s has embeddings of model "%s"', col.target, partition, own.model),
				DETAIL = format('Column "%s" of table %s has embeddings of model "%s".', col.target, root, col.model),
				HINT = format('Recompute them first: CALL clip_reembed(%L, %L, %L).', partition, col.target, col.model);
		ELSIF filled AND COALESCE(own.source::text, own.former_source, col.source::text) <> col.source::text THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = format('column "%s" of table %s is embedded from column "%s"', col.target, partition, COALESCE(own.source::text, own.former_source)),
				DETAIL = format('Column "%s" of table %s is embedded from column "%s".', col.target, root, col.source),
				HINT = format('Clear the embeddings first: UPDATE %s SET %I = NULL.', partition, col.target);
		END IF;
		IF own.trigger_name IS NOT NULL THEN
			DELETE FROM _clip.failures AS f WHERE f.relation = partition AND f.trigger_name = own.trigger_name;
			PERFORM @extschema@._clip_execute(@extschema@._clip_drop_triggers(partition, own.trigger_name), false);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_attach(regclass, regclass, oid) IS 'internal: raise an error if a table cannot become a partition because of its embeddings; drops its triggers';

-- A detached partition keeps its columns managed: otherwise a change of a source would leave an embedding that does not match it.
CREATE FUNCTION _clip_detached(parent regclass, partition regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col @extschema@._clip_columns%ROWTYPE;
	name name;
BEGIN
	IF (SELECT c.relispartition FROM pg_class AS c WHERE c.oid = partition) THEN
		RETURN;
	END IF;
	FOR col IN SELECT c.* FROM @extschema@._clip_columns AS c WHERE c.relation = COALESCE(pg_partition_root(parent), parent) LOOP
		CONTINUE WHEN EXISTS (SELECT FROM @extschema@._clip_columns AS c WHERE c.relation = partition AND c.target = col.target);
		name := @extschema@._clip_free_name(partition, col.target);
		PERFORM @extschema@._clip_execute(CASE WHEN col.source IS NULL THEN @extschema@._clip_stamp(partition, col.target, name, col.model, col.digest, col.former_source)
			ELSE @extschema@._clip_create_triggers(partition, col.source, col.target, name, col.mode, col.model, col.digest, col.on_error, col.on_vector) END, false);
	END LOOP;
	PERFORM @extschema@._clip_settle(partition);
END
$$;
COMMENT ON FUNCTION _clip_detached(regclass, regclass) IS 'internal: create the triggers of a table on a partition that was detached from it';

CREATE FUNCTION clip_ddl() RETURNS event_trigger
	AS 'MODULE_PATHNAME', 'clip_ddl_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION clip_ddl() IS 'event trigger that keeps managed columns consistent with statements that change their tables';

CREATE EVENT TRIGGER clip_ddl_start ON ddl_command_start WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_start IS 'allows a change of the type of a source column';
CREATE EVENT TRIGGER clip_ddl_end ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_end IS 'allows a change of the type of a source column; adds the check trigger if a trigger fires after pg_clip''s trigger';
CREATE EVENT TRIGGER clip_ddl_drop ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP FOREIGN TABLE') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_drop IS 'clears the failures of dropped tables';
