-- diagnosis

CREATE FUNCTION clip_diagnose() RETURNS TABLE (item text, value text)
	AS 'MODULE_PATHNAME', 'clip_diagnose_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 16;
COMMENT ON FUNCTION clip_diagnose() IS 'versions, limits and settings, to paste into a bug report';
