-- Rows in order, NULL for NULL, equal to one at a time.
SELECT ordinality, round(vector_norm(embedding)::numeric, 5) AS norm FROM clip_embed_texts(ARRAY['cat', NULL, '', 'two dogs'], 'wide');
SELECT bool_and((embedding <=> clip_embed_text('text ' || ordinality, 'wide')) < 1e-6) AS equal, count(*)
  FROM clip_embed_texts(ARRAY(SELECT 'text ' || i FROM generate_series(1, 600) i), 'wide');
SELECT count(*) FROM clip_embed_texts('{}', 'wide');
SELECT count(*) FROM clip_embed_texts(NULL, 'wide');
SELECT count(*), count(embedding) FROM clip_embed_texts(ARRAY[NULL, NULL]::text[], 'wide');
SET clip.batch_size = 3;
SELECT bool_and((embedding <=> clip_embed_text('text ' || ordinality, 'narrow')) < 1e-6) AS equal
  FROM clip_embed_texts(ARRAY(SELECT 'text ' || i FROM generate_series(1, 20) i), 'narrow');
RESET clip.batch_size;
-- In the select list, and left early.
SELECT (clip_embed_texts(ARRAY['a', 'b', 'c'], 'wide')).ordinality LIMIT 2;
\set VERBOSITY default
-- The element that fails is named by its position in the array.
SELECT ordinality FROM clip_embed_images(ARRAY[NULL, '\x00', NULL]::bytea[], 'wide');
SET clip.text_overflow = 'error';
SELECT ordinality FROM clip_embed_texts(ARRAY['cat', repeat('dog ', 99)], 'narrow');
RESET clip.text_overflow;
