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

CREATE FUNCTION _clip_drop_triggers(relation regclass, trigger_name name) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT array_agg(format('DROP TRIGGER %I ON %s', t.tgname, relation) ORDER BY t.tgname)
  FROM pg_trigger AS t
 WHERE t.tgrelid = relation AND t.tgparentid = 0 AND t.tgname IN (trigger_name, trigger_name || '_insert', trigger_name || '_update', trigger_name || '_check')
   AND t.tgfoid IN ('@extschema@.clip_auto_embed_row()'::regprocedure, '@extschema@.clip_auto_embed_statement()'::regprocedure,
                    '@extschema@.clip_auto_embed_check()'::regprocedure)
$$;
COMMENT ON FUNCTION _clip_drop_triggers(regclass, name) IS 'internal: DDL that drops a column''s triggers';

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
	is_checked boolean;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = root AND t.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure) THEN
		RETURN;
	END IF;
	FOR col IN SELECT c.* FROM @extschema@._clip_columns AS c WHERE c.relation = root AND c.source IS NOT NULL LOOP
		check_name := col.trigger_name || '_check';
		is_followed := EXISTS (
			SELECT FROM pg_trigger AS t
			 WHERE (t.tgrelid = root OR t.tgrelid IN (SELECT p.relid FROM pg_partition_tree(root) AS p)) AND t.tgname > col.trigger_name
			   -- Bits of tgtype: FOR EACH ROW (1), BEFORE (2), INSERT (4), UPDATE (16).
			   AND t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0 AND NOT t.tgisinternal AND t.tgfoid <> '@extschema@.clip_auto_embed_row()'::regprocedure);
		is_checked := EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = root AND t.tgname = check_name);
		IF is_followed AND NOT is_checked THEN
			EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE ON %s FOR EACH ROW WHEN (NEW.%I IS NOT NULL) EXECUTE FUNCTION @extschema@.clip_auto_embed_check(%L)',
				check_name, root, col.target, col.trigger_name);
		ELSIF is_checked AND NOT is_followed THEN
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
CREATE FUNCTION _clip_release(relation regclass, columns text[], role oid) RETURNS TABLE (clears boolean, statement text, owner oid)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col @extschema@._clip_columns%ROWTYPE;
BEGIN
	IF NOT EXISTS (
		SELECT FROM @extschema@._clip_inheritors(relation::oid) AS t (oid) JOIN pg_trigger AS g ON g.tgrelid = t.oid JOIN pg_class AS c ON c.oid = t.oid
		 WHERE g.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure AND pg_has_role(role, c.relowner, 'USAGE'))
	THEN
		RETURN;
	END IF;
	-- Locks the table before its partitions, in the order of every writer. The tree is read again once it is locked.
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', relation);
	FOR col IN
		SELECT c.* FROM @extschema@._clip_columns AS c JOIN @extschema@._clip_inheritors(relation::oid) AS t (oid) ON t.oid = c.relation
		 WHERE c.source IN (SELECT convert_from(decode(n, 'hex'), getdatabaseencoding()) FROM unnest(columns) AS n) AND pg_has_role(role, c.owner, 'USAGE')
	LOOP
		clears := true;
		owner := col.owner;
		statement := format('UPDATE %s AS t SET %I = NULL WHERE t.%I IS NOT NULL', col.rows_of, col.target, col.target);
		RETURN NEXT;
		clears := false;
		RETURN QUERY SELECT false, s, col.owner FROM unnest(@extschema@._clip_create_triggers(col.relation, col.source, col.target, col.trigger_name,
			col.mode, col.model, col.digest, col.on_error, col.on_vector)) AS s;
		RETURN QUERY SELECT false, format('ALTER TABLE %s %s TRIGGER %I', col.relation,
			CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, t.tgname), col.owner
			FROM pg_trigger AS t WHERE t.tgrelid = col.relation AND t.tgenabled <> 'O' AND t.tgname IN (col.trigger_name, col.trigger_name || '_insert', col.trigger_name || '_update');
		statement := format('SELECT @extschema@._clip_require_source(%L::pg_catalog.regclass, %L::pg_catalog.name)', col.relation, col.trigger_name);
		RETURN NEXT;
		PERFORM @extschema@._clip_execute(@extschema@._clip_drop_triggers(col.relation, col.trigger_name), false);
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_release(regclass, text[], oid) IS 'internal: drop the triggers of columns whose source changes its type; returns the statements that create them again';

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

CREATE FUNCTION clip_ddl() RETURNS event_trigger
	AS 'MODULE_PATHNAME', 'clip_ddl_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION clip_ddl() IS 'event trigger that keeps managed columns consistent with statements that change their tables';

CREATE EVENT TRIGGER clip_ddl_start ON ddl_command_start WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_start IS 'allows a change of the type of a source column';
CREATE EVENT TRIGGER clip_ddl_end ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_end IS 'allows a change of the type of a source column; adds the check trigger if a trigger fires after pg_clip''s trigger';
CREATE EVENT TRIGGER clip_ddl_drop ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP FOREIGN TABLE') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_drop IS 'clears the failures of dropped tables';
