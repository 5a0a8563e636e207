-- Creates the column embedding, its trigger, and the index product_embedding_idx.
SELECT clip_auto_embed('product', 'image', model => 'emoji');
