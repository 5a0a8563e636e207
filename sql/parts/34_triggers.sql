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
COMMENT ON FUNCTION _clip_create_triggers(regclass, name, name, name, text, text, text, text, text) IS 'internal: the DDL of a column''s triggers';

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
COMMENT ON FUNCTION _clip_drop_triggers(regclass, name) IS 'internal: the DDL that removes a column''s triggers';

CREATE FUNCTION clip_auto_embed_check() RETURNS trigger
	AS 'MODULE_PATHNAME', 'clip_auto_embed_check_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION clip_auto_embed_check()
	IS 'AFTER ROW trigger that refuses a row whose source was changed after it was embedded; its argument is the name of the table''s row trigger';

-- A BEFORE trigger that fires after ours may change a source whose vector is made already. Where there is one, what was stored is
-- looked at.
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
			   -- Of rows (1), before (2) INSERT (4) or UPDATE (16).
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
COMMENT ON FUNCTION _clip_settle(regclass) IS 'internal: create or drop the check of what was stored, as triggers of others need it';

-- Postgres changes no type of a column that a trigger's condition names: the triggers are dropped before, and created again after
-- it, by the statements that this returns. Those that clear vectors are for values that are computed anew.
CREATE FUNCTION _clip_release(relation regclass, columns text[], role oid) RETURNS TABLE (clears boolean, statement text, owner oid)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col @extschema@._clip_columns%ROWTYPE;
BEGIN
	IF NOT EXISTS (
		WITH RECURSIVE tables (oid) AS (
			SELECT relation::oid UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tables AS t ON t.oid = i.inhparent
		)
		SELECT FROM tables AS t JOIN pg_trigger AS g ON g.tgrelid = t.oid JOIN pg_class AS c ON c.oid = t.oid
		 WHERE g.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure AND pg_has_role(role, c.relowner, 'USAGE'))
	THEN
		RETURN;
	END IF;
	-- A table before its partitions, as all who write to it lock them.
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', relation);
	FOR col IN
		WITH RECURSIVE tables (oid) AS (
			SELECT relation::oid UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tables AS t ON t.oid = i.inhparent
		)
		SELECT c.* FROM @extschema@._clip_columns AS c JOIN tables AS t ON t.oid = c.relation
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
COMMENT ON FUNCTION _clip_release(regclass, text[], oid) IS 'internal: drop the triggers of columns whose sources change their types';

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
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('column "%s" of table %s cannot become %s', col.source, relation, col.source_type),
			DETAIL = format('Column "%s" is embedded from it: texts are text or varchar, images are bytea.', col.target),
			HINT = format('End that first: SELECT clip_auto_embed_drop(%L, %L)', relation, col.target);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_source(regclass, name) IS 'internal: refuse a source of a type that is not embedded';

CREATE FUNCTION clip_ddl() RETURNS event_trigger
	AS 'MODULE_PATHNAME', 'clip_ddl_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION clip_ddl() IS 'event trigger: what statements that change tables mean for columns that embed themselves';

CREATE EVENT TRIGGER clip_ddl_start ON ddl_command_start WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_start IS 'lets the type of a source be changed';
CREATE EVENT TRIGGER clip_ddl_end ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_end IS 'lets the type of a source be changed; checks rows where a trigger fires after that of pg_clip';
CREATE EVENT TRIGGER clip_ddl_drop ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP FOREIGN TABLE') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_drop IS 'forgets what failed in tables that are dropped';
