-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pg_clip CASCADE" to load this file. \quit

-- The script runs with this schema and pgvector's schema as search_path, so that it can write the type without a schema.
-- The extension writes vectors in pgvector's memory layout. Another type named "vector" in this schema would be filled with
-- bytes of a wrong layout.
--
-- Somebody may also have created functions and operators in this schema that match better than the server's own. So all
-- names that the server resolves while the script runs (views, function bodies without quotes) are schema-qualified. Quoted
-- bodies are parsed later, under a search_path of their own.
DO $$
BEGIN
	IF NOT EXISTS (
		SELECT FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
		 WHERE e.extname OPERATOR(pg_catalog.=) 'vector'::pg_catalog.name
		   AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
		   AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid
		   AND d.objid OPERATOR(pg_catalog.=) 'vector'::pg_catalog.regtype::pg_catalog.oid)
	THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
			MESSAGE = 'another type "vector" hides the type of pgvector',
			DETAIL = pg_catalog.format('The other type is in schema "%s", into which you install pg_clip.', pg_catalog.current_schema()),
			HINT = pg_catalog.format('Remove it with DROP TYPE %I.vector, or install pg_clip into another schema.', pg_catalog.current_schema());
	END IF;
	IF pg_catalog.has_schema_privilege('public', pg_catalog.current_schema()::pg_catalog.text, 'CREATE') THEN
		RAISE WARNING USING MESSAGE = pg_catalog.format('schema "%s", which contains pg_clip, allows everyone to create objects', pg_catalog.current_schema()),
			DETAIL = 'Functions created next to those of pg_clip can be called in their place, with the privileges of the caller.',
			HINT = pg_catalog.format('Run REVOKE CREATE ON SCHEMA %I FROM PUBLIC, or install pg_clip into another schema.', pg_catalog.current_schema());
	END IF;
END
$$;

-- embeddings

CREATE FUNCTION clip_embed_text(input text) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_embed_text_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_embed_text(text)
	IS 'embed a text with the default model (clip.default_model); returns a vector of length one';

CREATE FUNCTION clip_embed_text(input text, model text) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_embed_text_with_wrapper' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_embed_text(text, text)
	IS 'embed a text with the named model; returns a vector of length one';

CREATE FUNCTION clip_embed_image(input bytea) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_embed_image_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_embed_image(bytea)
	IS 'embed an encoded image with the default model (clip.default_model); returns a vector of length one';

CREATE FUNCTION clip_embed_image(input bytea, model text) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_embed_image_with_wrapper' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_embed_image(bytea, text)
	IS 'embed an encoded image with the named model; returns a vector of length one';

CREATE FUNCTION clip_embed_texts(inputs text[], model text DEFAULT NULL)
	RETURNS TABLE (ordinality integer, embedding vector)
	AS 'MODULE_PATHNAME', 'clip_embed_texts_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 10000 ROWS 100;
COMMENT ON FUNCTION clip_embed_texts(text[], text)
	IS 'embed many texts in batches; returns one row per element, in order, with NULL for NULL';

CREATE FUNCTION clip_embed_images(inputs bytea[], model text DEFAULT NULL)
	RETURNS TABLE (ordinality integer, embedding vector)
	AS 'MODULE_PATHNAME', 'clip_embed_images_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 10000 ROWS 100;
COMMENT ON FUNCTION clip_embed_images(bytea[], text)
	IS 'embed many encoded images in batches; returns one row per element, in order, with NULL for NULL';

-- inspection of texts and images without embedding them

CREATE FUNCTION clip_token_count(input text, model text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'clip_token_count_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION clip_token_count(text, text)
	IS 'number of tokens of a text before truncation, with the start and end tokens';

CREATE FUNCTION clip_image_info(input bytea)
	RETURNS TABLE (format text, width integer, height integer, orientation integer, frames integer)
	AS 'MODULE_PATHNAME', 'clip_image_info_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000 ROWS 1;
COMMENT ON FUNCTION clip_image_info(bytea)
	IS 'format, stored size in pixels, EXIF orientation and number of frames of an encoded image';

-- models

CREATE FUNCTION _clip_models()
	RETURNS TABLE (name text, family text, dimensions integer, context_length integer, image_size integer, digest text,
		size_bytes bigint, license text, prepared boolean, is_default boolean)
	AS 'MODULE_PATHNAME', 'clip_models_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION _clip_models() IS 'internal: rows of the view clip_models';

-- The columns of public views have types that every driver reads: text, boolean, bigint, double precision, timestamptz, jsonb.
CREATE VIEW @extschema@.clip_models AS
SELECT m.name, m.family, m.dimensions::pg_catalog.int8 AS dimensions, m.context_length::pg_catalog.int8 AS context_length,
       m.image_size::pg_catalog.int8 AS image_size, m.digest, m.size_bytes, m.license, m.prepared, m.is_default
  FROM @extschema@._clip_models() AS m;
COMMENT ON VIEW clip_models IS 'installed models; most columns are NULL if a model cannot be used';
COMMENT ON COLUMN clip_models.name IS 'model name, as passed to functions';
COMMENT ON COLUMN clip_models.family IS 'architecture, from the model''s configuration';
COMMENT ON COLUMN clip_models.dimensions IS 'number of dimensions of its embeddings';
COMMENT ON COLUMN clip_models.context_length IS 'maximum number of tokens of a text, with the start and end tokens';
COMMENT ON COLUMN clip_models.image_size IS 'height in pixels to which images are resized';
COMMENT ON COLUMN clip_models.digest IS 'SHA-256 of everything that affects the model''s embeddings';
COMMENT ON COLUMN clip_models.size_bytes IS 'size of its files in bytes';
COMMENT ON COLUMN clip_models.license IS 'license of its weights';
COMMENT ON COLUMN clip_models.prepared IS 'true if sessions share its weights; if false, run pgclip prepare';
COMMENT ON COLUMN clip_models.is_default IS 'true if it is the default model (clip.default_model)';

CREATE FUNCTION _clip_loaded_models()
	RETURNS TABLE (model text, tower text, loaded_at timestamptz, load_ms double precision, calls bigint, items bigint,
		total_ms double precision, cache_hits bigint, weights text)
	AS 'MODULE_PATHNAME', 'clip_loaded_models_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 4;
COMMENT ON FUNCTION _clip_loaded_models() IS 'internal: rows of the view clip_loaded_models';

CREATE VIEW @extschema@.clip_loaded_models AS SELECT * FROM @extschema@._clip_loaded_models();
COMMENT ON VIEW clip_loaded_models IS 'text and image encoders (towers) that this session has loaded';
COMMENT ON COLUMN clip_loaded_models.model IS 'name of the model';
COMMENT ON COLUMN clip_loaded_models.tower IS 'encoder: text or image';
COMMENT ON COLUMN clip_loaded_models.loaded_at IS 'time when it was loaded';
COMMENT ON COLUMN clip_loaded_models.load_ms IS 'duration of loading in milliseconds';
COMMENT ON COLUMN clip_loaded_models.calls IS 'number of runs since then';
COMMENT ON COLUMN clip_loaded_models.items IS 'number of texts or images in those runs';
COMMENT ON COLUMN clip_loaded_models.total_ms IS 'total duration of those runs in milliseconds';
COMMENT ON COLUMN clip_loaded_models.cache_hits IS 'number of texts whose embeddings came from the cache instead';
COMMENT ON COLUMN clip_loaded_models.weights IS 'shared between sessions, or private to this session (see pgclip prepare)';

CREATE FUNCTION clip_prewarm(model text DEFAULT NULL, tower text DEFAULT 'both') RETURNS void
	AS 'MODULE_PATHNAME', 'clip_prewarm_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000;
COMMENT ON FUNCTION clip_prewarm(text, text)
	IS 'load a model into this session now; tower is text, image or both';

CREATE FUNCTION clip_unload(model text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'clip_unload_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION clip_unload(text)
	IS 'free the memory of one model, or of all models, in this session; returns the number of unloaded towers';

-- the embedding service

CREATE FUNCTION _clip_service()
	RETURNS TABLE (state text, reason text, pid bigint, since timestamptz, version text, provider text, isolation text, threads bigint,
		connections bigint, models text, queued bigint, requests bigint, batches bigint, mean_batch_size double precision,
		cache_hits bigint, p50_ms double precision, p99_ms double precision, restarts bigint)
	AS 'MODULE_PATHNAME', 'clip_service_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000 ROWS 1;
COMMENT ON FUNCTION _clip_service() IS 'internal: the row of the view clip_service';

CREATE VIEW @extschema@.clip_service AS
SELECT s.state, s.reason, s.pid, s.since, s.version, s.provider, s.isolation, s.threads, s.connections, s.models::pg_catalog.jsonb AS models,
       s.queued, s.requests, s.batches, s.mean_batch_size, s.cache_hits, s.p50_ms, s.p99_ms, s.restarts
  FROM @extschema@._clip_service() AS s;
COMMENT ON VIEW clip_service IS 'the embedding service (clip.service): its state and its statistics since it started';
COMMENT ON COLUMN clip_service.state IS 'off, starting, running, restarting, failing or unavailable';
COMMENT ON COLUMN clip_service.reason IS 'reason why this session cannot use the service; NULL if it can, or if the service is off';
COMMENT ON COLUMN clip_service.pid IS 'process of the service';
COMMENT ON COLUMN clip_service.since IS 'time when the process started';
COMMENT ON COLUMN clip_service.version IS 'version of the service';
COMMENT ON COLUMN clip_service.provider IS 'execution provider that computes embeddings';
COMMENT ON COLUMN clip_service.isolation IS 'restrictions of the process that the kernel enforces';
COMMENT ON COLUMN clip_service.threads IS 'threads that compute';
COMMENT ON COLUMN clip_service.connections IS 'open connections of sessions and workers';
COMMENT ON COLUMN clip_service.models IS 'loaded encoders';
COMMENT ON COLUMN clip_service.queued IS 'texts and images that wait';
COMMENT ON COLUMN clip_service.requests IS 'requests that arrived';
COMMENT ON COLUMN clip_service.batches IS 'completed runs of an encoder';
COMMENT ON COLUMN clip_service.mean_batch_size IS 'texts or images per completed run';
COMMENT ON COLUMN clip_service.cache_hits IS 'texts whose embeddings came from the cache of the service';
COMMENT ON COLUMN clip_service.p50_ms IS 'median of the duration of recent requests, in milliseconds';
COMMENT ON COLUMN clip_service.p99_ms IS '99th percentile of the duration of recent requests, in milliseconds';
COMMENT ON COLUMN clip_service.restarts IS 'unexpected ends of the service since the server started; NULL if the server does not supervise it';

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

-- managed columns
--
-- An ordinary row trigger of the table embeds a column. This trigger is the only record of a managed column. Its arguments are
-- the mode, the model, the model's digest, on_error and on_vector. Its condition names both columns. So the record follows a
-- renamed column, prevents that a column is dropped by accident, belongs to the table's owner, and is in every dump of the table.

-- The internal tables and views have a schema of their own. Tools that compare an application's schema with its models do not read it.
CREATE SCHEMA _clip;
COMMENT ON SCHEMA _clip IS 'internal: tables and views of pg_clip';

CREATE FUNCTION clip_auto_embed_row() RETURNS trigger
	AS 'MODULE_PATHNAME', 'clip_auto_embed_row_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION clip_auto_embed_row()
	IS 'BEFORE ROW trigger that embeds a column; its arguments are mode, model, digest of the model, on_error, on_vector';

-- The primary key of a table, or a unique index that identifies every row if there is no primary key.
CREATE FUNCTION _clip_key(relation regclass, OUT names name[], OUT types oid[], OUT operators text[], OUT built_in boolean) RETURNS SETOF record
	LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
SELECT pg_catalog.array_agg(a.attname ORDER BY k.n) AS names,
       pg_catalog.array_agg(a.atttypid ORDER BY k.n) AS types,
       pg_catalog.array_agg(pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname) ORDER BY k.n) AS operators,
       pg_catalog.bool_and(n.nspname OPERATOR(pg_catalog.=) 'pg_catalog') AS built_in
  FROM pg_catalog.pg_index AS i
 CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]), pg_catalog.unnest(i.indclass::pg_catalog.oid[]))
       WITH ORDINALITY AS k (attnum, opclass, n)
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum
  JOIN pg_catalog.pg_opclass AS oc ON oc.oid OPERATOR(pg_catalog.=) k.opclass
  JOIN pg_catalog.pg_amop AS am ON am.amopfamily OPERATOR(pg_catalog.=) oc.opcfamily AND am.amopstrategy OPERATOR(pg_catalog.=) 3
   AND am.amoplefttype OPERATOR(pg_catalog.=) oc.opcintype AND am.amoprighttype OPERATOR(pg_catalog.=) oc.opcintype
  JOIN pg_catalog.pg_operator AS o ON o.oid OPERATOR(pg_catalog.=) am.amopopr
  JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace
 WHERE i.indrelid OPERATOR(pg_catalog.=) relation AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
   AND k.n OPERATOR(pg_catalog.<=) i.indnkeyatts AND NOT 0 OPERATOR(pg_catalog.=) ANY (i.indkey::pg_catalog.int2[])
 GROUP BY i.indexrelid, i.indisprimary, i.indnkeyatts
HAVING pg_catalog.bool_and(a.attnotnull) AND pg_catalog.count(*) OPERATOR(pg_catalog.=) i.indnkeyatts
 ORDER BY i.indisprimary DESC, i.indexrelid
 LIMIT 1;
END;
COMMENT ON FUNCTION _clip_key(regclass) IS 'internal: columns, types and equality operators of the key that identifies rows';

-- PostgreSQL silently truncates identifiers to 63 bytes, which could make two names equal. A hash keeps them different.
CREATE FUNCTION _clip_short(name text, max_bytes integer) RETURNS text
	LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN octet_length(name) <= max_bytes THEN name
       ELSE (SELECT left(name, max(n)) FROM generate_series(0, length(name)) AS n WHERE octet_length(left(name, n)) <= max_bytes - 9) || '_' || left(encode(sha256(convert_to(name, getdatabaseencoding())), 'hex'), 8) END
$$;
COMMENT ON FUNCTION _clip_short(text, integer) IS 'internal: a name of at most max_bytes bytes, shortened with a hash that keeps names different';

-- The name of a row trigger. With the longest suffix it still fits into 63 bytes. The prefix zz makes it fire after the
-- application's own triggers.
CREATE FUNCTION _clip_trigger_name(target name) RETURNS name
	LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
-- No such name ends as the names of the other triggers of a column do.
SELECT (@extschema@._clip_short('zz_clip_' || target::text, 44) || CASE WHEN target::text ~ '_(insert|update|check)$' THEN '_' ELSE '' END)::name
$$;
COMMENT ON FUNCTION _clip_trigger_name(name) IS 'internal: preferred name of the row trigger of a column';

-- The name under which clip_reembed builds a new column or index, until it replaces the old one.
CREATE FUNCTION _clip_shadow_name(name name) RETURNS name
	LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT (@extschema@._clip_short(name::text, 55) || '_reembed')::name
$$;
COMMENT ON FUNCTION _clip_shadow_name(name) IS 'internal: temporary name of the replacement of a column or an index';

-- Resolved when the extension is created, so the caller's search_path does not matter.
CREATE FUNCTION _clip_vector_type() RETURNS oid
	LANGUAGE sql STABLE
RETURN 'vector'::pg_catalog.regtype::pg_catalog.oid;
COMMENT ON FUNCTION _clip_vector_type() IS 'internal: pgvector''s type';

-- In PL/pgSQL, as other functions that searches call: the server keeps the plans of such functions for the session.
CREATE FUNCTION _clip_vector_schema() RETURNS name
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT n.nspname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE t.oid = @extschema@._clip_vector_type());
END
$$;
COMMENT ON FUNCTION _clip_vector_schema() IS 'internal: schema of pgvector';

-- The types of pgvector that an embedding column can have. pgvector has halfvec since version 0.7. All else that depends on the type of a
-- column is here, or follows from pgvector's casts to and from vector.
--   name            the name without the schema
--   written         the name as statements write it
--   operator_class  operator class of an index for the cosine distance
--   max_indexed     pgvector's limit of dimensions for such an index
CREATE FUNCTION _clip_vector_types() RETURNS TABLE (type oid, name text, written text, operator_class text, max_indexed integer)
	LANGUAGE plpgsql STABLE ROWS 2
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT t.oid, t.typname::text, format('%I.%I', n.nspname, t.typname), format('%I.%I', n.nspname, k.operator_class), k.max_indexed
	  FROM (VALUES ('vector', 'vector_cosine_ops', 2000), ('halfvec', 'halfvec_cosine_ops', 4000)) AS k (name, operator_class, max_indexed)
	  JOIN pg_type AS v ON v.oid = @extschema@._clip_vector_type()
	  JOIN pg_type AS t ON t.typname = k.name AND t.typnamespace = v.typnamespace
	  JOIN pg_namespace AS n ON n.oid = t.typnamespace
	 -- Others can create a type of that name, if pgvector has none and is in a schema that allows it.
	 WHERE EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'vector'
	                WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.refclassid = 'pg_extension'::regclass);
END
$$;
COMMENT ON FUNCTION _clip_vector_types() IS 'internal: types that an embedding column can have';

CREATE FUNCTION _clip_types_of(dimensions integer) RETURNS text
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT string_agg(format('%s(%s)', v.name, dimensions), ' or ' ORDER BY v.max_indexed) FROM @extschema@._clip_vector_types() AS v
$$;
COMMENT ON FUNCTION _clip_types_of(integer) IS 'internal: types of embeddings with so many dimensions, for messages';

-- One row per column that has a model. clip_auto_embed creates such columns; clip_adopt registers them with source NULL.
CREATE VIEW _clip.columns AS
SELECT t.oid AS trigger_oid,
       t.tgrelid::pg_catalog.regclass AS relation,
       c.relowner AS owner,
       c.relkind,
       -- Child tables of INHERITS have triggers of their own. Partitions belong to their partitioned table.
       pg_catalog.format(CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'p' THEN '%I.%I' ELSE 'ONLY %I.%I' END, n.nspname, c.relname) AS rows_of,
       t.tgname AS trigger_name,
       t.tgenabled AS enabled,
       a.args[1] AS mode,
       a.args[2] AS model,
       a.args[3] AS digest,
       a.args[4] AS on_error,
       CASE WHEN a.args[5] OPERATOR(pg_catalog.=) 'keep' THEN 'keep' ELSE 'replace' END AS on_vector,
       -- The source of a column that is not maintained any more. The trigger records its name, and its number in this very table, which a
       -- restored table does not keep. A dropped column keeps its number under a name that no other column has.
       CASE WHEN a.args[1] OPERATOR(pg_catalog.=) 'stamp' AND a.args[6] OPERATOR(pg_catalog.<>) '' THEN COALESCE(
            (SELECT f.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS f WHERE f.attrelid OPERATOR(pg_catalog.=) t.tgrelid
                AND a.args[7] OPERATOR(pg_catalog.=) pg_catalog.format('%s.%s', f.attrelid, f.attnum)),
            a.args[6]) END AS former_source,
       source.attname AS source,
       source.atttypid::pg_catalog.regtype AS source_type,
       target.attname AS target,
       target.atttypid AS target_type,
       key.names AS key_names,
       key.types AS key_types,
       key.operators AS key_operators,
       key.built_in AS key_built_in
  FROM pg_catalog.pg_trigger AS t
  JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
  JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 -- Arguments end with a null byte. A name can contain the text \000, so the bytes are split as pairs of digits.
 CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(pg_catalog.convert_from(pg_catalog.decode(pg_catalog.replace(h.digits, ' ', ''), 'hex'), pg_catalog.getdatabaseencoding()) ORDER BY h.n)
        FROM pg_catalog.unnest(pg_catalog.string_to_array(pg_catalog.regexp_replace(pg_catalog.encode(t.tgargs, 'hex'), '(..)', '\1 ', 'g'), '00 ')) WITH ORDINALITY AS h (digits, n)) AS a (args)
  JOIN LATERAL (
       SELECT attname, atttypid
         FROM pg_catalog.pg_depend AS d
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) d.refobjid AND a.attnum OPERATOR(pg_catalog.=) d.refobjsubid
        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) t.oid
          AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) t.tgrelid
          AND a.attnum OPERATOR(pg_catalog.>) 0 AND a.atttypid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT v.type FROM @extschema@._clip_vector_types() AS v))
       ) AS target ON true
  LEFT JOIN LATERAL (
       SELECT attname, atttypid
         FROM pg_catalog.pg_depend AS d
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) d.refobjid AND a.attnum OPERATOR(pg_catalog.=) d.refobjsubid
        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) t.oid
          AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) t.tgrelid
          AND a.attnum OPERATOR(pg_catalog.>) 0 AND a.atttypid OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT v.type FROM @extschema@._clip_vector_types() AS v))
       ) AS source ON true
  LEFT JOIN LATERAL @extschema@._clip_key(t.tgrelid::pg_catalog.regclass) AS key ON true
 WHERE t.tgfoid OPERATOR(pg_catalog.=) '@extschema@.clip_auto_embed_row()'::pg_catalog.regprocedure AND t.tgparentid OPERATOR(pg_catalog.=) 0
   -- Arguments of any size would slow the view for all roles.
   AND pg_catalog.octet_length(t.tgargs) OPERATOR(pg_catalog.<) 4096
   -- Other sessions cannot read temporary tables, which exist for a moment after their session has ended.
   AND NOT pg_catalog.pg_is_other_temp_schema(c.relnamespace);
COMMENT ON VIEW _clip.columns IS 'internal: columns that have a model, with the parts of statements about them';

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

-- The statements that fill the pending rows of a column. They pass a key as the values of its columns, so that no value is
-- converted to text and back. All names are schema-qualified, because the statements run under the caller's search_path.
CREATE FUNCTION _clip_filling(relation regclass, trigger_name name, OUT owner oid, OUT mode text, OUT model text,
	OUT digest text, OUT on_error text, OUT is_image boolean, OUT target_type oid, OUT key_types oid[], OUT is_ordered boolean,
	OUT has_failures boolean, OUT inserted text, OUT updated text, OUT first_rows text, OUT next_rows text, OUT any_row text,
	OUT count_rows text, OUT store text, OUT is_left text, OUT key_object text, OUT gone text)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
	keys text;
	-- The source as text or bytea; a varchar is cast to text.
	source text;
	waiting text;
	failures_of text;
	failed text;
	object text;
	digest_of text;
