-- Citus
--
-- All that pg_clip knows about Citus is in this part and in src/citus.rs. Without the extension citus, each function of this part
-- returns after one look-up. Each node embeds the rows of its own shards. A node answers for its shards as the role that asks: Citus
-- copies the privileges and policies of a table to its shards.

CREATE FUNCTION _clip_has_citus() RETURNS boolean
	LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE e.extname OPERATOR(pg_catalog.=) 'citus'::pg_catalog.name);
COMMENT ON FUNCTION _clip_has_citus() IS 'internal: true if the database has the extension citus';

-- PL/pgSQL plans a statement when it first runs. So the catalogs of Citus are needed only where Citus is.
CREATE FUNCTION _clip_citus_kind(relation regclass) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT @extschema@._clip_has_citus() THEN
		RETURN NULL;
	END IF;
	RETURN (SELECT CASE WHEN p.partmethod = 'n' AND p.repmodel = 't' THEN 'reference' ELSE 'distributed' END
	          FROM pg_catalog.pg_dist_partition AS p WHERE p.logicalrelid = relation);
END
$$;
COMMENT ON FUNCTION _clip_citus_kind(regclass) IS 'internal: distributed, reference, or NULL for a table that Citus does not manage';

-- Citus appends the number of a shard to the name of its table.
CREATE FUNCTION _clip_citus_shard(relation oid, OUT logical regclass, OUT shard bigint)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT @extschema@._clip_has_citus() THEN
		RETURN;
	END IF;
	SELECT s.logicalrelid::regclass, s.shardid INTO logical, shard
	  FROM pg_class AS c
	  JOIN pg_catalog.pg_dist_shard AS s ON s.shardid = substring(c.relname::text FROM '_([0-9]{1,18})$')::bigint
	  JOIN pg_class AS l ON l.oid = s.logicalrelid AND l.relnamespace = c.relnamespace
	 CROSS JOIN LATERAL parse_ident(pg_catalog.shard_name(s.logicalrelid, s.shardid)) AS n (parts)
	 WHERE c.oid = relation AND n.parts[cardinality(n.parts)] = c.relname::text;
END
$$;
COMMENT ON FUNCTION _clip_citus_shard(oid) IS 'internal: the distributed table and the number of a shard; NULL for another table';

-- The shards of a table on this node, except those that Citus is moving.
CREATE FUNCTION _clip_citus_shards(relation regclass) RETURNS SETOF regclass
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT c.oid::regclass
	  FROM pg_catalog.pg_dist_shard AS s
	  JOIN pg_catalog.pg_dist_placement AS p ON p.shardid = s.shardid AND p.shardstate = 1
	  JOIN pg_catalog.pg_dist_local_group AS g ON g.groupid = p.groupid
	  JOIN pg_class AS l ON l.oid = s.logicalrelid
	 CROSS JOIN LATERAL parse_ident(pg_catalog.shard_name(s.logicalrelid, s.shardid)) AS n (parts)
	  JOIN pg_class AS c ON c.relnamespace = l.relnamespace AND c.relname::text = n.parts[cardinality(n.parts)]
	 WHERE s.logicalrelid = relation
	 ORDER BY s.shardid;
END
$$;
COMMENT ON FUNCTION _clip_citus_shards(regclass) IS 'internal: the shards of a distributed table on this node';

-- A distributed table has no rows of its own: the nodes embed its shards. A reference table has the same rows on each node. The
-- coordinator embeds them, and Citus writes each embedding to all nodes: so the nodes never have different embeddings of a row.
CREATE FUNCTION _clip_citus_embeds(relation oid) RETURNS boolean
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind text := @extschema@._clip_citus_kind(relation::regclass);
	shard_of regclass;
	number bigint;
BEGIN
	IF NOT @extschema@._clip_has_citus() THEN
		RETURN true;
	ELSIF kind IS NOT NULL THEN
		RETURN kind = 'reference' AND (SELECT g.groupid = 0 FROM pg_catalog.pg_dist_local_group AS g);
	END IF;
	SELECT s.logical, s.shard INTO shard_of, number FROM @extschema@._clip_citus_shard(relation) AS s;
	RETURN shard_of IS NULL OR @extschema@._clip_citus_kind(shard_of) = 'distributed' AND EXISTS (
		SELECT FROM pg_catalog.pg_dist_placement AS p JOIN pg_catalog.pg_dist_local_group AS g ON g.groupid = p.groupid
		 WHERE p.shardid = number AND p.shardstate = 1);
