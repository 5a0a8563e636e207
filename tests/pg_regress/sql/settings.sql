\set VERBOSITY default
-- Settings are known once the library is loaded: by the first function of a session, or so.
LOAD 'pg_clip';
SELECT name, boot_val, reset_val, min_val, max_val, unit, context FROM pg_settings WHERE name LIKE 'clip.%' AND name NOT LIKE '%path' ORDER BY name;
-- Out of range.
SET clip.threads = 0;
SET clip.threads = 65;
SET clip.batch_size = 0;
SET clip.batch_size = 33;
SET clip.query_cache_size = -1;
SET clip.text_overflow = 'maybe';
SET clip.image_formats = 'jpeg,avif';
SET clip.max_image_pixels = 0;
\set VERBOSITY sqlstate
SET clip.max_image_bytes = 0;
\set VERBOSITY default
SET clip.nonsense = 1;
-- What is remembered, and what is not.
SELECT count(DISTINCT e) FROM (SELECT clip_embed_text('cat', 'wide')::text AS e FROM generate_series(1, 3)) s;
SELECT clip_unload() >= 0 AS unloaded;
CREATE FUNCTION again(text) RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM clip_embed_text($1, ''wide''); END';
SELECT again('one'), again('two'), again('one');
SELECT model, tower, calls, items, cache_hits, weights FROM clip_loaded_models;
SET clip.query_cache_size = 0;
SELECT again('one');
SELECT calls FROM clip_loaded_models;
RESET clip.query_cache_size;
SELECT clip_unload('wide'), clip_unload('wide');
SELECT count(*) FROM clip_loaded_models;
SELECT clip_prewarm('wide');
SELECT tower FROM clip_loaded_models;
DROP FUNCTION again(text);
