-- models

CREATE FUNCTION _clip_models()
	RETURNS TABLE (name text, family text, dimensions integer, context_length integer, image_size integer, digest text,
		size_bytes bigint, license text, prepared boolean, is_default boolean)
	AS 'MODULE_PATHNAME', 'clip_models_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION _clip_models() IS 'internal: rows of the view clip_models';

-- The columns of public views have types that every driver reads: text, boolean, bigint, double precision, timestamptz, jsonb.
CREATE VIEW @extschema@.clip_models AS
SELECT m.name, m.family, m.dimensions::pg_catalog.int8 AS dimensions, m.context_length::pg_catalog.int8 AS context_length,
       m.image_size::pg_catalog.int8 AS image_size, m.digest, m.size_bytes, m.license, m.prepared, m.is_default
  FROM @extschema@._clip_models() AS m;
COMMENT ON VIEW clip_models IS 'installed models; most columns are NULL if a model cannot be used';
COMMENT ON COLUMN clip_models.name IS 'model name, as passed to functions';
COMMENT ON COLUMN clip_models.family IS 'architecture, from the model''s configuration';
COMMENT ON COLUMN clip_models.dimensions IS 'number of dimensions of its embeddings';
COMMENT ON COLUMN clip_models.context_length IS 'maximum number of tokens of a text, with the start and end tokens';
COMMENT ON COLUMN clip_models.image_size IS 'height in pixels to which images are resized';
COMMENT ON COLUMN clip_models.digest IS 'SHA-256 of everything that affects the model''s embeddings';
COMMENT ON COLUMN clip_models.size_bytes IS 'size of its files in bytes';
COMMENT ON COLUMN clip_models.license IS 'license of its weights';
COMMENT ON COLUMN clip_models.prepared IS 'true if sessions share its weights; if false, run pgclip prepare';
COMMENT ON COLUMN clip_models.is_default IS 'true if it is the default model (clip.default_model)';

CREATE FUNCTION _clip_loaded_models()
	RETURNS TABLE (model text, tower text, loaded_at timestamptz, load_ms double precision, calls bigint, items bigint,
		total_ms double precision, cache_hits bigint, weights text)
	AS 'MODULE_PATHNAME', 'clip_loaded_models_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 4;
COMMENT ON FUNCTION _clip_loaded_models() IS 'internal: rows of the view clip_loaded_models';

CREATE VIEW @extschema@.clip_loaded_models AS SELECT * FROM @extschema@._clip_loaded_models();
COMMENT ON VIEW clip_loaded_models IS 'text and image encoders (towers) that this session has loaded';
COMMENT ON COLUMN clip_loaded_models.model IS 'name of the model';
COMMENT ON COLUMN clip_loaded_models.tower IS 'encoder: text or image';
COMMENT ON COLUMN clip_loaded_models.loaded_at IS 'time when it was loaded';
COMMENT ON COLUMN clip_loaded_models.load_ms IS 'duration of loading in milliseconds';
COMMENT ON COLUMN clip_loaded_models.calls IS 'number of runs since then';
COMMENT ON COLUMN clip_loaded_models.items IS 'number of texts or images in those runs';
COMMENT ON COLUMN clip_loaded_models.total_ms IS 'total duration of those runs in milliseconds';
COMMENT ON COLUMN clip_loaded_models.cache_hits IS 'number of texts whose embeddings came from the cache instead';
COMMENT ON COLUMN clip_loaded_models.weights IS 'shared between sessions, or private to this session (see pgclip prepare)';

CREATE FUNCTION clip_prewarm(model text DEFAULT NULL, tower text DEFAULT 'both') RETURNS void
	AS 'MODULE_PATHNAME', 'clip_prewarm_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000;
COMMENT ON FUNCTION clip_prewarm(text, text)
	IS 'load a model into this session now; tower is text, image or both';

CREATE FUNCTION clip_unload(model text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'clip_unload_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION clip_unload(text)
	IS 'free the memory of one model, or of all models, in this session; returns the number of unloaded towers';