END
$$;
COMMENT ON FUNCTION _clip_citus_embeds(oid) IS 'internal: true if the worker of this node embeds the rows of a table';

-- The coordinator checks and changes a table, and Citus repeats the statement on the other nodes and on the shards. A shard of the
-- coordinator counts, too.
CREATE FUNCTION _clip_citus_repeats(relation regclass) RETURNS boolean
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF @extschema@._clip_citus_kind(relation) IS NOT NULL THEN
		RETURN (SELECT g.groupid <> 0 FROM pg_catalog.pg_dist_local_group AS g);
	END IF;
	RETURN EXISTS (SELECT FROM @extschema@._clip_citus_shard(relation::oid) AS s WHERE s.shard IS NOT NULL);
END
$$;
COMMENT ON FUNCTION _clip_citus_repeats(regclass) IS 'internal: true if a statement on a table repeats one of the coordinator of Citus';

-- Citus drops the trigger of a shard by the name of the table's trigger with the number of the shard.
CREATE FUNCTION _clip_citus_trigger_name(relation regclass, name name) RETURNS name
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT COALESCE(name || '_' || s.shard, name::text)::name FROM @extschema@._clip_citus_shard(relation::oid) AS s
$$;
COMMENT ON FUNCTION _clip_citus_trigger_name(regclass, name) IS 'internal: the name of a trigger on a table or on a shard';

CREATE FUNCTION _clip_citus_with(setting text, value text, statements text[]) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('SET LOCAL %s = %s', setting, value) || statements || format('SET LOCAL %s = %s', setting, current_setting(setting))
$$;
COMMENT ON FUNCTION _clip_citus_with(text, text, text[]) IS 'internal: statements that run with a value of a setting';

CREATE FUNCTION _clip_citus_here(relation regclass, statements text[]) RETURNS text[]
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF statements IS NULL OR statements = '{}' OR @extschema@._clip_citus_kind(relation) IS NULL THEN
		RETURN statements;
	END IF;
	RETURN @extschema@._clip_citus_with('citus.enable_ddl_propagation'::text, 'off'::text, statements);
END
$$;
COMMENT ON FUNCTION _clip_citus_here(regclass, text[]) IS 'internal: statements that Citus does not send to other nodes';

CREATE FUNCTION _clip_citus_qualified(relation regclass) RETURNS text
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation
$$;
COMMENT ON FUNCTION _clip_citus_qualified(regclass) IS 'internal: the name of a table, as another node finds it';

-- Runs a statement on all nodes, in transactions of their own, as the role that asks. The statement returns one value.
CREATE FUNCTION _clip_citus_ask(statement text, OUT node text, OUT answer text) RETURNS SETOF record
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	asked record;
BEGIN
	FOR asked IN
		SELECT COALESCE(n.nodename || ':' || n.nodeport, 'coordinator') AS name, r.success, r.result
		  FROM pg_catalog.run_command_on_all_nodes(statement) AS r LEFT JOIN pg_catalog.pg_dist_node AS n ON n.nodeid = r.nodeid
		 ORDER BY 1
	LOOP
		IF NOT asked.success THEN
			RAISE EXCEPTION USING ERRCODE = 'connection_exception', MESSAGE = format('node %s of Citus returned an error', asked.name), DETAIL = asked.result,
				HINT = CASE WHEN asked.result LIKE 'failed to connect%' THEN 'Check that the node is up, and that the role can connect to each node from the others.'
					ELSE 'Check that each node has pg_clip in the same schema, and the same models: SELECT item, value FROM clip_diagnose().' END;
		END IF;
		node := asked.name;
		-- The result of NULL is an empty text.
		answer := NULLIF(asked.result, '');
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_citus_ask(text) IS 'internal: run a statement on all nodes, or raise an error if a node does';

-- A role that can read no managed table of Citus needs no connection to the nodes.
CREATE FUNCTION _clip_citus_may_ask() RETURNS boolean
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN @extschema@._clip_has_citus() AND EXISTS (
		SELECT FROM _clip.columns AS c JOIN pg_class AS t ON t.oid = c.relation
		 WHERE @extschema@._clip_citus_kind(c.relation) = 'distributed' AND @extschema@._clip_may_read(t.oid, t.relowner, t.relnamespace));
END
$$;
COMMENT ON FUNCTION _clip_citus_may_ask() IS 'internal: true if the role can read a distributed table with a managed column';

