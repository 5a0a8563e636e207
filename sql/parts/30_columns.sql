-- managed columns
--
-- An ordinary row trigger of the table embeds a column. This trigger is the only record of a managed column. Its arguments are
-- the mode, the model, the model's digest, on_error and on_vector. Its condition names both columns. So the record follows a
-- renamed column, prevents that a column is dropped by accident, belongs to the table's owner, and is in every dump of the table.

-- The internal tables and views have a schema of their own. Tools that compare an application's schema with its models do not read it.
CREATE SCHEMA _clip;
COMMENT ON SCHEMA _clip IS 'internal: tables and views of pg_clip';

CREATE FUNCTION clip_auto_embed_row() RETURNS trigger
	AS 'MODULE_PATHNAME', 'clip_auto_embed_row_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION clip_auto_embed_row()
	IS 'BEFORE ROW trigger that embeds a column; its arguments are mode, model, digest of the model, on_error, on_vector';

-- The primary key of a table, or a unique index that identifies every row if there is no primary key.
CREATE FUNCTION _clip_key(relation regclass, OUT names name[], OUT types oid[], OUT operators text[], OUT built_in boolean) RETURNS SETOF record
	LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
SELECT pg_catalog.array_agg(a.attname ORDER BY k.n) AS names,
       pg_catalog.array_agg(a.atttypid ORDER BY k.n) AS types,
       pg_catalog.array_agg(pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname) ORDER BY k.n) AS operators,
       pg_catalog.bool_and(n.nspname OPERATOR(pg_catalog.=) 'pg_catalog') AS built_in
  FROM pg_catalog.pg_index AS i
 CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]), pg_catalog.unnest(i.indclass::pg_catalog.oid[]))
       WITH ORDINALITY AS k (attnum, opclass, n)
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum
  JOIN pg_catalog.pg_opclass AS oc ON oc.oid OPERATOR(pg_catalog.=) k.opclass
  JOIN pg_catalog.pg_amop AS am ON am.amopfamily OPERATOR(pg_catalog.=) oc.opcfamily AND am.amopstrategy OPERATOR(pg_catalog.=) 3
   AND am.amoplefttype OPERATOR(pg_catalog.=) oc.opcintype AND am.amoprighttype OPERATOR(pg_catalog.=) oc.opcintype
  JOIN pg_catalog.pg_operator AS o ON o.oid OPERATOR(pg_catalog.=) am.amopopr
  JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace
 WHERE i.indrelid OPERATOR(pg_catalog.=) relation AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
   AND k.n OPERATOR(pg_catalog.<=) i.indnkeyatts AND NOT 0 OPERATOR(pg_catalog.=) ANY (i.indkey::pg_catalog.int2[])
 GROUP BY i.indexrelid, i.indisprimary, i.indnkeyatts
HAVING pg_catalog.bool_and(a.attnotnull) AND pg_catalog.count(*) OPERATOR(pg_catalog.=) i.indnkeyatts
 ORDER BY i.indisprimary DESC, i.indexrelid
 LIMIT 1;
END;
COMMENT ON FUNCTION _clip_key(regclass) IS 'internal: columns, types and equality operators of the key that identifies rows';

-- PostgreSQL silently truncates identifiers to 63 bytes, which could make two names equal. A hash keeps them different.
CREATE FUNCTION _clip_short(name text, max_bytes integer) RETURNS text
	LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN octet_length(name) <= max_bytes THEN name
       ELSE (SELECT left(name, max(n)) FROM generate_series(0, length(name)) AS n WHERE octet_length(left(name, n)) <= max_bytes - 9) || '_' || left(encode(sha256(convert_to(name, getdatabaseencoding())), 'hex'), 8) END
$$;
COMMENT ON FUNCTION _clip_short(text, integer) IS 'internal: a name of at most max_bytes bytes, shortened with a hash that keeps names different';

-- The name of a row trigger. With the longest suffix it still fits into 63 bytes. The prefix zz makes it fire after the
-- application's own triggers.
CREATE FUNCTION _clip_trigger_name(target name) RETURNS name
	LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
-- No such name ends as the names of the other triggers of a column do.
SELECT (@extschema@._clip_short('zz_clip_' || target::text, 44) || CASE WHEN target::text ~ '_(insert|update|check)$' THEN '_' ELSE '' END)::name
$$;
COMMENT ON FUNCTION _clip_trigger_name(name) IS 'internal: preferred name of the row trigger of a column';

-- The name under which clip_reembed builds a new column or index, until it replaces the old one.
CREATE FUNCTION _clip_shadow_name(name name) RETURNS name
	LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT (@extschema@._clip_short(name::text, 55) || '_reembed')::name
$$;
COMMENT ON FUNCTION _clip_shadow_name(name) IS 'internal: temporary name of the replacement of a column or an index';

-- Resolved when the extension is created, so the caller's search_path does not matter.
CREATE FUNCTION _clip_vector_type() RETURNS oid
	LANGUAGE sql STABLE
RETURN 'vector'::pg_catalog.regtype::pg_catalog.oid;
COMMENT ON FUNCTION _clip_vector_type() IS 'internal: pgvector''s type';

-- In PL/pgSQL, as other functions that searches call: the server keeps the plans of such functions for the session.
CREATE FUNCTION _clip_vector_schema() RETURNS name
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT n.nspname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE t.oid = @extschema@._clip_vector_type());
END
$$;
COMMENT ON FUNCTION _clip_vector_schema() IS 'internal: schema of pgvector';

