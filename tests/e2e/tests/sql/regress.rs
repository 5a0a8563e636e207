//! The SQL specification in tests/pg_regress, run by PostgreSQL's own pg_regress.

#[test]
fn sql_behaves_as_specified() {
    e2e::specification(&[]);
}