BEGIN
	SELECT * INTO col FROM _clip.columns AS c
	 WHERE c.relation = _clip_filling.relation AND c.trigger_name = _clip_filling.trigger_name AND c.source IS NOT NULL AND c.key_names IS NOT NULL;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	owner := col.owner;
	mode := col.mode;
	model := col.model;
	digest := col.digest;
	on_error := col.on_error;
	is_image := col.source_type = 'bytea'::regtype;
	target_type := col.target_type;
	key_types := col.key_types;
	is_ordered := col.key_built_in;
	has_failures := EXISTS (SELECT FROM _clip.failures AS f WHERE f.relation = col.relation AND f.trigger_name = col.trigger_name);
	SELECT string_agg(format('t.%I', name), ', ' ORDER BY i) INTO keys FROM unnest(col.key_names) WITH ORDINALITY AS k (name, i);
	source := format('t.%I::pg_catalog.%s', col.source, CASE WHEN is_image THEN 'bytea' ELSE 'text' END);
	object := @extschema@._clip_key_object(col.key_names, 't'::text);
	waiting := format(' FROM %s AS t WHERE t.%I IS NULL AND t.%I IS NOT NULL', col.rows_of, col.target, col.source);
	count_rows := 'SELECT pg_catalog.count(*)' || waiting;
	IF @extschema@._clip_citus_kind(col.relation) = 'reference' THEN
		IF (SELECT c.relrowsecurity AND c.relforcerowsecurity FROM pg_class AS c WHERE c.oid = col.relation) THEN
			RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('reference table %s of Citus has FORCE ROW LEVEL SECURITY', col.relation),
				DETAIL = 'The policies would hide rows on the other nodes from the owner of the table, who writes the embeddings.',
				HINT = format('Run: ALTER TABLE %s NO FORCE ROW LEVEL SECURITY. The policies then apply to all other roles.', col.relation);
		END IF;
		-- In a query of a Citus table, Citus reads the tables of a view with the privileges of the caller.
		SELECT format('pg_catalog.jsonb_to_recordset(%L::pg_catalog.jsonb) AS f (key pg_catalog.jsonb, source_digest pg_catalog.text, waits pg_catalog.bool) WHERE true',
			COALESCE(jsonb_agg(jsonb_build_object('key', f.key, 'source_digest', f.source_digest,
				'waits', f.retry_at > now() AND (f.last_failed_at <= now() OR f.retry_at = 'infinity'))), '[]'))
		  INTO failures_of FROM _clip.failures AS f WHERE f.relation = col.relation AND f.trigger_name = col.trigger_name;
	ELSE
		failures_of := format('_clip.failed AS f WHERE f.relation::pg_catalog.oid OPERATOR(pg_catalog.=) %s::pg_catalog.oid '
			'AND f.trigger_name OPERATOR(pg_catalog.=) %L::pg_catalog.name', col.relation::oid, col.trigger_name);
	END IF;
	gone := format('SELECT COALESCE(pg_catalog.array_agg(f.key), ''{}'') FROM %s '
		'AND f.key OPERATOR(pg_catalog.<>) ''null''::pg_catalog.jsonb AND NOT EXISTS (SELECT FROM (SELECT %s AS key%s) AS w WHERE w.key OPERATOR(pg_catalog.=) f.key)',
		failures_of, object, waiting);
	IF has_failures THEN
		digest_of := CASE WHEN is_image THEN format('pg_catalog.encode(pg_catalog.sha256(t.%I), ''hex'')', col.source)
			ELSE format('pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(t.%I::pg_catalog.text, pg_catalog.getdatabaseencoding())), ''hex'')', col.source) END;
		failed := format('FROM %s AND f.waits', failures_of);
		-- The subqueries are evaluated once, because no index is used behind a security_barrier view. The source is read only if
		-- its row has failed before.
		waiting := waiting || format(' AND CASE WHEN %1$s OPERATOR(pg_catalog.=) ANY (SELECT f.key %2$s) THEN '
			-- A source above the size limit has no digest. Its row is skipped as long as it is above the limit.
			'NOT (pg_catalog.octet_length(t.%3$I)::pg_catalog.int8 OPERATOR(pg_catalog.>) %4$s::pg_catalog.int8 '
			'AND %1$s OPERATOR(pg_catalog.=) ANY (SELECT f.key %2$s AND f.source_digest OPERATOR(pg_catalog.=) '''')) '
			'AND NOT (CASE WHEN pg_catalog.octet_length(t.%3$I)::pg_catalog.int8 OPERATOR(pg_catalog.<=) %4$s::pg_catalog.int8 THEN ROW(%1$s, %5$s) '
			'OPERATOR(pg_catalog.=) ANY (SELECT f.key, f.source_digest %2$s) ELSE false END) ELSE true END',
			object, failed, col.source, @extschema@._clip_max_bytes(is_image), digest_of);
	END IF;
	any_row := format('SELECT EXISTS (SELECT%s)', waiting);
	first_rows := format('SELECT %s, %s%s ORDER BY %s LIMIT $1 FOR NO KEY UPDATE OF t SKIP LOCKED', keys, source, waiting, keys);
	next_rows := format('SELECT %s, %s%s AND ROW(%s) OPERATOR(pg_catalog.>) ROW(%s) ORDER BY %s LIMIT $1 FOR NO KEY UPDATE OF t SKIP LOCKED',
		keys, source, waiting, keys, (SELECT string_agg('$' || i + 1, ', ' ORDER BY i) FROM generate_subscripts(col.key_names, 1) AS i), keys);
	inserted := format('SELECT %s, %s FROM clip_new AS t WHERE t.%I IS NULL AND t.%I IS NOT NULL', keys, source, col.target, col.source);
	-- Rows that were pending before the update, and whose source did not change, are left to a backfill.
	updated := inserted || format(' AND NOT EXISTS (SELECT FROM clip_old AS o WHERE %s AND o.%I IS NULL AND o.%I%s OPERATOR(pg_catalog.=) t.%I)',
		(SELECT string_agg(format('t.%I %s o.%I', name, operator, name), ' AND ' ORDER BY i)
		   FROM unnest(col.key_names, col.key_operators) WITH ORDINALITY AS k (name, operator, i)),
		-- A collation of the column may call different texts equal.
		col.target, col.source, CASE WHEN is_image THEN '' ELSE ' COLLATE pg_catalog."C"' END, col.source);
	store := format('UPDATE %s AS t SET %I = $1 WHERE t.%I IS NULL AND %s RETURNING t.%I IS NOT NULL', col.rows_of, col.target, col.target,
		(SELECT string_agg(format('t.%I %s $%s', name, operator, i + 1), ' AND ' ORDER BY i)
		   FROM unnest(col.key_names, col.key_operators) WITH ORDINALITY AS k (name, operator, i)), col.target);
	is_left := format('SELECT EXISTS (SELECT FROM %s AS t WHERE t.%I IS NULL AND t.%I IS NOT NULL AND %s)', col.rows_of, col.target, col.source,
		(SELECT string_agg(format('t.%I %s $%s', name, operator, i), ' AND ' ORDER BY i)
		   FROM unnest(col.key_names, col.key_operators) WITH ORDINALITY AS k (name, operator, i)));
	SELECT format('SELECT pg_catalog.jsonb_build_object(%s)', string_agg(format('%L, $%s', name, i), ', ' ORDER BY i)) INTO key_object
	  FROM unnest(col.key_names) WITH ORDINALITY AS k (name, i);
END
$$;
COMMENT ON FUNCTION _clip_filling(regclass, name) IS 'internal: the record and the statements to fill a column; NULLs if it has no key or does not exist';

CREATE FUNCTION clip_auto_embed_statement() RETURNS trigger
	AS 'MODULE_PATHNAME', 'clip_auto_embed_statement_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION clip_auto_embed_statement()
	IS 'AFTER STATEMENT trigger that embeds all rows of a statement in batches; its argument is the name of the table''s row trigger';

-- A table and all tables that inherit from it, partitions included. As in the server, a partition that is being detached does not belong to
-- its table any more, and the temporary tables of other sessions cannot be read.
CREATE FUNCTION _clip_inheritors(relation oid) RETURNS SETOF oid
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY WITH RECURSIVE tables (oid) AS (
		SELECT relation UNION SELECT i.inhrelid FROM tables AS t JOIN pg_inherits AS i ON i.inhparent = t.oid JOIN pg_class AS c ON c.oid = i.inhrelid
		 WHERE NOT i.inhdetachpending AND NOT pg_is_other_temp_schema(c.relnamespace)
	)
	SELECT t.oid FROM tables AS t;
END
$$;
COMMENT ON FUNCTION _clip_inheritors(oid) IS 'internal: a table and all tables that inherit from it';

CREATE FUNCTION _clip_has_foreign(relation regclass) RETURNS boolean
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM @extschema@._clip_inheritors(relation::oid) AS t (oid) JOIN pg_class AS c ON c.oid = t.oid WHERE c.relkind = 'f')
$$;
COMMENT ON FUNCTION _clip_has_foreign(regclass) IS 'internal: true if other servers store rows of a table';

-- In functions without a search_path of their own, here and below, each name is schema-qualified and each operator matches its
-- argument types exactly, so that objects in the caller's search_path are never found. All functions call the extension's
-- functions with all arguments, of exactly the declared types, so that functions which others create next to them never match
-- better.

CREATE FUNCTION _clip_require_names(relation regclass, target name) RETURNS void
	LANGUAGE plpgsql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF relation IS NULL OR target IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'relation and target must not be null';
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_names(regclass, name) IS 'internal: raise an error if the table or the column is NULL';

CREATE FUNCTION _clip_require_column(relation regclass, column_name name, kind text, argument text, OUT type oid, OUT modifier integer,
	OUT is_generated boolean)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT a.atttypid, a.atttypmod, a.attgenerated <> '' INTO type, modifier, is_generated FROM pg_attribute AS a
	 WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('column "%s" of table %s does not exist', column_name, relation),
			HINT = format('Name %s: %s => ''name''.', kind, argument);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_column(regclass, name, text, text) IS 'internal: the type of a column, or an error if it does not exist';

CREATE FUNCTION _clip_require_key(relation regclass, reason text, OUT names name[], OUT built_in boolean)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT k.names, k.built_in INTO names, built_in FROM @extschema@._clip_key(relation) AS k;
	IF NOT FOUND THEN
		IF @extschema@._clip_has_foreign(relation) THEN
			RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('table %s has foreign partitions', relation),
				DETAIL = reason || ' A table with foreign partitions cannot have a primary key.', HINT = 'Call the function on each server, for its own table.';
		END IF;
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table %s has no primary key', relation),
			DETAIL = reason, HINT = 'Add a primary key, or a unique index on columns that are NOT NULL.';
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_key(regclass, text) IS 'internal: the key of a table, or an error if it has none';

CREATE FUNCTION _clip_column(relation regclass, target name) RETURNS _clip.columns
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
BEGIN
	PERFORM @extschema@._clip_require_names(relation, target);
	SELECT * INTO col FROM _clip.columns AS c WHERE c.relation = _clip_column.relation AND c.target = _clip_column.target;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('column "%s" of table %s has no model', target, relation),
			HINT = 'Columns that have a model: SELECT relation, target, model FROM clip_auto_embed_status. Call clip_auto_embed to add a column, or clip_adopt to register existing embeddings.';
	END IF;
	RETURN col;
END
$$;
COMMENT ON FUNCTION _clip_column(regclass, name) IS 'internal: a column that has a model, or an error';

CREATE FUNCTION _clip_require_owner(relation regclass) RETURNS void
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT (SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = relation) THEN
		RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('must be owner of table %s', relation);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_owner(regclass) IS 'internal: raise an error unless the role owns the table';

-- Prevents changes to a table's columns and triggers until the transaction ends, because clip_reembed may be about to swap
-- them. Other sessions can still read and write the table. A role that may not take the lock gets an error from a later check.
CREATE FUNCTION _clip_hold(relation regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM pg_class AS c WHERE c.oid = relation AND c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'USAGE')) THEN
		EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', relation);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_hold(regclass) IS 'internal: lock a table of the role against changes to its columns and triggers';

CREATE FUNCTION _clip_pending_index(relation regclass, source name, target name) RETURNS regclass
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT i.indexrelid::regclass
  FROM pg_index AS i
 WHERE i.indrelid = relation AND pg_get_expr(i.indpred, i.indrelid) = format('((%I IS NULL) AND (%I IS NOT NULL))', target, source)
 ORDER BY i.indexrelid LIMIT 1
$$;
COMMENT ON FUNCTION _clip_pending_index(regclass, name, name) IS 'internal: index of the pending rows';

-- The name of a new index: of its table, its column and an ending, with a number if another relation has that name. Tools declare the
-- index under this name.
CREATE FUNCTION _clip_index_name(relation regclass, target name, ending text) RETURNS name
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tab CONSTANT record := (SELECT c FROM pg_class AS c WHERE c.oid = relation);
	preferred CONSTANT text := @extschema@._clip_short(tab.relname::text || '_' || target::text, 63 - octet_length(ending)) || ending;
	free text := preferred;
	number integer := 0;
BEGIN
	WHILE EXISTS (SELECT FROM pg_class AS c WHERE c.relname::text = free AND c.relnamespace = tab.relnamespace) LOOP
		number := number + 1;
		free := @extschema@._clip_short(preferred, 60) || number;
	END LOOP;
	RETURN free::name;
END
$$;
COMMENT ON FUNCTION _clip_index_name(regclass, name, text) IS 'internal: name of a new index of a column';

-- The new HNSW index of an embedding column, after the words CREATE INDEX. pgvector builds the graph from 64 candidates for each row by
-- default. With 200, searches of large tables find more of the nearest rows, and the index has the same size. docs/design/search.md
-- has the measurements.
CREATE FUNCTION _clip_index_definition(relation regclass, target name, operator_class text) RETURNS text
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('%I ON %s USING hnsw (%I %s) WITH (ef_construction = 200)', @extschema@._clip_index_name(relation, target, '_idx'::text), relation, target, operator_class)
$$;
COMMENT ON FUNCTION _clip_index_definition(regclass, name, text) IS 'internal: new index of an embedding column';

-- The indexes that order the rows of a table by the distance of an embedding column to a vector, the preferred one first. An index of any
-- access method counts, if its operator class orders by an operator of pgvector that sorts vectors of length one as the cosine distance
-- does. Complete indexes come before partial ones, and HNSW before other methods.
--   before, after  the text around the column in the indexed expression: the column itself, its cast to another type, or its bits
--   operator       operator that orders the rows
--   dimensions     number of dimensions of the indexed values
--   bits           if the index orders by the bits of binary_quantize, so that a search sorts more rows by their embeddings: plain, or
--                  rotated for the bits of clip_rotate
--   is_cosine      true if the order does not depend on the lengths of the vectors
CREATE FUNCTION _clip_vector_indexes(relation regclass, target name)
	RETURNS TABLE (index regclass, method name, before text, after text, operator text, dimensions integer, bits text, is_cosine boolean)
	LANGUAGE plpgsql STABLE ROWS 1
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	vectors CONSTANT text := quote_ident(@extschema@._clip_vector_schema());
	rotate CONSTANT text := '@extschema@' || '.clip_rotate(';
	types CONSTANT oid[] := ARRAY(SELECT v.type FROM @extschema@._clip_vector_types() AS v);
BEGIN
	RETURN QUERY
	SELECT i.indexrelid::regclass, am.amname, k.before, k.after, format('OPERATOR(%s.%s)', vectors, o.oprname), e.atttypmod, k.bits, o.oprname IN ('<=>', '<~>')
	  FROM pg_index AS i
	  JOIN pg_class AS c ON c.oid = i.indexrelid
	  JOIN pg_am AS am ON am.oid = c.relam
	  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = target AND a.attnum > 0
	  JOIN pg_attribute AS e ON e.attrelid = i.indexrelid AND e.attnum = 1
	  JOIN pg_opclass AS oc ON oc.oid = i.indclass[0]
	  JOIN pg_amop AS ao ON ao.amopfamily = oc.opcfamily AND ao.amoppurpose = 'o' AND ao.amoplefttype = oc.opcintype
	  JOIN pg_operator AS o ON o.oid = ao.amopopr
	 CROSS JOIN format_type(e.atttypid, e.atttypmod) AS f (type)
	 -- Expressions are compared as the server writes them. A rotation has constants: the mean of embeddings and the number of bits.
	 -- The server locks the table to write an expression, so it writes no others.
	 CROSS JOIN LATERAL (SELECT CASE i.indkey[0] WHEN 0 THEN pg_get_indexdef(i.indexrelid, 1, false) END AS written) AS d
	 CROSS JOIN (VALUES (''), (format('::%s.vector', vectors))) AS l (cast_to)
	 CROSS JOIN LATERAL (SELECT format('((%s.binary_quantize(%s%s, ', vectors, rotate, CASE l.cast_to WHEN '' THEN quote_ident(target) ELSE format('(%I)%s', target, l.cast_to) END) AS opening, format(')))::%s)', f.type) AS ending) AS r
	 CROSS JOIN LATERAL (SELECT substr(d.written, length(r.opening) + 1, greatest(0, length(d.written) - length(r.opening) - length(r.ending))) AS constants) AS m
	 CROSS JOIN LATERAL (
	       SELECT n.* FROM (VALUES ('', '', NULL, NULL),
	              ('', '::' || f.type, format('((%I)::%s)', target, f.type), NULL),
	              (vectors || '.binary_quantize(', ')::pg_catalog.' || f.type, format('((%s.binary_quantize(%I))::%s)', vectors, target, f.type), 'plain')) AS n
	        WHERE l.cast_to = ''
	       UNION ALL SELECT vectors || '.binary_quantize(' || rotate, format('%s, %s))::pg_catalog.%s', l.cast_to, m.constants, f.type),
	              CASE WHEN m.constants ~ '^\(?''\[[-+.,e0-9]*\]''::[^'']*, [0-9]+$' THEN r.opening || m.constants || r.ending END, 'rotated'
	       ) AS k (before, after, definition, bits)
	 WHERE i.indrelid = relation AND i.indisvalid AND o.oprnamespace = to_regnamespace(vectors)
	   AND CASE WHEN k.bits IS NOT NULL THEN oc.opcintype = 'bit'::regtype AND o.oprname = '<~>' ELSE oc.opcintype = ANY (types) AND o.oprname IN ('<=>', '<->', '<#>') END
	   AND CASE i.indkey[0] WHEN 0 THEN d.written = k.definition WHEN a.attnum THEN k.definition IS NULL AND k.bits IS NULL END
	 ORDER BY i.indpred IS NULL DESC, am.amname <> 'hnsw', k.bits IS NOT NULL, k.bits DESC, am.amname, i.indexrelid;
END
$$;
COMMENT ON FUNCTION _clip_vector_indexes(regclass, name) IS 'internal: indexes that searches of a column can use';

CREATE FUNCTION _clip_other_indexes(relation regclass, target name, index regclass) RETURNS oid[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
WITH tables (oid) AS (SELECT relation::oid UNION SELECT p.relid FROM pg_partition_tree(relation) AS p)
SELECT ARRAY(SELECT i.index::oid FROM tables AS t, @extschema@._clip_vector_indexes(t.oid::regclass, target) AS i
              WHERE i.index <> _clip_other_indexes.index AND NOT EXISTS (SELECT FROM pg_partition_tree(_clip_other_indexes.index) AS p WHERE p.relid = i.index))
$$;
COMMENT ON FUNCTION _clip_other_indexes(regclass, name, regclass) IS 'internal: indexes that a search by a named index does not use, those of partitions included';

CREATE FUNCTION _clip_vector_index(relation regclass, target name) RETURNS regclass
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT i.index FROM @extschema@._clip_vector_indexes(relation, target) AS i LIMIT 1);
END
$$;
COMMENT ON FUNCTION _clip_vector_index(regclass, name) IS 'internal: index that searches use';

-- The name of another trigger of a column. It fits into 63 bytes, whatever name the row trigger has.
CREATE FUNCTION _clip_other_name(row_trigger name, ending text) RETURNS name
	LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT (@extschema@._clip_short(row_trigger::text, 63 - octet_length(ending)) || ending)::name
$$;
COMMENT ON FUNCTION _clip_other_name(name, text) IS 'internal: name of the statement or check trigger of a column';

-- An owner can disable a trigger, or let it fire for rows of a subscription. The new trigger has the same state.
CREATE FUNCTION _clip_set_state(relation regclass, trigger_name name, enabled "char") RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT ARRAY[format('ALTER TABLE %s %s TRIGGER %I', relation,
	CASE enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END, trigger_name)]
$$;
COMMENT ON FUNCTION _clip_set_state(regclass, name, "char") IS 'internal: DDL that sets when a trigger fires';

CREATE FUNCTION _clip_create_statement_triggers(col _clip.columns) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE col.mode WHEN 'statement' THEN ARRAY[
           format('CREATE TRIGGER %I AFTER INSERT ON %s REFERENCING NEW TABLE AS clip_new FOR EACH STATEMENT '
               'EXECUTE FUNCTION @extschema@.clip_auto_embed_statement(%L)', @extschema@._clip_other_name(col.trigger_name, '_insert'), col.relation, col.trigger_name),
           format('CREATE TRIGGER %I AFTER UPDATE ON %s REFERENCING OLD TABLE AS clip_old NEW TABLE AS clip_new FOR EACH STATEMENT '
               'EXECUTE FUNCTION @extschema@.clip_auto_embed_statement(%L)', @extschema@._clip_other_name(col.trigger_name, '_update'), col.relation, col.trigger_name)]
       ELSE '{}' END
$$;
COMMENT ON FUNCTION _clip_create_statement_triggers(_clip.columns) IS 'internal: DDL that creates the statement triggers of a column';

-- _clip_settle gives the other triggers the state of the row trigger.
CREATE FUNCTION _clip_create_triggers(col _clip.columns) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT ARRAY[format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW WHEN (NEW.%I IS NOT NULL OR NEW.%I IS NOT NULL) '
           'EXECUTE FUNCTION @extschema@.clip_auto_embed_row(%L, %L, %L, %L, %L)',
           col.trigger_name, col.relation, col.source, col.target, col.mode, col.model, col.digest, col.on_error, col.on_vector)]
       || CASE WHEN col.enabled <> 'O' THEN @extschema@._clip_set_state(col.relation, col.trigger_name, col.enabled) END
       || @extschema@._clip_create_statement_triggers(col)
$$;
COMMENT ON FUNCTION _clip_create_triggers(_clip.columns) IS 'internal: DDL that creates a column''s triggers';

-- The other triggers of a column have the name of its row trigger as their argument. A column can be renamed, and the names of two
-- columns can differ by an ending: so a trigger is never found by the name that it would have.
CREATE FUNCTION _clip_other_triggers(relation regclass) RETURNS TABLE (oid oid, name name, row_trigger text)
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT t.oid, t.tgname, convert_from(substring(t.tgargs FROM 1 FOR octet_length(t.tgargs) - 1), getdatabaseencoding())
  FROM pg_trigger AS t
 WHERE t.tgrelid = relation AND t.tgparentid = 0 AND t.tgnargs = 1
   AND t.tgfoid IN ('@extschema@.clip_auto_embed_statement()'::regprocedure, '@extschema@.clip_auto_embed_check()'::regprocedure)
$$;
COMMENT ON FUNCTION _clip_other_triggers(regclass) IS 'internal: statement and check triggers of a table, with the names of their row triggers';

CREATE FUNCTION _clip_drop_triggers(relation regclass, trigger_name name) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT array_agg(format('DROP TRIGGER %I ON %s', t.name, relation) ORDER BY t.name)
  FROM (SELECT t.tgname FROM pg_trigger AS t
         WHERE t.tgrelid = relation AND t.tgparentid = 0 AND t.tgname = trigger_name AND t.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure
        UNION ALL SELECT o.name FROM @extschema@._clip_other_triggers(relation) AS o WHERE o.row_trigger = trigger_name::text) AS t (name)
$$;
COMMENT ON FUNCTION _clip_drop_triggers(regclass, name) IS 'internal: DDL that drops a column''s triggers';

-- If a source column is dropped, PostgreSQL drops the row trigger of its embedding column, and the others stay.
CREATE FUNCTION _clip_drop_orphans(relation regclass) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT array_agg(format('DROP TRIGGER %I ON %s', o.name, relation) ORDER BY o.name)
  FROM @extschema@._clip_other_triggers(relation) AS o
 WHERE NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = relation AND t.tgname::text = o.row_trigger)
$$;
COMMENT ON FUNCTION _clip_drop_orphans(regclass) IS 'internal: DDL that drops triggers whose row trigger is gone';

-- A name for a new row trigger that leaves room for the other triggers of the column.
CREATE FUNCTION _clip_free_name(relation regclass, target name) RETURNS name
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	preferred CONSTANT text := @extschema@._clip_trigger_name(target);
	free text := preferred;
	number integer := 1;
BEGIN
	WHILE EXISTS (
		SELECT FROM pg_trigger AS t
		 WHERE (t.tgrelid = relation OR t.tgrelid IN (SELECT p.relid FROM pg_partition_tree(relation) AS p))
		   AND t.tgname IN (free::name, @extschema@._clip_other_name(free::name, '_insert'), @extschema@._clip_other_name(free::name, '_update'), @extschema@._clip_other_name(free::name, '_check')))
	LOOP
		number := number + 1;
		free := preferred || number;
	END LOOP;
	RETURN free::name;
END
$$;
COMMENT ON FUNCTION _clip_free_name(regclass, name) IS 'internal: name for a new row trigger of a column';

CREATE FUNCTION clip_auto_embed_check() RETURNS trigger
	AS 'MODULE_PATHNAME', 'clip_auto_embed_check_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION clip_auto_embed_check()
	IS 'AFTER ROW trigger that rejects a row if its source was changed after it was embedded; its argument is the name of the table''s row trigger';

-- Brings the other triggers of a table's columns in line with their row triggers. A BEFORE trigger that fires after ours may change a
-- source after its embedding was computed: if a table has such a trigger, the check trigger compares the stored row. All triggers of a
-- column have the state of its row trigger. A check trigger is dropped only by a statement on the table itself, which holds the lock.
CREATE FUNCTION _clip_settle(relation regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	root CONSTANT regclass := COALESCE(pg_partition_root(relation), relation);
	col _clip.columns%ROWTYPE;
	check_name name;
	other name;
	is_followed boolean;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = root AND t.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure) THEN
		RETURN;
	END IF;
	FOR col IN SELECT c.* FROM _clip.columns AS c WHERE c.relation = root AND c.source IS NOT NULL LOOP
		is_followed := EXISTS (
			SELECT FROM pg_trigger AS t
			 WHERE (t.tgrelid = root OR t.tgrelid IN (SELECT p.relid FROM pg_partition_tree(root) AS p)) AND t.tgname > col.trigger_name
			   -- Bits of tgtype: FOR EACH ROW (1), BEFORE (2), INSERT (4), UPDATE (16).
			   AND t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0 AND NOT t.tgisinternal AND t.tgfoid <> '@extschema@.clip_auto_embed_row()'::regprocedure);
		SELECT t.tgname INTO check_name FROM @extschema@._clip_other_triggers(root) AS o JOIN pg_trigger AS t ON t.oid = o.oid
		 WHERE o.row_trigger = col.trigger_name::text AND t.tgfoid = '@extschema@.clip_auto_embed_check()'::regprocedure;
		IF is_followed AND check_name IS NULL THEN
			EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE ON %s FOR EACH ROW WHEN (NEW.%I IS NOT NULL) EXECUTE FUNCTION @extschema@.clip_auto_embed_check(%L)',
				@extschema@._clip_other_name(col.trigger_name, '_check'), root, col.target, col.trigger_name);
		ELSIF check_name IS NOT NULL AND NOT is_followed AND root = relation THEN
			EXECUTE format('DROP TRIGGER %I ON %s', check_name, root);
		END IF;
		FOR other IN
			SELECT t.tgname FROM @extschema@._clip_other_triggers(root) AS o JOIN pg_trigger AS t ON t.oid = o.oid
			 WHERE o.row_trigger = col.trigger_name::text AND t.tgenabled <> col.enabled
		LOOP
			PERFORM @extschema@._clip_execute(@extschema@._clip_set_state(root, other, col.enabled), false);
		END LOOP;
		IF col.mode <> 'row' AND col.key_names IS NULL THEN
			RAISE WARNING USING MESSAGE = format('table %s has no key', root),
				DETAIL = format('Mode "%s" identifies rows by their key. Rows of column "%s" stay without an embedding.', col.mode, col.target),
				HINT = 'Add a primary key, or a unique index on columns that are NOT NULL.';
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_settle(regclass) IS 'internal: bring the check and statement triggers of a table in line with its row triggers';

-- A statement on a partition may lead to a check trigger on its root table. Every writer locks the root table first, and so does this.
CREATE FUNCTION _clip_lock_root(relation regclass, role oid) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	root CONSTANT regclass := pg_partition_root(relation);
BEGIN
	IF root <> relation AND EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = root AND t.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure)
	   AND (SELECT pg_has_role(role, c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = relation)
	THEN
		EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', root);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_lock_root(regclass, oid) IS 'internal: lock the root table of a partition before a trigger of the partition is created or renamed';

-- The rows of a table are stored in these tables. "recorded" is the table with the record of the column's model: the table itself, or a
-- partitioned table above it.
CREATE FUNCTION _clip_parts(relation regclass, target name) RETURNS TABLE (part regclass, is_foreign boolean, is_generated boolean, recorded regclass)
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT c.oid::regclass, c.relkind = 'f',
       EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = _clip_parts.target AND a.attgenerated <> ''),
       (SELECT k.relation FROM _clip.columns AS k
         WHERE k.target = _clip_parts.target AND (k.relation = c.oid OR k.relation IN (SELECT a.relid FROM pg_partition_ancestors(c.oid::regclass) AS a))
         ORDER BY k.relation = c.oid DESC, k.relation = pg_partition_root(c.oid::regclass) LIMIT 1)
  FROM pg_class AS c
 WHERE c.relkind IN ('r', 'f') AND (c.oid = relation OR c.oid IN (SELECT p.relid FROM pg_partition_tree(relation) AS p))
$$;
COMMENT ON FUNCTION _clip_parts(regclass, name) IS 'internal: the tables that store the rows of a table, with the table that records the model of a column';

CREATE FUNCTION _clip_is_true(question text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'clip_is_true_wrapper' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION _clip_is_true(text) IS 'internal: run a query that returns a boolean, without the policies that FORCE ROW LEVEL SECURITY imposes on the owner of a table';

-- A foreign table is read with the privileges of the caller, who named it.
CREATE FUNCTION _clip_part_is_filled(part regclass, target name, asked regclass) RETURNS boolean
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN (SELECT c.relkind = 'f' FROM pg_class AS c WHERE c.oid = part)
		THEN @extschema@._clip_is_true(format('SELECT EXISTS (SELECT FROM %s AS t WHERE t.%I IS NOT NULL)', part, target))
		ELSE @extschema@._clip_is_filled(part, target, asked) END;
END
$$;
COMMENT ON FUNCTION _clip_part_is_filled(regclass, name, regclass) IS 'internal: true if a row of a table has an embedding';

-- The server of a foreign table computes its embeddings, and records their model where this server cannot see it. So one row is embedded
-- again.
CREATE FUNCTION _clip_require_same_embedding(part regclass, col _clip.columns) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- Different processors compute embeddings with smaller distances.
	max_distance CONSTANT float8 := 0.001;
	is_image CONSTANT boolean := (SELECT a.atttypid = 'bytea'::regtype FROM pg_attribute AS a WHERE a.attrelid = col.relation AND a.attname = col.source);
	distance float8;
	reason text := 'No row of the table has an embedding.';
	difference text;
BEGIN
	BEGIN
		EXECUTE format('SELECT t.stored OPERATOR(%I.<=>) @extschema@.%I(t.source%s, %L::text) FROM (SELECT f.%I AS stored, f.%I AS source FROM %s AS f WHERE f.%I IS NOT NULL AND f.%I IS NOT NULL LIMIT 1) AS t',
			@extschema@._clip_vector_schema(), CASE WHEN is_image THEN 'clip_embed_image' ELSE 'clip_embed_text' END, CASE WHEN is_image THEN '' ELSE '::text' END, col.model,
			col.target, col.source, part, col.target, col.source) INTO distance;
	EXCEPTION
		-- pgvector's error about another number of dimensions.
		WHEN data_exception THEN
			difference := rtrim(sqlerrm, '.') || '.';
		WHEN OTHERS THEN
			reason := rtrim(sqlerrm, '.') || '.';
	END;
	IF distance <= max_distance THEN
		RETURN;
	ELSIF distance IS NOT NULL THEN
		difference := format('Model "%s" computes an embedding of column "%s" that has a cosine distance of %s from the stored one.', col.model, col.source, distance::numeric(4, 3));
	END IF;
	IF difference IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('embeddings of foreign table %s are not of model "%s"', part, col.model),
			DETAIL = difference,
			HINT = 'Install the same model on both servers, compare its digest in clip_models, and recompute the embeddings on the server of the table: CALL clip_reembed.';
	END IF;
	RAISE NOTICE USING MESSAGE = format('embeddings of foreign table %s are not checked', part),
		DETAIL = format('They must be of model "%s", computed from column "%s". %s', col.model, col.source, reason),
		HINT = format('Check them later: SELECT clip_auto_embed(%L, %L, %L).', col.relation, col.source, col.target);
END
$$;
COMMENT ON FUNCTION _clip_require_same_embedding(regclass, _clip.columns) IS 'internal: raise an error if the embeddings of a foreign table are not of the model of a column';

-- The embeddings that a table has must be of the model of the column, computed from its source. That is known of a managed column, and of
-- one that clip_adopt registered. A partition is managed with its root table: the function returns the statements that drop its own record.
CREATE FUNCTION _clip_require_matching(relation regclass, col _clip.columns) RETURNS text[]
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	statements text[] := '{}';
	part record;
	own _clip.columns%ROWTYPE;
	own_source text;
	unrecorded regclass[] := '{}';
	is_filled boolean;
	clear text;
BEGIN
	FOR part IN SELECT p.* FROM @extschema@._clip_parts(relation, col.target) AS p LOOP
		IF part.is_foreign AND part.part <> col.relation AND col.source IS NOT NULL THEN
			PERFORM @extschema@._clip_require_same_embedding(part.part, col);
			CONTINUE;
		END IF;
		IF col.source IS NOT NULL AND (part.is_generated OR EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = part.part AND a.attname = col.source AND a.attgenerated <> '')) THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_column_reference',
				MESSAGE = format('column "%s" of table %s is generated', CASE WHEN part.is_generated THEN col.target ELSE col.source END, part.part),
				DETAIL = 'PostgreSQL computes its value after BEFORE triggers have run.',
				HINT = format('Make it an ordinary column: ALTER TABLE %s ALTER COLUMN %I DROP EXPRESSION.', part.part, CASE WHEN part.is_generated THEN col.target ELSE col.source END);
		END IF;
		IF part.recorded IS NULL THEN
			unrecorded := unrecorded || part.part;
			CONTINUE;
		END IF;
		SELECT c.* INTO own FROM _clip.columns AS c WHERE c.relation = part.recorded AND c.target = col.target;
		-- clip_adopt replaces the record of the table itself.
		CONTINUE WHEN own.relation = col.relation AND col.source IS NULL;
		own_source := COALESCE(own.source::text, own.former_source);
		IF own.digest <> col.digest OR own_source <> col.source::text OR own.source IS NULL AND own.relation <> col.relation THEN
			is_filled := @extschema@._clip_part_is_filled(part.part, col.target, relation);
			clear := CASE WHEN own.source IS NULL THEN '' ELSE format('SELECT clip_auto_embed_drop(%L, %L); ', own.relation, col.target) END
				|| format('UPDATE %s SET %I = NULL.', own.relation, col.target);
			IF is_filled AND own.digest <> col.digest THEN
				RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
					MESSAGE = format('column "%s" of table %s has embeddings of model "%s"', col.target, own.relation, own.model),
					DETAIL = format('The column of table %s has embeddings of model "%s".', col.relation, col.model),
					HINT = CASE WHEN own.source IS NULL OR (SELECT c.relispartition FROM pg_class AS c WHERE c.oid = own.relation) THEN 'Clear the embeddings first: ' || clear
						ELSE format('Recompute them first: CALL clip_reembed(%L, %L, %L).', own.relation, col.target, col.model) END;
			ELSIF is_filled AND own_source <> col.source::text THEN
				RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
					MESSAGE = CASE WHEN starts_with(own_source, '........pg.dropped') THEN format('column "%s" of table %s has embeddings of a dropped column', col.target, own.relation)
						ELSE format('column "%s" of table %s has embeddings of column "%s"', col.target, own.relation, own_source) END,
					HINT = format('Clear them: %s If column "%s" has the same content, register them: SELECT clip_adopt(%L, %L, %L).',
						clear, col.source, own.relation, col.target, col.model);
			ELSIF is_filled AND col.source IS NOT NULL THEN
				RAISE NOTICE USING MESSAGE = format('table %s keeps its embeddings', own.relation),
					HINT = format('If sources have changed since, clear their embeddings: UPDATE %s SET %I = NULL WHERE ...', own.relation, col.target);
			END IF;
		END IF;
		IF own.relation <> col.relation THEN
			statements := statements || @extschema@._clip_drop_triggers(own.relation, own.trigger_name);
		END IF;
	END LOOP;
	IF unrecorded <> '{}' AND col.source IS NOT NULL
	   AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = col.target AND a.attnum > 0 AND NOT a.attisdropped)
	THEN
		IF (SELECT bool_or(@extschema@._clip_part_is_filled(p, col.target, relation)) FROM unnest(unrecorded) AS p) THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = format('column "%s" of table %s has embeddings of an unknown model', col.target, relation),
				HINT = format('If model "%s" computed them from column "%s", register them: SELECT clip_adopt(%L, %L, %L). Otherwise clear them: UPDATE %s SET %I = NULL.',
					col.model, col.source, relation, col.target, col.model, relation, col.target);
		END IF;
	END IF;
	RETURN (SELECT COALESCE(array_agg(DISTINCT s), '{}') FROM unnest(statements) AS s);
END
$$;
COMMENT ON FUNCTION _clip_require_matching(regclass, _clip.columns) IS 'internal: raise an error if the embeddings of a table do not match a column; returns DDL that drops the records of its partitions';

-- A partition brings its rows with it, and gets copies of the triggers of its root table.
CREATE FUNCTION _clip_attach(parent regclass, partition regclass, role oid) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	root CONSTANT regclass := COALESCE(pg_partition_root(parent), parent);
	col _clip.columns%ROWTYPE;
	own _clip.columns%ROWTYPE;
	statements text[];
BEGIN
	IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = root AND t.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure)
	   -- PostgreSQL rejects these itself.
	   OR NOT (SELECT bool_and(pg_has_role(role, c.relowner, 'USAGE') AND c.relkind IN ('r', 'p', 'f') AND (NOT c.relispartition OR c.oid = parent)) FROM pg_class AS c WHERE c.oid IN (parent, partition))
	   OR @extschema@._clip_citus_repeats(parent)
	THEN
		RETURN;
	END IF;
	-- In the order of every other session: the table before its partition.
	EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', parent);
	IF (SELECT c.relkind <> 'f' FROM pg_class AS c WHERE c.oid = partition) THEN
		EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', partition);
	END IF;
	FOR col IN SELECT c.* FROM _clip.columns AS c WHERE c.relation = root LOOP
		CONTINUE WHEN NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = partition AND a.attname = col.target AND a.attnum > 0 AND NOT a.attisdropped);
		IF @extschema@._clip_citus_kind(partition) IS NOT NULL THEN
			-- Citus does not run queries on a distributed table inside an ALTER TABLE. clip_auto_embed has checked the embeddings.
			IF NOT EXISTS (SELECT FROM _clip.columns AS c WHERE c.relation = partition AND c.target = col.target AND c.digest = col.digest
				AND (col.source IS NULL OR c.source = col.source))
			THEN
				RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
					MESSAGE = format('column "%s" of table %s can have embeddings of another model', col.target, partition),
					DETAIL = format('Table %s has embeddings of model "%s". Citus cannot read a table while it becomes a partition.', root, col.model),
					HINT = CASE WHEN col.source IS NULL THEN format('Register its embeddings first: SELECT clip_adopt(%L, %L, %L).', partition, col.target, col.model)
						ELSE format('Embed the table first: SELECT clip_auto_embed(%L, %L, %L, %L, %L).', partition, col.source, col.target, col.model, col.mode) END;
			END IF;
			CONTINUE WHEN col.source IS NULL;
		END IF;
		statements := @extschema@._clip_require_matching(partition, col);
		-- Where only the model of a column is recorded, a partition may maintain its embeddings.
		IF col.source IS NOT NULL THEN
			PERFORM @extschema@._clip_execute(@extschema@._clip_citus_allowing(partition, statements), false);
		END IF;
	END LOOP;
	-- The copies of the root table's triggers need their names.
	FOR own IN
		SELECT c.* FROM _clip.columns AS c JOIN @extschema@._clip_inheritors(partition::oid) AS p (oid) ON p.oid = c.relation
		 WHERE EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = root AND t.tgname = c.trigger_name)
	LOOP
		EXECUTE format('ALTER TRIGGER %I ON %s RENAME TO %I', own.trigger_name, own.relation,
			@extschema@._clip_other_name(@extschema@._clip_trigger_name(own.target), '_' || own.trigger_oid));
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_attach(regclass, regclass, oid) IS 'internal: raise an error if a table cannot become a partition because of its embeddings; drops its own triggers';

-- A detached partition keeps its columns managed: otherwise a change of a source would leave an embedding that does not match it.
CREATE FUNCTION _clip_detached(parent regclass, partition regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
BEGIN
	IF (SELECT c.relispartition FROM pg_class AS c WHERE c.oid = partition) THEN
		RETURN;
	END IF;
	FOR col IN SELECT c.* FROM _clip.columns AS c WHERE c.relation = COALESCE(pg_partition_root(parent), parent) LOOP
		CONTINUE WHEN col.source IS NULL AND EXISTS (SELECT FROM _clip.columns AS c WHERE c.relation = partition AND c.target = col.target);
		PERFORM @extschema@._clip_execute(@extschema@._clip_citus_here(partition, @extschema@._clip_drop_triggers(partition, c.trigger_name)), false)
		   FROM _clip.columns AS c WHERE c.relation = partition AND c.target = col.target;
		col.relation := partition;
		col.trigger_name := @extschema@._clip_citus_trigger_name(partition, @extschema@._clip_free_name(partition, col.target));
		PERFORM @extschema@._clip_execute(@extschema@._clip_citus_here(partition,
			CASE WHEN col.source IS NULL THEN @extschema@._clip_stamp(col) ELSE @extschema@._clip_create_triggers(col) END), false);
	END LOOP;
	PERFORM @extschema@._clip_settle(partition);
END
$$;
COMMENT ON FUNCTION _clip_detached(regclass, regclass) IS 'internal: create the triggers of a table on a partition that was detached from it';

-- PostgreSQL does not change the type of a column that a trigger's condition names. So this function drops the triggers before
-- the change, and returns the statements that create them again after it. The statements that clear embeddings are for a
-- change that computes new source values ("computed").
CREATE FUNCTION _clip_release(relation regclass, changed text[], computed text[], dropped text[], role oid) RETURNS TABLE (statement text, owner oid, is_left text)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	changed_names CONSTANT name[] := ARRAY(SELECT convert_from(decode(n, 'hex'), getdatabaseencoding())::name FROM unnest(changed) AS n);
	computed_names CONSTANT name[] := ARRAY(SELECT convert_from(decode(n, 'hex'), getdatabaseencoding())::name FROM unnest(computed) AS n);
	dropped_names CONSTANT name[] := ARRAY(SELECT convert_from(decode(n, 'hex'), getdatabaseencoding())::name FROM unnest(dropped) AS n);
	col _clip.columns%ROWTYPE;
BEGIN
	-- PostgreSQL rejects the statement of a role that does not own the table.
	IF NOT (SELECT pg_has_role(role, c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = _clip_release.relation) OR NOT EXISTS (
		SELECT FROM @extschema@._clip_inheritors(_clip_release.relation::oid) AS t (oid) JOIN pg_trigger AS g ON g.tgrelid = t.oid JOIN pg_class AS c ON c.oid = t.oid
		 WHERE g.tgfoid = '@extschema@.clip_auto_embed_row()'::regprocedure AND pg_has_role(role, c.relowner, 'USAGE'))
	THEN
		RETURN;
	END IF;
	-- Locks the table before its partitions, in the order of every writer. The tree is read again once it is locked.
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', relation);
	FOR col IN
		SELECT c.* FROM _clip.columns AS c JOIN @extschema@._clip_inheritors(_clip_release.relation::oid) AS t (oid) ON t.oid = c.relation
		 WHERE (c.source = ANY (changed_names) OR c.target = ANY (changed_names)) AND c.target <> ALL (dropped_names) AND pg_has_role(role, c.owner, 'USAGE')
	LOOP
		owner := col.owner;
		IF col.source = ANY (computed_names) THEN
			-- Inside an ALTER TABLE, Citus does not run the query that checks that no embedding is left.
			PERFORM @extschema@._clip_citus_reject(col.relation, 'ALTER COLUMN TYPE with USING of a source column'::text,
				format('Stop maintaining the column with clip_auto_embed_drop, and call clip_auto_embed after the change and after: UPDATE %s SET %I = NULL.', col.relation, col.target));
			statement := format('UPDATE %s AS t SET %I = NULL WHERE t.%I IS NOT NULL', col.rows_of, col.target, col.target);
			is_left := format('SELECT EXISTS (SELECT FROM %s AS t WHERE t.%I IS NOT NULL)', col.rows_of, col.target);
			RETURN NEXT;
		END IF;
		RETURN QUERY SELECT s, col.owner, NULL FROM unnest(@extschema@._clip_citus_allowing(col.relation,
			CASE WHEN col.source IS NULL THEN @extschema@._clip_stamp(col) ELSE @extschema@._clip_create_triggers(col) END)) AS s;
		statement := format('SELECT @extschema@._clip_require_types(%L::pg_catalog.regclass, %L::pg_catalog.name, %L::pg_catalog.name)', col.relation, col.trigger_name, col.target);
		is_left := NULL;
		RETURN NEXT;
		PERFORM @extschema@._clip_execute(@extschema@._clip_citus_allowing(col.relation, @extschema@._clip_drop_triggers(col.relation, col.trigger_name)), false);
	END LOOP;
END
$$;
COMMENT ON FUNCTION _clip_release(regclass, text[], text[], text[], oid) IS 'internal: drop the triggers of columns whose source or target changes its type; returns the statements that clear embeddings (with a query: is one left?) and those that create the triggers again';

-- The update that clears embeddings must leave no deferred trigger, because the next change of the table in the same transaction would
-- fail. So its constraints are immediate during the update. PostgreSQL does not show whether a constraint is deferred at the moment.
CREATE FUNCTION _clip_fire_at_once(relation regclass, begins boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	names CONSTANT text := (SELECT string_agg(DISTINCT format('%I.%I', n.nspname, k.conname), ', ') FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = k.connamespace
		WHERE k.conrelid IN (SELECT i FROM @extschema@._clip_inheritors(relation::oid) AS i) AND k.condeferrable AND (begins OR k.condeferred));
BEGIN
	IF names IS NOT NULL THEN
		EXECUTE format('SET CONSTRAINTS %s %s', names, CASE WHEN begins THEN 'IMMEDIATE' ELSE 'DEFERRED' END);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_fire_at_once(regclass, boolean) IS 'internal: make the constraints of a table immediate, or initially deferred ones deferred again';

CREATE FUNCTION _clip_require_types(relation regclass, trigger_name name, target name) RETURNS void
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
	length integer;
	kind text;
	declared integer;
BEGIN
	SELECT * INTO col FROM _clip.columns AS c WHERE c.relation = _clip_require_types.relation AND c.trigger_name = _clip_require_types.trigger_name;
	SELECT m.dimensions INTO length FROM @extschema@.clip_models AS m WHERE m.name = col.model AND m.digest = col.digest;
	SELECT format_type(a.atttypid, a.atttypmod), NULLIF(a.atttypmod, -1) INTO kind, declared FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = target;
	IF col.relation IS NULL OR declared <> length THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('type of column "%s" of table %s cannot be changed to %s', target, relation, kind),
			DETAIL = CASE WHEN length IS NULL THEN 'An embedding column has type vector or halfvec.' ELSE format('Embeddings of model "%s" have %s dimensions.', col.model, length) END,
			HINT = format('To stop maintaining the embeddings first: SELECT clip_auto_embed_drop(%L, %L).', relation, target);
	END IF;
	IF col.source_type NOT IN ('text'::regtype, 'varchar'::regtype, 'bytea'::regtype) THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('type of column "%s" of table %s cannot be changed to %s', col.source, relation, col.source_type),
			DETAIL = format('Column "%s" is embedded from it. A source column has type text, varchar or bytea.', col.target),
			HINT = format('To stop maintaining the embeddings first: SELECT clip_auto_embed_drop(%L, %L).', relation, col.target);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_types(regclass, name, name) IS 'internal: raise an error if a new type of a source or an embedding column does not suit';

-- Triggers follow a renamed row trigger, and so do the failures that were recorded under its name.
CREATE FUNCTION _clip_follow(relation regclass, old_name text, new_name text) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	old CONSTANT name := convert_from(decode(old_name, 'hex'), getdatabaseencoding());
	col _clip.columns%ROWTYPE;
BEGIN
	SELECT c.* INTO col FROM _clip.columns AS c
	 WHERE c.relation = _clip_follow.relation AND c.trigger_name = convert_from(decode(new_name, 'hex'), getdatabaseencoding())::name;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	PERFORM @extschema@._clip_execute(@extschema@._clip_drop_triggers(relation, old) || @extschema@._clip_create_statement_triggers(col), false);
	UPDATE _clip.failures AS f SET trigger_name = col.trigger_name WHERE f.relation = _clip_follow.relation AND f.trigger_name = old;
END
$$;
COMMENT ON FUNCTION _clip_follow(regclass, text, text) IS 'internal: adapt a column''s other triggers and failures to a renamed row trigger';

CREATE FUNCTION clip_ddl() RETURNS event_trigger
	AS 'MODULE_PATHNAME', 'clip_ddl_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION clip_ddl() IS 'event trigger that keeps managed columns consistent with statements that change their tables';

CREATE EVENT TRIGGER clip_ddl_start ON ddl_command_start WHEN TAG IN ('ALTER TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER', 'DROP TRIGGER') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_start IS 'allows a change of the type of a source column; checks the embeddings of a new partition';
CREATE EVENT TRIGGER clip_ddl_end ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER', 'DROP TRIGGER') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_end IS 'allows a change of the type of a source column; adds the check trigger if a trigger fires after pg_clip''s trigger';
CREATE EVENT TRIGGER clip_ddl_drop ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP FOREIGN TABLE') EXECUTE FUNCTION @extschema@.clip_ddl();
COMMENT ON EVENT TRIGGER clip_ddl_drop IS 'clears the failures of dropped tables';

CREATE FUNCTION _clip_execute(statements text[], dry_run boolean) RETURNS text
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	statement text;
BEGIN
	IF statements IS NULL OR statements = '{}' THEN
		RETURN '-- nothing to do';
	END IF;
	IF NOT dry_run THEN
		FOREACH statement IN ARRAY statements LOOP
			EXECUTE statement;
		END LOOP;
	END IF;
	RETURN array_to_string(statements, E';\n') || ';';
END
$$;
COMMENT ON FUNCTION _clip_execute(text[], boolean) IS 'internal: run statements unless dry_run; returns them';

-- reltuples is -1 before the first ANALYZE; then the estimate is 100 bytes per row.
CREATE FUNCTION _clip_estimated_rows(relation regclass) RETURNS real
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT COALESCE(sum(CASE WHEN c.reltuples >= 0 THEN c.reltuples ELSE pg_relation_size(c.oid) / 100 END), 0)
	          FROM pg_class AS c
	         WHERE c.oid = relation AND c.relkind = 'r' OR c.oid IN (SELECT p.relid FROM pg_partition_tree(relation) AS p WHERE p.isleaf));
END
$$;
COMMENT ON FUNCTION _clip_estimated_rows(regclass) IS 'internal: estimated number of rows of a table, partitions included';

-- Raises the notices about existing rows when a column is attached. Only tables of up to a million rows are counted.
CREATE FUNCTION _clip_notice_rows(relation regclass, col _clip.columns, is_taken_over boolean) RETURNS text
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pending bigint;
	kept bigint;
	rows_in_words text := 'some rows';
	part text;
BEGIN
	IF @extschema@._clip_has_foreign(relation) THEN
		-- Only the rows of this server are read.
		FOR part IN SELECT format('%I.%I', n.nspname, c.relname) FROM @extschema@._clip_parts(relation, col.target) AS p JOIN pg_class AS c ON c.oid = p.part
			JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE NOT p.is_foreign
		LOOP
			EXECUTE format('SELECT count(*) FROM (SELECT FROM %s AS t WHERE t.%I IS NULL AND t.%I IS NOT NULL LIMIT 1) AS one', part, col.target, col.source) INTO pending;
			IF pending > 0 THEN
				RAISE NOTICE USING MESSAGE = format('table %s has some rows without an embedding', part), DETAIL = 'Searches do not find them.',
					HINT = format('To embed them: detach the partition, CALL clip_backfill(%L, %L), and attach it again.', part, col.target);
			END IF;
		END LOOP;
		RETURN '';
	END IF;
	IF @extschema@._clip_estimated_rows(relation) <= 1000000 THEN
		EXECUTE format('SELECT count(*) FILTER (WHERE t.%1$I IS NULL), count(t.%1$I) FROM %3$s AS t WHERE t.%2$I IS NOT NULL', col.target, col.source, col.rows_of) INTO pending, kept;
		rows_in_words := @extschema@._clip_rows(pending);
	ELSE
		EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %s AS t WHERE t.%I IS NULL AND t.%I IS NOT NULL LIMIT 1) AS one', col.rows_of, col.target, col.source) INTO pending;
	END IF;
	IF is_taken_over AND kept > 0 THEN
		RAISE NOTICE USING MESSAGE = format('table %s keeps the embeddings of %s', relation, @extschema@._clip_rows(kept)),
			HINT = format('If sources have changed since, clear their embeddings: UPDATE %s SET %I = NULL WHERE ...', relation, col.target);
	END IF;
	IF pending = 0 THEN
		RETURN '';
	ELSIF col.mode = 'queue' THEN
		RAISE NOTICE USING MESSAGE = format('table %s has %s without an embedding', relation, rows_in_words),
			DETAIL = 'A background worker embeds them. Searches do not find them before that.',
			HINT = 'To see the progress: SELECT relation, target, embedded, pending FROM clip_auto_embed_status.';
		RETURN '';
	END IF;
	RAISE NOTICE USING MESSAGE = format('table %s has %s without an embedding', relation, rows_in_words),
		DETAIL = 'Searches do not find them.', HINT = format('To embed them: CALL clip_backfill(%L, %L).', relation, col.target);
	RETURN format(E'\n-- To embed the existing rows: CALL clip_backfill(%L, %L)', relation, col.target);
END
$$;
COMMENT ON FUNCTION _clip_notice_rows(regclass, _clip.columns, boolean) IS 'internal: raise a notice about existing rows without an embedding';

-- Raises a notice if a source column contains addresses of images, because they are embedded as texts.
CREATE FUNCTION _clip_notice_source(relation regclass, source name, source_type oid) RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	part real;
BEGIN
	IF source_type = 'bytea'::regtype OR @extschema@._clip_has_foreign(relation) THEN
		RETURN;
	END IF;
	EXECUTE format('SELECT avg((s.value ~* %L)::int) FROM (SELECT left(t.%I, 2000) AS value FROM %s AS t WHERE t.%I IS NOT NULL LIMIT 100) AS s',
		'^\s*([a-z][a-z0-9+.-]*://\S+|data:image/\S+|\S*/\S+\.(jpe?g|png|webp|gif|bmp|tiff?|heic|avif))\s*$', source, relation, source) INTO part;
	IF part > 0.5 THEN
		RAISE NOTICE USING MESSAGE = format('column "%s" of table %s seems to contain addresses of images', source, relation),
			DETAIL = 'The addresses are embedded as texts. The images are not downloaded.',
			HINT = 'To embed the images, store the contents of their files in a column of type bytea.';
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_notice_source(regclass, name, oid) IS 'internal: raise a notice if texts look like addresses of images';

CREATE FUNCTION clip_auto_embed(relation regclass, source name, target name DEFAULT 'embedding', model text DEFAULT NULL,
	mode text DEFAULT 'row', create_index boolean DEFAULT true, dry_run boolean DEFAULT false, on_error text DEFAULT 'error',
	on_vector text DEFAULT 'replace', type text DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	tab pg_class%ROWTYPE;
	source_column record;
	target_column pg_attribute%ROWTYPE;
	col _clip.columns%ROWTYPE;
	chosen record;
	kind record;
	wanted _clip.columns%ROWTYPE;
	statements text[] := '{}';
	done text;
BEGIN
	IF relation IS NULL OR source IS NULL OR target IS NULL OR mode IS NULL OR create_index IS NULL OR dry_run IS NULL OR on_error IS NULL OR on_vector IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'only the arguments "model" and "type" can be null';
	END IF;
	IF mode NOT IN ('row', 'statement', 'queue') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid value for parameter "mode": "%s"', mode),
			HINT = 'Available values: "row", "statement" and "queue".';
	END IF;
	IF on_error <> 'error' AND on_error <> (CASE mode WHEN 'queue' THEN 'skip' ELSE 'null' END) THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid value for parameter "on_error": "%s"', on_error),
			DETAIL = format('The mode is "%s".', mode),
			HINT = 'Available values: "error"; in modes "row" and "statement" also "null"; in mode "queue" also "skip".';
	END IF;
	IF on_vector NOT IN ('replace', 'keep') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid value for parameter "on_vector": "%s"', on_vector),
			HINT = 'Available values: "replace" computes every embedding from the source; "keep" keeps an embedding that a statement writes.';
	END IF;
	IF type NOT IN ('vector', 'halfvec') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid value for parameter "type": "%s"', type),
			HINT = 'Available values: "vector" and "halfvec". An existing column keeps its type if the argument is null.';
	END IF;
	IF NOT dry_run THEN
		PERFORM @extschema@._clip_hold(relation);
	END IF;
	SELECT * INTO tab FROM pg_class AS c WHERE c.oid = relation;
	PERFORM @extschema@._clip_require_owner(relation);
	IF tab.relkind NOT IN ('r', 'p') THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a table', relation),
			HINT = 'clip_auto_embed works on ordinary and partitioned tables. For a view, name the underlying table.';
	END IF;
	IF tab.relispartition THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is a partition', relation),
			HINT = format('Name the partitioned table, which includes all partitions: SELECT clip_auto_embed(%L, %L, %L).', pg_partition_root(relation), source, target);
	END IF;
	PERFORM @extschema@._clip_citus_require(relation, mode);
	-- The embeddings of a reference table are computed once, and Citus writes them to all nodes.
	IF @extschema@._clip_citus_kind(relation) = 'reference' THEN
		on_vector := 'keep';
	END IF;
	SELECT * INTO source_column FROM @extschema@._clip_require_column(relation, source, 'the source column'::text, 'source'::text);
	IF source_column.type NOT IN ('text'::regtype, 'varchar'::regtype, 'bytea'::regtype) THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('column "%s" has type %s', source, format_type(source_column.type, source_column.modifier)),
			DETAIL = 'A source column has type text or varchar for texts, or bytea for the contents of image files.',
			HINT = 'Name a column of one of these types.';
	END IF;
	IF source_column.is_generated THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_column_reference', MESSAGE = format('column "%s" is generated', source),
			DETAIL = 'PostgreSQL computes its value after BEFORE triggers have run.',
			HINT = 'Set an ordinary column in a BEFORE trigger instead. The trigger of clip_auto_embed runs after it.';
	END IF;
	SELECT * INTO target_column FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = target AND a.attnum > 0 AND NOT a.attisdropped;
	SELECT * INTO col FROM _clip.columns AS c WHERE c.relation = clip_auto_embed.relation AND c.target = clip_auto_embed.target;

	-- The model. A managed column keeps its source and its model.
	IF col.mode <> 'stamp' AND col.source <> source THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('column "%s" of table %s is already embedded from column "%s"', target, relation, col.source),
			HINT = format('Name another target, or stop maintaining the column first: SELECT clip_auto_embed_drop(%L, %L).', relation, target);
	END IF;
	SELECT * INTO chosen FROM @extschema@._clip_resolve_model(COALESCE(model, col.model));
	IF col.digest <> chosen.digest THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('column "%s" of table %s has embeddings of model "%s"', target, relation, col.model),
			DETAIL = CASE WHEN chosen.name = col.model THEN format('The column records the digest %s; the installed model has the digest %s.', col.digest, chosen.digest)
				ELSE format('Embeddings of model "%s" cannot be compared with them.', chosen.name) END,
			HINT = format('To change the model while searches continue: CALL clip_reembed(%L, %L, %L).', relation, target, chosen.name);
	END IF;
	IF model IS NULL AND col.model <> current_setting('clip.default_model') THEN
		RAISE WARNING USING MESSAGE = format('column "%s" of table %s keeps model "%s"', target, relation, col.model),
			DETAIL = format('The default model is now "%s".', current_setting('clip.default_model')),
			HINT = format('To change the model of the column: CALL clip_reembed(%L, %L, %L).', relation, target, current_setting('clip.default_model'));
	END IF;

	-- The column. An existing one keeps its type.
	SELECT v.* INTO kind FROM @extschema@._clip_vector_types() AS v
	 WHERE CASE WHEN target_column.attname IS NULL OR clip_auto_embed.type IS NOT NULL THEN v.name = COALESCE(clip_auto_embed.type, 'vector') ELSE v.type = target_column.atttypid END;
	IF kind IS NULL AND clip_auto_embed.type IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('type %s does not exist', clip_auto_embed.type),
			DETAIL = format('The extension vector has version %s. halfvec exists since version 0.7.0.', (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'vector')),
			HINT = 'Install a newer version of pgvector, then run: ALTER EXTENSION vector UPDATE.';
	ELSIF target_column.attname IS NULL THEN
		statements := statements || format('ALTER TABLE %s ADD COLUMN %I %s(%s)', relation, target, kind.written, chosen.dimensions);
	ELSIF target_column.atttypid IS DISTINCT FROM kind.type OR target_column.atttypmod <> chosen.dimensions THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
			MESSAGE = format('column "%s" has type %s', target, format_type(target_column.atttypid, target_column.atttypmod)),
			DETAIL = CASE WHEN clip_auto_embed.type IS NULL THEN format('Embeddings of model "%s" have type %s.', chosen.name, @extschema@._clip_types_of(chosen.dimensions))
				ELSE format('The argument "type" is "%s". Embeddings of model "%s" have %s dimensions.', clip_auto_embed.type, chosen.name, chosen.dimensions) END,
			HINT = CASE WHEN target_column.atttypid IN (SELECT v.type FROM @extschema@._clip_vector_types() AS v) AND clip_auto_embed.type IS NOT NULL
				THEN format('Drop the indexes of the column, then change its type: ALTER TABLE %s ALTER COLUMN %I TYPE %s(%s).', relation, target, kind.name, chosen.dimensions)
				ELSE 'Name another target. clip_auto_embed adds a column that does not exist.' END;
	ELSIF target_column.attgenerated <> '' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_column_reference', MESSAGE = format('column "%s" is generated', target),
			DETAIL = 'A trigger cannot maintain a generated column.', HINT = 'Name another target.';
	ELSIF target_column.attnotnull AND mode <> 'row' THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('column "%s" of table %s is NOT NULL', target, relation),
			DETAIL = format('In mode "%s", rows are stored before they are embedded.', mode),
			HINT = format('Use mode "row", or drop the constraint: ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL.', relation, target);
	END IF;

	-- The triggers.
	IF mode IN ('statement', 'queue') THEN
		PERFORM @extschema@._clip_require_key(relation, format('Mode "%s" identifies rows by their key. Mode "row" works without a key.', mode));
	END IF;
	IF mode = 'queue' AND tab.relpersistence = 't' THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('table %s is temporary', relation),
			DETAIL = 'A worker cannot read temporary tables of other sessions.', HINT = 'Use mode "row" or "statement".';
	END IF;
	wanted := col;
	wanted.relation := relation;
	wanted.trigger_name := COALESCE(col.trigger_name, @extschema@._clip_free_name(relation, target));
	wanted.enabled := CASE WHEN col.mode <> 'stamp' THEN col.enabled ELSE 'O' END;
	wanted.source := source;
	wanted.target := target;
	wanted.mode := mode;
	wanted.model := chosen.name;
	wanted.digest := chosen.digest;
	wanted.on_error := on_error;
	wanted.on_vector := on_vector;
	statements := statements || @extschema@._clip_require_matching(relation, wanted);
	IF (col.mode, col.on_error, col.on_vector) IS DISTINCT FROM (mode, on_error, on_vector) THEN
		-- Triggers fire in the order of their names. The prefix zz makes the application's triggers, which may write the source, fire first.
		statements := statements || @extschema@._clip_drop_orphans(relation) || @extschema@._clip_drop_triggers(relation, col.trigger_name)
			|| @extschema@._clip_create_triggers(wanted);
	END IF;

	-- The indexes.
	IF mode = 'queue' AND @extschema@._clip_pending_index(relation, source, target) IS NULL THEN
		statements := statements || format('CREATE INDEX %I ON %s (%s) WHERE %I IS NULL AND %I IS NOT NULL', @extschema@._clip_index_name(relation, target, '_pending_idx'::text), relation,
			(SELECT string_agg(quote_ident(name), ', ' ORDER BY i) FROM @extschema@._clip_key(relation), unnest(names) WITH ORDINALITY AS k (name, i)), target, source);
	ELSIF mode <> 'queue' AND col.mode = 'queue' AND @extschema@._clip_pending_index(relation, source, target) IS NOT NULL THEN
		statements := statements || format('DROP INDEX %s', @extschema@._clip_pending_index(relation, source, target));
	END IF;
	IF create_index AND @extschema@._clip_vector_index(relation, target) IS NULL THEN
		IF chosen.dimensions > kind.max_indexed THEN
			RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('vectors with %s dimensions cannot be indexed', chosen.dimensions),
				DETAIL = format('pgvector indexes columns of type %s with up to %s dimensions.', kind.name, kind.max_indexed),
				HINT = 'Pass create_index => false. You can create an index on a cast to halfvec, which has up to 4000 dimensions, or on the bits.';
		END IF;
		statements := statements || format('CREATE INDEX %s', @extschema@._clip_index_definition(relation, target, kind.operator_class));
	END IF;
	PERFORM @extschema@._clip_notice_source(relation, source, source_column.type);
	IF EXISTS (SELECT FROM pg_subscription_rel AS s WHERE s.srrelid = relation OR s.srrelid IN (SELECT p.relid FROM pg_partition_tree(relation) AS p)) THEN
		RAISE WARNING USING MESSAGE = format('table %s is filled by a subscription', relation),
			DETAIL = 'Triggers do not fire for rows from a publisher. A row that the publisher changes keeps its former embedding.',
			HINT = format('Let the trigger fire for them: ALTER TABLE %s ENABLE ALWAYS TRIGGER %I. Modes "statement" and "queue" do not embed them.',
				relation, wanted.trigger_name);
	END IF;

	done := @extschema@._clip_execute(@extschema@._clip_citus_allowing(relation, statements), dry_run);
	IF NOT create_index AND chosen.dimensions <= kind.max_indexed AND @extschema@._clip_vector_index(relation, target) IS NULL THEN
		done := done || format(E'\n-- To create the index without blocking writers: CREATE INDEX CONCURRENTLY %s', @extschema@._clip_index_definition(relation, target, kind.operator_class));
	END IF;
	IF dry_run THEN
		RETURN done;
	END IF;
	IF mode = 'queue' THEN
		PERFORM @extschema@._clip_wake_worker();
		PERFORM @extschema@._clip_citus_wake(relation);
	END IF;
	RETURN done || @extschema@._clip_notice_rows(relation, @extschema@._clip_column(relation, target), COALESCE(col.mode = 'stamp', false));
END
$$;
COMMENT ON FUNCTION clip_auto_embed(regclass, name, name, text, text, boolean, boolean, text, text, text)
	IS 'maintain an embedding column automatically: adds the column, its triggers and its index; returns the statements it ran';

-- A disabled trigger records the model of a column and never runs.
CREATE FUNCTION _clip_stamp(col _clip.columns) RETURNS text[]
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT ARRAY[format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW WHEN (NEW.%I IS NOT NULL) '
           'EXECUTE FUNCTION @extschema@.clip_auto_embed_row(%L, %L, %L, %L, %L, %L, %L)',
           col.trigger_name, col.relation, col.target, 'stamp', col.model, col.digest, 'error', 'replace', COALESCE(col.former_source, ''),
           COALESCE((SELECT format('%s.%s', a.attrelid, a.attnum) FROM pg_attribute AS a WHERE a.attrelid = col.relation AND a.attname = col.former_source), ''))]
       || @extschema@._clip_set_state(col.relation, col.trigger_name, 'D')
$$;
COMMENT ON FUNCTION _clip_stamp(_clip.columns) IS 'internal: DDL that records the model of a column';

CREATE FUNCTION clip_auto_embed_drop(relation regclass, target name DEFAULT 'embedding', keep_column boolean DEFAULT true) RETURNS text
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
	statements text[];
	done text;
	pending regclass;
BEGIN
	IF keep_column IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'keep_column must not be null';
	END IF;
	PERFORM @extschema@._clip_hold(relation);
	SELECT * INTO col FROM _clip.columns AS c WHERE c.relation = clip_auto_embed_drop.relation AND c.target = clip_auto_embed_drop.target;
	-- If the source column was dropped, the row trigger is gone, and other triggers of the column remain.
	statements := @extschema@._clip_drop_orphans(relation);
	IF col.trigger_name IS NOT NULL THEN
		statements := statements || @extschema@._clip_drop_triggers(relation, col.trigger_name);
	ELSIF statements IS NULL OR NOT EXISTS (
		SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = target AND a.atttypid IN (SELECT v.type FROM @extschema@._clip_vector_types() AS v) AND NOT a.attisdropped)
	THEN
		-- Raises the error.
		SELECT * INTO col FROM @extschema@._clip_column(relation, target);
	END IF;
	PERFORM @extschema@._clip_require_owner(relation);
	IF col.trigger_name IS NOT NULL THEN
		-- The record of the model stays as long as the embeddings, so that clip_auto_embed can maintain the column again.
		IF keep_column AND col.source IS NULL THEN
			RETURN '-- nothing to do';
		END IF;
		PERFORM @extschema@._clip_forget_failures(relation, col.trigger_name::text);
		IF col.source IS NOT NULL THEN
			pending := @extschema@._clip_pending_index(relation, col.source, target);
		END IF;
		IF pending IS NOT NULL THEN
			statements := statements || format('DROP INDEX %s', pending);
		END IF;
		IF keep_column THEN
			col.former_source := col.source::text;
			statements := statements || @extschema@._clip_stamp(col);
		END IF;
	END IF;
	IF NOT keep_column THEN
		statements := statements || format('ALTER TABLE %s DROP COLUMN %I', relation, target);
	END IF;
	done := @extschema@._clip_execute(@extschema@._clip_citus_allowing(relation, statements), false);
	-- From now on the shards are locked, so no worker records a failure that it does not clear.
	IF col.source IS NOT NULL AND @extschema@._clip_citus_kind(relation) = 'distributed' THEN
		PERFORM @extschema@._clip_citus_retry(relation, target);
	END IF;
	RETURN done;
END
$$;
COMMENT ON FUNCTION clip_auto_embed_drop(regclass, name, boolean)
	IS 'stop maintaining an embedding column; the column and its index stay unless keep_column is false';

CREATE FUNCTION clip_adopt(relation regclass, target name, model text) RETURNS text
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
	chosen record;
	target_column record;
	wanted _clip.columns%ROWTYPE;
	statements text[] := '{}';
BEGIN
	IF relation IS NULL OR target IS NULL OR model IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'relation, target and model must not be null';
	END IF;
	PERFORM @extschema@._clip_hold(relation);
	PERFORM @extschema@._clip_require_owner(relation);
	SELECT * INTO chosen FROM @extschema@._clip_resolve_model(model);
	SELECT * INTO target_column FROM @extschema@._clip_require_column(relation, target, 'the embedding column'::text, 'target'::text);
	IF target_column.type NOT IN (SELECT v.type FROM @extschema@._clip_vector_types() AS v) OR target_column.modifier NOT IN (-1, chosen.dimensions) THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
			MESSAGE = format('column "%s" has type %s', target, format_type(target_column.type, target_column.modifier)),
			DETAIL = format('Embeddings of model "%s" have type %s.', chosen.name, @extschema@._clip_types_of(chosen.dimensions));
	END IF;
	SELECT * INTO col FROM _clip.columns AS c WHERE c.relation = clip_adopt.relation AND c.target = clip_adopt.target;
	IF col.mode <> 'stamp' THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('column "%s" of table %s is already embedded with model "%s"', target, relation, col.model),
			HINT = format('To change its model: CALL clip_reembed(%L, %L, %L).', relation, target, chosen.name);
	END IF;
	IF col.mode IS NULL AND (@extschema@._clip_recorded(relation, target)).top <> relation THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is a partition', relation),
			HINT = format('Name the partitioned table, which includes all partitions: SELECT clip_adopt(%L, %L, %L).', pg_partition_root(relation), target, chosen.name);
	END IF;
	wanted.relation := relation;
	wanted.target := target;
	wanted.trigger_name := COALESCE(col.trigger_name, @extschema@._clip_free_name(relation, target));
	wanted.model := chosen.name;
	wanted.digest := chosen.digest;
	PERFORM @extschema@._clip_require_matching(relation, wanted);
	IF col.digest IS DISTINCT FROM chosen.digest OR col.former_source IS NOT NULL THEN
		statements := COALESCE(@extschema@._clip_drop_triggers(relation, col.trigger_name), '{}') || @extschema@._clip_stamp(wanted);
	END IF;
	RETURN @extschema@._clip_execute(@extschema@._clip_citus_allowing(relation, statements), false);
END
$$;
COMMENT ON FUNCTION clip_adopt(regclass, name, text)
	IS 'record the model that computed the existing embeddings of a column; returns the statements it ran';

CREATE FUNCTION clip_retry(relation regclass, target name DEFAULT 'embedding') RETURNS bigint
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	col _clip.columns%ROWTYPE;
BEGIN
	SELECT * INTO col FROM @extschema@._clip_column(relation, target);
	PERFORM @extschema@._clip_require_owner(relation);
	IF @extschema@._clip_citus_kind(relation) = 'distributed' THEN
		RETURN @extschema@._clip_citus_retry(relation, target);
	ELSIF @extschema@._clip_citus_repeats(relation) THEN
		PERFORM @extschema@._clip_citus_reject(relation, 'clip_retry on this node'::text, 'Call it on the coordinator, which embeds the table and records its failures.'::text);
	END IF;
	IF col.mode = 'queue' THEN
		PERFORM @extschema@._clip_wake_worker();
	END IF;
	RETURN @extschema@._clip_forget_failures(relation, col.trigger_name::text);
END
$$;
COMMENT ON FUNCTION clip_retry(regclass, name)
	IS 'clear the failures of a column, so that a worker or the next backfill retries the rows; returns their number';

CREATE FUNCTION _clip_fillable(relation regclass, target name, batch_size integer) RETURNS _clip.columns
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	col _clip.columns%ROWTYPE;
BEGIN
	SELECT * INTO col FROM @extschema@._clip_column(relation, target);
	IF batch_size IS NULL OR batch_size NOT BETWEEN 1 AND 10000 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'batch_size must be between 1 and 10000';
	END IF;
	IF col.source IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('column "%s" of table %s has no source column', target, relation),
			DETAIL = 'Its embeddings were registered by clip_adopt, or kept by clip_auto_embed_drop.',
			HINT = format('Name the source column: SELECT clip_auto_embed(%L, ''source'', %L).', relation, target);
	END IF;
	PERFORM @extschema@._clip_require_key(relation, 'A backfill identifies rows by their key.'::text);
	RETURN col;
END
$$;
COMMENT ON FUNCTION _clip_fillable(regclass, name, integer) IS 'internal: a column that a backfill can embed, or an error';

CREATE FUNCTION _clip_rows(n bigint) RETURNS text
	LANGUAGE sql IMMUTABLE
RETURN n::pg_catalog.text OPERATOR(pg_catalog.||) CASE WHEN n OPERATOR(pg_catalog.=) 1::pg_catalog.int8 THEN ' row' ELSE ' rows' END;
COMMENT ON FUNCTION _clip_rows(bigint) IS 'internal: a number of rows as text';

CREATE FUNCTION clip_backfill_batch(relation regclass, target name DEFAULT 'embedding', batch_size integer DEFAULT 64) RETURNS bigint
	LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	IF @extschema@._clip_citus_kind(relation) OPERATOR(pg_catalog.=) 'distributed'::pg_catalog.text THEN
		PERFORM @extschema@._clip_citus_reject(relation, 'clip_backfill_batch'::pg_catalog.text, pg_catalog.format('CALL clip_backfill(%L, %L).', relation, target));
	END IF;
	RETURN @extschema@._clip_backfill_rows(relation, (@extschema@._clip_fillable(relation, target, batch_size)).trigger_name::pg_catalog.text, batch_size);
END
$$;
COMMENT ON FUNCTION clip_backfill_batch(regclass, name, integer)
	IS 'embed up to batch_size pending rows in this transaction; returns the number of embedded rows, 0 if no row is left to embed';

CREATE PROCEDURE clip_backfill(relation regclass, target name DEFAULT 'embedding', batch_size integer DEFAULT 64)
	LANGUAGE plpgsql
AS $$
DECLARE
	column_trigger pg_catalog.text;
	step pg_catalog.record;
	embedded pg_catalog.int8 := 0;
	failed pg_catalog.int8 := 0;
	is_distributed pg_catalog.bool;
BEGIN
	PERFORM @extschema@._clip_require_no_transaction('CALL clip_backfill'::pg_catalog.text, 'Inside a transaction block, call clip_backfill_batch until it returns 0.'::pg_catalog.text);
	column_trigger := (@extschema@._clip_fillable(relation, target, batch_size)).trigger_name;
	is_distributed := COALESCE(@extschema@._clip_citus_kind(relation) OPERATOR(pg_catalog.=) 'distributed'::pg_catalog.text, false);
	WHILE is_distributed LOOP
		SELECT s.embedded, s.failed, s.finished INTO step FROM @extschema@._clip_citus_backfill_step(relation, target, batch_size) AS s;
		embedded := embedded OPERATOR(pg_catalog.+) step.embedded;
		failed := failed OPERATOR(pg_catalog.+) step.failed;
		COMMIT;
		EXIT WHEN step.finished;
	END LOOP;
	IF NOT is_distributed THEN
		SELECT s.embedded, s.failed, s.finished INTO step FROM @extschema@._clip_backfill_step(relation, column_trigger, batch_size, true) AS s;
	END IF;
	LOOP
		COMMIT;
		EXIT WHEN step.finished;
		SELECT s.embedded, s.failed, s.finished INTO step FROM @extschema@._clip_backfill_step(relation, column_trigger, batch_size, false) AS s;
		embedded := embedded OPERATOR(pg_catalog.+) step.embedded;
		failed := failed OPERATOR(pg_catalog.+) step.failed;
	END LOOP;
	IF failed OPERATOR(pg_catalog.>) 0::pg_catalog.int8 THEN
		RAISE WARNING USING MESSAGE = pg_catalog.format('%s of %s embedded, %s failed', @extschema@._clip_rows(embedded), relation::pg_catalog.text, failed::pg_catalog.text),
			HINT = 'To see the rows and the reasons: SELECT relation, key, message FROM clip_failures.';
	ELSE
		RAISE NOTICE '% of % embedded', @extschema@._clip_rows(embedded), relation;
	END IF;
END
$$;
COMMENT ON PROCEDURE clip_backfill(regclass, name, integer)
	IS 'embed all pending rows, with a commit after each batch; several sessions can run it at the same time';

-- The indexes that clip_reembed recreates: those without a condition on the embedding column, its cast to another type, or its bits.
-- HNSW indexes are created while the new column is empty, and filled row by row, because building one at the end would block all writers.
-- Other methods compute centroids from the rows when the index is built, or may do so: these indexes are built after the column is filled.
CREATE FUNCTION _clip_reembed_indexes(relation regclass, target name, shadow name, dimensions integer)
	RETURNS TABLE (index regclass, name name, is_late boolean, statement text)
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT i.indexrelid::regclass, c.relname, am.amname <> 'hnsw' OR n.is_rotated,
       CASE WHEN n.is_rotated
            THEN format('DO %L', format('BEGIN EXECUTE pg_catalog.format(%L, (%s)); END', replace(replace(w.statement, '%', '%%'), E'\x01', '%L'), r.mean))
            ELSE w.statement END
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
  JOIN pg_am AS am ON am.oid = c.relam
  JOIN pg_opclass AS oc ON oc.oid = i.indclass[0]
  JOIN pg_namespace AS s ON s.oid = oc.opcnamespace
  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = target
  LEFT JOIN @extschema@._clip_vector_indexes(relation, target) AS v ON v.index = i.indexrelid AND (v.dimensions = a.atttypmod OR v.bits = 'rotated')
 -- As many bits for each dimension as before, if the column has dimensions.
 CROSS JOIN LATERAL (SELECT v.bits IS NOT DISTINCT FROM 'rotated' AS is_rotated,
            CASE WHEN a.atttypmod > 0 THEN v.dimensions * _clip_reembed_indexes.dimensions / a.atttypmod ELSE v.dimensions END AS bits) AS n
 -- A rotation needs the mean of the new embeddings, which the statement computes when the column is filled.
 CROSS JOIN LATERAL (SELECT format('SELECT COALESCE(%1$s.avg(s.e), pg_catalog.array_fill(0::pg_catalog.float4, ARRAY[%2$s])::%1$s.vector)::%1$s.halfvec FROM (SELECT %3$I::%1$s.vector AS e FROM %4$s WHERE %3$I IS NOT NULL LIMIT %5$s) AS s',
             quote_ident(@extschema@._clip_vector_schema()), _clip_reembed_indexes.dimensions, shadow, s.source, s.row_limit) AS mean,
             CASE WHEN n.is_rotated THEN regexp_replace(v.after, '''[^'']*''(.*), [0-9]+\)\)(.*)\([0-9]+\)$', format(E'\x01\\1, %1$s))\\2(%1$s)', n.bits))
                  ELSE regexp_replace(v.after, '\([0-9]+\)$', format('(%s)', _clip_reembed_indexes.dimensions)) END AS after
      FROM @extschema@._clip_sample(relation, NULL::oid, target, 2000, 'false'::text) AS s) AS r
 CROSS JOIN LATERAL (SELECT format('CREATE INDEX %I ON %s USING %I (%s %I.%I)%s', @extschema@._clip_shadow_name(c.relname), relation, am.amname,
              CASE WHEN v.index IS NULL OR v.before || v.after = '' THEN quote_ident(shadow)
              ELSE format('(%s)', v.before || quote_ident(shadow) || r.after) END,
              s.nspname, oc.opcname,
              ' WITH (' || (SELECT string_agg(format('%I = %L', split_part(o.option, '=', 1), substr(o.option, strpos(o.option, '=') + 1)), ', ' ORDER BY o.i)
                              FROM unnest(c.reloptions) WITH ORDINALITY AS o (option, i)) || ')') AS statement) AS w
 WHERE i.indrelid = relation AND i.indnatts = 1 AND i.indpred IS NULL AND (i.indkey[0] = a.attnum OR v.index IS NOT NULL)
 ORDER BY c.oid
