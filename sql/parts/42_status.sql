-- status and progress

CREATE FUNCTION _clip_auto_embed_status(tables oid[])
	RETURNS TABLE (relation regclass, source text, target text, model text, model_state text, mode text, on_error text, on_vector text, index regclass,
		"rows" bigint, embedded bigint, pending bigint, failed bigint, oldest_pending timestamptz, rate double precision, seconds_left double precision)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	-- Rows are counted in tables of up to this many rows. For larger tables, they are estimated from statistics.
	max_counted CONSTANT bigint := 1000000;
	col _clip.columns%ROWTYPE;
	estimate real;
	empty_source real;
	empty_target real;
BEGIN
	FOR col IN SELECT * FROM _clip.columns AS c WHERE tables IS NULL OR c.relation = ANY (tables) ORDER BY c.relation::text, c.target LOOP
		relation := col.relation;
		source := col.source;
		target := col.target;
		model := col.model;
		mode := NULLIF(col.mode, 'stamp');
		on_error := CASE WHEN col.source IS NOT NULL THEN col.on_error END;
		on_vector := CASE WHEN col.source IS NOT NULL THEN col.on_vector END;
		index := @extschema@._clip_vector_index(col.relation, col.target);
		SELECT CASE WHEN m.digest = col.digest THEN 'ok' WHEN m.name IS NULL THEN 'missing' WHEN m.digest IS NULL THEN 'broken' ELSE 'another' END
		  INTO model_state FROM (SELECT) AS one LEFT JOIN @extschema@.clip_models AS m ON m.name = col.model;
		"rows" := NULL;
		embedded := NULL;
		pending := NULL;
		failed := NULL;
		oldest_pending := NULL;
		rate := NULL;
		seconds_left := NULL;
		IF @extschema@._clip_citus_kind(col.relation) = 'distributed' THEN
			SELECT s.* INTO "rows", embedded, pending, failed, oldest_pending, rate FROM @extschema@._clip_citus_status(col.relation, col.target) AS s;
			seconds_left := CASE WHEN rate > 0 THEN pending / rate END;
		ELSIF @extschema@._clip_may_count(col.relation) THEN
			estimate := @extschema@._clip_estimated_rows(col.relation);
			-- A table that cannot be read, for example because of a function in its index, must not hide the others.
			BEGIN
				IF estimate <= max_counted THEN
					SELECT n.* INTO "rows", embedded, pending FROM @extschema@._clip_count_rows(col.relation, col.source::name, col.target) AS n;
				ELSE
					SELECT max(s.null_frac) FILTER (WHERE s.attname = col.source), max(s.null_frac) FILTER (WHERE s.attname = col.target)
					  INTO empty_source, empty_target
					  FROM pg_stats AS s JOIN pg_class AS c ON c.oid = col.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
					 WHERE s.schemaname = n.nspname AND s.tablename = c.relname;
					"rows" := estimate;
					embedded := estimate * (1 - empty_target);
					IF col.mode = 'queue' THEN
						pending := @extschema@._clip_count_pending(col.relation, col.trigger_name::text);
					ELSIF col.source IS NOT NULL THEN
						pending := greatest(0, estimate * (empty_target - empty_source));
					END IF;
				END IF;
			EXCEPTION WHEN OTHERS THEN
				RAISE NOTICE USING MESSAGE = format('rows of table %s could not be counted', col.relation), DETAIL = sqlerrm;
			END;
			SELECT count(*) INTO failed FROM _clip.failed AS f WHERE f.relation = col.relation AND f.trigger_name = col.trigger_name AND f.key <> 'null';
			-- Failed rows have no embedding either, but are not pending.
			pending := CASE WHEN pending > failed THEN pending - failed WHEN pending IS NOT NULL THEN 0 END;
			SELECT max(a.reported_at) FILTER (WHERE a.pid = 0),
			       sum(a.embedded / NULLIF(extract(epoch FROM a.reported_at - a.started_at), 0)) FILTER (WHERE a.pid <> 0 AND a.reported_at > now() - interval '10 seconds')
			  INTO oldest_pending, rate
			  FROM _clip.work_done AS a WHERE a.relation = col.relation AND a.trigger_name = col.trigger_name;
			seconds_left := CASE WHEN rate > 0 THEN pending / rate END;
			oldest_pending := CASE WHEN pending > 0 THEN oldest_pending END;
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_auto_embed_status(oid[]) IS 'internal: rows of the view clip_auto_embed_status, of all tables or of some';

-- The names of tables and indexes depend on the search_path of the caller, as in psql.
CREATE VIEW @extschema@.clip_auto_embed_status AS
SELECT s.relation::pg_catalog.text AS relation, s.source, s.target, s.model, s.model_state, s.mode, s.on_error, s.on_vector, s.index::pg_catalog.text AS index,
       s."rows", s.embedded, s.pending, s.failed, s.oldest_pending, s.rate, s.seconds_left
  FROM @extschema@._clip_auto_embed_status(NULL::pg_catalog.oid[]) AS s;
