CREATE TABLE "product" (
	"id" integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "product_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 2147483647 START WITH 1 CACHE 1),
	"title" text NOT NULL,
	"price" integer DEFAULT 0 NOT NULL,
	"image" "bytea" NOT NULL,
	CONSTRAINT "product_title_unique" UNIQUE("title")
);
