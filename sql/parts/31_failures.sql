CREATE TABLE _clip.failures (
	relation regclass NOT NULL,
	trigger_name name NOT NULL,
	key jsonb NOT NULL,
	source_digest text NOT NULL,
	sqlstate text NOT NULL,
	message text NOT NULL,
	attempts integer NOT NULL,
	first_failed_at timestamptz NOT NULL,
	last_failed_at timestamptz NOT NULL,
	retry_at timestamptz NOT NULL,
	PRIMARY KEY (relation, trigger_name, key)
);
COMMENT ON TABLE _clip.failures IS 'internal: rows of the view clip_failures';
SELECT pg_catalog.pg_extension_config_dump('_clip.failures', 'WHERE relation IN (SELECT c.oid FROM pg_catalog.pg_class AS c WHERE c.relpersistence <> ''t'')');

-- Not dumped, because it records what processes do now. The entry with pid 0 records when a queue was last seen empty.
CREATE TABLE _clip.activity (
	relation oid NOT NULL,
	trigger_name name NOT NULL,
	pid integer NOT NULL,
	kind text NOT NULL,
	started_at timestamptz NOT NULL,
	reported_at timestamptz NOT NULL,
	total bigint,
	embedded bigint NOT NULL,
	failed bigint NOT NULL,
	PRIMARY KEY (relation, trigger_name, pid)
);
COMMENT ON TABLE _clip.activity IS 'internal: progress of backfills and workers';

-- A role that can read all rows of a table may see its failures and counts. A role that is subject to row-level security sees
-- none. The views that call this function are security_barrier views, so no condition of a query is evaluated before it.
CREATE FUNCTION _clip_may_read(relation oid, owner oid, namespace oid) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL SAFE
RETURN pg_catalog.has_table_privilege(relation, 'SELECT') AND pg_catalog.has_schema_privilege(namespace, 'USAGE')
       AND (NOT pg_catalog.row_security_active(relation) OR pg_catalog.pg_has_role(owner, 'USAGE'));
COMMENT ON FUNCTION _clip_may_read(oid, oid, oid) IS 'internal: true if the role can read all rows of a table';

CREATE VIEW _clip.work_done WITH (security_barrier) AS
SELECT a.* FROM _clip.activity AS a JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) a.relation
 WHERE @extschema@._clip_may_read(c.oid, c.relowner, c.relnamespace);
COMMENT ON VIEW _clip.work_done IS 'internal: progress on tables that the role can read';

-- No SQL function records failures or progress. Triggers, workers and backfills record the rows that they have tried. The
-- owner of a table can clear its failures.
CREATE FUNCTION _clip_forget_failures(relation regclass, trigger_name text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'clip_forget_failures_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION _clip_forget_failures(regclass, text) IS 'internal: clear the failures of a column; only the owner of its table can';

CREATE FUNCTION _clip_backfill_step(relation regclass, trigger_name text, batch_size integer, begins boolean)
	RETURNS TABLE (embedded bigint, failed bigint, finished boolean)
	AS 'MODULE_PATHNAME', 'clip_backfill_step_wrapper' LANGUAGE C VOLATILE ROWS 1;
COMMENT ON FUNCTION _clip_backfill_step(regclass, text, integer, boolean) IS 'internal: start a backfill, or embed its next batch';

CREATE FUNCTION _clip_backfill_rows(relation regclass, trigger_name text, batch_size integer) RETURNS bigint
	AS 'MODULE_PATHNAME', 'clip_backfill_rows_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION _clip_backfill_rows(regclass, text, integer) IS 'internal: embed some pending rows';

-- Statements about the rows of a table, and its owner. PostgreSQL calls functions of indexes and policies when it plans a statement,
-- so such a statement must run with the privileges of the table's owner. "may_count" is true if the role can read all rows of the table
-- "asked": the table itself, or a partitioned table above it. Views are not counted, because their functions would run as their owner.
-- A partition may belong to another role, whose functions would run as the owner of the partitioned table.
CREATE FUNCTION _clip_counting(relation regclass, source name, target name, role oid, asked regclass, OUT owner oid, OUT may_count boolean, OUT counts text, OUT is_filled text)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rows_of text;
BEGIN
	SELECT c.relowner, format(CASE WHEN c.relkind = 'p' THEN '%I.%I' ELSE 'ONLY %I.%I' END, n.nspname, c.relname)
	  INTO owner, rows_of FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation;
	may_count := COALESCE((
		SELECT has_schema_privilege(role, c.relnamespace, 'USAGE') AND has_table_privilege(role, c.oid, 'SELECT')
		       AND (NOT c.relrowsecurity OR pg_has_role(role, c.relowner, 'USAGE') OR (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles AS r WHERE r.oid = role))
		  FROM pg_class AS c WHERE c.oid = asked), false)
		AND (asked = relation OR EXISTS (SELECT FROM pg_partition_ancestors(relation) AS a WHERE a.relid = asked))
		AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = relation AND c.relkind IN ('r', 'p'))
		AND NOT EXISTS (SELECT FROM pg_partition_tree(relation) AS p JOIN pg_class AS c ON c.oid = p.relid WHERE c.relowner <> _clip_counting.owner OR c.relkind = 'f');
	counts := format('SELECT pg_catalog.count(*), pg_catalog.count(%1$I), pg_catalog.count(*) FILTER (WHERE %1$I IS NULL AND %2$s) FROM %3$s',
		target, CASE WHEN source IS NULL THEN 'false' ELSE format('%I IS NOT NULL', source) END, rows_of);
	is_filled := format('SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>) 0::pg_catalog.int8 FROM (SELECT 1 FROM %s WHERE %I IS NOT NULL LIMIT 1) AS one', rows_of, target);
