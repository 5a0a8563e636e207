-- drizzle-kit generated ADD COLUMN and CREATE INDEX for the embedding. This call replaces them, and also creates the trigger.
SELECT clip_auto_embed('product', 'image', model => 'emoji');--> statement-breakpoint
CREATE INDEX "product_embedding_pending_idx" ON "product" USING btree ("id") WHERE embedding IS NULL AND image IS NOT NULL;
