-- what is going on

CREATE FUNCTION _clip_auto_embed_status()
	RETURNS TABLE (relation regclass, source name, target name, model text, model_state text, mode text, on_error text, index regclass,
		"rows" bigint, embedded bigint, pending bigint, failed bigint, oldest_pending timestamptz, rate real, time_left interval)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	-- Tables up to this many rows are counted; of larger ones, statistics tell.
	most_counted CONSTANT bigint := 1000000;
	col @extschema@._clip_columns%ROWTYPE;
	estimate real;
	empty_source real;
	empty_target real;
BEGIN
	FOR col IN SELECT * FROM @extschema@._clip_columns AS c ORDER BY c.relation::text, c.target LOOP
		relation := col.relation;
		source := col.source;
		target := col.target;
		model := col.model;
		mode := NULLIF(col.mode, 'stamp');
		on_error := CASE WHEN col.source IS NOT NULL THEN col.on_error END;
		index := @extschema@._clip_vector_index(col.relation, col.target);
		SELECT CASE WHEN m.digest = col.digest THEN 'ok' WHEN m.name IS NULL THEN 'missing' WHEN m.digest IS NULL THEN 'broken' ELSE 'another' END
		  INTO model_state FROM (SELECT) AS one LEFT JOIN @extschema@.clip_models AS m ON m.name = col.model;
		"rows" := NULL;
		embedded := NULL;
		pending := NULL;
		failed := NULL;
		oldest_pending := NULL;
		rate := NULL;
		time_left := NULL;
		IF has_table_privilege(col.relation, 'SELECT') AND (SELECT has_schema_privilege(c.relnamespace, 'USAGE') FROM pg_class AS c WHERE c.oid = col.relation) THEN
			-- reltuples is -1 before the first ANALYZE: then pages tell whether the table is small.
			SELECT sum(CASE WHEN c.reltuples >= 0 THEN c.reltuples ELSE pg_relation_size(c.oid) / 100 END) INTO estimate
			  FROM pg_class AS c
			 WHERE c.oid = col.relation AND c.relkind = 'r' OR c.oid IN (SELECT p.relid FROM pg_partition_tree(col.relation) AS p WHERE p.isleaf);
			IF COALESCE(estimate, 0) <= most_counted THEN
				EXECUTE format('SELECT count(*), count(%1$I), count(*) FILTER (WHERE %1$I IS NULL AND %3$s) FROM %2$s',
					col.target, col.rows_of, CASE WHEN col.source IS NULL THEN 'false' ELSE format('%I IS NOT NULL', col.source) END) INTO "rows", embedded, pending;
				-- The owner may know what waits, though policies hide the rows from everybody.
				IF col.source IS NOT NULL AND pg_has_role(col.owner, 'USAGE') AND row_security_active(col.relation::oid) THEN
					pending := @extschema@._clip_count_pending(col.relation, col.trigger_name::text);
				END IF;
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
			SELECT count(*) INTO failed FROM @extschema@.clip_failures AS f WHERE f.relation = col.relation AND f.target = col.target AND f.key IS NOT NULL;
			-- Failed rows have no vector either, but nothing waits for them.
			pending := CASE WHEN pending > failed THEN pending - failed WHEN pending IS NOT NULL THEN 0 END;
			SELECT max(a.reported_at) FILTER (WHERE a.pid = 0),
			       sum(a.embedded / NULLIF(extract(epoch FROM a.reported_at - a.started_at), 0)) FILTER (WHERE a.pid <> 0 AND a.reported_at > now() - interval '10 seconds')
			  INTO oldest_pending, rate
			  FROM @extschema@._clip_work_done AS a WHERE a.relation = col.relation AND a.trigger_name = col.trigger_name;
			time_left := CASE WHEN rate > 0 THEN make_interval(secs => pending / rate) END;
			oldest_pending := CASE WHEN pending > 0 THEN oldest_pending END;
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_auto_embed_status() IS 'internal: rows of the view clip_auto_embed_status';