CREATE FUNCTION _clip_citus_reject(relation regclass, what text, hint text) RETURNS void
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind CONSTANT text := @extschema@._clip_citus_kind(relation);
BEGIN
	IF kind IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('%s does not support %s tables of Citus', what, kind),
			DETAIL = format('Table %s is a %s table.', relation, kind), HINT = hint;
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_citus_reject(regclass, text, text) IS 'internal: raise an error if Citus manages a table';

CREATE FUNCTION _clip_citus_require(relation regclass, mode text) RETURNS void
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF mode = 'statement' THEN
		PERFORM @extschema@._clip_citus_reject(relation, 'mode "statement"'::text, 'Use mode "queue", in which each node embeds its own rows in batches.'::text);
	ELSIF mode = 'row' AND @extschema@._clip_citus_kind(relation) = 'reference' THEN
		PERFORM @extschema@._clip_citus_reject(relation, 'mode "row"'::text, 'Use mode "queue". The coordinator computes each embedding once, for all nodes.'::text);
	ELSIF @extschema@._clip_citus_kind(relation) = 'distributed' THEN
		IF EXISTS (SELECT FROM pg_catalog.pg_dist_shard AS s JOIN pg_catalog.pg_dist_placement AS p ON p.shardid = s.shardid
			WHERE s.logicalrelid = relation GROUP BY s.shardid HAVING count(*) > 1)
		THEN
			RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('table %s of Citus has several copies of each shard', relation),
				DETAIL = 'Each node would compute the embeddings of its copies, and they could differ.',
				HINT = format('Call undistribute_table(%L), SET citus.shard_replication_factor = 1, and distribute the table again.', relation);
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_citus_require(regclass, text) IS 'internal: raise an error if a table of Citus, or a mode for it, is not supported';

-- Citus creates triggers on the shards of a table only if its setting allows it. Its warning is about triggers that read other rows,
-- which the row trigger does not.
CREATE FUNCTION _clip_citus_allowing(relation regclass, statements text[]) RETURNS text[]
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM unnest(statements) AS s WHERE s ~ '^(CREATE|DROP|ALTER).* TRIGGER ') OR @extschema@._clip_citus_kind(relation) IS NULL THEN
		RETURN statements;
	END IF;
	RETURN @extschema@._clip_citus_with('citus.enable_unsafe_triggers'::text, 'on'::text, statements);
END
$$;
COMMENT ON FUNCTION _clip_citus_allowing(regclass, text[]) IS 'internal: statements with the setting that Citus needs for triggers';

-- A worker that finds no row waits for ten seconds, in which the transaction of the caller can commit.
CREATE FUNCTION _clip_citus_wake(relation regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF @extschema@._clip_citus_kind(relation) IS NOT NULL THEN
		PERFORM @extschema@._clip_citus_ask('SELECT @extschema@._clip_wake_worker()'::text);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_citus_wake(regclass) IS 'internal: start the workers of all nodes for a table of Citus';

-- Embeds pending rows of this node's shards of a table for some seconds, and commits after each batch. The result has the numbers of
-- embedded and failed rows, and whether no row is left to embed.
CREATE PROCEDURE _clip_citus_fill(relation regclass, target name, batch_size integer, INOUT result text DEFAULT NULL)
	LANGUAGE plpgsql
AS $$
DECLARE
	-- Long enough that the start of a session does not matter, and short enough that a canceled backfill ends soon.
	ends CONSTANT pg_catalog.timestamptz := pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) '10 seconds'::pg_catalog.interval;
	shards CONSTANT pg_catalog.regclass[] := ARRAY(SELECT s FROM @extschema@._clip_citus_shards(relation) AS s);
	shard pg_catalog.regclass;
	column_trigger pg_catalog.text;
	step pg_catalog.record;
	embedded pg_catalog.int8 := 0;
	failed pg_catalog.int8 := 0;
