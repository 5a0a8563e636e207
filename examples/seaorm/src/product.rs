//! The entity of the table `product`. A trigger writes the embeddings, so nothing here computes one.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::extension::postgres::PgBinOper;
use sea_orm::{ExprTrait, QueryOrder, QuerySelect};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "product")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text", unique)]
    pub title: String,
    pub price: i32,
    pub image: Vec<u8>,
    /// NULL while a row waits for a background worker. SeaORM cannot declare the HNSW index, and the schema sync ignores it.
    #[sea_orm(column_type = "Vector(Some(128))", nullable)]
    pub embedding: Option<PgVector>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Returns the titles of the five products nearest to the text, the nearest first.
pub async fn find(db: &DatabaseConnection, text: &str, max_price: i32) -> Result<Vec<String>, DbErr> {
    nearest(db, Expr::cust_with_values("(SELECT clip_query('product', $1))", [text]), max_price).await
}

/// Returns the titles of the five products nearest to the bytes of an image file.
pub async fn similar(db: &DatabaseConnection, image: Vec<u8>, max_price: i32) -> Result<Vec<String>, DbErr> {
    nearest(db, Expr::cust_with_values("(SELECT clip_query_image('product', $1))", [image]), max_price).await
}

async fn nearest(db: &DatabaseConnection, query: Expr, max_price: i32) -> Result<Vec<String>, DbErr> {
    Entity::find()
        .select_only()
        .column(Column::Title)
        .filter(Column::Price.lt(max_price))
        .order_by_asc(Column::Embedding.into_expr().binary(PgBinOper::CosineDistance, query))
        .limit(5)
        .into_tuple()
        .all(db)
        .await
}
