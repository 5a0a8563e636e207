-- models

CREATE FUNCTION _clip_models()
	RETURNS TABLE (name text, family text, dimensions integer, context_length integer, image_size integer, digest text,
		size_bytes bigint, license text, prepared boolean, is_default boolean)
	AS 'MODULE_PATHNAME', 'clip_models_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION _clip_models() IS 'internal: rows of the view clip_models';

CREATE VIEW @extschema@.clip_models AS SELECT * FROM @extschema@._clip_models();
COMMENT ON VIEW clip_models IS 'models under clip.model_path; NULLs where a folder cannot be used';
COMMENT ON COLUMN clip_models.name IS 'what functions call it';
COMMENT ON COLUMN clip_models.family IS 'architecture, as its configuration names it';
COMMENT ON COLUMN clip_models.dimensions IS 'length of its vectors';
COMMENT ON COLUMN clip_models.context_length IS 'tokens that it reads of a text, begin and end included';
COMMENT ON COLUMN clip_models.image_size IS 'height in pixels to which images are reduced';
COMMENT ON COLUMN clip_models.digest IS 'sha256 over all that decides a vector';
COMMENT ON COLUMN clip_models.size_bytes IS 'size of its files in bytes';
COMMENT ON COLUMN clip_models.license IS 'licence of its weights';
COMMENT ON COLUMN clip_models.prepared IS 'whether connections share its weights; if not, run pgclip prepare';
COMMENT ON COLUMN clip_models.is_default IS 'whether clip.default_model names it';

CREATE FUNCTION _clip_loaded_models()
	RETURNS TABLE (model text, tower text, loaded_at timestamptz, load_ms double precision, calls bigint, items bigint,
		total_ms double precision, cache_hits bigint, weights text)
	AS 'MODULE_PATHNAME', 'clip_loaded_models_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 4;
COMMENT ON FUNCTION _clip_loaded_models() IS 'internal: rows of the view clip_loaded_models';

CREATE VIEW @extschema@.clip_loaded_models AS SELECT * FROM @extschema@._clip_loaded_models();
COMMENT ON VIEW clip_loaded_models IS 'towers that this connection has in memory';
COMMENT ON COLUMN clip_loaded_models.model IS 'name of the model';
COMMENT ON COLUMN clip_loaded_models.tower IS 'text or image';
COMMENT ON COLUMN clip_loaded_models.loaded_at IS 'when it was loaded';
COMMENT ON COLUMN clip_loaded_models.load_ms IS 'milliseconds that loading took';
COMMENT ON COLUMN clip_loaded_models.calls IS 'calls since then';
COMMENT ON COLUMN clip_loaded_models.items IS 'texts or images in those calls';
COMMENT ON COLUMN clip_loaded_models.total_ms IS 'milliseconds that those calls took';
COMMENT ON COLUMN clip_loaded_models.cache_hits IS 'texts whose vectors were remembered instead';
COMMENT ON COLUMN clip_loaded_models.weights IS 'shared between connections, or private to this one (see pgclip prepare)';

CREATE FUNCTION clip_prewarm(model text DEFAULT NULL, tower text DEFAULT 'both') RETURNS void
	AS 'MODULE_PATHNAME', 'clip_prewarm_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000;
COMMENT ON FUNCTION clip_prewarm(text, text)
	IS 'load a model into this connection now: its text tower, its image tower, or both';

CREATE FUNCTION clip_unload(model text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'clip_unload_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION clip_unload(text)
	IS 'free the memory of a model, or of all, in this connection; returns the number of towers freed';