BEGIN
	PERFORM pg_catalog.set_config('citus.override_table_visibility'::pg_catalog.text, 'off'::pg_catalog.text, false);
	PERFORM pg_catalog.set_config('citus.enable_manual_changes_to_shards'::pg_catalog.text, 'on'::pg_catalog.text, false);
	FOREACH shard IN ARRAY shards LOOP
		column_trigger := (@extschema@._clip_fillable(shard, target, batch_size)).trigger_name;
		SELECT s.embedded, s.failed, s.finished INTO step FROM @extschema@._clip_backfill_step(shard, column_trigger, batch_size, true) AS s;
		LOOP
			COMMIT;
			EXIT WHEN step.finished;
			SELECT s.embedded, s.failed, s.finished INTO step FROM @extschema@._clip_backfill_step(shard, column_trigger, batch_size, false) AS s;
			embedded := embedded OPERATOR(pg_catalog.+) step.embedded;
			failed := failed OPERATOR(pg_catalog.+) step.failed;
			-- After a batch: the first step of a large shard counts its rows, which alone can take so long.
			IF step.embedded OPERATOR(pg_catalog.+) step.failed OPERATOR(pg_catalog.>) 0::pg_catalog.int8 AND pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>) ends THEN
				COMMIT;
				result := pg_catalog.json_build_object('embedded', embedded, 'failed', failed, 'finished', false);
				RETURN;
			END IF;
		END LOOP;
	END LOOP;
	result := pg_catalog.json_build_object('embedded', embedded, 'failed', failed, 'finished', true);
END
$$;
COMMENT ON PROCEDURE _clip_citus_fill(regclass, name, integer, text) IS 'internal: embed pending rows of the shards of this node for some seconds';

CREATE FUNCTION _clip_citus_backfill_step(relation regclass, target name, batch_size integer, OUT embedded bigint, OUT failed bigint, OUT finished boolean)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT has_any_column_privilege(relation, 'UPDATE') THEN
		RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied for table %s', relation),
			DETAIL = 'Embedding the rows needs SELECT on the key and the source column, and UPDATE on the embedding column.';
	END IF;
	SELECT sum((a.answer::jsonb ->> 'embedded')::bigint), sum((a.answer::jsonb ->> 'failed')::bigint), bool_and((a.answer::jsonb ->> 'finished')::boolean)
	  INTO embedded, failed, finished
	  FROM @extschema@._clip_citus_ask(format('CALL @extschema@._clip_citus_fill(%L, %L, %s)', @extschema@._clip_citus_qualified(relation), target, batch_size)) AS a;
END
$$;
COMMENT ON FUNCTION _clip_citus_backfill_step(regclass, name, integer) IS 'internal: embed pending rows of a distributed table on all nodes for some seconds';

-- The numbers of the view clip_auto_embed_status for this node's shards of a column.
CREATE FUNCTION _clip_citus_node_status(relation regclass, target name) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT jsonb_build_object('rows', sum(s."rows"), 'embedded', sum(s.embedded), 'pending', sum(s.pending), 'failed', sum(s.failed),
	               'oldest_pending', min(s.oldest_pending), 'rate', sum(s.rate), 'unknown', count(*) FILTER (WHERE s."rows" IS NULL))
	          FROM @extschema@._clip_auto_embed_status(ARRAY(SELECT r::oid FROM @extschema@._clip_citus_shards(relation) AS r)) AS s
	         WHERE s.target = _clip_citus_node_status.target::text);
END
$$;
COMMENT ON FUNCTION _clip_citus_node_status(regclass, name) IS 'internal: numbers of rows of the shards of this node';

CREATE FUNCTION _clip_citus_status(relation regclass, target name, OUT "rows" bigint, OUT embedded bigint, OUT pending bigint, OUT failed bigint,
	OUT oldest_pending timestamptz, OUT rate double precision)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	is_known boolean;
	reason text;
BEGIN
	IF NOT (SELECT @extschema@._clip_may_read(c.oid, c.relowner, c.relnamespace) FROM pg_class AS c WHERE c.oid = relation) THEN
		RETURN;
	END IF;
	SELECT sum((s ->> 'rows')::bigint), sum((s ->> 'embedded')::bigint), sum((s ->> 'pending')::bigint), sum((s ->> 'failed')::bigint),
	       min((s ->> 'oldest_pending')::timestamptz), sum((s ->> 'rate')::double precision), sum((s ->> 'unknown')::bigint) = 0
	  INTO "rows", embedded, pending, failed, oldest_pending, rate, is_known
	  FROM (SELECT a.answer::jsonb FROM @extschema@._clip_citus_ask(
	        format('SELECT @extschema@._clip_citus_node_status(%L, %L)', @extschema@._clip_citus_qualified(relation), target)) AS a) AS answers (s);
	IF is_known IS NOT TRUE THEN
		-- Sums of some of the shards would look like those of the table.
		"rows" := NULL;
		embedded := NULL;
		pending := NULL;
		failed := NULL;
	END IF;
