// All tests of the gallery, in one process: npm test
import { after } from 'node:test'
import { gallery } from './fixture.js'
import './api.js'
import './role.js'
import './page.js'
import './access.js'
import './trouble.js'

after(async () => (await gallery()).stop())
