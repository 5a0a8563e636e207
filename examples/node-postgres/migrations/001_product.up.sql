CREATE TABLE product (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  title text NOT NULL UNIQUE,
  price integer NOT NULL DEFAULT 0,
  image bytea NOT NULL
);