EXCEPTION WHEN connection_exception THEN
	GET STACKED DIAGNOSTICS reason = PG_EXCEPTION_DETAIL;
	RAISE NOTICE USING MESSAGE = format('rows of table %s could not be counted', relation), DETAIL = format('%s: %s', sqlerrm, reason);
END
$$;
COMMENT ON FUNCTION _clip_citus_status(regclass, name) IS 'internal: numbers of rows of all shards of a distributed table';

CREATE FUNCTION _clip_citus_node_failures() RETURNS jsonb
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT jsonb_agg(jsonb_build_object('relation', @extschema@._clip_citus_qualified(s.logical), 'target', f.target, 'key', f.key, 'sqlstate', f.sqlstate, 'message', f.message,
	               'attempts', f.attempts, 'first_failed_at', f.first_failed_at, 'last_failed_at', f.last_failed_at, 'retry_at', f.retry_at))
	          FROM _clip.visible_failures AS f
	         CROSS JOIN LATERAL @extschema@._clip_citus_shard(f.relation::oid) AS s
	         -- A moved shard stays for a while on its former node.
	         WHERE s.logical IS NOT NULL AND @extschema@._clip_citus_embeds(f.relation::oid));
END
$$;
COMMENT ON FUNCTION _clip_citus_node_failures() IS 'internal: failures of the shards of this node that the role can see';

CREATE FUNCTION _clip_citus_failures() RETURNS TABLE (relation regclass, target name, key jsonb, sqlstate text, message text, attempts bigint,
	first_failed_at timestamptz, last_failed_at timestamptz, retry_at timestamptz)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT @extschema@._clip_citus_may_ask() THEN
		RETURN;
	END IF;
	RETURN QUERY
	SELECT to_regclass(f ->> 'relation'), (f ->> 'target')::name, NULLIF(f -> 'key', 'null'), f ->> 'sqlstate', f ->> 'message',
	       (f ->> 'attempts')::bigint, (f ->> 'first_failed_at')::timestamptz, (f ->> 'last_failed_at')::timestamptz, (f ->> 'retry_at')::timestamptz
	  FROM @extschema@._clip_citus_ask('SELECT @extschema@._clip_citus_node_failures()'::text) AS a
	 CROSS JOIN LATERAL jsonb_array_elements(a.answer::jsonb) AS f;
END
$$;
COMMENT ON FUNCTION _clip_citus_failures() IS 'internal: failures of all shards that the role can see';

CREATE FUNCTION _clip_citus_node_progress() RETURNS jsonb
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT jsonb_agg(jsonb_build_object('relation', @extschema@._clip_citus_qualified(s.logical), 'target', r.target, 'pid', r.pid, 'kind', r.kind, 'started_at', r.started_at,
	               'total', r.total, 'embedded', r.embedded, 'failed', r.failed, 'rate', r.rate, 'seconds_left', r.seconds_left))
	          FROM _clip.running AS r
	         CROSS JOIN LATERAL @extschema@._clip_citus_shard(r.relation::oid) AS s
	         WHERE s.logical IS NOT NULL);
END
$$;
COMMENT ON FUNCTION _clip_citus_node_progress() IS 'internal: what this node embeds now, of shards that the role can see';

CREATE FUNCTION _clip_citus_progress() RETURNS TABLE (relation regclass, target name, pid bigint, kind text, started_at timestamptz, total bigint, embedded bigint,
	failed bigint, rate double precision, seconds_left double precision)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	reason text;
BEGIN
	IF NOT @extschema@._clip_citus_may_ask() THEN
		RETURN;
	END IF;
	RETURN QUERY
	SELECT to_regclass(r ->> 'relation'), (r ->> 'target')::name, (r ->> 'pid')::bigint, r ->> 'kind', (r ->> 'started_at')::timestamptz,
	       (r ->> 'total')::bigint, (r ->> 'embedded')::bigint, (r ->> 'failed')::bigint, (r ->> 'rate')::double precision, (r ->> 'seconds_left')::double precision
	  FROM @extschema@._clip_citus_ask('SELECT @extschema@._clip_citus_node_progress()'::text) AS a
	 CROSS JOIN LATERAL jsonb_array_elements(a.answer::jsonb) AS r;
EXCEPTION WHEN connection_exception THEN
	GET STACKED DIAGNOSTICS reason = PG_EXCEPTION_DETAIL;
	RAISE NOTICE USING MESSAGE = 'the progress on the nodes of Citus could not be read', DETAIL = format('%s: %s', sqlerrm, reason);
