import type { MigrationInterface, QueryRunner } from 'typeorm'

export class EmbedProduct1795822860000 implements MigrationInterface {
  // Creates the column embedding, its trigger, and the index product_embedding_idx.
  async up(queryRunner: QueryRunner) {
    await queryRunner.query(`SELECT clip_auto_embed('product', 'image', model => 'emoji')`)
  }

  async down(queryRunner: QueryRunner) {
    await queryRunner.query(`SELECT clip_auto_embed_drop('product', keep_column => false)`)
  }
}
