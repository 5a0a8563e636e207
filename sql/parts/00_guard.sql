-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pg_clip CASCADE" to load this file. \quit

-- The script runs with this schema and that of pgvector as search_path, so that the type can be written plainly. Vectors
-- are written as pgvector lays them out: a type of that name that somebody put into this schema would be filled
-- with bytes that are none of its own.
--
-- Somebody may have put functions and operators there, too, which fit better than the server's own: what is understood
-- here and now (views, bodies without quotes) is qualified. Quoted bodies are read later, with a search_path of their own.
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
			MESSAGE = 'another type "vector" hides that of pgvector',
			DETAIL = 'It is in the schema that pg_clip is to be installed into.',
			HINT = 'Drop it, or install pg_clip into another schema.';
	END IF;
	IF pg_catalog.has_schema_privilege('public', pg_catalog.current_schema()::pg_catalog.text, 'CREATE') THEN
		RAISE WARNING USING MESSAGE = pg_catalog.format('everybody may create objects in schema "%s", where pg_clip is', pg_catalog.current_schema()),
			DETAIL = 'Functions that somebody creates beside those of pg_clip can be called in their place, with the rights of whoever calls.',
			HINT = pg_catalog.format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC, or install pg_clip into another schema.', pg_catalog.current_schema());
	END IF;
END
$$;