CREATE VIEW @extschema@.clip_auto_embed_status AS SELECT * FROM @extschema@._clip_auto_embed_status();
COMMENT ON VIEW clip_auto_embed_status IS 'columns that have a model, and how far they are; counts are NULL for tables that you may not read';
COMMENT ON COLUMN clip_auto_embed_status.relation IS 'the table';
COMMENT ON COLUMN clip_auto_embed_status.source IS 'the column of texts or images; NULL if the vectors were adopted';
COMMENT ON COLUMN clip_auto_embed_status.target IS 'the column of vectors';
COMMENT ON COLUMN clip_auto_embed_status.model IS 'the model that made the vectors';
COMMENT ON COLUMN clip_auto_embed_status.model_state IS 'ok; missing; broken; or another, if the model of that name is not the one that made the vectors';
COMMENT ON COLUMN clip_auto_embed_status.mode IS 'row, statement or queue; NULL if the vectors were adopted';
COMMENT ON COLUMN clip_auto_embed_status.on_error IS 'what an error does: error, null or skip';
COMMENT ON COLUMN clip_auto_embed_status.index IS 'the index that serves searches';
COMMENT ON COLUMN clip_auto_embed_status."rows" IS 'rows of the table; an estimate above a million';
COMMENT ON COLUMN clip_auto_embed_status.embedded IS 'rows that have a vector; an estimate above a million';
COMMENT ON COLUMN clip_auto_embed_status.pending IS 'rows that have a source and no vector, and have not failed; of large tables counted in mode queue only';
COMMENT ON COLUMN clip_auto_embed_status.failed IS 'rows in clip_failures';
COMMENT ON COLUMN clip_auto_embed_status.oldest_pending IS 'when the queue was last seen empty: no row has waited longer';
COMMENT ON COLUMN clip_auto_embed_status.rate IS 'rows per second that workers and backfills embed now';
COMMENT ON COLUMN clip_auto_embed_status.time_left IS 'pending rows at that rate';

CREATE VIEW @extschema@.clip_progress AS
SELECT c.relation, c.target, a.pid, a.kind, a.started_at, a.total, a.embedded, a.failed,
       r.rate::pg_catalog.float4 AS rate,
       CASE WHEN a.total OPERATOR(pg_catalog.>) 0 AND r.rate OPERATOR(pg_catalog.>) 0 THEN pg_catalog.make_interval(
            secs => greatest(0, a.total OPERATOR(pg_catalog.-) a.embedded OPERATOR(pg_catalog.-) a.failed) OPERATOR(pg_catalog./) r.rate) END AS time_left
  FROM @extschema@._clip_work_done AS a
  JOIN @extschema@._clip_columns AS c ON c.relation OPERATOR(pg_catalog.=) a.relation AND c.trigger_name OPERATOR(pg_catalog.=) a.trigger_name
 CROSS JOIN LATERAL (SELECT CASE WHEN a.reported_at OPERATOR(pg_catalog.>) a.started_at
       THEN a.embedded OPERATOR(pg_catalog./) extract(epoch FROM a.reported_at OPERATOR(pg_catalog.-) a.started_at)::pg_catalog.float8 END) AS r (rate)
 -- Whoever works is in a transaction; a process that was killed left its entry behind.
 WHERE a.pid OPERATOR(pg_catalog.<>) 0 AND EXISTS (SELECT FROM pg_catalog.pg_locks AS l
       WHERE l.pid OPERATOR(pg_catalog.=) a.pid AND l.locktype OPERATOR(pg_catalog.=) 'virtualxid' AND l.granted);
COMMENT ON VIEW clip_progress IS 'backfills and workers that are embedding now';
COMMENT ON COLUMN clip_progress.relation IS 'the table';
COMMENT ON COLUMN clip_progress.target IS 'the column of vectors';
COMMENT ON COLUMN clip_progress.pid IS 'the process';
COMMENT ON COLUMN clip_progress.kind IS 'backfill or worker';
COMMENT ON COLUMN clip_progress.started_at IS 'when it began';
COMMENT ON COLUMN clip_progress.total IS 'rows that had no vector then; NULL for a worker';
COMMENT ON COLUMN clip_progress.embedded IS 'rows embedded by it since';
COMMENT ON COLUMN clip_progress.failed IS 'rows that failed since';
COMMENT ON COLUMN clip_progress.rate IS 'rows per second';
COMMENT ON COLUMN clip_progress.time_left IS 'what is left at that rate; NULL for a worker';
