-- The name of another trigger of a column. It fits into 63 bytes, whatever name the row trigger has.
CREATE FUNCTION _clip_other_name(row_trigger name, ending text) RETURNS name
	LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT (@extschema@._clip_short(row_trigger::text, 63 - octet_length(ending)) || ending)::name
$$;
COMMENT ON FUNCTION _clip_other_name(name, text) IS 'internal: name of the statement or check trigger of a column';

-- An owner can disable a trigger, or let it fire for rows of a subscription. The new trigger has the same state.
CREATE FUNCTION _clip_set_state(relation regclass, trigger_name name, enabled "char") RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT ARRAY[format('ALTER TABLE %s %s TRIGGER %I', relation,
	CASE enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END, trigger_name)]
$$;
COMMENT ON FUNCTION _clip_set_state(regclass, name, "char") IS 'internal: DDL that sets when a trigger fires';

CREATE FUNCTION _clip_create_statement_triggers(col _clip.columns) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE col.mode WHEN 'statement' THEN ARRAY[
           format('CREATE TRIGGER %I AFTER INSERT ON %s REFERENCING NEW TABLE AS clip_new FOR EACH STATEMENT '
               'EXECUTE FUNCTION @extschema@.clip_auto_embed_statement(%L)', @extschema@._clip_other_name(col.trigger_name, '_insert'), col.relation, col.trigger_name),
           format('CREATE TRIGGER %I AFTER UPDATE ON %s REFERENCING OLD TABLE AS clip_old NEW TABLE AS clip_new FOR EACH STATEMENT '
               'EXECUTE FUNCTION @extschema@.clip_auto_embed_statement(%L)', @extschema@._clip_other_name(col.trigger_name, '_update'), col.relation, col.trigger_name)]
       ELSE '{}' END
$$;
COMMENT ON FUNCTION _clip_create_statement_triggers(_clip.columns) IS 'internal: DDL that creates the statement triggers of a column';

-- _clip_settle gives the other triggers the state of the row trigger.
CREATE FUNCTION _clip_create_triggers(col _clip.columns) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT ARRAY[format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW WHEN (NEW.%I IS NOT NULL OR NEW.%I IS NOT NULL) '
           'EXECUTE FUNCTION @extschema@.clip_auto_embed_row(%L, %L, %L, %L, %L)',
           col.trigger_name, col.relation, col.source, col.target, col.mode, col.model, col.digest, col.on_error, col.on_vector)]
       || CASE WHEN col.enabled <> 'O' THEN @extschema@._clip_set_state(col.relation, col.trigger_name, col.enabled) END
       || @extschema@._clip_create_statement_triggers(col)
$$;
COMMENT ON FUNCTION _clip_create_triggers(_clip.columns) IS 'internal: DDL that creates a column''s triggers';

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
		   AND t.tgname IN (free::name, @extschema@._clip_other_name(free::name, '_insert'), @extschema@._clip_other_name(free::name, '_update'), @extschema@._clip_other_name(free::name, '_check')))
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

-- Brings the other triggers of a table's columns in line with their row triggers. A BEFORE trigger that fires after ours may change a
-- source after its embedding was computed: if a table has such a trigger, the check trigger compares the stored row. All triggers of a
-- column have the state of its row trigger. A check trigger is dropped only by a statement on the table itself, which holds the lock.
CREATE FUNCTION _clip_settle(relation regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	root CONSTANT regclass := COALESCE(pg_partition_root(relation), relation);
	col _clip.columns%ROWTYPE;
	check_name name;
	other name;
	is_followed boolean;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = root AND t.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure) THEN
		RETURN;
	END IF;
	FOR col IN SELECT c.* FROM _clip.columns AS c WHERE c.relation = root AND c.source IS NOT NULL LOOP
		is_followed := EXISTS (
			SELECT FROM pg_trigger AS t
			 WHERE (t.tgrelid = root OR t.tgrelid IN (SELECT p.relid FROM pg_partition_tree(root) AS p)) AND t.tgname > col.trigger_name
			   -- Bits of tgtype: FOR EACH ROW (1), BEFORE (2), INSERT (4), UPDATE (16).
			   AND t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0 AND NOT t.tgisinternal AND t.tgfoid <> '@extschema@.clip_auto_embed_row()'::regprocedure);
		SELECT t.tgname INTO check_name FROM @extschema@._clip_other_triggers(root) AS o JOIN pg_trigger AS t ON t.oid = o.oid
		 WHERE o.row_trigger = col.trigger_name::text AND t.tgfoid = '@extschema@.clip_auto_embed_check()'::regprocedure;
		IF is_followed AND check_name IS NULL THEN
			EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE ON %s FOR EACH ROW WHEN (NEW.%I IS NOT NULL) EXECUTE FUNCTION @extschema@.clip_auto_embed_check(%L)',
				@extschema@._clip_other_name(col.trigger_name, '_check'), root, col.target, col.trigger_name);
		ELSIF check_name IS NOT NULL AND NOT is_followed AND root = relation THEN
			EXECUTE format('DROP TRIGGER %I ON %s', check_name, root);
		END IF;
		FOR other IN
			SELECT t.tgname FROM @extschema@._clip_other_triggers(root) AS o JOIN pg_trigger AS t ON t.oid = o.oid
			 WHERE o.row_trigger = col.trigger_name::text AND t.tgenabled <> col.enabled
		LOOP
			PERFORM @extschema@._clip_execute(@extschema@._clip_set_state(root, other, col.enabled), false);
		END LOOP;
		IF col.mode <> 'row' AND col.key_names IS NULL THEN
			RAISE WARNING USING MESSAGE = format('table %s has no key', root),
				DETAIL = format('Mode "%s" identifies rows by their key. Rows of column "%s" stay without an embedding.', col.mode, col.target),
				HINT = 'Add a primary key, or a unique index on columns that are NOT NULL.';
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_settle(regclass) IS 'internal: bring the check and statement triggers of a table in line with its row triggers';

-- A statement on a partition may lead to a check trigger on its root table. Every writer locks the root table first, and so does this.
CREATE FUNCTION _clip_lock_root(relation regclass, role oid) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	root CONSTANT regclass := pg_partition_root(relation);
BEGIN
	IF root <> relation AND EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = root AND t.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure)
	   AND (SELECT pg_has_role(role, c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = relation)
	THEN
		EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', root);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_lock_root(regclass, oid) IS 'internal: lock the root table of a partition before a trigger of the partition is created or renamed';
