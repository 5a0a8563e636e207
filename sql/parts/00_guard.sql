-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pg_clip CASCADE" to load this file. \quit

-- The script runs with this schema and pgvector's schema as search_path, so that it can write the type without a schema.
-- The extension writes vectors in pgvector's memory layout. Another type named "vector" in this schema would be filled with
-- bytes of a wrong layout.
--
-- Somebody may also have created functions and operators in this schema that match better than the server's own. So all
-- names that the server resolves while the script runs (views, function bodies without quotes) are schema-qualified. Quoted
-- bodies are parsed later, under a search_path of their own.
DO $$
BEGIN
	IF NOT EXISTS (
		SELECT FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
		 WHERE e.extname OPERATOR(pg_catalog.=) 'vector'::pg_catalog.name
		   AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
		   AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid
		   AND d.objid OPERATOR(pg_catalog.=) 'vector'::pg_catalog.regtype::pg_catalog.oid)
	THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
			MESSAGE = 'another type "vector" hides the type of pgvector',
			DETAIL = pg_catalog.format('The other type is in schema "%s", into which you install pg_clip.', pg_catalog.current_schema()),
			HINT = pg_catalog.format('Remove it with DROP TYPE %I.vector, or install pg_clip into another schema.', pg_catalog.current_schema());
	END IF;
	IF pg_catalog.has_schema_privilege('public', pg_catalog.current_schema()::pg_catalog.text, 'CREATE') THEN
		RAISE WARNING USING MESSAGE = pg_catalog.format('schema "%s", which contains pg_clip, allows everyone to create objects', pg_catalog.current_schema()),
			DETAIL = 'Functions created next to those of pg_clip can be called in their place, with the privileges of the caller.',
			HINT = pg_catalog.format('Run REVOKE CREATE ON SCHEMA %I FROM PUBLIC, or install pg_clip into another schema.', pg_catalog.current_schema());
	END IF;
END
$$;