$$;
COMMENT ON FUNCTION _clip_reembed_indexes(regclass, name, name, integer) IS 'internal: indexes of a column, with statements that create them on its replacement';

CREATE FUNCTION _clip_reembed_plan(relation regclass, target name, model text,
	OUT shadow name, OUT shadow_trigger name, OUT same boolean, OUT index_names name[], OUT statements text[], OUT late text[])
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	col _clip.columns%ROWTYPE;
	next_col _clip.columns%ROWTYPE;
	chosen record;
	column_type text;
	number smallint;
	obstacles text;
BEGIN
	SELECT * INTO col FROM @extschema@._clip_fillable(relation, target, 1);
	PERFORM @extschema@._clip_require_owner(relation);
	PERFORM @extschema@._clip_citus_reject(relation, 'clip_reembed'::text,
		format('Add a column for the other model: SELECT clip_auto_embed(%L, %L, %L, %L, ''queue''). Search it when clip_auto_embed_status shows no pending row.',
			relation, col.source, target || '_new', model));
	SELECT * INTO chosen FROM @extschema@._clip_resolve_model(model);
	same := col.digest = chosen.digest;
	IF same THEN
		-- The same model may be installed under another name.
		IF col.model <> chosen.name THEN
			col.model := chosen.name;
			statements := @extschema@._clip_drop_triggers(relation, col.trigger_name) || @extschema@._clip_create_triggers(col);
		END IF;
		RETURN;
	END IF;
	shadow := @extschema@._clip_shadow_name(target);
	SELECT a.attnum, v.written INTO number, column_type FROM pg_attribute AS a JOIN @extschema@._clip_vector_types() AS v ON v.type = a.atttypid
	 WHERE a.attrelid = relation AND a.attname = target;
	-- Reports dependent objects that cannot be recreated before the work starts.
	SELECT string_agg(pg_describe_object(d.classid, d.objid, d.objsubid), ', ') INTO obstacles
	  FROM pg_depend AS d
	 WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = relation AND d.refobjsubid = number
	   AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (
	            SELECT FROM pg_trigger AS t WHERE t.oid = d.objid AND t.tgname = col.trigger_name)
	            OR EXISTS (SELECT FROM @extschema@._clip_other_triggers(relation) AS o WHERE o.oid = d.objid AND o.row_trigger = col.trigger_name::text))
	   -- NOT NULL, which is set again, is a constraint of its own since PostgreSQL 18.
	   AND NOT (d.classid = 'pg_constraint'::regclass AND EXISTS (
	            SELECT FROM pg_constraint AS k WHERE k.oid = d.objid AND k.contype = 'n'))
	   AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (
	            SELECT FROM @extschema@._clip_pending_index(relation, col.source, target) AS p (oid) WHERE p.oid = d.objid
	            UNION ALL SELECT FROM @extschema@._clip_reembed_indexes(relation, target, shadow, chosen.dimensions) AS r WHERE r.index = d.objid));
	IF obstacles IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist', MESSAGE = format('column "%s" of table %s cannot be replaced', target, relation),
			DETAIL = format('These objects depend on it: %s.', obstacles), HINT = 'Drop these objects, and create them again afterwards.';
	END IF;
	SELECT array_agg(r.name), array_agg(r.statement) FILTER (WHERE r.is_late AND NOT EXISTS (
	            SELECT FROM pg_class AS c WHERE c.relname = @extschema@._clip_shadow_name(r.name) AND c.relnamespace = (SELECT t.relnamespace FROM pg_class AS t WHERE t.oid = relation)))
	  INTO index_names, late FROM @extschema@._clip_reembed_indexes(relation, target, shadow, chosen.dimensions) AS r;
	SELECT * INTO next_col FROM _clip.columns AS c WHERE c.relation = _clip_reembed_plan.relation AND c.target = shadow;
	IF next_col.digest = chosen.digest THEN
		-- Created by an interrupted call, which this call resumes.
		shadow_trigger := next_col.trigger_name;
		statements := '{}';
		IF (next_col.mode, next_col.on_error, next_col.on_vector, next_col.enabled) IS DISTINCT FROM (col.mode, col.on_error, col.on_vector, col.enabled) THEN
			next_col.mode := col.mode;
			next_col.on_error := col.on_error;
			next_col.on_vector := col.on_vector;
			next_col.enabled := col.enabled;
			statements := @extschema@._clip_drop_triggers(relation, shadow_trigger) || @extschema@._clip_create_triggers(next_col);
		END IF;
		RETURN;
	END IF;
	IF next_col.digest IS NOT NULL THEN
		statements := @extschema@._clip_drop_triggers(relation, next_col.trigger_name) || format('ALTER TABLE %s DROP COLUMN %I', relation, shadow);
	ELSIF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = shadow) THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_column', MESSAGE = format('column "%s" of table %s already exists', shadow, relation),
			DETAIL = 'clip_reembed computes the new embeddings in a column of this name.',
			HINT = format('Rename the column: ALTER TABLE %s RENAME COLUMN %I TO new_name. Or drop it.', relation, shadow);
	ELSE
		statements := '{}';
	END IF;
	-- The new triggers keep their name when the columns are swapped.
	shadow_trigger := @extschema@._clip_free_name(relation, target);
	next_col := col;
	next_col.target := shadow;
	next_col.trigger_name := shadow_trigger;
	next_col.model := chosen.name;
	next_col.digest := chosen.digest;
	statements := statements
		|| format('ALTER TABLE %s ADD COLUMN %I %s(%s)', relation, shadow, column_type, chosen.dimensions)
		|| @extschema@._clip_create_triggers(next_col)
		|| (SELECT COALESCE(array_agg(r.statement), '{}') FROM @extschema@._clip_reembed_indexes(relation, target, shadow, chosen.dimensions) AS r WHERE NOT r.is_late);
	-- Created in all modes: with this index the last check, which runs under an exclusive lock, takes no time.
	statements := statements || format('CREATE INDEX %I ON %s (%s) WHERE %I IS NULL AND %I IS NOT NULL', @extschema@._clip_index_name(relation, shadow, '_pending_idx'::text), relation,
		(SELECT string_agg(quote_ident(name), ', ' ORDER BY i) FROM unnest(col.key_names) WITH ORDINALITY AS k (name, i)), shadow, col.source);
