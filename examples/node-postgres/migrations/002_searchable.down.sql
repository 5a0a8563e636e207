SELECT clip_auto_embed_drop('product', keep_column => false);
