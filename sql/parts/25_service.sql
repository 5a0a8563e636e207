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