END
$$;
COMMENT ON FUNCTION _clip_reembed_plan(regclass, name, text) IS 'internal: statements and names for clip_reembed, or an error if the column cannot be replaced';

CREATE FUNCTION _clip_reembed_swap(relation regclass, target name, shadow name, index_names name[]) RETURNS boolean
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
	-- Keys of failures are recorded under these settings and compared as texts.
	SET datestyle = 'ISO, YMD' SET intervalstyle = postgres SET timezone = 'UTC' SET extra_float_digits = 1 SET bytea_output = hex
	SET lc_monetary = 'C' SET xmlbinary = base64
AS $$
#variable_conflict use_column
DECLARE
	old_col _clip.columns%ROWTYPE;
	new_col _clip.columns%ROWTYPE;
	old_attribute pg_attribute%ROWTYPE;
	is_lacking boolean;
	statements text[];
	grants text[];
	index_name name;
	pending regclass;
BEGIN
	PERFORM @extschema@._clip_require_owner(relation);
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', relation);
	SELECT * INTO old_col FROM @extschema@._clip_column(relation, target);
	SELECT * INTO new_col FROM @extschema@._clip_column(relation, shadow);
	SELECT * INTO old_attribute FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = target;
	-- No row may lose its embedding, unless it has failed with the new model. Nobody else reads the table meanwhile.
	is_lacking := @extschema@._clip_is_true(format('SELECT EXISTS (SELECT FROM %s AS t WHERE t.%I IS NOT NULL AND t.%I IS NOT NULL AND t.%I IS NULL '
		'AND NOT EXISTS (SELECT FROM _clip.failed AS f WHERE f.relation = %s::oid AND f.trigger_name = %L AND f.waits AND f.key = %s))',
		old_col.rows_of, old_col.source, target, shadow, relation::oid, new_col.trigger_name, @extschema@._clip_key_object(old_col.key_names, 't'::text)));
	IF is_lacking THEN
		RETURN false;
	END IF;
	SELECT array_agg(format('GRANT %s (%I) ON %s TO %s%s', privilege_type, target, relation,
	                 CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
	  INTO grants FROM aclexplode(old_attribute.attacl);
	PERFORM @extschema@._clip_forget_failures(relation, old_col.trigger_name::text);
	statements := @extschema@._clip_drop_triggers(relation, old_col.trigger_name);
	pending := @extschema@._clip_pending_index(relation, old_col.source, CASE old_col.mode WHEN 'queue' THEN target ELSE shadow END);
	IF pending IS NOT NULL THEN
		statements := statements || format('DROP INDEX %s', pending);
		IF old_col.mode = 'queue' THEN
			statements := statements || format('ALTER INDEX %s RENAME TO %I', @extschema@._clip_pending_index(relation, new_col.source, shadow),
				(SELECT c.relname FROM pg_class AS c WHERE c.oid = pending));
		END IF;
	END IF;
	statements := statements
		|| format('ALTER TABLE %s DROP COLUMN %I', relation, target)
		|| format('ALTER TABLE %s RENAME COLUMN %I TO %I', relation, shadow, target);
	-- A call of clip_auto_embed during the re-embedding may have changed the old column's triggers.
	IF (new_col.mode, new_col.on_error, new_col.on_vector, new_col.enabled) IS DISTINCT FROM (old_col.mode, old_col.on_error, old_col.on_vector, old_col.enabled) THEN
		new_col.target := target;
		new_col.mode := old_col.mode;
		new_col.on_error := old_col.on_error;
		new_col.on_vector := old_col.on_vector;
		new_col.enabled := old_col.enabled;
		statements := statements || @extschema@._clip_drop_triggers(relation, new_col.trigger_name) || @extschema@._clip_create_triggers(new_col);
	END IF;
	IF old_attribute.attnotnull THEN
		statements := statements || format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', relation, target);
	END IF;
	FOREACH index_name IN ARRAY COALESCE(index_names, '{}') LOOP
		statements := statements || format('ALTER INDEX %I.%I RENAME TO %I',
			(SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation),
			@extschema@._clip_shadow_name(index_name), index_name);
	END LOOP;
	PERFORM @extschema@._clip_execute(statements || grants, false);
	IF old_col.mode = 'queue' THEN
		PERFORM @extschema@._clip_wake_worker();
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION _clip_reembed_swap(regclass, name, name, name[])
	IS 'internal: replace the old column by the new one; false if rows have no new embedding yet';

CREATE PROCEDURE clip_reembed(relation regclass, target name, model text, batch_size integer DEFAULT 64)
	LANGUAGE plpgsql
AS $$
DECLARE
	plan record;
BEGIN
	PERFORM @extschema@._clip_require_no_transaction('CALL clip_reembed'::pg_catalog.text, 'Run it outside a transaction block. An interrupted call can be resumed.'::pg_catalog.text);
	PERFORM @extschema@._clip_hold(relation);
	SELECT * INTO plan FROM @extschema@._clip_reembed_plan(relation, target, model);
	IF plan.same THEN
		PERFORM @extschema@._clip_execute(plan.statements, false);
		RAISE NOTICE 'column "%" of table % already has embeddings of this model', target, relation;
		RETURN;
	END IF;
	PERFORM @extschema@._clip_execute(plan.statements, false);
	COMMIT;
	-- From now on, rows that are written get an embedding of both models.
	LOOP
		CALL @extschema@.clip_backfill(relation, plan.shadow, batch_size);
		IF plan.late IS NOT NULL THEN
			PERFORM @extschema@._clip_execute(plan.late, false);
			plan.late := NULL;
			COMMIT;
		END IF;
		EXIT WHEN @extschema@._clip_reembed_swap(relation, target, plan.shadow, plan.index_names);
		COMMIT;
		-- Another session embeds the remaining rows.
		PERFORM pg_catalog.pg_sleep(1);
	END LOOP;
	COMMIT;
END
$$;
COMMENT ON PROCEDURE clip_reembed(regclass, name, text, integer)
	IS 'change the model of a column: builds a new column and index, and searches use the old ones until both are swapped at the end';

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

-- zero-shot classification

CREATE FUNCTION clip_classify(embedding vector, labels text[], templates text[] DEFAULT ARRAY['a photo of a {}'], model text DEFAULT NULL)
	RETURNS TABLE (label text, probability real)
	AS 'MODULE_PATHNAME', 'clip_classify_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 1000 ROWS 10;
COMMENT ON FUNCTION clip_classify(vector, text[], text[], text)
	IS 'probability of each label for an embedding, from the model''s learned logit scale and bias; the most probable label comes first';

CREATE FUNCTION clip_classify_image(input bytea, labels text[], templates text[] DEFAULT ARRAY['a photo of a {}'], model text DEFAULT NULL)
	RETURNS TABLE (label text, probability real)
	AS 'MODULE_PATHNAME', 'clip_classify_image_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 10000 ROWS 10;
COMMENT ON FUNCTION clip_classify_image(bytea, text[], text[], text)
	IS 'probability of each label for an encoded image, from the model''s learned logit scale and bias; the most probable label comes first';

CREATE FUNCTION clip_probabilities(embedding vector, candidates vector[], logit_scale double precision DEFAULT 100,
	logit_bias double precision DEFAULT NULL) RETURNS real[]
	AS 'MODULE_PATHNAME', 'clip_probabilities_wrapper' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION clip_probabilities(vector, vector[], double precision, double precision)
	IS 'probability that the embedding matches each candidate, in input order: softmax(scale * cosine), or sigmoid(scale * cosine + bias) if a bias is given';

CREATE FUNCTION clip_blend(vectors vector[], weights real[] DEFAULT NULL) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_blend_wrapper' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION clip_blend(vector[], real[])
	IS 'weighted sum of vectors, each first scaled to length one; returns a vector of length one; weights can be negative, NULL means 1 for each';

CREATE FUNCTION clip_rotate(embedding vector, mean vector, count integer) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_rotate_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION clip_rotate(vector, vector, integer)
	IS 'numbers of an embedding without its part in the direction of the mean, rotated: their bits find more of the nearest rows';

-- search
--
-- A search is one statement, built from one description of its target. Rust (src/search) runs it with the caller's privileges
-- and search_path, so that row-level security applies and a filter means the same as in the caller's own statement. All other
-- names in the statement are schema-qualified, because it is parsed under the caller's search_path.

CREATE FUNCTION _clip_require_expression(filter text) RETURNS void
	AS 'MODULE_PATHNAME', 'clip_require_expression_wrapper' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION _clip_require_expression(text) IS 'internal: raise an error if a filter is not one expression';

-- The record of the model that computed a column's embeddings, if there is one. The record of a partition is that of its table.
CREATE FUNCTION _clip_recorded(relation regclass, target name, OUT model text, OUT digest text, OUT mode text, OUT source name, OUT top regclass)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	SELECT c.model, c.digest, c.mode, c.source, c.relation INTO model, digest, mode, source, top FROM _clip.columns AS c
	 WHERE c.relation = _clip_recorded.relation AND c.target = _clip_recorded.target;
	IF NOT FOUND AND (SELECT k.relispartition FROM pg_class AS k WHERE k.oid = _clip_recorded.relation) THEN
		SELECT c.model, c.digest, c.mode, c.source, c.relation INTO model, digest, mode, source, top FROM _clip.columns AS c
		 WHERE c.relation IN (SELECT p.relid FROM pg_partition_ancestors(_clip_recorded.relation) AS p) AND c.target = _clip_recorded.target LIMIT 1;
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_recorded(regclass, name) IS 'internal: recorded model of a column, from the partitioned table for a partition';

CREATE FUNCTION _clip_require_vectors(relation regclass, target name) RETURNS void
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind oid;
BEGIN
	PERFORM @extschema@._clip_require_names(relation, target);
	IF NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = relation AND c.relkind IN ('r', 'p', 'v', 'm', 'f')) THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a table or view', relation);
	END IF;
	kind := (@extschema@._clip_require_column(relation, target, 'the embedding column'::text, 'target'::text)).type;
	IF kind NOT IN (SELECT v.type FROM @extschema@._clip_vector_types() AS v) THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('column "%s" has type %s', target, kind::regtype),
			DETAIL = 'An embedding column has type vector or halfvec.', HINT = 'Name the embedding column: target => ''name''.';
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_vectors(regclass, name) IS 'internal: raise an error if a column does not exist or is no embedding column';

-- The model for queries that are compared with a column.
CREATE FUNCTION _clip_query_model(relation regclass, target name, required boolean, OUT model text, OUT digest text, OUT named text)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT r.model, r.digest INTO model, digest FROM @extschema@._clip_recorded(relation, target) AS r;
	named := relation::text;
	IF model IS NULL THEN
		PERFORM @extschema@._clip_require_vectors(relation, target);
		IF required THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('column "%s" of table %s has no model', target, relation),
				DETAIL = 'The model that computed its embeddings is not recorded.',
				HINT = CASE WHEN (SELECT c.relkind IN ('r', 'p') FROM pg_class AS c WHERE c.oid = relation)
					THEN format('Record the model: SELECT clip_adopt(%L, %L, ''model''). Or name it in the query: clip_embed_text(''...'', ''model'').', relation, target)
					ELSE 'Name the table that contains the embeddings, or name the model: clip_embed_text(''...'', ''model'').' END;
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_query_model(regclass, name, boolean) IS 'internal: the model of a column, or an error if one is required';

-- A vector in the type of a column, as an expression.
CREATE FUNCTION _clip_cast_query(relation regclass, target name, query text) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN format('%s::%I.vector', query, @extschema@._clip_vector_schema()) || (
		SELECT CASE v.name WHEN 'vector' THEN '' ELSE '::' || v.written END FROM @extschema@._clip_vector_types() AS v
		 WHERE v.type = (@extschema@._clip_require_column(relation, target, 'the embedding column'::text, 'target'::text)).type);
END
$$;
COMMENT ON FUNCTION _clip_cast_query(regclass, name, text) IS 'internal: expression for a vector in the type of a column';

-- The description of a target, from which statements about an embedding column are built. "query" is an expression whose value is a vector.
--   present      condition that the row has an embedding
--   filtered     the filter, as an additional condition
--   distance     cosine distance to the query, in the type of the column
--   place        expression that sorts in the same order, in the form that the index supports
--   exact_place  the same, in a form that no index supports
--   index        the named index, or the preferred one; NULL if no usable index is known, for example for a view
--   bits         the kind of bits, if the index sorts by bits, so that a search sorts the rows again by their distance; otherwise NULL
--   may_omit     true if the server may use an index that does not find all rows
CREATE FUNCTION _clip_searched(relation regclass, target name, filter text, query text, named_index regclass, OUT rows_of text, OUT alias text, OUT present text, OUT filtered text,
	OUT distance text, OUT place text, OUT exact_place text, OUT index regclass, OUT bits text, OUT may_omit boolean, OUT model text, OUT digest text)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	tab record;
	target_column text;
	found record;
BEGIN
	PERFORM @extschema@._clip_require_vectors(relation, target);
	PERFORM @extschema@._clip_require_expression(filter);
	SELECT c.relkind, c.relname, c.relhassubclass, n.nspname INTO tab FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation;
	SELECT r.model, r.digest INTO model, digest FROM @extschema@._clip_recorded(relation, target) AS r;
	rows_of := format('%I.%I', tab.nspname, tab.relname);
	alias := quote_ident(tab.relname);
	target_column := format('%s.%I', alias, target);
	present := target_column || ' IS NOT NULL';
	filtered := COALESCE(E' AND (\n' || filter || E'\n)', '');
	query := @extschema@._clip_cast_query(relation, target, query);
	distance := format('%s OPERATOR(%I.<=>) %s', target_column, @extschema@._clip_vector_schema(), query);
	-- For vectors of length one, all operators sort in the same order. Vectors of an unknown model may not have length one.
	SELECT i.* INTO found FROM @extschema@._clip_vector_indexes(relation, target) AS i
	 WHERE (i.is_cosine OR _clip_searched.model IS NOT NULL) AND i.index = COALESCE(named_index, i.index) LIMIT 1;
	IF found.index IS NULL AND named_index IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('index %s cannot be used to search column "%s" of table %s', named_index, target, relation),
			DETAIL = 'The operator class of a usable index orders the column, its cast to halfvec, or its bits by a distance of pgvector.',
			HINT = COALESCE((SELECT format('Usable indexes: %s.', string_agg(i.index::text, ', ')) FROM @extschema@._clip_vector_indexes(relation, target) AS i WHERE i.is_cosine OR _clip_searched.model IS NOT NULL),
				'The table has no usable index. Leave out the argument for an exact search.');
	END IF;
	index := found.index;
	bits := found.bits;
	place := COALESCE(found.before || target_column || found.after || ' ' || found.operator || ' ' || found.before || query || found.after, distance);
	-- No index supports a sum.
	exact_place := format('(%s) OPERATOR(pg_catalog.+) 0::pg_catalog.float8', CASE WHEN bits IS NULL THEN place ELSE distance END);
	may_omit := index IS NOT NULL OR tab.relhassubclass OR tab.relkind NOT IN ('r', 'm');
	IF NOT may_omit THEN
		-- An index of any access method counts, also if the column is not its first one.
		may_omit := EXISTS (
			SELECT FROM pg_index AS i CROSS JOIN unnest(i.indclass::oid[]) AS k (opclass) JOIN pg_opclass AS oc ON oc.oid = k.opclass
			  JOIN pg_amop AS ao ON ao.amopfamily = oc.opcfamily AND ao.amoppurpose = 'o'
			 WHERE i.indrelid = relation AND ao.amoplefttype IN (SELECT v.type FROM @extschema@._clip_vector_types() AS v));
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_searched(regclass, name, text, text, regclass) IS 'internal: the description of a search target, or an error';

-- The statement that reads the nearest rows. "rows_read" is a SELECT without ORDER BY, whose column "distance" is the distance. If the index
-- sorts by bits, the statement reads "considered" rows, and returns the nearest of them by the distance.
CREATE FUNCTION _clip_nearest(rows_read text, place text, row_limit text, considered bigint, distance name) RETURNS text
	LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN considered IS NULL THEN format(E'%s\n ORDER BY %s\n LIMIT %s', rows_read, place, row_limit)
	ELSE format(E'SELECT * FROM (\n%s\n ORDER BY %s\n LIMIT greatest(%s, %s)\n) AS considered\n ORDER BY considered.%I\n LIMIT %s', rows_read, place, row_limit, considered, distance, row_limit) END
$$;
COMMENT ON FUNCTION _clip_nearest(text, text, text, bigint, name) IS 'internal: statement that reads the nearest rows';

-- The statement that reads the nearest rows in several steps. If the rows of a table form tight groups, the graph of an HNSW index can
-- lack connections between the groups, and a scan stays in the groups near its start. So if the nearest rows found are close to each
-- other, further steps start elsewhere: the query of each is moved away from the nearest rows of the step before. The rows of all steps
-- are sorted by their distance to the query of the search. docs/design/search.md has the measurements. "rows_read" has the columns
-- distance, key_json and clip_embedding; "query" is the query in "place".
CREATE FUNCTION _clip_nearest_in_steps(rows_read text, place text, query text, row_limit text, first_limit text, step_limit text) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	steps CONSTANT integer := 4;
	-- Rows of a group are close to each other if their mean is longer than this. Their embeddings have length one.
	length_of_mean CONSTANT real := 0.9;
	-- The part of the mean that is subtracted from the query.
	share CONSTANT real := 0.2;
	-- So many of the nearest rows have this mean.
	group_size CONSTANT integer := 10;
	vectors CONSTANT text := quote_ident(@extschema@._clip_vector_schema());
	mean CONSTANT text := format('%1$s.avg(%1$s.l2_normalize(b.clip_embedding::%1$s.vector))', vectors);
	-- The parts of the statement that are the same in each step.
	share_of_mean CONSTANT text := format('%1$s OPERATOR(%2$s.*) pg_catalog.array_fill(%3$s::pg_catalog.float4, ARRAY[%2$s.vector_dims(%4$s)])::%2$s.vector', mean, vectors, share, query);
	is_close CONSTANT text := format('pg_catalog.count(*) OPERATOR(pg_catalog.=) %s AND %s.vector_norm(%s) OPERATOR(pg_catalog.>) %s', group_size, vectors, mean, length_of_mean);
	step_template CONSTANT text := E', _clip_query_%1$s AS MATERIALIZED (\nSELECT %3$s OPERATOR(%4$s.-) (%5$s) AS moved, %6$s AS is_close\n'
		'  FROM (SELECT r.clip_embedding FROM _clip_rows_%2$s AS r ORDER BY r.distance LIMIT %7$s) AS b\n'
		'), _clip_rows_%1$s AS MATERIALIZED (\n%8$s\n   AND (SELECT q.is_close FROM _clip_query_2 AS q)\n ORDER BY %9$s\n LIMIT %10$s\n)';
	moved text := format('%s.l2_normalize(%s)', vectors, query);
	next text;
	statement text := format(E'WITH _clip_rows_1 AS MATERIALIZED (\n%s\n ORDER BY %s\n LIMIT %s\n)', rows_read, place, first_limit);
BEGIN
	FOR step IN 2 .. steps LOOP
		next := format('(SELECT q.moved FROM _clip_query_%s AS q)', step);
		statement := statement || format(step_template, step, step - 1, moved, vectors, share_of_mean, is_close, group_size, rows_read, replace(place, query, next), step_limit);
		moved := next;
	END LOOP;
	RETURN statement || format(E'\nSELECT d.* FROM (SELECT DISTINCT ON (u.key_json) u.* FROM (%s) AS u) AS d\n ORDER BY d.distance\n LIMIT %s',
		(SELECT string_agg(format('SELECT * FROM _clip_rows_%s', step), ' UNION ALL ' ORDER BY step) FROM generate_series(1, steps) AS step), row_limit);
END
$$;
COMMENT ON FUNCTION _clip_nearest_in_steps(text, text, text, text, text, text) IS 'internal: statement that reads the nearest rows in several steps';

-- The number of rows whose embeddings a search reads if its index sorts by bits, otherwise NULL. The bits of a text have little in common
-- with those of an image unless they are rotated, and those of near-duplicates are almost equal. docs/operations/scale.md has the
-- measurements. pgvector stops after 20,000 rows by default. "query" is text, image or duplicate.
CREATE FUNCTION _clip_considered(k bigint, query text, bits text) RETURNS bigint
	LANGUAGE plpgsql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN bits IS NOT NULL THEN greatest(k, least(20000, greatest(20 * k, CASE
		WHEN query = 'duplicate' THEN 400
		WHEN bits = 'rotated' THEN 2000
		WHEN query = 'image' THEN 1600 ELSE 3200 END)))::bigint END;
END
$$;
COMMENT ON FUNCTION _clip_considered(bigint, text, text) IS 'internal: number of rows that a search by bits sorts by their embeddings';

-- The expressions by which the rows of a leaf are sorted, in the form that its index supports, and in a form that no index supports. "query"
-- has the type of the column. A named index of the table has a partition for each leaf that is a partition.
CREATE FUNCTION _clip_place(relation regclass, target name, alias text, query text, named_index regclass, OUT place text, OUT exact_place text)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target_column CONSTANT text := format('%s.%I', alias, target);
	found record;
BEGIN
	-- Vectors of an unknown model may not have length one. A search by bits would need a second sort.
	SELECT i.* INTO found FROM @extschema@._clip_vector_indexes(relation, target) AS i
	 WHERE i.bits IS NULL AND (i.is_cosine OR (@extschema@._clip_recorded(relation, target)).model IS NOT NULL)
	   AND (named_index IS NULL OR i.index = named_index OR EXISTS (SELECT FROM pg_partition_tree(named_index) AS p WHERE p.relid = i.index)) LIMIT 1;
	place := COALESCE(found.before || target_column || found.after || ' ' || found.operator || ' ' || found.before || query || found.after,
		format('%s OPERATOR(%I.<=>) %s', target_column, @extschema@._clip_vector_schema(), query));
	-- No index supports a sum.
	exact_place := format('(%s) OPERATOR(pg_catalog.+) 0::pg_catalog.float8', place);
END
$$;
COMMENT ON FUNCTION _clip_place(regclass, name, text, text, regclass) IS 'internal: expressions that sort the rows of a leaf';

-- A FROM clause and a LIMIT to read some rows of a table, at random if it is large. TABLESAMPLE reads whole blocks, so the
-- clause asks for at least five times the wanted rows and for at least 5000. A view is read from its first row. Of foreign tables, only the
-- wanted rows cross the network. "skip_if" is explained at _clip_leaf_rows.
CREATE FUNCTION _clip_sample(relation regclass, role oid, target name, wanted integer, skip_if text, OUT source text, OUT row_limit bigint)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	aim CONSTANT bigint := greatest(5 * wanted::bigint, 5000);
	alias CONSTANT text := (SELECT quote_ident(c.relname) FROM pg_class AS c WHERE c.oid = relation);
	estimate real;
	leaves bigint;
	is_denied boolean;
BEGIN
	SELECT count(*), bool_or(l.denied IS NOT NULL) INTO leaves, is_denied FROM @extschema@._clip_leaves(relation, role, target) AS l;
	IF leaves > 0 THEN
		row_limit := wanted;
		source := CASE WHEN is_denied THEN (SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation)
			ELSE format('(%s) AS %s', @extschema@._clip_leaf_rows(relation, role, target, '$1'::text, format('%s.%I', alias, target), format('%s.%I IS NOT NULL', alias, target),
				''::text, ((wanted + leaves - 1) / leaves)::text, 'false'::text, skip_if, NULL::regclass), alias) END;
		RETURN;
	END IF;
	SELECT sum(c.reltuples) INTO estimate FROM pg_class AS c
	 WHERE c.oid = relation AND c.relkind IN ('r', 'm') OR c.oid IN (SELECT p.relid FROM pg_partition_tree(relation) AS p WHERE p.isleaf);
	row_limit := 2 * aim;
	SELECT format('%I.%I', n.nspname, c.relname) || CASE WHEN estimate > row_limit THEN format(' TABLESAMPLE SYSTEM (%s)', 100 * aim / estimate) ELSE '' END
	  INTO source FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation;
END
$$;
COMMENT ON FUNCTION _clip_sample(regclass, oid, name, integer, text) IS 'internal: FROM clause and LIMIT for a sample of a table';

CREATE FUNCTION _clip_require_number(name text, value integer, minimum integer) RETURNS void
	LANGUAGE plpgsql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF value IS NULL OR value < minimum THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid %s: %s', name, COALESCE(value::text, 'null')),
			DETAIL = format('Valid values are %s and larger.', minimum);
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_require_number(text, integer, integer) IS 'internal: raise an error if a number of rows is too small';

-- A search of a table with foreign tables below it reads each of its tables ("leaves") by a subquery of its own. Only the LIMIT of a query of
-- one foreign table reaches its server, and without it the server may not use its index. See docs/design/search.md.
--   is_indexed  true if the leaf may be searched by an index that omits rows. The index of another server is used only if the options of
--               the server set its breadth, because this session cannot.
--   denied      why the role cannot read the table and all leaves directly: then the table is searched as a whole, without an index, or the
--               search fails. A policy of the table does not apply to its leaves.
CREATE FUNCTION _clip_leaves(relation regclass, role oid, target name) RETURNS TABLE (number integer, leaf regclass, rows_of text, is_foreign boolean, server text, is_indexed boolean, denied text)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY WITH tables AS MATERIALIZED (
		SELECT c.oid, c.relname, c.relkind, c.relrowsecurity, n.nspname, s.srvname, s.srvoptions,
		       has_schema_privilege(role, n.oid, 'USAGE') AND has_table_privilege(role, c.oid, 'SELECT') AS may_read
		  FROM @extschema@._clip_inheritors(relation::oid) AS t (oid) JOIN pg_class AS c ON c.oid = t.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
		  LEFT JOIN pg_foreign_table AS f ON f.ftrelid = c.oid LEFT JOIN pg_foreign_server AS s ON s.oid = f.ftserver
	)
	SELECT (row_number() OVER (ORDER BY t.nspname, t.relname))::integer, t.oid::regclass, format('ONLY %I.%I', t.nspname, t.relname), t.relkind = 'f', t.srvname::text,
	       t.relkind = 'r' AND @extschema@._clip_vector_index(t.oid::regclass, target) IS NOT NULL OR EXISTS (SELECT FROM unnest(t.srvoptions) AS o WHERE o ~ '^options=.*(hnsw\.ef_search|ivfflat\.probes)'),
	       COALESCE((SELECT format('Table %s has row-level security.', d.oid::regclass) FROM tables AS d WHERE d.relrowsecurity LIMIT 1),
	                (SELECT format('The role cannot read table %s.', d.oid::regclass) FROM tables AS d WHERE (d.relkind <> 'p' OR d.oid = relation) AND NOT d.may_read ORDER BY d.nspname, d.relname LIMIT 1))
	  FROM tables AS t WHERE t.relkind IN ('r', 'f') AND EXISTS (SELECT FROM tables AS f WHERE f.relkind = 'f');
END
$$;
COMMENT ON FUNCTION _clip_leaves(regclass, oid, name) IS 'internal: the tables that a search of a table with foreign partitions reads one by one';

-- The rows of all leaves, as subqueries. Each has the number of its leaf in the column "leaf", and without "order_by" its distance from the
-- vector "query" in the column "distance".
--   columns, condition   in terms of the name of the table
--   order_by             '' for no order, NULL for the nearest rows
--   exact_if, skip_if    conditions with %s for the number of a leaf: do not use its index; leave it out
--   named_index          the only index of the table that is used, with its partitions; NULL for any
CREATE FUNCTION _clip_leaf_rows(relation regclass, role oid, target name, query text, columns text, condition text, order_by text, row_limit text,
	exact_if text, skip_if text, named_index regclass) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	template CONSTANT text := '(SELECT %1$s AS leaf, %2$s FROM %3$s AS %4$s WHERE %5$s AND NOT (%6$s)%7$s LIMIT %8$s)';
	alias CONSTANT text := (SELECT quote_ident(c.relname) FROM pg_class AS c WHERE c.oid = relation);
	vector CONSTANT text := @extschema@._clip_cast_query(relation, target, query);
	distance CONSTANT text := format('%s.%I OPERATOR(%I.<=>) %s', alias, target, @extschema@._clip_vector_schema(), vector);
	leaf record;
	place record;
	rows_of text[] := '{}';
BEGIN
	FOR leaf IN SELECT * FROM @extschema@._clip_leaves(relation, role, target) LOOP
		IF order_by IS NOT NULL THEN
			rows_of := rows_of || format(template, leaf.number, columns, leaf.rows_of, alias, condition, format(skip_if, leaf.number),
				CASE order_by WHEN '' THEN '' ELSE ' ORDER BY ' || order_by END, row_limit);
			CONTINUE;
		END IF;
		SELECT * INTO place FROM @extschema@._clip_place(leaf.leaf, target, alias, vector, named_index);
		-- The distance is the expression that sorts the rows of another server, because LIMIT reaches the server only if that is cheaper, and each
		-- more expression costs more.
		IF leaf.is_indexed THEN
			rows_of := rows_of || format(template, leaf.number, format('%s, %s AS distance', columns, CASE WHEN leaf.is_foreign THEN place.place ELSE distance END),
				leaf.rows_of, alias, condition, format('%s OR %s', format(skip_if, leaf.number), format(exact_if, leaf.number)), ' ORDER BY ' || place.place, row_limit);
		END IF;
		rows_of := rows_of || format(template, leaf.number, format('%s, %s AS distance', columns, CASE WHEN leaf.is_foreign THEN place.exact_place ELSE distance END),
			leaf.rows_of, alias, condition || CASE WHEN leaf.is_indexed THEN format(' AND (%s)', format(exact_if, leaf.number)) ELSE '' END,
			format(skip_if, leaf.number), ' ORDER BY ' || place.exact_place, row_limit);
	END LOOP;
	RETURN array_to_string(rows_of, E'\nUNION ALL\n');
END
$$;
COMMENT ON FUNCTION _clip_leaf_rows(regclass, oid, name, text, text, text, text, text, text, text, regclass) IS 'internal: rows of the leaves of a table with foreign partitions';

-- The numbers of the leaves whose index may have omitted rows: those with fewer rows in "reached" than the limit.
CREATE FUNCTION _clip_short_leaves(relation regclass, role oid, target name, reached text, row_limit text, exact_if text, skip_if text) RETURNS text
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('(SELECT pg_catalog.array_agg(l.n) FROM pg_catalog.unnest(%L::pg_catalog.int4[]) AS l (n) WHERE NOT (%s) AND NOT (%s) '
	'AND (SELECT pg_catalog.count(*) FROM %s AS r WHERE r.leaf OPERATOR(pg_catalog.=) l.n) OPERATOR(pg_catalog.<) %s::pg_catalog.int8)',
	COALESCE((SELECT array_agg(l.number) FROM @extschema@._clip_leaves(relation, role, target) AS l WHERE l.is_indexed), '{}'),
	format(exact_if, 'l.n'), format(skip_if, 'l.n'), reached, row_limit)
$$;
COMMENT ON FUNCTION _clip_short_leaves(regclass, oid, name, text, text, text, text) IS 'internal: expression for the leaves whose index may have omitted rows';

-- How a search reads a table: as a whole ("is_split" is false), or leaf by leaf. "probes" has a statement for each leaf that fails if its
-- server does not answer, and NULL for a table of this server.
CREATE FUNCTION _clip_reading(relation regclass, role oid, target name, partial boolean, OUT is_foreign boolean, OUT is_split boolean, OUT names text[], OUT probes text[])
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	reason text;
BEGIN
	SELECT count(*) > 0, array_agg(l.leaf::text ORDER BY l.number), min(l.denied),
	       array_agg(CASE WHEN l.is_foreign THEN format('SELECT FROM %s LIMIT 1', l.rows_of) END ORDER BY l.number)
	  INTO is_foreign, names, reason, probes FROM @extschema@._clip_leaves(relation, role, target) AS l;
	is_split := is_foreign AND reason IS NULL;
	IF partial IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'partial must not be null';
	ELSIF partial AND is_foreign AND NOT is_split THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table %s cannot be searched in part', relation),
			DETAIL = reason, HINT = 'A partial search reads each partition directly. Grant the role SELECT on the partitions, or search without partial => true.';
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_reading(regclass, oid, name, boolean) IS 'internal: how a search reads a table with foreign partitions, or an error';

CREATE FUNCTION _clip_search_sql(relation regclass, k integer, target name, filter text, index regclass) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts record;
	called text := 'distance';
	number integer := 1;
	-- As in a search, the index of another server is not used if the options of the server do not set its breadth.
	is_exact CONSTANT boolean := EXISTS (SELECT FROM @extschema@._clip_leaves(relation, (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user), target) AS l
		WHERE l.is_foreign AND NOT l.is_indexed);
BEGIN
	SELECT * INTO parts FROM @extschema@._clip_searched(relation, target, filter, '$1'::pg_catalog.text, index);
	PERFORM @extschema@._clip_require_number('k'::pg_catalog.text, k, 1);
	-- Finds a name that no column of the table has.
	WHILE EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = called) LOOP
		called := 'clip_distance' || CASE number WHEN 1 THEN '' ELSE '_' || number END;
		number := number + 1;
	END LOOP;
	RETURN format(E'WITH nearest AS MATERIALIZED (\n%s\n)\nSELECT * FROM nearest ORDER BY %s', @extschema@._clip_nearest(
		format(E'SELECT %s.*, %s AS %s\n  FROM %s\n WHERE %s', parts.alias, parts.distance, called, parts.rows_of, parts.present || parts.filtered),
		CASE WHEN is_exact THEN parts.exact_place ELSE parts.place END, k::text, @extschema@._clip_considered(k::bigint, 'text'::text, parts.bits), called::name), called);
