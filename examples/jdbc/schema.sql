CREATE TABLE IF NOT EXISTS product (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text NOT NULL UNIQUE,
    price integer NOT NULL DEFAULT 0,
    image bytea NOT NULL
);

-- Adds the column embedding, its trigger and the index product_embedding_idx.
SELECT clip_auto_embed('product', 'image', model => 'emoji');