END
$$;
COMMENT ON FUNCTION _clip_citus_progress() IS 'internal: what all nodes embed now, of shards that the role can see';

CREATE FUNCTION _clip_citus_node_retry(relation regclass, target name) RETURNS bigint
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- A column that the transaction of the caller has just added does not exist here yet.
	RETURN (SELECT COALESCE(sum(@extschema@.clip_retry(s, target)), 0) FROM @extschema@._clip_citus_shards(relation) AS s
	         WHERE EXISTS (SELECT FROM _clip.columns AS c WHERE c.relation = s AND c.target = _clip_citus_node_retry.target));
END
$$;
COMMENT ON FUNCTION _clip_citus_node_retry(regclass, name) IS 'internal: clear the failures of the shards of this node';

CREATE FUNCTION _clip_citus_retry(relation regclass, target name) RETURNS bigint
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT sum(a.answer::bigint) FROM @extschema@._clip_citus_ask(
		format('SELECT @extschema@._clip_citus_node_retry(pg_catalog.to_regclass(%L), %L)', @extschema@._clip_citus_qualified(relation), target)) AS a);
END
$$;
COMMENT ON FUNCTION _clip_citus_retry(regclass, name) IS 'internal: clear the failures of a distributed table on all nodes';

-- Citus passes on a SET LOCAL that is a statement of a function, and none that another part of the server sets. Afterwards the
-- settings of this session are what they were. Citus sends the settings when it begins a transaction on a node. For a query on a single
-- shard it does that only in a distributed transaction, which an intermediate result starts.
CREATE FUNCTION _clip_citus_set(names text[], new_values text[]) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	former CONSTANT text := current_setting('citus.propagate_set_commands', true);
BEGIN
	IF NOT @extschema@._clip_has_citus() THEN
		RETURN;
	END IF;
	PERFORM pg_catalog.create_intermediate_result('pg_clip', 'SELECT 1');
	PERFORM set_config('citus.propagate_set_commands', 'local', true);
	FOR i IN 1 .. cardinality(names) LOOP
		EXECUTE format('SET LOCAL %s TO %s', (SELECT string_agg(quote_ident(part), '.' ORDER BY n) FROM unnest(string_to_array(names[i], '.')) WITH ORDINALITY AS p (part, n)),
			COALESCE(quote_literal(new_values[i]), 'DEFAULT'));
	END LOOP;
	PERFORM set_config('citus.propagate_set_commands', former, true);
END
$$;
COMMENT ON FUNCTION _clip_citus_set(text[], text[]) IS 'internal: set settings on the other nodes until the transaction ends';

CREATE FUNCTION _clip_citus_node_models() RETURNS jsonb
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT COALESCE(jsonb_object_agg(m.name, m.digest), '{}') FROM @extschema@._clip_models() AS m
$$;
COMMENT ON FUNCTION _clip_citus_node_models() IS 'internal: names and digests of the models of this node';

-- Compares each node with the node that is asked.
CREATE FUNCTION _clip_citus_diagnose() RETURNS TABLE (item text, value text)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own CONSTANT jsonb := @extschema@._clip_citus_node_models();
	asked record;
BEGIN
	IF NOT @extschema@._clip_has_citus() THEN
		RETURN;
	END IF;
	FOR asked IN
		SELECT COALESCE(n.nodename || ':' || n.nodeport, 'coordinator') AS name, r.success, r.result
		  FROM pg_catalog.run_command_on_all_nodes('SELECT @extschema@._clip_citus_node_models()'::text) AS r
		  LEFT JOIN pg_catalog.pg_dist_node AS n ON n.nodeid = r.nodeid
		 ORDER BY 1
	LOOP
		item := 'models of ' || asked.name;
		IF asked.success THEN
			value := COALESCE((
				SELECT string_agg(format('"%s" %s', k, CASE WHEN NOT asked.result::jsonb ? k THEN 'is missing there' WHEN NOT own ? k THEN 'is missing here'
				                  ELSE format('has digest %s there, %s here', COALESCE(asked.result::jsonb ->> k, 'unknown'), COALESCE(own ->> k, 'unknown')) END), '; ' ORDER BY k)
				  FROM jsonb_object_keys(own || asked.result::jsonb) AS k WHERE asked.result::jsonb -> k IS DISTINCT FROM own -> k), 'the same as here');
		ELSE
			value := asked.result;
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_citus_diagnose() IS 'internal: the rows of clip_diagnose about the nodes of Citus';