END
$$;
COMMENT ON FUNCTION _clip_counting(regclass, name, name, oid, regclass) IS 'internal: statements that count the rows of a table, and the role that must run them';

CREATE FUNCTION _clip_count_pending(relation regclass, trigger_name text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'clip_count_pending_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION _clip_count_pending(regclass, text) IS 'internal: number of pending rows, or NULL if the role cannot read all rows';

CREATE FUNCTION _clip_may_count(relation regclass) RETURNS boolean
	AS 'MODULE_PATHNAME', 'clip_may_count_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION _clip_may_count(regclass) IS 'internal: true if the role can read all rows of a table, and the table is not locked';

CREATE FUNCTION _clip_count_rows(relation regclass, source name, target name) RETURNS TABLE ("rows" bigint, embedded bigint, pending bigint)
	AS 'MODULE_PATHNAME', 'clip_count_rows_wrapper' LANGUAGE C VOLATILE ROWS 1;
COMMENT ON FUNCTION _clip_count_rows(regclass, name, name) IS 'internal: numbers of rows, or no row if the role cannot read all rows';

CREATE FUNCTION _clip_is_filled(relation regclass, target name, asked regclass) RETURNS boolean
	AS 'MODULE_PATHNAME', 'clip_is_filled_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION _clip_is_filled(regclass, name, regclass) IS 'internal: true if a row of a table or of a partition of "asked" has an embedding; NULL if the role cannot read all rows of "asked"';

CREATE FUNCTION _clip_wake_worker() RETURNS void
	AS 'MODULE_PATHNAME', 'clip_wake_worker_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION _clip_wake_worker() IS 'internal: start a worker for this database when this transaction commits';

CREATE FUNCTION _clip_require_no_transaction(what text, instead text) RETURNS void
	AS 'MODULE_PATHNAME', 'clip_require_no_transaction_wrapper' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION _clip_require_no_transaction(text, text) IS 'internal: raise an error inside a transaction block, where a procedure cannot commit';

CREATE FUNCTION _clip_resolve_model(model text) RETURNS TABLE (name text, digest text, dimensions integer)
	AS 'MODULE_PATHNAME', 'clip_resolve_model_wrapper' LANGUAGE C VOLATILE ROWS 1;
COMMENT ON FUNCTION _clip_resolve_model(text) IS 'internal: the model of that name, or the default model';

CREATE FUNCTION _clip_max_bytes(image boolean) RETURNS bigint
	AS 'MODULE_PATHNAME', 'clip_max_bytes_wrapper' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION _clip_max_bytes(boolean) IS 'internal: maximum size of an image, or of a text, in bytes';

CREATE VIEW _clip.visible_failures WITH (security_barrier) AS
SELECT f.relation, c.target, CASE WHEN f.key OPERATOR(pg_catalog.<>) 'null' THEN f.key END AS key,
       f.sqlstate, f.message, f.attempts::pg_catalog.int8 AS attempts,
       f.first_failed_at, f.last_failed_at, CASE WHEN f.retry_at OPERATOR(pg_catalog.<>) 'infinity' THEN f.retry_at END AS retry_at
  FROM _clip.failures AS f
  JOIN _clip.columns AS c ON c.relation OPERATOR(pg_catalog.=) f.relation AND c.trigger_name OPERATOR(pg_catalog.=) f.trigger_name
  JOIN pg_catalog.pg_class AS t ON t.oid OPERATOR(pg_catalog.=) f.relation
 WHERE @extschema@._clip_may_read(t.oid, t.relowner, t.relnamespace);
COMMENT ON VIEW _clip.visible_failures IS 'internal: failures of this server in tables that the role can read';

CREATE VIEW @extschema@.clip_failures WITH (security_barrier) AS
SELECT f.relation::pg_catalog.text AS relation, f.target::pg_catalog.text AS target, f.key, f.sqlstate, f.message, f.attempts,
       f.first_failed_at, f.last_failed_at, f.retry_at
  FROM (SELECT * FROM _clip.visible_failures UNION ALL SELECT * FROM @extschema@._clip_citus_failures()) AS f;
COMMENT ON VIEW clip_failures IS 'rows that could not be embedded, in tables that you can read';
COMMENT ON COLUMN clip_failures.relation IS 'the table, with its schema if that is not in the search_path';
COMMENT ON COLUMN clip_failures.target IS 'the embedding column';
COMMENT ON COLUMN clip_failures.key IS 'key of the row; NULL if the whole column fails, for example because its model is missing';
COMMENT ON COLUMN clip_failures.sqlstate IS 'SQLSTATE of the last error';
COMMENT ON COLUMN clip_failures.message IS 'message of the last error, with its DETAIL if that is about the row';
COMMENT ON COLUMN clip_failures.attempts IS 'number of attempts';
COMMENT ON COLUMN clip_failures.first_failed_at IS 'time of the first failure';
COMMENT ON COLUMN clip_failures.last_failed_at IS 'time of the last failure';
COMMENT ON COLUMN clip_failures.retry_at IS 'time of the next automatic retry; NULL if the row is retried only after clip_retry or when its source changes';

-- All roles can use this view. It is the only object of pg_clip that statements with the rights of a writer or of a table's
-- owner use, so these roles need no privilege on the extension's schema.
CREATE VIEW _clip.failed WITH (security_barrier) AS
SELECT f.relation, f.trigger_name, f.key, f.source_digest,
       -- After a clock was set back, some failures lie in the future: their rows are retried at once.
       f.retry_at OPERATOR(pg_catalog.>) pg_catalog.now()
       AND (f.last_failed_at OPERATOR(pg_catalog.<=) pg_catalog.now() OR f.retry_at OPERATOR(pg_catalog.=) 'infinity') AS waits
  FROM _clip.failures AS f
  JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) f.relation
 WHERE @extschema@._clip_may_read(c.oid, c.relowner, c.relnamespace);
COMMENT ON VIEW _clip.failed IS 'internal: failures; "waits" is true if a row is not retried yet unless its source has changed';

-- The key of rows under an alias as the JSON object that the view clip_failures shows.
CREATE FUNCTION _clip_key_object(names name[], alias text) RETURNS text
	LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('pg_catalog.jsonb_build_object(%s)', string_agg(format('%L, %s.%I', name, alias, name), ', ' ORDER BY i))
  FROM unnest(names) WITH ORDINALITY AS k (name, i)
$$;
COMMENT ON FUNCTION _clip_key_object(name[], text) IS 'internal: expression for the key as the view clip_failures shows it';
