-- The sample table of the documentation: 320 images of emoji with their names, embedded by the model `emoji`.
-- Run it in psql as a superuser, in a database that has no table `emoji` yet:
--   SELECT setting || '/pg_clip/examples/emoji.sql' AS script FROM pg_config WHERE name = 'SHAREDIR' \gset
--   \i :script
CREATE EXTENSION IF NOT EXISTS pg_clip CASCADE;
CREATE TABLE emoji (name text PRIMARY KEY, image bytea NOT NULL);
SELECT clip_auto_embed('emoji', 'image', model => 'emoji', mode => 'statement') \g /dev/null
-- The server reads this file, so psql may run on another machine. If pg_clip is not in SHAREDIR, set the variable before:
--   psql --set pg_clip_emoji=/extensions/pg_clip/share/pg_clip/examples/emoji.tsv
\if :{?pg_clip_emoji}
\else
SELECT setting || '/pg_clip/examples/emoji.tsv' AS pg_clip_emoji FROM pg_config WHERE name = 'SHAREDIR' \gset
\endif
COPY emoji (name, image) FROM :'pg_clip_emoji';
ANALYZE emoji;
