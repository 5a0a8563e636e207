import 'reflect-metadata'
import { DataSource } from 'typeorm'
import { CreateProduct1795822800000 } from './migrations/1795822800000-create-product.ts'
import { EmbedProduct1795822860000 } from './migrations/1795822860000-embed-product.ts'
import { Product } from './product.ts'

export default new DataSource({
  type: 'postgres',
  url: process.env.DATABASE_URL,
  entities: [Product],
  migrations: [CreateProduct1795822800000, EmbedProduct1795822860000],
})
