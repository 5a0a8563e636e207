-- Embeddings are unit vectors of the model's dimension.
SELECT vector_dims(e), round(vector_norm(e)::numeric, 5) FROM clip_embed_text('a photo of a cat', 'wide') e;
SELECT vector_dims(e), round(vector_norm(e)::numeric, 5) FROM clip_embed_text('a photo of a cat', 'narrow') e;
SELECT vector_dims(clip_embed_text('', 'narrow'));
-- varchar and char are texts too.
SELECT clip_embed_text('cat'::varchar, 'wide') = clip_embed_text('cat', 'wide') AS varchar, clip_embed_text('cat'::char(3), 'wide') = clip_embed_text('cat', 'wide') AS char;
-- The one-argument form uses clip.default_model.
SET clip.default_model = 'wide';
SELECT clip_embed_text('cat') = clip_embed_text('cat', 'wide') AS same;
SET clip.default_model = 'narrow';
SELECT clip_embed_text('cat') = clip_embed_text('cat', 'narrow') AS same;
RESET clip.default_model;
-- Tokens, begin and end included, before any cut.
SELECT clip_token_count('', 'wide'), clip_token_count(NULL, 'wide'), clip_token_count(repeat('cat ', 100), 'wide') > 102 AS long;
-- A text beyond the context is cut, or refused if so wanted.
SELECT vector_dims(clip_embed_text(repeat('cat ', 100), 'narrow'));
\set VERBOSITY default
SET clip.text_overflow = 'error';
SELECT clip_embed_text(repeat('cat ', 100), 'narrow');
SELECT vector_dims(clip_embed_text('cat', 'narrow'));
RESET clip.text_overflow;
-- A novel is refused before it is read.
SELECT clip_embed_text(repeat('x', 1048577), 'narrow');
\echo :LAST_ERROR_SQLSTATE
-- Encodings and prepared statements.
PREPARE q AS SELECT clip_embed_text($1, 'wide') = clip_embed_text($1, 'wide') AS same;
EXECUTE q ('Ωμέγα');
DEALLOCATE q;