END
$$;
COMMENT ON FUNCTION _clip_search_sql(regclass, integer, name, text, regclass) IS 'internal: search statement that returns complete rows';

CREATE FUNCTION clip_search_sql(relation regclass, k integer DEFAULT 10, target name DEFAULT 'embedding', filter text DEFAULT NULL, index regclass DEFAULT NULL) RETURNS text
	AS 'MODULE_PATHNAME', 'clip_search_sql_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION clip_search_sql(regclass, integer, name, text, regclass)
	IS 'return a search statement that returns complete rows; $1 is the query vector';

CREATE FUNCTION clip_query(relation regclass, query text, target name DEFAULT 'embedding') RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_query_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_query(regclass, text, name)
	IS 'embed a text with the model that computed a column''s embeddings';

CREATE FUNCTION clip_query_image(relation regclass, query bytea, target name DEFAULT 'embedding') RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_query_image_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_query_image(regclass, bytea, name)
	IS 'embed an encoded image with the model that computed a column''s embeddings';

CREATE FUNCTION _clip_query(relation regclass, target name, query text, model text) RETURNS vector
	AS 'MODULE_PATHNAME', 'clip_query_with_wrapper' LANGUAGE C STABLE COST 10000;
COMMENT ON FUNCTION _clip_query(regclass, name, text, text)
	IS 'internal: embed a text with the named model, or with the column''s model, or with the default model';

