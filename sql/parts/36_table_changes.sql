-- PostgreSQL does not change the type of a column that a trigger's condition names. So this function drops the triggers before
-- the change, and returns the statements that create them again after it. The statements that clear embeddings are for a
-- change that computes new source values ("computed").
CREATE FUNCTION _clip_release(relation regclass, changed text[], computed text[], dropped text[], role oid) RETURNS TABLE (statement text, owner oid, is_left text)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	changed_names CONSTANT name[] := ARRAY(SELECT convert_from(decode(n, 'hex'), getdatabaseencoding())::name FROM unnest(changed) AS n);
	computed_names CONSTANT name[] := ARRAY(SELECT convert_from(decode(n, 'hex'), getdatabaseencoding())::name FROM unnest(computed) AS n);
	dropped_names CONSTANT name[] := ARRAY(SELECT convert_from(decode(n, 'hex'), getdatabaseencoding())::name FROM unnest(dropped) AS n);
	col _clip.columns%ROWTYPE;
BEGIN
	-- PostgreSQL rejects the statement of a role that does not own the table.
	IF NOT (SELECT pg_has_role(role, c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = _clip_release.relation) OR NOT EXISTS (
		SELECT FROM @extschema@._clip_inheritors(_clip_release.relation::oid) AS t (oid) JOIN pg_trigger AS g ON g.tgrelid = t.oid JOIN pg_class AS c ON c.oid = t.oid
		 WHERE g.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure AND pg_has_role(role, c.relowner, 'USAGE'))
	THEN
		RETURN;
	END IF;
	-- Locks the table before its partitions, in the order of every writer. The tree is read again once it is locked.
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', relation);
	FOR col IN
		SELECT c.* FROM _clip.columns AS c JOIN @extschema@._clip_inheritors(_clip_release.relation::oid) AS t (oid) ON t.oid = c.relation
		 WHERE (c.source = ANY (changed_names) OR c.target = ANY (changed_names)) AND c.target <> ALL (dropped_names) AND pg_has_role(role, c.owner, 'USAGE')
	LOOP
		owner := col.owner;
		IF col.source = ANY (computed_names) THEN
			-- Inside an ALTER TABLE, Citus does not run the query that checks that no embedding is left.
			PERFORM @extschema@._clip_citus_reject(col.relation, 'ALTER COLUMN TYPE with USING of a source column'::text,
				format('Stop maintaining the column with clip_auto_embed_drop, and call clip_auto_embed after the change and after: UPDATE %s SET %I = NULL.', col.relation, col.target));
			statement := format('UPDATE %s AS t SET %I = NULL WHERE t.%I IS NOT NULL', col.rows_of, col.target, col.target);
			is_left := format('SELECT EXISTS (SELECT FROM %s AS t WHERE t.%I IS NOT NULL)', col.rows_of, col.target);
			RETURN NEXT;
		END IF;
		RETURN QUERY SELECT s, col.owner, NULL FROM unnest(@extschema@._clip_citus_allowing(col.relation,
			CASE WHEN col.source IS NULL THEN @extschema@._clip_stamp(col) ELSE @extschema@._clip_create_triggers(col) END)) AS s;
		statement := format('SELECT @extschema@._clip_require_types(%L::pg_catalog.regclass, %L::pg_catalog.name, %L::pg_catalog.name)', col.relation, col.trigger_name, col.target);
		is_left := NULL;
		RETURN NEXT;
		PERFORM @extschema@._clip_execute(@extschema@._clip_citus_allowing(col.relation, @extschema@._clip_drop_triggers(col.relation, col.trigger_name)), false);
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_release(regclass, text[], text[], text[], oid) IS 'internal: drop the triggers of columns whose source or target changes its type; returns the statements that clear embeddings (with a query: is one left?) and those that create the triggers again';

-- The update that clears embeddings must leave no deferred trigger, because the next change of the table in the same transaction would
-- fail. So its constraints are immediate during the update. PostgreSQL does not show whether a constraint is deferred at the moment.
CREATE FUNCTION _clip_fire_at_once(relation regclass, begins boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	names CONSTANT text := (SELECT string_agg(DISTINCT format('%I.%I', n.nspname, k.conname), ', ') FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = k.connamespace
		WHERE k.conrelid IN (SELECT i FROM @extschema@._clip_inheritors(relation::oid) AS i) AND k.condeferrable AND (begins OR k.condeferred));
BEGIN
	IF names IS NOT NULL THEN
		EXECUTE format('SET CONSTRAINTS %s %s', names, CASE WHEN begins THEN 'IMMEDIATE' ELSE 'DEFERRED' END);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_fire_at_once(regclass, boolean) IS 'internal: make the constraints of a table immediate, or initially deferred ones deferred again';

CREATE FUNCTION _clip_require_types(relation regclass, trigger_name name, target name) RETURNS void
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
	length integer;
	kind text;
	declared integer;
BEGIN
	SELECT * INTO col FROM _clip.columns AS c WHERE c.relation = _clip_require_types.relation AND c.trigger_name = _clip_require_types.trigger_name;
	SELECT m.dimensions INTO length FROM @extschema@.clip_models AS m WHERE m.name = col.model AND m.digest = col.digest;
	SELECT format_type(a.atttypid, a.atttypmod), NULLIF(a.atttypmod, -1) INTO kind, declared FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = target;
	IF col.relation IS NULL OR declared <> length THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('type of column "%s" of table %s cannot be changed to %s', target, relation, kind),
			DETAIL = CASE WHEN length IS NULL THEN 'An embedding column has type vector or halfvec.' ELSE format('Embeddings of model "%s" have %s dimensions.', col.model, length) END,
			HINT = format('To stop maintaining the embeddings first: SELECT clip_auto_embed_drop(%L, %L).', relation, target);
	END IF;
	IF col.source_type NOT IN ('text'::regtype, 'varchar'::regtype, 'bytea'::regtype) THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('type of column "%s" of table %s cannot be changed to %s', col.source, relation, col.source_type),
			DETAIL = format('Column "%s" is embedded from it. A source column has type text, varchar or bytea.', col.target),
			HINT = format('To stop maintaining the embeddings first: SELECT clip_auto_embed_drop(%L, %L).', relation, col.target);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_types(regclass, name, name) IS 'internal: raise an error if a new type of a source or an embedding column does not suit';

-- Triggers follow a renamed row trigger, and so do the failures that were recorded under its name.
CREATE FUNCTION _clip_follow(relation regclass, old_name text, new_name text) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	old CONSTANT name := convert_from(decode(old_name, 'hex'), getdatabaseencoding());
	col _clip.columns%ROWTYPE;
BEGIN
	SELECT c.* INTO col FROM _clip.columns AS c
	 WHERE c.relation = _clip_follow.relation AND c.trigger_name = convert_from(decode(new_name, 'hex'), getdatabaseencoding())::name;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	PERFORM @extschema@._clip_execute(@extschema@._clip_drop_triggers(relation, old) || @extschema@._clip_create_statement_triggers(col), false);
	UPDATE _clip.failures AS f SET trigger_name = col.trigger_name WHERE f.relation = _clip_follow.relation AND f.trigger_name = old;
END
$$;
COMMENT ON FUNCTION _clip_follow(regclass, text, text) IS 'internal: adapt a column''s other triggers and failures to a renamed row trigger';

CREATE FUNCTION clip_ddl() RETURNS event_trigger
	AS 'MODULE_PATHNAME', 'clip_ddl_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION clip_ddl() IS 'event trigger that keeps managed columns consistent with statements that change their tables';

CREATE EVENT TRIGGER clip_ddl_start ON ddl_command_start WHEN TAG IN ('ALTER TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER', 'DROP TRIGGER') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_start IS 'allows a change of the type of a source column; checks the embeddings of a new partition';
CREATE EVENT TRIGGER clip_ddl_end ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER', 'DROP TRIGGER') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_end IS 'allows a change of the type of a source column; adds the check trigger if a trigger fires after pg_clip''s trigger';
CREATE EVENT TRIGGER clip_ddl_drop ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP FOREIGN TABLE') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_drop IS 'clears the failures of dropped tables';
