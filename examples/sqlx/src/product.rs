//! The table `product`. A trigger writes the embeddings, so nothing here computes one.

use pgvector::Vector;
use sqlx::{FromRow, PgPool, Result};

#[derive(FromRow)]
pub struct Product {
    pub id: i64,
    pub title: String,
    pub price: i32,
    pub image: Vec<u8>,
    /// Written by the trigger. It is NULL while a row waits for a background worker.
    pub embedding: Option<Vector>,
}

impl Product {
    pub async fn load(pool: &PgPool, title: &str) -> Result<Self> {
        sqlx::query_as("SELECT * FROM product WHERE title = $1").bind(title).fetch_one(pool).await
    }

    /// Writes all columns. The trigger ignores the embedding in the statement: it computes one if the image has changed, and
    /// otherwise keeps that of the row.
    pub async fn save(&self, pool: &PgPool) -> Result<()> {
        sqlx::query("UPDATE product SET title = $2, price = $3, image = $4, embedding = $5 WHERE id = $1")
            .bind(self.id)
            .bind(&self.title)
            .bind(self.price)
            .bind(&self.image)
            .bind(&self.embedding)
            .execute(pool)
            .await?;
        Ok(())
    }
}

pub async fn add(pool: &PgPool, title: &str, price: i32, image: &[u8]) -> Result<i64> {
    sqlx::query_scalar("INSERT INTO product (title, price, image) VALUES ($1, $2, $3) RETURNING id")
        .bind(title)
        .bind(price)
        .bind(image)
        .fetch_one(pool)
        .await
}

/// Inserts all rows with one statement.
pub async fn load(pool: &PgPool, titles: &[String], prices: &[i32], images: &[Vec<u8>]) -> Result<()> {
    sqlx::query(
        "INSERT INTO product (title, price, image) SELECT * FROM unnest($1::text[], $2::integer[], $3::bytea[])",
    )
    .bind(titles)
    .bind(prices)
    .bind(images)
    .execute(pool)
    .await?;
    Ok(())
}

/// Returns the titles of the five products nearest to the text, the nearest first.
pub async fn find(pool: &PgPool, words: &str, max_price: i32) -> Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT title FROM product WHERE price < $2
          ORDER BY embedding <=> (SELECT clip_query('product', $1)) LIMIT 5",
    )
    .bind(words)
    .bind(max_price)
    .fetch_all(pool)
    .await
}

/// Returns the titles of the five products nearest to the bytes of an image file.
pub async fn similar(pool: &PgPool, image: &[u8], max_price: i32) -> Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT title FROM product WHERE price < $2
          ORDER BY embedding <=> (SELECT clip_query_image('product', $1)) LIMIT 5",
    )
    .bind(image)
    .bind(max_price)
    .fetch_all(pool)
    .await
}

pub async fn remove(pool: &PgPool, title: &str) -> Result<u64> {
    let done = sqlx::query("DELETE FROM product WHERE title = $1").bind(title).execute(pool).await?;
    Ok(done.rows_affected())
}

/// Returns the numbers of rows that wait for a worker, and of rows that could not be embedded.
pub async fn pending(pool: &PgPool) -> Result<(i64, i64)> {
    sqlx::query_as("SELECT pending, failed FROM clip_auto_embed_status WHERE relation = 'product'")
        .fetch_one(pool)
        .await
}

pub async fn queue(pool: &PgPool) -> Result<()> {
    sqlx::query("SELECT clip_auto_embed('product', 'image', mode => 'queue')").execute(pool).await?;
    Ok(())
}
