//! Settings of the writers' sessions.

/// The settings change how sessions format values, and which rows they see of each other.
pub const SETTINGS: [&str; 6] = [
    "",
    "SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Shanghai'; SET extra_float_digits = 0; SET intervalstyle = 'sql_standard'",
    "SET default_transaction_isolation = 'repeatable read'",
    "SET datestyle = 'Postgres, MDY'; SET timezone = 'America/Havana'; SET plan_cache_mode = 'force_generic_plan'",
    "SET default_transaction_isolation = 'serializable'; SET datestyle = 'German'; SET timezone = 'Asia/Kolkata'",
    "SET bytea_output = 'escape'; SET enable_seqscan = off",
];
