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