-- The statement that looks for pending rows, requested once per session and column. It reads the index of pending rows, or all of
-- a small table, or some blocks of a large table. "failed" is the number of failures.
CREATE FUNCTION _clip_pending_statement(role oid, relation regclass, target name, OUT statement text, OUT sampled boolean, OUT failed bigint, OUT queued boolean, OUT top regclass)
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	-- A table of up to so many pages is read completely, which takes some milliseconds.
	small CONSTANT bigint := 1000;
	-- So many blocks of a larger table are read.
	blocks CONSTANT integer := 64;
	-- A table of more pages is not read, because even the choice of the blocks would take too long.
	large CONSTANT bigint := 4000000;
	col CONSTANT record := @extschema@._clip_recorded(relation, target);
	pages bigint;
	source text;
BEGIN
	IF col.source IS NULL THEN
		RETURN;
	END IF;
	-- Each server reports the pending rows of its own table.
	IF @extschema@._clip_has_foreign(relation) THEN
		RETURN;
	END IF;
	SELECT CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || format('%I.%I', n.nspname, c.relname) INTO source
	  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
	 WHERE c.oid = relation AND has_schema_privilege(role, n.oid, 'USAGE')
	   AND has_column_privilege(role, c.oid, col.source, 'SELECT') AND has_column_privilege(role, c.oid, target, 'SELECT');
	IF source IS NULL THEN
		RETURN;
	END IF;
	SELECT sum(pg_relation_size(c.oid)) / current_setting('block_size')::bigint INTO pages FROM pg_class AS c
	 WHERE c.oid = relation AND c.relkind = 'r' OR c.oid IN (SELECT p.relid FROM pg_partition_tree(relation) AS p WHERE p.isleaf);
	sampled := pages > small AND @extschema@._clip_pending_index(relation, col.source, target) IS NULL;
	IF sampled AND pages > large OR @extschema@._clip_citus_kind(relation) = 'distributed' AND @extschema@._clip_pending_index(relation, col.source, target) IS NULL THEN
		RETURN;
	END IF;
	IF sampled THEN
		source := source || format(' TABLESAMPLE SYSTEM (%s)', 100.0 * blocks / pages);
	END IF;
	statement := format('SELECT pg_catalog.count(*) FROM (SELECT 1 FROM %s WHERE %I IS NULL AND %I IS NOT NULL LIMIT 1001) AS pending', source, target, col.source);
	failed := (SELECT count(*) FROM _clip.failed AS f JOIN _clip.columns AS c ON c.relation = f.relation AND c.trigger_name = f.trigger_name
	            WHERE f.relation = col.top AND c.target = _clip_pending_statement.target AND f.key <> 'null');
	queued := col.mode = 'queue';
	top := col.top;
