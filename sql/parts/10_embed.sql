-- embeddings

CREATE FUNCTION clip_embed_text(input text) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_embed_text_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_embed_text(text)
	IS 'embed a text with the default model (clip.default_model); returns a vector of length one';

CREATE FUNCTION clip_embed_text(input text, model text) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_embed_text_with_wrapper' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_embed_text(text, text)
	IS 'embed a text with the named model; returns a vector of length one';

CREATE FUNCTION clip_embed_image(input bytea) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_embed_image_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_embed_image(bytea)
	IS 'embed an encoded image with the default model (clip.default_model); returns a vector of length one';

CREATE FUNCTION clip_embed_image(input bytea, model text) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_embed_image_with_wrapper' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_embed_image(bytea, text)
	IS 'embed an encoded image with the named model; returns a vector of length one';

CREATE FUNCTION clip_embed_texts(inputs text[], model text DEFAULT NULL)
	RETURNS TABLE (ordinality integer, embedding vector)
	AS 'MODULE_PATHNAME', 'clip_embed_texts_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 10000 ROWS 100;
COMMENT ON FUNCTION clip_embed_texts(text[], text)
	IS 'embed many texts in batches; returns one row per element, in order, with NULL for NULL';

CREATE FUNCTION clip_embed_images(inputs bytea[], model text DEFAULT NULL)
	RETURNS TABLE (ordinality integer, embedding vector)
	AS 'MODULE_PATHNAME', 'clip_embed_images_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 10000 ROWS 100;
COMMENT ON FUNCTION clip_embed_images(bytea[], text)
	IS 'embed many encoded images in batches; returns one row per element, in order, with NULL for NULL';

-- inspection of texts and images without embedding them

CREATE FUNCTION clip_token_count(input text, model text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'clip_token_count_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION clip_token_count(text, text)
	IS 'number of tokens of a text before truncation, with the start and end tokens';

CREATE FUNCTION clip_image_info(input bytea)
	RETURNS TABLE (format text, width integer, height integer, orientation integer, frames integer)
	AS 'MODULE_PATHNAME', 'clip_image_info_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000 ROWS 1;
COMMENT ON FUNCTION clip_image_info(bytea)
	IS 'format, stored size in pixels, EXIF orientation and number of frames of an encoded image';
