-- privileges

GRANT SELECT ON @extschema@.clip_models, @extschema@.clip_loaded_models, @extschema@.clip_failures, @extschema@.clip_auto_embed_status,
	@extschema@.clip_progress TO PUBLIC;
GRANT SELECT ON @extschema@._clip_columns, @extschema@._clip_work_done, _clip.failed TO PUBLIC;

-- Everybody may name the tables there, and nobody may read them but the owner of the database, who must be able to dump it:
-- keys are of tables that not all may read.
GRANT USAGE ON SCHEMA _clip TO PUBLIC;
GRANT SELECT ON _clip.failures TO pg_database_owner;

-- Anybody may set these in a session that has loaded the library. A session that has not knows no such setting, and asks for
-- this privilege where a default is stored: ALTER DATABASE or ALTER ROLE by an owner who is no superuser. So the privilege gives
-- nothing but an order of doing things that is not surprising. It belongs to the whole server: DROP EXTENSION leaves it to other
-- databases, and a second CREATE EXTENSION finds it there, and has nothing to write that two databases could collide in.
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

-- Nothing is revoked: these functions read nothing but their arguments and the models, change nothing but this
-- connection's memory, and show paths to superusers only. What a role must not change is a superuser's setting.
