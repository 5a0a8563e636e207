//! The migrations, in their order.

mod m20261127_000001_create_product;
mod m20261127_000002_embed_product;

use sea_orm_migration::prelude::*;

pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m20261127_000001_create_product::Migration), Box::new(m20261127_000002_embed_product::Migration)]
    }
}
