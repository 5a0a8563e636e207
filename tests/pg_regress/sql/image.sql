-- A picture of 2 x 2 pixels: red, green, blue, white.
CREATE TABLE picture (format text, data bytea);
INSERT INTO picture VALUES
  ('png', decode('iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGP4z8DA8J+BkYHh////DAAe9gT9Ce00PgAAAABJRU5ErkJggg==', 'base64')),
  ('bmp', decode('Qk1GAAAAAAAAADYAAAAoAAAAAgAAAAIAAAABABgAAAAAABAAAADEDgAAxA4AAAAAAAAAAAAA/wAA////AAAAAP8A/wAAAA==', 'base64'));
SELECT format, vector_dims(e), round(vector_norm(e)::numeric, 5) FROM picture, clip_embed_image(data, 'narrow') e ORDER BY format;
-- What the header says.
SELECT p.format, i.* FROM picture p, clip_image_info(data) i ORDER BY p.format;
-- An embedding is a vector like any other.
SELECT round((clip_embed_image(data, 'narrow') <=> clip_embed_image(data, 'narrow'))::numeric, 5) AS distance FROM picture WHERE format = 'bmp';
SELECT round((clip_embed_image(data, 'narrow') <#> clip_embed_image(data, 'narrow'))::numeric, 5) AS product FROM picture WHERE format = 'bmp';
-- Generated columns and expression indexes take the two-argument form, which is immutable.
CREATE TABLE item (title text, embedding vector(32) GENERATED ALWAYS AS (clip_embed_text(title, 'narrow')) STORED);
INSERT INTO item VALUES ('cat'), ('dog'), (NULL);
SELECT title, embedding = clip_embed_text(title, 'narrow') AS same FROM item ORDER BY title;
CREATE INDEX ON item USING hnsw ((clip_embed_text(title, 'narrow')::vector(32)) vector_cosine_ops);
-- The one-argument form depends on a setting, so it is refused there.
CREATE TABLE wrong (title text, embedding vector GENERATED ALWAYS AS (clip_embed_text(title)) STORED);
DROP TABLE picture, item;