END
$$;
COMMENT ON FUNCTION _clip_pending_statement(oid, regclass, name) IS 'internal: statement that looks for pending rows, which searches do not find';

CREATE FUNCTION clip_search(relation regclass, query text, k integer DEFAULT 10, target name DEFAULT 'embedding', filter text DEFAULT NULL,
	model text DEFAULT NULL, key_column name DEFAULT NULL, min_relevance double precision DEFAULT NULL, per name DEFAULT NULL,
	per_size integer DEFAULT 1, exclude jsonb DEFAULT NULL, index regclass DEFAULT NULL, partial boolean DEFAULT false)
	RETURNS TABLE (key bigint, key_text text, key_uuid uuid, key_json jsonb, distance double precision, rank integer, relevance double precision)
	AS 'MODULE_PATHNAME', 'clip_search_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION clip_search(regclass, text, integer, name, text, text, name, double precision, name, integer, jsonb, regclass, boolean)
	IS 'search by a text: keys of the k most similar rows that match a filter, with distance, rank and relevance';

CREATE FUNCTION clip_search_image(relation regclass, query bytea, k integer DEFAULT 10, target name DEFAULT 'embedding', filter text DEFAULT NULL,
	model text DEFAULT NULL, key_column name DEFAULT NULL, min_relevance double precision DEFAULT NULL, per name DEFAULT NULL,
	per_size integer DEFAULT 1, exclude jsonb DEFAULT NULL, index regclass DEFAULT NULL, partial boolean DEFAULT false)
	RETURNS TABLE (key bigint, key_text text, key_uuid uuid, key_json jsonb, distance double precision, rank integer, relevance double precision)
	AS 'MODULE_PATHNAME', 'clip_search_image_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION clip_search_image(regclass, bytea, integer, name, text, text, name, double precision, name, integer, jsonb, regclass, boolean)
	IS 'search by an encoded image: keys of the k most similar rows that match a filter, with distance, rank and relevance';

CREATE FUNCTION clip_search_vector(relation regclass, query vector, k integer DEFAULT 10, target name DEFAULT 'embedding', filter text DEFAULT NULL,
	key_column name DEFAULT NULL, min_relevance double precision DEFAULT NULL, per name DEFAULT NULL,
	per_size integer DEFAULT 1, exclude jsonb DEFAULT NULL, index regclass DEFAULT NULL, partial boolean DEFAULT false)
	RETURNS TABLE (key bigint, key_text text, key_uuid uuid, key_json jsonb, distance double precision, rank integer, relevance double precision)
	AS 'MODULE_PATHNAME', 'clip_search_vector_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION clip_search_vector(regclass, vector, integer, name, text, name, double precision, name, integer, jsonb, regclass, boolean)
	IS 'search by a vector: keys of the k most similar rows that match a filter, with distance, rank and relevance';

-- The equality operator of a type, from its default operator class.
CREATE FUNCTION _clip_equality(kind oid) RETURNS text
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE base (oid, typtype, typbasetype) AS (
	SELECT t.oid, t.typtype, t.typbasetype FROM pg_type AS t WHERE t.oid = kind
	UNION ALL
	SELECT t.oid, t.typtype, t.typbasetype FROM base AS b JOIN pg_type AS t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
)
SELECT COALESCE((
	SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
	  FROM pg_opclass AS oc JOIN pg_am AS m ON m.oid = oc.opcmethod AND m.amname = 'btree'
	  JOIN pg_amop AS am ON am.amopfamily = oc.opcfamily AND am.amopstrategy = 3 AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
	  JOIN pg_operator AS o ON o.oid = am.amopopr JOIN pg_namespace AS n ON n.oid = o.oprnamespace
	 WHERE oc.opcdefault AND oc.opcintype = (SELECT b.oid FROM base AS b WHERE b.typtype <> 'd')), 'OPERATOR(pg_catalog.=)')
$$;
COMMENT ON FUNCTION _clip_equality(oid) IS 'internal: the equality operator of a type';

-- The name of a type without a length, in a form that no search_path changes.
CREATE FUNCTION _clip_type_name(kind oid) RETURNS text
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('%I.%I', n.nspname, t.typname) FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE t.oid = kind
$$;
COMMENT ON FUNCTION _clip_type_name(oid) IS 'internal: the qualified name of a type';

-- The columns that identify the rows of a search: the key of the table, or "key_column" if the caller names it, for example for a
-- view.
CREATE FUNCTION _clip_search_key(relation regclass, key_column name, OUT names name[], OUT types oid[])
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF key_column IS NOT NULL THEN
		names := ARRAY[key_column];
		types := ARRAY[(@extschema@._clip_require_column(relation, key_column, 'the column that identifies rows'::text, 'key_column'::text)).type];
		RETURN;
	END IF;
	SELECT k.names, k.types INTO names, types FROM @extschema@._clip_key(relation) AS k;
	IF names IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('%s has no primary key', relation),
			DETAIL = 'A search returns the keys of rows.',
			HINT = format('Name a column that identifies rows: key_column => %L.', COALESCE(
				(SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
					AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype) ORDER BY a.attname <> 'id', a.attnum LIMIT 1), 'id'));
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_search_key(regclass, name) IS 'internal: columns that identify the rows of a search, with their types';

-- The expressions for key, key_text, key_uuid and key_json of a search result.
CREATE FUNCTION _clip_search_columns(names name[], types oid[], alias text) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	columns CONSTANT text := '%s::pg_catalog.int8 AS key, %s::pg_catalog.text AS key_text, %s::pg_catalog.uuid AS key_uuid, %s AS key_json';
	is_number boolean := false;
	is_uuid boolean := false;
	is_text boolean := false;
	called text;
BEGIN
	IF cardinality(names) = 1 THEN
		WITH RECURSIVE base (oid, typtype, typbasetype, typcategory) AS (
			SELECT t.oid, t.typtype, t.typbasetype, t.typcategory FROM pg_type AS t WHERE t.oid = types[1]
			UNION ALL
			SELECT t.oid, t.typtype, t.typbasetype, t.typcategory FROM base AS b JOIN pg_type AS t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
		)
		SELECT b.oid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AS is_number, b.oid = 'uuid'::regtype AS is_uuid, b.typcategory = 'S' AS is_text
		  INTO is_number, is_uuid, is_text FROM base AS b WHERE b.typtype <> 'd';
		called := format('%s.%I', alias, names[1]);
	END IF;
	RETURN format(columns, CASE WHEN is_number THEN called ELSE 'NULL' END, CASE WHEN is_text THEN called ELSE 'NULL' END,
		CASE WHEN is_uuid THEN called ELSE 'NULL' END, @extschema@._clip_key_object(names, alias));
END
$$;
COMMENT ON FUNCTION _clip_search_columns(name[], oid[], text) IS 'internal: expressions for the keys of a search result';

-- A condition that is true for the rows with these keys. "keys" is a key or an array of keys, as values or as in key_json. "is_named"
-- is true if the caller names the column.
CREATE FUNCTION _clip_in_keys(names name[], types oid[], is_named boolean, alias text, keys jsonb) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	listed CONSTANT jsonb := CASE jsonb_typeof(keys) WHEN 'array' THEN keys ELSE jsonb_build_array(keys) END;
	wrong jsonb;
BEGIN
	SELECT e INTO wrong FROM jsonb_array_elements(listed) AS e
	 WHERE CASE jsonb_typeof(e) WHEN 'object' THEN EXISTS (SELECT FROM unnest(names) AS n WHERE NOT e ? n::text)
	            WHEN 'array' THEN true WHEN 'null' THEN true ELSE cardinality(names) > 1 END LIMIT 1;
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'invalid exclude: an element is no key of the table',
			DETAIL = format('The key has %s: %s.', CASE cardinality(names) WHEN 1 THEN 'one column' ELSE 'several columns' END,
				(SELECT string_agg(quote_ident(n), ', ' ORDER BY i) FROM unnest(names) WITH ORDINALITY AS k (n, i))),
			HINT = CASE cardinality(names) WHEN 1 THEN 'Pass a JSON array of keys, for example: exclude => ''[1, 2]''.'
				ELSE 'Pass a JSON array of values of key_json.' END;
	END IF;
	IF cardinality(names) = 1 THEN
		-- A column that the caller names can be NULL.
		RETURN format(CASE WHEN is_named THEN 'COALESCE(%1$s.%2$I %3$s ANY (%4$L::%5$s[]), %6$s)' ELSE '%1$s.%2$I %3$s ANY (%4$L::%5$s[])' END, alias, names[1], @extschema@._clip_equality(types[1]),
			ARRAY(SELECT CASE jsonb_typeof(e) WHEN 'object' THEN e->>names[1] ELSE e#>>'{}' END FROM jsonb_array_elements(listed) AS e
			       WHERE jsonb_typeof(e) <> 'object' OR e->>names[1] IS NOT NULL), @extschema@._clip_type_name(types[1]),
			CASE WHEN EXISTS (SELECT FROM jsonb_array_elements(listed) AS e WHERE jsonb_typeof(e) = 'object' AND e->>names[1] IS NULL) THEN format('%s.%I IS NULL', alias, names[1]) ELSE 'false' END);
	END IF;
	RETURN COALESCE((SELECT string_agg((SELECT format('(%s)', string_agg(format('%s.%I %s %L::%s', alias, k.name, @extschema@._clip_equality(k.type), e->>k.name::text,
			@extschema@._clip_type_name(k.type)), ' AND ' ORDER BY k.i)) FROM unnest(names, types) WITH ORDINALITY AS k (name, type, i)), ' OR ')
		FROM jsonb_array_elements(listed) AS e), 'false');
END
$$;
COMMENT ON FUNCTION _clip_in_keys(name[], oid[], boolean, text, jsonb) IS 'internal: condition for the rows with these keys';

-- The number of rows that an index should consider. Texts are far from all images, so a search by a text starts far from the
-- nearest rows. docs/design/search.md has the measurements.
CREATE FUNCTION _clip_candidates(relation regclass, k bigint) RETURNS integer
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN least(1000000, greatest(2 * k, CASE WHEN @extschema@._clip_estimated_rows(relation) BETWEEN 30000 AND 300000 THEN 450 ELSE 800 END));
END
$$;
COMMENT ON FUNCTION _clip_candidates(regclass, bigint) IS 'internal: number of rows that the index considers in a search';

-- The statements of a search, which return keys.
--   nearest   the k nearest rows by the index; with "per", of the nearest $2 rows the best "per_size" rows of the k best groups
--   exact     the same in a form that no index supports, or NULL if it would find the same rows
-- If the table is read leaf by leaf, both are the same statement: it does not use the indexes of the leaves $3, and of all leaves if $3 is
-- NULL; it leaves out the leaves $4. Its last column is an array of the leaves whose index may have omitted rows.
CREATE FUNCTION _clip_search_statements(relation regclass, k integer, target name, filter text, key_column name, role oid, partial boolean,
	min_relevance double precision, per name, per_size integer, exclude jsonb, index regclass, by_image boolean,
	OUT nearest text, OUT exact text, OUT candidates integer, OUT model text, OUT digest text, OUT named text, OUT names text[], OUT probes text[])
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- Two steps, because an index scan in relaxed order finds more rows but returns them slightly out of order.
	search CONSTANT text := E'WITH %s\n'
		'SELECT f.key, f.key_text, f.key_uuid, f.key_json, f.distance, f.rank::pg_catalog.int4 AS rank, %s AS relevance, %s AS is_relevant, %s AS short\n'
		'  FROM %s AS f%s\n ORDER BY f.rank, f.distance';
	one_step CONSTANT text := E'nearest AS MATERIALIZED (\n%s\n)';
	by_leaf CONSTANT text := E'clip_reached AS MATERIALIZED (\n%s\n), nearest AS MATERIALIZED (\nSELECT r.* FROM %s AS r ORDER BY r.distance LIMIT %s\n)';
	every_row CONSTANT text := '(SELECT n.*, pg_catalog.row_number() OVER (ORDER BY n.distance) AS rank FROM nearest AS n)';
	-- The best rows of each group, and the best groups.
	grouped CONSTANT text := '(SELECT r.* FROM (SELECT p.*, pg_catalog.dense_rank() OVER (ORDER BY p.best, p.group_of) AS rank FROM ('
		'SELECT n.*, pg_catalog.row_number() OVER (PARTITION BY n.group_of ORDER BY n.distance) AS place, pg_catalog.min(n.distance) OVER (PARTITION BY n.group_of) AS best FROM nearest AS n'
		') AS p WHERE p.place OPERATOR(pg_catalog.<=) %s::pg_catalog.int8) AS r WHERE r.rank OPERATOR(pg_catalog.<=) %s::pg_catalog.int8)';
	-- The rows of the groups that "%3$s" contains.
	of_groups CONSTANT text := E'(%1$s %2$s ANY (ARRAY(SELECT g.group_of FROM %3$s AS g)) OR %1$s IS NULL AND EXISTS (SELECT 1 FROM %3$s AS g WHERE g.group_of IS NULL))';
	-- Without a limit, no number of rows shows that an index omitted some.
	exact_if CONSTANT text := CASE WHEN per IS NOT NULL THEN '$2 IS NULL OR ' ELSE '' END || 'COALESCE(%s OPERATOR(pg_catalog.=) ANY ($3::pg_catalog.int4[]), true)';
	skip_if CONSTANT text := '%s OPERATOR(pg_catalog.=) ANY ($4::pg_catalog.int4[])';
	no_short CONSTANT text := 'NULL::pg_catalog.int4[]';
	read CONSTANT text := E'SELECT %s\n  FROM %s\n WHERE %s';
	parts record;
	key record;
	reading record;
	group_type oid;
	group_of text;
	columns text;
	condition text;
	rows_read text;
	is_excluded text;
	excluded text;
	reached text;
	short text;
	near text;
	in_steps boolean;
	kind CONSTANT text := CASE WHEN by_image THEN 'image' ELSE 'text' END;
	outcome text;
	relevance text := 'NULL::pg_catalog.float8';
	is_relevant text := 'true';
	sample record;
	typical text := '';
	row_limit text := k;
BEGIN
	SELECT * INTO parts FROM @extschema@._clip_searched(relation, target, filter, '$1'::pg_catalog.text, index);
	PERFORM @extschema@._clip_require_number('k'::pg_catalog.text, k, 1);
	PERFORM @extschema@._clip_require_number('per_size'::pg_catalog.text, per_size, 1);
	IF min_relevance = 'NaN' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'invalid min_relevance: NaN',
			HINT = 'Pass a number of standard deviations, for example 3.';
	END IF;
	SELECT * INTO key FROM @extschema@._clip_search_key(relation, key_column);
	SELECT * INTO reading FROM @extschema@._clip_reading(relation, role, target, partial);
	-- The steps tell rows apart by their keys. Tables that inherit from a table can have its keys.
	in_steps := parts.index IS NOT NULL AND parts.bits IS NULL AND key_column IS NULL AND reading.is_foreign IS NOT TRUE
		AND @extschema@._clip_citus_kind(relation) IS NULL AND (SELECT c.relkind = 'p' OR NOT c.relhassubclass FROM pg_class AS c WHERE c.oid = relation);
	candidates := greatest(@extschema@._clip_candidates(relation, k), @extschema@._clip_considered(k::bigint, kind, parts.bits));
	model := parts.model;
	digest := parts.digest;
	named := relation::text;
	IF min_relevance IS NOT NULL THEN
		SELECT * INTO sample FROM @extschema@._clip_sample(relation, role, target, 1000, skip_if);
		-- The cosine distance of a vector of length zero is NaN.
		relevance := 'CASE WHEN f.distance OPERATOR(pg_catalog.=) ''NaN''::pg_catalog.float8 THEN ''-Infinity''::pg_catalog.float8 ELSE COALESCE((t.mean OPERATOR(pg_catalog.-) f.distance) OPERATOR(pg_catalog./) t.deviation, 0::pg_catalog.float8) END';
		is_relevant := format('%s OPERATOR(pg_catalog.>=) %L::pg_catalog.float8', relevance, min_relevance);
		typical := format(E',\n       (SELECT pg_catalog.avg(s.distance) AS mean, CASE WHEN pg_catalog.stddev_pop(s.distance) OPERATOR(pg_catalog.<>) 0::pg_catalog.float8 THEN pg_catalog.stddev_pop(s.distance) END AS deviation FROM (SELECT %s AS distance FROM %s WHERE %s LIMIT %s) AS s WHERE s.distance OPERATOR(pg_catalog.<>) ''NaN''::pg_catalog.float8) AS t',
			parts.distance, sample.source, parts.present, sample.row_limit);
	END IF;
	IF per IS NOT NULL THEN
		group_type := (@extschema@._clip_require_column(relation, per, 'the column of the groups'::text, 'per'::text)).type;
		group_of := format('%s.%I', parts.alias, per);
		row_limit := '$2';
	END IF;
	columns := @extschema@._clip_search_columns(key.names, key.types, parts.alias) || COALESCE(', ' || group_of || ' AS group_of', '');
	condition := parts.present || parts.filtered;
	IF exclude IS NOT NULL THEN
		is_excluded := @extschema@._clip_in_keys(key.names, key.types, key_column IS NOT NULL, parts.alias, exclude);
		IF per IS NULL THEN
			condition := condition || format(E'\n   AND NOT (%s)', is_excluded);
		ELSE
			-- The groups of the excluded rows.
			excluded := CASE WHEN reading.is_split
				THEN '(' || @extschema@._clip_leaf_rows(relation, role, target, '$1'::text, group_of || ' AS group_of', is_excluded, ''::text, 'ALL'::text, exact_if, skip_if, NULL::regclass) || ')'
				ELSE format('(SELECT %s AS group_of FROM %s WHERE %s)', group_of, parts.rows_of, is_excluded) END;
			condition := condition || E'\n   AND NOT COALESCE(' || format(of_groups, group_of, @extschema@._clip_equality(group_type), excluded) || ', false)';
		END IF;
	END IF;
	outcome := CASE WHEN per IS NULL THEN every_row ELSE format(grouped, per_size, k) END;
	IF reading.is_split THEN
		names := reading.names;
		probes := reading.probes;
		reached := @extschema@._clip_leaf_rows(relation, role, target, '$1'::text, columns, condition, NULL::text, row_limit, exact_if, skip_if, index);
		short := @extschema@._clip_short_leaves(relation, role, target, 'clip_reached'::text, row_limit, exact_if, skip_if);
		IF per IS NOT NULL AND per_size > 1 THEN
			-- All rows of the groups that the nearest rows belong to. Of the other groups, none is nearer.
			reached := reached || format(E'\n), clip_near AS MATERIALIZED (\nSELECT r.group_of FROM clip_reached AS r ORDER BY r.distance LIMIT %s\n), clip_groups AS MATERIALIZED (\n%s', row_limit,
				@extschema@._clip_leaf_rows(relation, role, target, '$1'::text, format('%s, %s AS distance', columns, parts.distance),
					condition || E'\n   AND ' || format(of_groups, group_of, @extschema@._clip_equality(group_type), 'clip_near'), ''::text, 'ALL'::text, exact_if, skip_if, NULL::regclass));
			nearest := format(search, format(by_leaf, reached, 'clip_groups', 'ALL'), relevance, is_relevant, short, outcome, typical);
		ELSE
			nearest := format(search, format(by_leaf, reached, 'clip_reached', row_limit), relevance, is_relevant, short, outcome, typical);
		END IF;
		exact := nearest;
		RETURN;
	END IF;
	rows_read := format(read, format('%s, %s AS distance', columns, parts.distance), parts.rows_of, condition);
	exact := format(search, format(one_step, @extschema@._clip_nearest(rows_read, parts.exact_place, row_limit, NULL::bigint, 'distance'::name)), relevance, is_relevant, no_short, outcome, typical);
	IF in_steps THEN
		near := @extschema@._clip_nearest_in_steps(format(read, format('%s, %s AS distance, %s.%I AS clip_embedding', columns, parts.distance, parts.alias, target), parts.rows_of, condition),
			parts.place, format('$1::%I.vector', @extschema@._clip_vector_schema()), row_limit, format('GREATEST(%s, 10)', row_limit),
			CASE WHEN per IS NULL THEN greatest(2 * k::bigint, 30)::text ELSE row_limit END);
	ELSIF reading.is_foreign THEN
		near := @extschema@._clip_nearest(rows_read, parts.exact_place, row_limit, NULL::bigint, 'distance'::name);
	ELSE
		near := @extschema@._clip_nearest(rows_read, parts.place, row_limit, @extschema@._clip_considered(k::bigint * CASE WHEN per IS NULL THEN 1 ELSE per_size END, kind, parts.bits), 'distance'::name);
	END IF;
	nearest := format(search, format(one_step, near), relevance, is_relevant, no_short, outcome, typical);
	IF per IS NOT NULL AND per_size > 1 AND parts.may_omit THEN
		nearest := format(search, format(one_step, @extschema@._clip_nearest(rows_read || E'\n   AND ' || format(of_groups, group_of, @extschema@._clip_equality(group_type),
				format(E'(SELECT i.group_of FROM (%s) AS i)', near)), parts.exact_place, 'ALL'::text, NULL::bigint, 'distance'::name)), relevance, is_relevant, no_short, outcome, typical);
	END IF;
	IF NOT parts.may_omit OR reading.is_foreign AND per IS NULL THEN
		exact := NULL;
	END IF;
END
$$;
COMMENT ON FUNCTION _clip_search_statements(regclass, integer, name, text, name, oid, boolean, double precision, name, integer, jsonb, regclass, boolean) IS 'internal: statements of a search, and the model of its column';

-- Combines two rankings by reciprocal rank fusion (Cormack et al. 2009). Rows of both rankings are joined by tableoid and ctid,
-- which do not change within a statement. They identify no row on several nodes of Citus, so there the rows are joined by their keys. The
-- table of another server can have partitions, whose rows have the same ctid. So the rows of foreign tables are also compared by their keys.
-- The statement uses subqueries, because a filter could use a table with the name of a WITH query.
CREATE FUNCTION _clip_hybrid_statements(relation regclass, words name, k integer, target name, filter text, key_column name, role oid, partial boolean, index regclass,
	OUT nearest text, OUT exact text, OUT candidates integer, OUT model text, OUT digest text, OUT named text, OUT names text[], OUT probes text[])
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- The best value of the paper, which others use, too.
	smoothing CONSTANT integer := 60;
	parts record;
	key record;
	reading record;
	kind text;
	columns text;
	-- The rows of each ranking.
	near text;
	considered bigint;
	same_row text;
	same_place CONSTANT text := 'v.t OPERATOR(pg_catalog.=) w.t AND v.c OPERATOR(pg_catalog.=) w.c';
	same_key CONSTANT text := 'pg_catalog.jsonb_build_array(v.key, v.key_text, v.key_uuid, v.key_json) OPERATOR(pg_catalog.=) pg_catalog.jsonb_build_array(w.key, w.key_text, w.key_uuid, w.key_json)';
	words_rows text;
	similarity text;
	matches text;
	short text := 'NULL::pg_catalog.int4[]';
	before text := '';
	exact_if CONSTANT text := 'COALESCE(%s OPERATOR(pg_catalog.=) ANY ($3::pg_catalog.int4[]), true)';
	skip_if CONSTANT text := '%s OPERATOR(pg_catalog.=) ANY ($4::pg_catalog.int4[])';
	search CONSTANT text := E'%1$sSELECT COALESCE(v.key, w.key) AS key, COALESCE(v.key_text, w.key_text) AS key_text, COALESCE(v.key_uuid, w.key_uuid) AS key_uuid,\n'
		'       COALESCE(v.key_json, w.key_json) AS key_json,\n'
		'       COALESCE(1::pg_catalog.float8 OPERATOR(pg_catalog./) (%2$s::pg_catalog.float8 OPERATOR(pg_catalog.+) v.place::pg_catalog.float8), 0)\n'
		'       OPERATOR(pg_catalog.+) COALESCE(1::pg_catalog.float8 OPERATOR(pg_catalog./) (%2$s::pg_catalog.float8 OPERATOR(pg_catalog.+) w.place::pg_catalog.float8), 0) AS score,\n'
		'       v.place::pg_catalog.int4 AS vector_place, w.place::pg_catalog.int4 AS words_place, %3$s AS short\n'
		'  FROM (SELECT near.*, pg_catalog.rank() OVER (ORDER BY near.distance) AS place FROM (\n%4$s\n'
		') AS near) AS v FULL JOIN (SELECT named.*, pg_catalog.rank() OVER (ORDER BY named.similarity DESC) AS place FROM (\n%5$s\n'
		') AS named) AS w ON %7$s\n'
		' ORDER BY score DESC, v.place, w.place LIMIT %6$s';
