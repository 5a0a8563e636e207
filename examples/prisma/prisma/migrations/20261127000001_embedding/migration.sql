-- Prisma generates ADD COLUMN and CREATE INDEX for the embedding. This call replaces them, and also creates the trigger.
SELECT clip_auto_embed('product', 'image', model => 'emoji');
