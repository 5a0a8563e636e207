-- The models of this server, and those that this database needs, as JSON. No row if the database does not have pg_clip.
SET search_path = pg_catalog;
SET client_encoding = 'UTF8';
SELECT max(quote_ident(nspname)) AS schema
	FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'pg_clip' \gset
\if :{?schema}
SELECT json_build_object(
	'server', concat_ws(' ', 'host=' || :'HOST', 'port=' || :'PORT', 'dbname=' || current_database()),
	'models', (SELECT coalesce(json_object_agg(name, json_build_object('digest', digest, 'prepared', prepared)), '{}')
		FROM :schema.clip_models),
	'columns', (SELECT coalesce(json_agg(json_build_object('model', model, 'digest', digest)), '[]')
		FROM (SELECT DISTINCT model, digest FROM _clip.columns) AS recorded),
	'default_model', coalesce(current_setting('clip.default_model', true), 'emoji'));
\endif