BEGIN
	SELECT * INTO parts FROM @extschema@._clip_searched(relation, target, filter, '$1'::pg_catalog.text, index);
	PERFORM @extschema@._clip_require_number('k'::pg_catalog.text, k, 1);
	IF (SELECT c.relkind NOT IN ('r', 'p', 'm', 'f') FROM pg_class AS c WHERE c.oid = relation) THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a table', relation),
			HINT = 'Search the underlying table.';
	END IF;
	kind := format_type((@extschema@._clip_require_column(relation, words, 'a column of type tsvector'::text, 'words'::text)).type, NULL);
	IF kind <> 'tsvector' THEN
		RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('column "%s" has type %s', words, kind),
			DETAIL = 'Full-text search needs a column of type tsvector.',
			HINT = format('Add a column, and a GIN index on it: ALTER TABLE %s ADD COLUMN words tsvector GENERATED ALWAYS AS (to_tsvector(''english'', title)) STORED.', relation);
	END IF;
	SELECT * INTO key FROM @extschema@._clip_search_key(relation, key_column);
	SELECT * INTO reading FROM @extschema@._clip_reading(relation, role, target, partial);
	columns := format('%s, %s.tableoid AS t, %s.ctid AS c', @extschema@._clip_search_columns(key.names, key.types, parts.alias), parts.alias, parts.alias);
	same_row := CASE WHEN @extschema@._clip_citus_kind(relation) = 'distributed' THEN same_key WHEN reading.is_foreign THEN same_place || ' AND ' || same_key ELSE same_place END;
	-- Rows with lower ranks contribute little.
	candidates := greatest(100, least(2 * k::bigint, 1000000));
	considered := @extschema@._clip_considered(candidates::bigint, 'text'::text, parts.bits);
	similarity := format('pg_catalog.ts_rank_cd(%s.%I, $2)', parts.alias, words);
	matches := format('%s.%I OPERATOR(pg_catalog.@@) $2%s', parts.alias, words, parts.filtered);
	IF reading.is_split THEN
		names := reading.names;
		probes := reading.probes;
		before := format(E'WITH clip_reached AS MATERIALIZED (\n%s\n)\n', @extschema@._clip_leaf_rows(relation, role, target, '$1'::text, columns, parts.present || parts.filtered, NULL::text, candidates::text, exact_if, skip_if, index));
		short := @extschema@._clip_short_leaves(relation, role, target, 'clip_reached'::text, candidates::text, exact_if, skip_if);
		near := format('SELECT r.* FROM clip_reached AS r ORDER BY r.distance LIMIT %s', candidates);
		words_rows := format(E'SELECT r.* FROM (\n%s\n) AS r ORDER BY r.similarity DESC LIMIT %s', @extschema@._clip_leaf_rows(relation, role, target, '$1'::text,
			format('%s, %s AS similarity', columns, similarity), matches, similarity || ' DESC', candidates::text, exact_if, skip_if, NULL::regclass), candidates);
		nearest := format(search, before, smoothing, short, near, words_rows, k, same_row);
		exact := nearest;
	ELSE
		near := format('SELECT %s, %s AS distance FROM %s WHERE %s%s', columns, parts.distance, parts.rows_of, parts.present, parts.filtered);
		words_rows := format(E'SELECT %s, %s AS similarity FROM %s\n WHERE %s ORDER BY similarity DESC LIMIT %s', columns, similarity, parts.rows_of, matches, candidates);
		exact := format(search, before, smoothing, short, @extschema@._clip_nearest(near, parts.exact_place, candidates::text, NULL::bigint, 'distance'::name), words_rows, k, same_row);
		nearest := CASE WHEN reading.is_foreign THEN exact ELSE format(search, before, smoothing, short, @extschema@._clip_nearest(near, parts.place, candidates::text, considered, 'distance'::name), words_rows, k, same_row) END;
		IF NOT parts.may_omit OR reading.is_foreign THEN
			exact := NULL;
		END IF;
	END IF;
	candidates := greatest(candidates, considered, @extschema@._clip_candidates(relation, k));
	model := parts.model;
	digest := parts.digest;
	named := relation::text;
END
$$;
COMMENT ON FUNCTION _clip_hybrid_statements(regclass, name, integer, name, text, name, oid, boolean, regclass) IS 'internal: statements of a hybrid search, and the number of rows that each ranking contributes';

CREATE FUNCTION clip_hybrid_search(relation regclass, query text, words name, k integer DEFAULT 10, target name DEFAULT 'embedding',
	filter text DEFAULT NULL, configuration regconfig DEFAULT NULL, model text DEFAULT NULL, key_column name DEFAULT NULL,
	index regclass DEFAULT NULL, partial boolean DEFAULT false)
	RETURNS TABLE (key bigint, key_text text, key_uuid uuid, key_json jsonb, score double precision, vector_place integer, words_place integer)
	AS 'MODULE_PATHNAME', 'clip_hybrid_search_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION clip_hybrid_search(regclass, text, name, integer, name, text, regconfig, text, name, regclass, boolean)
	IS 'full-text search combined with a search by embedding: keys of the k rows with the highest combined rank; words is a column of type tsvector';

-- Distances between rows and a text depend on the model. The number of standard deviations by which a row is closer than the
-- average row can be compared between models.
CREATE FUNCTION _clip_typical_distance(relation regclass, query text, target name, sample integer, model text, OUT mean double precision, OUT deviation double precision)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts record;
	drawn record;
BEGIN
	SELECT * INTO parts FROM @extschema@._clip_searched(relation, target, NULL::pg_catalog.text, '$1'::pg_catalog.text, NULL::pg_catalog.regclass);
	PERFORM @extschema@._clip_require_number('sample'::pg_catalog.text, sample, 2);
	SELECT * INTO drawn FROM @extschema@._clip_sample(relation, (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user), target, sample, 'false'::text);
	EXECUTE format('SELECT avg(s.distance), NULLIF(stddev_pop(s.distance), 0) FROM (SELECT %s AS distance FROM %s WHERE %s LIMIT %s) AS s',
		parts.distance, drawn.source, parts.present, drawn.row_limit)
		INTO mean, deviation USING @extschema@._clip_query(relation, target, query, model);
END
$$;
COMMENT ON FUNCTION _clip_typical_distance(regclass, text, name, integer, text) IS 'internal: result of clip_typical_distance';

CREATE FUNCTION clip_typical_distance(relation regclass, query text, target name DEFAULT 'embedding', sample integer DEFAULT 1000,
	model text DEFAULT NULL) RETURNS TABLE (mean double precision, deviation double precision)
	AS 'MODULE_PATHNAME', 'clip_typical_distance_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 1;
COMMENT ON FUNCTION clip_typical_distance(regclass, text, name, integer, text)
	IS 'mean and standard deviation of the cosine distances between a text and a sample of a table''s rows';

-- near-duplicates

CREATE FUNCTION _clip_duplicates_sql(relation regclass, target name, filter text, max_distance double precision, neighbours integer, index regclass) RETURNS text
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts record;
	key record;
	keys text;
	-- An alias that differs from the name of the table, which the similar rows have as their alias.
	one CONSTANT text := (SELECT CASE c.relname WHEN 'one' THEN 'this_one' ELSE 'one' END FROM pg_class AS c WHERE c.oid = relation);
BEGIN
	PERFORM @extschema@._clip_citus_reject(relation, 'clip_near_duplicates'::text,
		format('Read the embedding of one row, and search its neighbours with it: SELECT * FROM clip_search_vector(%L, ''[...]'').', relation));
	SELECT * INTO parts FROM @extschema@._clip_searched(relation, target, filter, one || '.embedding'::pg_catalog.text, index);
	SELECT * INTO key FROM @extschema@._clip_require_key(relation, 'Duplicates are identified by their keys.'::text);
	keys := @extschema@._clip_key_object(key.names, parts.alias);
	PERFORM @extschema@._clip_require_number('neighbours'::pg_catalog.text, neighbours, 1);
	IF max_distance IS NULL OR NOT max_distance BETWEEN 0 AND 2 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid max_distance: %s', COALESCE(max_distance::text, 'null')),
			DETAIL = 'Cosine distances are between 0 and 2.';
	END IF;
	RETURN format(E'SELECT LEAST(%6$s.key, other.key) AS key, GREATEST(%6$s.key, other.key) AS duplicate, pg_catalog.min(other.distance) AS distance\n'
		'  FROM (SELECT %1$s AS key, %2$s.%3$I AS embedding FROM %4$s WHERE %5$s%7$s) AS %6$s\n'
		' CROSS JOIN LATERAL (%8$s) AS other\n'
		' WHERE other.distance OPERATOR(pg_catalog.<=) $1 AND %6$s.key OPERATOR(pg_catalog.<>) other.key\n'
		' GROUP BY 1, 2 ORDER BY 3, 1, 2',
		keys, parts.alias, target, parts.rows_of, parts.present, one, parts.filtered,
		@extschema@._clip_nearest(format('SELECT %s AS key, %s AS distance FROM %s WHERE %s', keys, parts.distance, parts.rows_of, parts.present), parts.place,
			(neighbours::bigint + 1)::text, @extschema@._clip_considered(neighbours::bigint + 1, 'duplicate'::text, parts.bits), 'distance'::name));
END
$$;
COMMENT ON FUNCTION _clip_duplicates_sql(regclass, name, text, double precision, integer, regclass) IS 'internal: statement that finds near-duplicates';

CREATE FUNCTION clip_near_duplicates(relation regclass, target name DEFAULT 'embedding', max_distance double precision DEFAULT 0.01,
	filter text DEFAULT NULL, neighbours integer DEFAULT 20, index regclass DEFAULT NULL) RETURNS TABLE (key jsonb, duplicate jsonb, distance double precision)
	AS 'MODULE_PATHNAME', 'clip_near_duplicates_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 1000;
COMMENT ON FUNCTION clip_near_duplicates(regclass, name, double precision, text, integer, regclass)
	IS 'pairs of rows with nearly equal embeddings, each pair once; compares each row that matches the filter with all rows';

-- Connected components of pairs of numbers: for each of the numbers 1, 2, 3 and so on, the smallest number of its component.
CREATE FUNCTION _clip_components(ones integer[], others integer[]) RETURNS integer[]
	LANGUAGE plpgsql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	largest CONSTANT integer := greatest((SELECT max(n) FROM unnest(ones) AS n), (SELECT max(n) FROM unnest(others) AS n));
	parents integer[] := ARRAY(SELECT generate_series(1, largest));
	one integer;
	other integer;
BEGIN
	FOR i IN 1 .. COALESCE(cardinality(ones), 0) LOOP
		one := ones[i];
		WHILE parents[one] <> one LOOP
			parents[one] := parents[parents[one]];
			one := parents[one];
		END LOOP;
		other := others[i];
		WHILE parents[other] <> other LOOP
			parents[other] := parents[parents[other]];
			other := parents[other];
		END LOOP;
		parents[greatest(one, other)] := least(one, other);
	END LOOP;
	-- A parent is never larger than its child, so one pass in ascending order finds all roots.
	FOR i IN 1 .. COALESCE(largest, 0) LOOP
		parents[i] := parents[parents[i]];
	END LOOP;
	RETURN parents;
END
$$;
COMMENT ON FUNCTION _clip_components(integer[], integer[]) IS 'internal: connected components of pairs';

CREATE FUNCTION _clip_duplicate_groups(relation regclass, target name, max_distance double precision, filter text, neighbours integer, index regclass)
	RETURNS TABLE (group_number integer, key jsonb)
	LANGUAGE sql STABLE ROWS 1000
BEGIN ATOMIC
WITH pairs AS MATERIALIZED (
	SELECT p.key, p.duplicate FROM @extschema@.clip_near_duplicates(relation, target, max_distance, filter, neighbours, index) AS p
), keys AS MATERIALIZED (
	SELECT k.key, (pg_catalog.row_number() OVER (ORDER BY k.key))::integer AS n
	  FROM (SELECT p.key FROM pairs AS p UNION SELECT p.duplicate FROM pairs AS p) AS k
), roots AS MATERIALIZED (
	SELECT @extschema@._clip_components(pg_catalog.array_agg(a.n), pg_catalog.array_agg(b.n)) AS of
	  FROM pairs AS p JOIN keys AS a ON a.key OPERATOR(pg_catalog.=) p.key JOIN keys AS b ON b.key OPERATOR(pg_catalog.=) p.duplicate
)
SELECT (pg_catalog.dense_rank() OVER (ORDER BY r.of[k.n]))::integer, k.key FROM keys AS k CROSS JOIN roots AS r ORDER BY 1, 2;
END;
COMMENT ON FUNCTION _clip_duplicate_groups(regclass, name, double precision, text, integer, regclass) IS 'internal: result of clip_duplicate_groups';

CREATE FUNCTION clip_duplicate_groups(relation regclass, target name DEFAULT 'embedding', max_distance double precision DEFAULT 0.01,
	filter text DEFAULT NULL, neighbours integer DEFAULT 20, index regclass DEFAULT NULL) RETURNS TABLE (group_number integer, key jsonb)
	AS 'MODULE_PATHNAME', 'clip_duplicate_groups_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 1000;
COMMENT ON FUNCTION clip_duplicate_groups(regclass, name, double precision, text, integer, regclass)
	IS 'near-duplicates in groups; rows in a group are near-duplicates directly or through other rows';

-- recall of an index

CREATE TYPE @extschema@.clip_recall AS (ef_search integer, recall real, median_ms real, queries integer);
COMMENT ON TYPE clip_recall IS 'a row of clip_index_recall';
COMMENT ON COLUMN clip_recall.ef_search IS 'the setting hnsw.ef_search';
COMMENT ON COLUMN clip_recall.recall IS 'average share of the k nearest rows that the index finds';
COMMENT ON COLUMN clip_recall.median_ms IS 'median duration of a search in milliseconds';
COMMENT ON COLUMN clip_recall.queries IS 'number of searches that were measured within the time limit';

CREATE FUNCTION _clip_index_recall(relation regclass, target name, sample integer, k integer, ef_search integer[], queries text[], time_limit interval,
	model text, index regclass) RETURNS SETOF clip_recall
	LANGUAGE plpgsql VOLATILE ROWS 4
	-- Measures the index with the settings of a search.
	SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	SET hnsw.iterative_scan = 'relaxed_order' SET hnsw.ef_search = 40
AS $$
#variable_conflict use_variable
DECLARE
	begun CONSTANT timestamptz := clock_timestamp();
	parts record;
	drawn record;
	-- The nearest rows, without the row whose embedding is the query.
	search CONSTANT text := 'SELECT array_agg(n.distance ORDER BY n.distance) FROM (%s) AS n';
	rows_read text;
	by_index text;
	exactly text;
	searched_by record;
	hits float8[];
	best float8[];
	started timestamptz;
	breadth integer;
	breadths integer[] := '{}';
	recalls real[] := '{}';
	times real[] := '{}';
	asked refcursor;
	-- The settings of this function, which the nodes of a distributed table need, too.
	settings CONSTANT text[] := ARRAY['enable_seqscan', 'jit', 'hnsw.iterative_scan', 'hnsw.ef_search'];
	is_distributed CONSTANT boolean := COALESCE(@extschema@._clip_citus_kind(relation) = 'distributed', false);
BEGIN
	SELECT * INTO parts FROM @extschema@._clip_searched(relation, target, NULL::pg_catalog.text, '$1'::pg_catalog.text, index);
	PERFORM @extschema@._clip_require_number('k'::pg_catalog.text, k, 1);
	PERFORM @extschema@._clip_require_number('sample'::pg_catalog.text, sample, 1);
	IF time_limit IS NULL OR COALESCE(cardinality(ef_search), 0) = 0 OR array_position(ef_search, NULL) IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'ef_search and time_limit must not be empty or null';
	END IF;
	IF @extschema@._clip_has_foreign(relation) THEN
		RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('table %s has foreign partitions', relation),
			DETAIL = 'Each server has an index of its own.', HINT = 'Call clip_index_recall on each server.';
	END IF;
	IF parts.index IS NULL OR (SELECT am.amname <> 'hnsw' FROM pg_class AS c JOIN pg_am AS am ON am.oid = c.relam WHERE c.oid = parts.index) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table %s has no HNSW index on column "%s"', relation, target),
			DETAIL = CASE WHEN parts.index IS NULL THEN 'Searches without an index are exact.' ELSE 'The function measures values of hnsw.ef_search, which indexes of other methods do not read.' END,
			HINT = format('Create an index: CREATE INDEX %s.', @extschema@._clip_index_definition(relation, target, (SELECT v.operator_class FROM @extschema@._clip_vector_types() AS v
				WHERE v.type = (@extschema@._clip_require_column(relation, target, 'the embedding column'::text, 'target'::text)).type)));
	END IF;
	rows_read := format('SELECT %1$s AS distance FROM %2$s WHERE %3$s AND (%4$s.tableoid, %4$s.ctid) IS DISTINCT FROM ($2, $3)', parts.distance, parts.rows_of, parts.present, parts.alias);
	by_index := format(search, @extschema@._clip_nearest(rows_read, parts.place, k::text, @extschema@._clip_considered(k::bigint, CASE WHEN queries IS NULL THEN 'image' ELSE 'text' END::text, parts.bits), 'distance'::name));
	exactly := format(search, @extschema@._clip_nearest(rows_read, parts.exact_place, k::text, NULL::bigint, 'distance'::name));
	IF queries IS NOT NULL THEN
		OPEN asked NO SCROLL FOR SELECT @extschema@._clip_query(relation, target, q.words, model) AS vector, NULL::oid AS t, NULL::tid AS c
			FROM unnest(queries) AS q (words);
	ELSE
		SELECT * INTO drawn FROM @extschema@._clip_sample(relation, (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user), target, sample, 'false'::text);
		OPEN asked NO SCROLL FOR EXECUTE format('SELECT %1$s.%2$I::%6$I.vector AS vector, %1$s.tableoid AS t, %1$s.ctid AS c FROM %3$s WHERE %4$s ORDER BY random() LIMIT %5$s',
			parts.alias, target, drawn.source, parts.present, sample, @extschema@._clip_vector_schema());
	END IF;
	IF is_distributed THEN
		PERFORM @extschema@._clip_citus_set(settings, ARRAY(SELECT current_setting(s) FROM unnest(settings) WITH ORDINALITY AS o (s, i) ORDER BY i));
	END IF;
	LOOP
		FETCH asked INTO searched_by;
		EXIT WHEN NOT FOUND OR clock_timestamp() > begun + time_limit;
		EXECUTE exactly INTO best USING searched_by.vector, searched_by.t, searched_by.c;
		CONTINUE WHEN best IS NULL;
		-- An unmeasured search reads the pages from disk, so that the measured ones find them in memory.
		PERFORM set_config('hnsw.ef_search', (SELECT max(b) FROM unnest(ef_search) AS b)::text, true);
		IF is_distributed THEN
			PERFORM @extschema@._clip_citus_set(ARRAY['hnsw.ef_search'], ARRAY[current_setting('hnsw.ef_search')]);
		END IF;
		EXECUTE by_index INTO hits USING searched_by.vector, searched_by.t, searched_by.c;
		FOREACH breadth IN ARRAY ef_search LOOP
			PERFORM set_config('hnsw.ef_search', breadth::text, true);
			IF is_distributed THEN
				PERFORM @extschema@._clip_citus_set(ARRAY['hnsw.ef_search'], ARRAY[breadth::text]);
			END IF;
			started := clock_timestamp();
			EXECUTE by_index INTO hits USING searched_by.vector, searched_by.t, searched_by.c;
			times := times || (extract(epoch FROM clock_timestamp() - started) * 1000)::real;
			breadths := breadths || breadth;
			-- Any row at the distance of the last of the k nearest rows counts as found.
			recalls := recalls || ((SELECT count(*) FROM unnest(hits) AS d WHERE d <= best[cardinality(best)]) / cardinality(best)::real)::real;
		END LOOP;
	END LOOP;
	CLOSE asked;
	IF is_distributed THEN
		PERFORM @extschema@._clip_citus_set(settings, array_fill(NULL::text, ARRAY[cardinality(settings)]));
	END IF;
	RETURN QUERY SELECT m.breadth, avg(m.recall)::real, percentile_cont(0.5) WITHIN GROUP (ORDER BY m.ms)::real, count(*)::integer
	  FROM unnest(breadths, recalls, times) AS m (breadth, recall, ms) GROUP BY m.breadth ORDER BY m.breadth;
END
$$;
COMMENT ON FUNCTION _clip_index_recall(regclass, name, integer, integer, integer[], text[], interval, text, regclass) IS 'internal: result of clip_index_recall';

CREATE FUNCTION clip_index_recall(relation regclass, target name DEFAULT 'embedding', sample integer DEFAULT 100, k integer DEFAULT 10,
	ef_search integer[] DEFAULT ARRAY[40, 100, 200, 400], queries text[] DEFAULT NULL, time_limit interval DEFAULT '1 minute', model text DEFAULT NULL,
	index regclass DEFAULT NULL)
	RETURNS SETOF clip_recall
	AS 'MODULE_PATHNAME', 'clip_index_recall_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 4;
COMMENT ON FUNCTION clip_index_recall(regclass, name, integer, integer, integer[], text[], interval, text, regclass)
	IS 'recall and speed of the index: compares index searches with exact searches, for a sample of the table''s rows or for texts';

-- diagnosis

CREATE FUNCTION clip_diagnose() RETURNS TABLE (item text, value text)
	AS 'MODULE_PATHNAME', 'clip_diagnose_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 16;
COMMENT ON FUNCTION clip_diagnose() IS 'versions, limits and settings, to paste into a bug report';

-- privileges

GRANT SELECT ON @extschema@.clip_models, @extschema@.clip_loaded_models, @extschema@.clip_failures, @extschema@.clip_auto_embed_status,
	@extschema@.clip_progress TO PUBLIC;
GRANT SELECT ON _clip.columns, _clip.work_done, _clip.running, _clip.failed, _clip.visible_failures TO PUBLIC;

-- All roles can name the tables in this schema. Only the owner of the database can read them, to dump the database, because
-- they contain keys of tables that other roles may not be able to read.
GRANT USAGE ON SCHEMA _clip TO PUBLIC;
GRANT SELECT ON _clip.failures TO pg_database_owner;

-- All roles can set these in a session that has loaded the library. A session that has not loaded it does not know the settings,
-- and PostgreSQL checks this privilege when ALTER DATABASE or ALTER ROLE stores a default. The privilege only removes this
-- difference, and gives no other rights. It belongs to the whole server: DROP EXTENSION keeps it for other databases. A second
-- CREATE EXTENSION finds it and writes nothing, so that two databases cannot conflict.
DO $$
DECLARE
	setting pg_catalog.text;
BEGIN
	FOREACH setting IN ARRAY '{clip.default_model,clip.threads,clip.batch_size,clip.query_cache_size,clip.text_overflow}'::pg_catalog.text[] LOOP
		IF NOT pg_catalog.has_parameter_privilege('public'::pg_catalog.name, setting, 'SET'::pg_catalog.text) THEN
			EXECUTE pg_catalog.format('GRANT SET ON PARAMETER %s TO PUBLIC', setting);
		END IF;
	END LOOP;
END
$$;

-- The statistics of the embedding service are about the work of all roles.
REVOKE EXECUTE ON FUNCTION @extschema@._clip_service() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@._clip_service() TO pg_monitor;
GRANT SELECT ON @extschema@.clip_service TO pg_monitor;

-- No other privilege is revoked from PUBLIC. These functions read only their arguments and the models, change only the memory of this
-- session, and show paths only to superusers. Settings that protect the server can only be changed by superusers.
