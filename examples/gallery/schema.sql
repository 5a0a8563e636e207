-- The database of the gallery. A superuser runs this file once, in a new database:
--
--   createdb gallery && psql -d gallery -v ON_ERROR_STOP=1 -f schema.sql
--
-- gallery_owner owns the objects and cannot log in. The web server connects as gallery_app.
-- Set a password with \password gallery_app, unless pg_hba.conf identifies the role in another way.

BEGIN;

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gallery_owner') THEN
    CREATE ROLE gallery_owner NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gallery_app') THEN
    CREATE ROLE gallery_app LOGIN CONNECTION LIMIT 20;
  END IF;
END $$;

-- The extension has its own schema, so that tools which inspect "public" see only the tables of the application.
CREATE EXTENSION vector SCHEMA public;
CREATE SCHEMA clip;
CREATE EXTENSION pg_clip SCHEMA clip;

-- The database accepts only formats that browsers show, and no image above these limits.
DO $$
BEGIN
  EXECUTE format('ALTER DATABASE %I SET search_path = public, clip', current_database());
  EXECUTE format('ALTER DATABASE %I SET clip.image_formats = %L', current_database(), 'jpeg,png,webp,gif,bmp');
  EXECUTE format('ALTER DATABASE %I SET clip.max_image_bytes = %L', current_database(), '10MB');
  EXECUTE format('ALTER DATABASE %I SET clip.max_image_pixels = %L', current_database(), '50000000');
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO gallery_app', current_database());
END $$;

REVOKE ALL ON SCHEMA public, clip FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO gallery_owner;
GRANT USAGE ON SCHEMA clip TO gallery_owner;

SET LOCAL ROLE gallery_owner;
SET LOCAL search_path = public, clip;

CREATE TABLE photo (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  -- The server derives the type from the bytes. The list is a second barrier: a browser never gets SVG or HTML.
  type text NOT NULL CHECK (type IN ('image/jpeg', 'image/png', 'image/webp', 'image/gif', 'image/bmp')),
  width integer NOT NULL,
  height integer NOT NULL,
  file bytea NOT NULL,
  bytes integer NOT NULL GENERATED ALWAYS AS (octet_length(file)) STORED,
  label text,
  certainty real,
  added_at timestamptz NOT NULL DEFAULT now()
);

-- Image files are compressed already.
ALTER TABLE photo ALTER COLUMN file SET STORAGE EXTERNAL;

-- A visitor does not wait for the model: a background worker embeds the photos.
SELECT clip_auto_embed('photo', 'file', model => 'emoji', mode => 'queue', on_error => 'skip');

-- The labels that the classification chooses from.
CREATE TABLE label (
  name text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 40),
  position integer NOT NULL
);
INSERT INTO label (name, position)
SELECT name, position
  FROM unnest(ARRAY['smiling face', 'animal', 'plant', 'food', 'vehicle', 'building', 'clothing', 'tool', 'music', 'sport',
                    'weather', 'symbol'])
       WITH ORDINALITY AS l (name, position);

-- Only the owner of a table can call clip_retry. This function lets the server retry the failures of this one table.
CREATE FUNCTION retry_photos() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN clip.clip_retry('public.photo');

REVOKE ALL ON FUNCTION retry_photos() FROM PUBLIC;

-- The privileges of the web server. It changes no file and no name, and creates nothing.
GRANT SELECT, INSERT (name, type, width, height, file), UPDATE (label, certainty), DELETE ON photo TO gallery_app;
GRANT SELECT, INSERT, DELETE ON label TO gallery_app;
GRANT EXECUTE ON FUNCTION retry_photos() TO gallery_app;

RESET ROLE;
GRANT USAGE ON SCHEMA public, clip TO gallery_app;
REVOKE CREATE ON SCHEMA public FROM gallery_owner;

COMMIT;
