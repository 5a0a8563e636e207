use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Adds the column embedding, its trigger and the index product_embedding_idx.
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = "SELECT clip_auto_embed('product', 'image', model => 'emoji')";
        manager.get_connection().execute_unprepared(sql).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = "SELECT clip_auto_embed_drop('product', keep_column => false)";
        manager.get_connection().execute_unprepared(sql).await?;
        Ok(())
    }
}
