\set VERBOSITY default
-- NULLs: a NULL input has no embedding, a NULL model is an error.
SELECT clip_embed_text(NULL) IS NULL AS a, clip_embed_text(NULL, 'wide') IS NULL AS b, clip_embed_image(NULL) IS NULL AS c, clip_embed_image(NULL, 'wide') IS NULL AS d;
SELECT clip_embed_text('cat', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT clip_embed_image('\x00', NULL);
-- Models that are not there.
SELECT clip_embed_text('cat', 'missing');
\echo :LAST_ERROR_SQLSTATE
SELECT clip_embed_text('cat', '../wide');
\echo :LAST_ERROR_SQLSTATE
SELECT clip_embed_text('cat', '');
-- A folder without a manifest is no model.
SELECT clip_embed_text('cat', 'broken');
\echo :LAST_ERROR_SQLSTATE
-- Data that is no image.
SELECT clip_embed_image('', 'wide');
\echo :LAST_ERROR_SQLSTATE
SELECT clip_embed_image('\x68656c6c6f', 'wide');
SELECT clip_embed_image('\x000000206674797061766966', 'wide');
SELECT clip_embed_image('\x0000001c667479706d696631000000006865697861626364', 'wide');
SELECT clip_embed_image('\x0000001866747970637278200000000163727820', 'wide');
SELECT clip_embed_image('\xefbbbf' || convert_to('<?xml version="1.0"?><!-- a --><!DOCTYPE svg><svg/>', 'UTF8'), 'wide');
SELECT clip_embed_image(convert_to('<?xml version="1.0"?><rss><svg/></rss>', 'UTF8'), 'wide');
-- Hints name the formats that are allowed.
SET clip.image_formats = 'png,webp';
SELECT clip_embed_image('\x68656c6c6f', 'wide');
SELECT clip_embed_image('\xffd8ffe0', 'wide');
RESET clip.image_formats;
SELECT clip_embed_image('\x89504e470d0a1a0a', 'wide');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM clip_image_info('\x47494638');
-- A model that gives nonsense for an input: no vector is made up.
SELECT clip_embed_image(decode('Qk1GAAAAAAAAADYAAAAoAAAAAgAAAAIAAAABABgAAAAAABAAAADEDgAAxA4AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==', 'base64'), 'fragile');
\echo :LAST_ERROR_SQLSTATE
-- Arguments.
SELECT clip_prewarm('wide', 'nose');
\echo :LAST_ERROR_SQLSTATE
SELECT clip_prewarm('wide', NULL);
