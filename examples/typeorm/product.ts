import { Column, Entity, Index, PrimaryGeneratedColumn } from 'typeorm'

// clip_auto_embed creates these indexes. They are declared here, so that TypeORM does not drop them. The second one is
// for the mode queue.
@Index('product_embedding_idx', { synchronize: false })
@Index('product_embedding_pending_idx', { synchronize: false })
@Entity()
export class Product {
  @PrimaryGeneratedColumn('identity', { generatedIdentity: 'ALWAYS' })
  id: number

  @Column('text', { unique: true })
  title: string

  @Column('integer', { default: 0 })
  price: number

  @Column('bytea')
  image: Buffer

  // pg_clip writes the embeddings.
  @Column('vector', { length: 128, nullable: true })
  embedding: number[] | null
}
