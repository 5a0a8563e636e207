-- privileges

GRANT SELECT ON @extschema@.clip_models, @extschema@.clip_loaded_models, @extschema@.clip_failures, @extschema@.clip_auto_embed_status,
	@extschema@.clip_progress TO PUBLIC;
GRANT SELECT ON _clip.columns, _clip.work_done, _clip.running, _clip.failed, _clip.visible_failures TO PUBLIC;

-- All roles can name the tables in this schema. Only the owner of the database can read them, to dump the database, because
-- they contain keys of tables that other roles may not be able to read.
GRANT USAGE ON SCHEMA _clip TO PUBLIC;
GRANT SELECT ON _clip.failures TO pg_database_owner;

-- All roles can set these in a session that has loaded the library. A session that has not loaded it does not know the settings,
-- and PostgreSQL checks this privilege when ALTER DATABASE or ALTER ROLE stores a default. The privilege only removes this
-- difference, and gives no other rights. It belongs to the whole server: DROP EXTENSION keeps it for other databases. A second
-- CREATE EXTENSION finds it and writes nothing, so that two databases cannot conflict.
DO $$
DECLARE
	setting pg_catalog.text;
BEGIN
	FOREACH setting IN ARRAY '{clip.default_model,clip.threads,clip.batch_size,clip.query_cache_size,clip.text_overflow}'::pg_catalog.text[] LOOP
		IF NOT pg_catalog.has_parameter_privilege('public'::pg_catalog.name, setting, 'SET'::pg_catalog.text) THEN
			EXECUTE pg_catalog.format('GRANT SET ON PARAMETER %s TO PUBLIC', setting);
		END IF;
	END LOOP;
END
$$;

-- The statistics of the embedding service are about the work of all roles.
REVOKE EXECUTE ON FUNCTION @extschema@._clip_service() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@._clip_service() TO pg_monitor;
GRANT SELECT ON @extschema@.clip_service TO pg_monitor;

-- No other privilege is revoked from PUBLIC. These functions read only their arguments and the models, change only the memory of this
-- session, and show paths only to superusers. Settings that protect the server can only be changed by superusers.
