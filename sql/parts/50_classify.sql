-- zero-shot: what vectors are of

CREATE FUNCTION clip_classify(embedding vector, labels text[], templates text[] DEFAULT ARRAY['a photo of a {}'], model text DEFAULT NULL)
	RETURNS TABLE (label text, probability real)
	AS 'MODULE_PATHNAME', 'clip_classify_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 1000 ROWS 10;
COMMENT ON FUNCTION clip_classify(vector, text[], text[], text)
	IS 'which label fits a vector: probabilities as the model''s own head gives them, the likeliest first';

CREATE FUNCTION clip_classify_image(input bytea, labels text[], templates text[] DEFAULT ARRAY['a photo of a {}'], model text DEFAULT NULL)
	RETURNS TABLE (label text, probability real)
	AS 'MODULE_PATHNAME', 'clip_classify_image_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 10000 ROWS 10;
COMMENT ON FUNCTION clip_classify_image(bytea, text[], text[], text)
	IS 'which label fits an encoded image: probabilities as the model''s own head gives them, the likeliest first';

CREATE FUNCTION clip_probabilities(embedding vector, candidates vector[], logit_scale double precision DEFAULT 100,
	logit_bias double precision DEFAULT NULL) RETURNS real[]
	AS 'MODULE_PATHNAME', 'clip_probabilities_wrapper' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION clip_probabilities(vector, vector[], double precision, double precision)
	IS 'which of some vectors fits a vector: softmax of scale times cosine, in their order; with a bias the sigmoid of each';

CREATE FUNCTION clip_blend(vectors vector[], weights real[] DEFAULT NULL) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_blend_wrapper' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION clip_blend(vector[], real[])
	IS 'the direction of a weighted sum: each vector counts with length one, weights may be negative, NULL is one for each';
