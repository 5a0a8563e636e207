import type { MigrationInterface, QueryRunner } from 'typeorm'

export class CreateProduct1795822800000 implements MigrationInterface {
  async up(queryRunner: QueryRunner) {
    await queryRunner.query(`
      CREATE TABLE "product" (
        "id" integer GENERATED ALWAYS AS IDENTITY NOT NULL,
        "title" text NOT NULL,
        "price" integer NOT NULL DEFAULT '0',
        "image" bytea NOT NULL,
        CONSTRAINT "UQ_f7bf944ad9f1034110e8c2133ab" UNIQUE ("title"),
        CONSTRAINT "PK_bebc9158e480b949565b4dc7a82" PRIMARY KEY ("id")
      )`)
  }

  async down(queryRunner: QueryRunner) {
    await queryRunner.query(`DROP TABLE "product"`)
  }
}