COMMENT ON VIEW clip_auto_embed_status IS 'embedded columns, with model, mode and progress; counts are NULL for tables that you cannot read completely';
COMMENT ON COLUMN clip_auto_embed_status.relation IS 'the table, with its schema if that is not in the search_path';
COMMENT ON COLUMN clip_auto_embed_status.source IS 'the source column; NULL if the embeddings were registered by clip_adopt';
COMMENT ON COLUMN clip_auto_embed_status.target IS 'the embedding column';
COMMENT ON COLUMN clip_auto_embed_status.model IS 'the model that computed the embeddings';
COMMENT ON COLUMN clip_auto_embed_status.model_state IS 'ok; missing; broken; or another, if the installed model of that name has a different digest';
COMMENT ON COLUMN clip_auto_embed_status.mode IS 'row, statement or queue; NULL if the embeddings were registered by clip_adopt';
COMMENT ON COLUMN clip_auto_embed_status.on_error IS 'action on an error: error, null or skip; NULL if the embeddings were registered by clip_adopt';
COMMENT ON COLUMN clip_auto_embed_status.index IS 'the index that searches use';
COMMENT ON COLUMN clip_auto_embed_status."rows" IS 'number of rows of the table; estimated above a million';
COMMENT ON COLUMN clip_auto_embed_status.embedded IS 'number of rows that have an embedding; estimated above a million';
COMMENT ON COLUMN clip_auto_embed_status.pending IS 'number of rows that have a source and no embedding, and have not failed; above a million rows counted in mode queue, otherwise estimated';
COMMENT ON COLUMN clip_auto_embed_status.failed IS 'number of rows in clip_failures';
COMMENT ON COLUMN clip_auto_embed_status.oldest_pending IS 'time at which the queue was last seen empty; no row has been pending longer';
COMMENT ON COLUMN clip_auto_embed_status.rate IS 'rows per second that workers and backfills embed now';
COMMENT ON COLUMN clip_auto_embed_status.seconds_left IS 'estimated time in seconds until no row is pending, at the current rate';
COMMENT ON COLUMN clip_auto_embed_status.on_vector IS 'embeddings that a statement writes: replace or keep; NULL if the embeddings were registered by clip_adopt';

CREATE VIEW _clip.running AS
SELECT c.relation, c.target, a.pid::pg_catalog.int8 AS pid, a.kind, a.started_at, a.total, a.embedded, a.failed,
       r.rate,
       CASE WHEN a.total OPERATOR(pg_catalog.>) 0::pg_catalog.int8 AND r.rate OPERATOR(pg_catalog.>) 0::pg_catalog.float8 THEN
            greatest(0::pg_catalog.int8, a.total OPERATOR(pg_catalog.-) a.embedded OPERATOR(pg_catalog.-) a.failed)::pg_catalog.float8 OPERATOR(pg_catalog./) r.rate END AS seconds_left
  FROM _clip.work_done AS a
  JOIN _clip.columns AS c ON c.relation OPERATOR(pg_catalog.=) a.relation AND c.trigger_name OPERATOR(pg_catalog.=) a.trigger_name
 CROSS JOIN LATERAL (SELECT CASE WHEN a.reported_at OPERATOR(pg_catalog.>) a.started_at
       THEN a.embedded::pg_catalog.float8 OPERATOR(pg_catalog./) extract(epoch FROM a.reported_at OPERATOR(pg_catalog.-) a.started_at)::pg_catalog.float8 END) AS r (rate)
 -- A process that embeds is in a transaction. The entry of a killed process remains in the table.
 WHERE a.pid OPERATOR(pg_catalog.<>) 0 AND EXISTS (SELECT FROM pg_catalog.pg_locks AS l
       WHERE l.pid OPERATOR(pg_catalog.=) a.pid AND l.locktype OPERATOR(pg_catalog.=) 'virtualxid' AND l.granted);
COMMENT ON VIEW _clip.running IS 'internal: backfills and workers of this server that are running now';

CREATE VIEW @extschema@.clip_progress AS
SELECT r.relation::pg_catalog.text AS relation, r.target::pg_catalog.text AS target, r.pid, r.kind, r.started_at, r.total, r.embedded, r.failed, r.rate, r.seconds_left
  FROM (SELECT * FROM _clip.running UNION ALL SELECT * FROM @extschema@._clip_citus_progress()) AS r;
COMMENT ON VIEW clip_progress IS 'backfills and workers that are running now';
COMMENT ON COLUMN clip_progress.relation IS 'the table, with its schema if that is not in the search_path';
COMMENT ON COLUMN clip_progress.target IS 'the embedding column';
COMMENT ON COLUMN clip_progress.pid IS 'process ID on the server that embeds';
COMMENT ON COLUMN clip_progress.kind IS 'backfill or worker';
COMMENT ON COLUMN clip_progress.started_at IS 'time of its start';
COMMENT ON COLUMN clip_progress.total IS 'number of pending rows at that time; NULL for a worker';
COMMENT ON COLUMN clip_progress.embedded IS 'number of rows that it has embedded';
COMMENT ON COLUMN clip_progress.failed IS 'number of rows that failed';
COMMENT ON COLUMN clip_progress.rate IS 'rows per second';
COMMENT ON COLUMN clip_progress.seconds_left IS 'estimated time in seconds until it ends, at that rate; NULL for a worker';