-- The types of pgvector that an embedding column can have. pgvector has halfvec since version 0.7. All else that depends on the type of a
-- column is here, or follows from pgvector's casts to and from vector.
--   name            the name without the schema
--   written         the name as statements write it
--   operator_class  operator class of an index for the cosine distance
--   max_indexed     pgvector's limit of dimensions for such an index
CREATE FUNCTION _clip_vector_types() RETURNS TABLE (type oid, name text, written text, operator_class text, max_indexed integer)
	LANGUAGE plpgsql STABLE ROWS 2
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT t.oid, t.typname::text, format('%I.%I', n.nspname, t.typname), format('%I.%I', n.nspname, k.operator_class), k.max_indexed
	  FROM (VALUES ('vector', 'vector_cosine_ops', 2000), ('halfvec', 'halfvec_cosine_ops', 4000)) AS k (name, operator_class, max_indexed)
	  JOIN pg_type AS v ON v.oid = @extschema@._clip_vector_type()
	  JOIN pg_type AS t ON t.typname = k.name AND t.typnamespace = v.typnamespace
	  JOIN pg_namespace AS n ON n.oid = t.typnamespace
	 -- Others can create a type of that name, if pgvector has none and is in a schema that allows it.
	 WHERE EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'vector'
	                WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.refclassid = 'pg_extension'::regclass);
END
$$;
COMMENT ON FUNCTION _clip_vector_types() IS 'internal: types that an embedding column can have';

CREATE FUNCTION _clip_types_of(dimensions integer) RETURNS text
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT string_agg(format('%s(%s)', v.name, dimensions), ' or ' ORDER BY v.max_indexed) FROM @extschema@._clip_vector_types() AS v
$$;
COMMENT ON FUNCTION _clip_types_of(integer) IS 'internal: types of embeddings with so many dimensions, for messages';

-- One row per column that has a model. clip_auto_embed creates such columns; clip_adopt registers them with source NULL.
CREATE VIEW _clip.columns AS
SELECT t.oid AS trigger_oid,
       t.tgrelid::pg_catalog.regclass AS relation,
       c.relowner AS owner,
       c.relkind,
       -- Child tables of INHERITS have triggers of their own. Partitions belong to their partitioned table.
       pg_catalog.format(CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'p' THEN '%I.%I' ELSE 'ONLY %I.%I' END, n.nspname, c.relname) AS rows_of,
       t.tgname AS trigger_name,
       t.tgenabled AS enabled,
       a.args[1] AS mode,
       a.args[2] AS model,
       a.args[3] AS digest,
       a.args[4] AS on_error,
       CASE WHEN a.args[5] OPERATOR(pg_catalog.=) 'keep' THEN 'keep' ELSE 'replace' END AS on_vector,
       -- The source of a column that is not maintained any more. The trigger records its name, and its number in this very table, which a
       -- restored table does not keep. A dropped column keeps its number under a name that no other column has.
       CASE WHEN a.args[1] OPERATOR(pg_catalog.=) 'stamp' AND a.args[6] OPERATOR(pg_catalog.<>) '' THEN COALESCE(
            (SELECT f.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS f WHERE f.attrelid OPERATOR(pg_catalog.=) t.tgrelid
                AND a.args[7] OPERATOR(pg_catalog.=) pg_catalog.format('%s.%s', f.attrelid, f.attnum)),
            a.args[6]) END AS former_source,
       source.attname AS source,
       source.atttypid::pg_catalog.regtype AS source_type,
       target.attname AS target,
       target.atttypid AS target_type,
       key.names AS key_names,
       key.types AS key_types,
       key.operators AS key_operators,
       key.built_in AS key_built_in
  FROM pg_catalog.pg_trigger AS t
  JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
  JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 -- Arguments end with a null byte. A name can contain the text \000, so the bytes are split as pairs of digits.
 CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(pg_catalog.convert_from(pg_catalog.decode(pg_catalog.replace(h.digits, ' ', ''), 'hex'), pg_catalog.getdatabaseencoding()) ORDER BY h.n)
        FROM pg_catalog.unnest(pg_catalog.string_to_array(pg_catalog.regexp_replace(pg_catalog.encode(t.tgargs, 'hex'), '(..)', '\1 ', 'g'), '00 ')) WITH ORDINALITY AS h (digits, n)) AS a (args)
  JOIN LATERAL (
       SELECT attname, atttypid
         FROM pg_catalog.pg_depend AS d
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) d.refobjid AND a.attnum OPERATOR(pg_catalog.=) d.refobjsubid
        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) t.oid
          AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) t.tgrelid
          AND a.attnum OPERATOR(pg_catalog.>) 0 AND a.atttypid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT v.type FROM @extschema@._clip_vector_types() AS v))
       ) AS target ON true
  LEFT JOIN LATERAL (
       SELECT attname, atttypid
         FROM pg_catalog.pg_depend AS d
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) d.refobjid AND a.attnum OPERATOR(pg_catalog.=) d.refobjsubid
        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) t.oid
          AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) t.tgrelid
          AND a.attnum OPERATOR(pg_catalog.>) 0 AND a.atttypid OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT v.type FROM @extschema@._clip_vector_types() AS v))
       ) AS source ON true
  LEFT JOIN LATERAL @extschema@._clip_key(t.tgrelid::pg_catalog.regclass) AS key ON true
 WHERE t.tgfoid OPERATOR(pg_catalog.=) '@extschema@.clip_auto_embed_row()'::pg_catalog.regprocedure AND t.tgparentid OPERATOR(pg_catalog.=) 0
   -- Arguments of any size would slow the view for all roles.
   AND pg_catalog.octet_length(t.tgargs) OPERATOR(pg_catalog.<) 4096
   -- Other sessions cannot read temporary tables, which exist for a moment after their session has ended.
   AND NOT pg_catalog.pg_is_other_temp_schema(c.relnamespace);
COMMENT ON VIEW _clip.columns IS 'internal: columns that have a model, with the parts of statements about them';
