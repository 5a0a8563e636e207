-- Distances between rows and a text depend on the model. The number of standard deviations by which a row is closer than the
-- average row can be compared between models.
CREATE FUNCTION _clip_typical_distance(relation regclass, query text, target name, sample integer, model text, OUT mean double precision, OUT deviation double precision)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts record;
	drawn record;
BEGIN
	SELECT * INTO parts FROM @extschema@._clip_searched(relation, target, NULL::pg_catalog.text, '$1'::pg_catalog.text, NULL::pg_catalog.regclass);
	PERFORM @extschema@._clip_require_number('sample'::pg_catalog.text, sample, 2);
	SELECT * INTO drawn FROM @extschema@._clip_sample(relation, (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user), target, sample, 'false'::text);
	EXECUTE format('SELECT avg(s.distance), NULLIF(stddev_pop(s.distance), 0) FROM (SELECT %s AS distance FROM %s WHERE %s LIMIT %s) AS s',
		parts.distance, drawn.source, parts.present, drawn.row_limit)
		INTO mean, deviation USING @extschema@._clip_query(relation, target, query, model);
END
$$;
COMMENT ON FUNCTION _clip_typical_distance(regclass, text, name, integer, text) IS 'internal: result of clip_typical_distance';

CREATE FUNCTION clip_typical_distance(relation regclass, query text, target name DEFAULT 'embedding', sample integer DEFAULT 1000,
	model text DEFAULT NULL) RETURNS TABLE (mean double precision, deviation double precision)
	AS 'MODULE_PATHNAME', 'clip_typical_distance_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 1;
COMMENT ON FUNCTION clip_typical_distance(regclass, text, name, integer, text)
	IS 'mean and standard deviation of the cosine distances between a text and a sample of a table''s rows';
