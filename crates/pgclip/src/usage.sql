-- What in this database names the model :'model'. Superusers see all of it, others what they may see.
SET search_path = pg_catalog;
WITH definition (place, text) AS (
	SELECT 'column ' || adrelid::regclass || '.' || attname, pg_get_expr(adbin, adrelid)
		FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
	UNION ALL SELECT 'index ' || indexrelid::regclass, pg_get_indexdef(indexrelid)
		FROM pg_index WHERE indexprs IS NOT NULL OR indpred IS NOT NULL
	UNION ALL SELECT 'constraint ' || conname || ' of ' || conrelid::regclass, pg_get_constraintdef(oid)
		FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0
	UNION ALL SELECT 'view ' || oid::regclass, pg_get_viewdef(oid)
		FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace <> 'pg_catalog'::regnamespace
			AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')
	UNION ALL SELECT 'function ' || oid::regprocedure, coalesce(pg_get_function_sqlbody(oid), prosrc)
		FROM pg_proc WHERE prokind IN ('f', 'p') AND pronamespace <> 'pg_catalog'::regnamespace
			AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e')
	UNION ALL SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass, pg_get_triggerdef(oid)
		FROM pg_trigger WHERE NOT tgisinternal
	UNION ALL SELECT 'policy ' || polname || ' on ' || polrelid::regclass,
			concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
		FROM pg_policy
)
SELECT place FROM definition
	WHERE text LIKE '%clip\_%' AND position(quote_literal(:'model') IN text) > 0
UNION ALL
SELECT 'clip.default_model' WHERE coalesce(current_setting('clip.default_model', true), 'emoji') = :'model'
UNION ALL
SELECT 'clip.default_model' || coalesce(' of role ' || nullif(setrole, 0)::regrole, '') || coalesce(' in database ' || datname, '')
	FROM pg_db_role_setting LEFT JOIN pg_database ON pg_database.oid = setdatabase
	WHERE setconfig @> ARRAY['clip.default_model=' || :'model']
ORDER BY 1;
