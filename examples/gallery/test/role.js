// The role of the application can do what the gallery needs, and nothing else.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { connect, gallery as fixture } from './fixture.js'

describe('the role', () => {
  let gallery, app
  before(async () => {
    gallery = await fixture()
    await gallery.admin.query("CREATE TABLE secret (value text); INSERT INTO secret VALUES ('x')")
    app = await connect(gallery.database, 'gallery_app')
  })
  after(async () => {
    await app?.end()
    await gallery.admin.query('DROP TABLE secret')
  })

  const DENIED = [
    'DROP TABLE photo',
    'ALTER TABLE photo ADD COLUMN note text',
    'TRUNCATE photo',
    'CREATE TABLE mine (id int)',
    'CREATE TEMPORARY TABLE mine (id int)',
    'CREATE SCHEMA mine',
    'CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1',
    'CREATE INDEX ON photo (name)',
    'ALTER TABLE photo DISABLE TRIGGER ALL',
    'SELECT * FROM secret',
    "UPDATE photo SET name = 'x'",
    "UPDATE photo SET file = ''",
    'UPDATE photo SET embedding = NULL',
    "INSERT INTO photo (name, type, width, height, file, label) VALUES ('x', 'image/png', 1, 1, '', 'x')",
    "UPDATE label SET name = 'x'",
    "SELECT clip_retry('photo')",
    "SELECT clip_auto_embed_drop('photo')",
    'SELECT * FROM pg_authid',
    "SELECT pg_read_file('/etc/passwd')",
    "COPY photo TO PROGRAM 'cat'",
    'SET ROLE gallery_owner',
    'CREATE ROLE other',
    "SET clip.model_path = '/tmp'"
  ]

  test('the role cannot change the schema, read other tables or change photos', async () => {
    for (const statement of DENIED) {
      await assert.rejects(app.query(statement), { code: '42501' }, statement)
    }
  })

  test('the role has no attribute and no membership, and its privileges are those of the schema', async () => {
    const { rows: [role] } = await app.query(`
      SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS strong,
             EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid) AS member
        FROM pg_roles WHERE rolname = current_user`)
    assert.deepEqual(role, { strong: false, member: false })
    const { rows } = await app.query(`
      SELECT table_name, string_agg(privilege_type, ', ' ORDER BY privilege_type) AS privileges
        FROM information_schema.table_privileges WHERE grantee = current_user GROUP BY table_name ORDER BY table_name`)
    assert.deepEqual(rows, [{ table_name: 'label', privileges: 'DELETE, INSERT, SELECT' }, { table_name: 'photo', privileges: 'DELETE, SELECT' }])
  })

  test('the table accepts no type that a browser could run', async () => {
    for (const type of ['image/svg+xml', 'text/html', 'image/png; charset=x']) {
      await assert.rejects(app.query("INSERT INTO photo (name, type, width, height, file) VALUES ('x', $1, 1, 1, '')", [type]), { code: '23514' })
    }
  })

  test('other roles cannot connect', async () => {
    await gallery.admin.query('CREATE ROLE gallery_stranger LOGIN')
    try {
      await assert.rejects(connect(gallery.database, 'gallery_stranger'), { code: '42501' })
    } finally {
      await gallery.admin.query('DROP ROLE gallery_stranger')
    }
  })
})
