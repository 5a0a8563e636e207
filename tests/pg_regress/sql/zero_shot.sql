-- Zero-shot classification and blends. Equality with the reference is tested in crates/clip.
SET clip.default_model = 'emoji';
-- What a session is told, and what it has loaded, is not said of its parallel workers.
SET max_parallel_workers_per_gather = 0;
\set VERBOSITY terse
SELECT label, round(probability::numeric, 2) AS probability
  FROM clip_classify(clip_embed_text('pizza'), ARRAY['guitar', 'pizza', 'sad face'], ARRAY['{}']);
\set VERBOSITY default
-- The likeliest first; they sum to one; the template of the paper is the default.
SELECT label, round(sum(probability) OVER ()::numeric, 4) AS sum
  FROM clip_classify(clip_embed_text('a photo of a pizza', 'emoji'), ARRAY['guitar', 'pizza', 'sad face'], model => 'emoji') LIMIT 1;
SELECT probability = 1 AS certain FROM clip_classify(clip_embed_text('pizza'), ARRAY['anything']);
-- Templates are averaged: two that are the same are one; others give other figures.
WITH a AS (SELECT probability FROM clip_classify(clip_embed_text('pizza'), ARRAY['pizza', 'cheese'], ARRAY['{}']) WHERE label = 'pizza'),
     b AS (SELECT probability FROM clip_classify(clip_embed_text('pizza'), ARRAY['pizza', 'cheese'], ARRAY['{}', '{}']) WHERE label = 'pizza'),
     c AS (SELECT probability FROM clip_classify(clip_embed_text('pizza'), ARRAY['pizza', 'cheese'], ARRAY['{}', 'no {} at all, {}']) WHERE label = 'pizza')
SELECT a.probability = b.probability AS same, a.probability <> c.probability AS other FROM a, b, c;
-- Labels are embedded once, however many rows there are and whoever asks again.
SELECT clip_unload('emoji') >= 0;
SELECT count(*) FROM generate_series(1, 50) AS i, clip_classify(clip_embed_text('pizza'), ARRAY['label one', 'label two']);
SELECT items FROM clip_loaded_models WHERE model = 'emoji' AND tower = 'text';
SELECT count(*) FROM clip_classify(clip_embed_text('pizza'), ARRAY['label one', 'label two']);
SELECT items FROM clip_loaded_models WHERE model = 'emoji' AND tower = 'text';
RESET max_parallel_workers_per_gather;
-- What is missing gives no rows, or is said.
SELECT * FROM clip_classify(NULL, ARRAY['a']);
SELECT * FROM clip_classify_image(NULL, ARRAY['a']);
SELECT * FROM clip_classify(clip_embed_text('pizza'), '{}');
SELECT * FROM clip_classify(clip_embed_text('pizza'), NULL);
SELECT * FROM clip_classify(clip_embed_text('pizza'), ARRAY['a', NULL]);
SELECT * FROM clip_classify(clip_embed_text('pizza'), ARRAY['a'], NULL);
SELECT * FROM clip_classify(clip_embed_text('pizza'), ARRAY['a'], '{}');
SELECT * FROM clip_classify(clip_embed_text('pizza'), ARRAY['a'], ARRAY['{}', 'a photo']);
SELECT * FROM clip_classify('[1,2,3]', ARRAY['a']);
SELECT * FROM clip_classify(array_fill(0, ARRAY[128])::vector, ARRAY['a']);
SELECT * FROM clip_classify_image('no image', ARRAY['a']);
-- A model whose files do not say how cosines become probabilities.
SELECT * FROM clip_classify(clip_embed_text('pizza', 'narrow'), ARRAY['a'], model => 'narrow');
SET clip.text_overflow = 'error';
SELECT * FROM clip_classify(clip_embed_text('pizza'), ARRAY['a', repeat('word ', 100)]);
RESET clip.text_overflow;
-- Vectors instead of labels.
SELECT clip_probabilities('[3,4]', ARRAY['[3,4]', '[4,3]', '[-3,-4]']::vector[], 10);
SELECT clip_probabilities('[3,4]', ARRAY['[3,4]', '[4,3]']::vector[], 10, -9.6);
SELECT clip_probabilities('[1,0]', '{}'), clip_probabilities(NULL, '{}') IS NULL AS nothing;
SELECT clip_probabilities('[1,0]', ARRAY['[1,0]', NULL]::vector[]);
SELECT clip_probabilities('[1,0]', ARRAY['[1,0]', '[1]']::vector[]);
SELECT clip_probabilities('[1,0]', ARRAY['[0,0]']::vector[]);
SELECT clip_probabilities('[1,0]', ARRAY['[1,0]']::vector[], 0);
SELECT clip_probabilities('[1,0]', ARRAY['[1,0]']::vector[], 1, 'NaN');
SELECT clip_probabilities('[1,0]', ARRAY['[1,0]']::vector[], NULL);
-- Blends.
SELECT clip_blend(ARRAY['[2,0]', '[0,1]']::vector[], ARRAY[3, 4]), clip_blend(ARRAY['[2,0]', '[0,1]']::vector[], ARRAY[3, -4]);
SELECT clip_blend(ARRAY['[2,0]', '[0,1]']::vector[]) = clip_blend(ARRAY['[1,0]', '[0,1]']::vector[], ARRAY[1, 1]) AS even, clip_blend(NULL) IS NULL AS nothing;
SELECT clip_blend('{}');
SELECT clip_blend(ARRAY['[1,0]', NULL]::vector[]);
SELECT clip_blend(ARRAY['[1,0]']::vector[], ARRAY[1, 2]);
SELECT clip_blend(ARRAY['[1,0]']::vector[], ARRAY[NULL]::real[]);
SELECT clip_blend(ARRAY['[1,0]']::vector[], ARRAY['infinity']::real[]);
SELECT clip_blend(ARRAY['[1,0]', '[1,0,0]']::vector[]);
SELECT clip_blend(ARRAY['[1,0]', '[1,0]']::vector[], ARRAY[1, -1]);
SELECT clip_blend(ARRAY['[1,0]', '[0,0]']::vector[]);
RESET clip.default_model;
