-- zero-shot classification

CREATE FUNCTION clip_classify(embedding vector, labels text[], templates text[] DEFAULT ARRAY['a photo of a {}'], model text DEFAULT NULL)
	RETURNS TABLE (label text, probability real)
	AS 'MODULE_PATHNAME', 'clip_classify_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 1000 ROWS 10;
COMMENT ON FUNCTION clip_classify(vector, text[], text[], text)
	IS 'probability of each label for an embedding, from the model''s learned logit scale and bias; the most probable label comes first';

CREATE FUNCTION clip_classify_image(input bytea, labels text[], templates text[] DEFAULT ARRAY['a photo of a {}'], model text DEFAULT NULL)
	RETURNS TABLE (label text, probability real)
	AS 'MODULE_PATHNAME', 'clip_classify_image_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 10000 ROWS 10;
COMMENT ON FUNCTION clip_classify_image(bytea, text[], text[], text)
	IS 'probability of each label for an encoded image, from the model''s learned logit scale and bias; the most probable label comes first';

CREATE FUNCTION clip_probabilities(embedding vector, candidates vector[], logit_scale double precision DEFAULT 100,
	logit_bias double precision DEFAULT NULL) RETURNS real[]
	AS 'MODULE_PATHNAME', 'clip_probabilities_wrapper' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION clip_probabilities(vector, vector[], double precision, double precision)
	IS 'probability that the embedding matches each candidate, in input order: softmax(scale * cosine), or sigmoid(scale * cosine + bias) if a bias is given';

CREATE FUNCTION clip_blend(vectors vector[], weights real[] DEFAULT NULL) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_blend_wrapper' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION clip_blend(vector[], real[])
	IS 'weighted sum of vectors, each first scaled to length one; returns a vector of length one; weights can be negative, NULL means 1 for each';

CREATE FUNCTION clip_rotate(embedding vector, mean vector, count integer) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_rotate_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION clip_rotate(vector, vector, integer)
	IS 'numbers of an embedding without its part in the direction of the mean, rotated: their bits find more of the nearest rows';
