//! The applications in examples/, through the commands that all of them have: see examples/README.md.

mod shop;

use shop::{Feature, check};

use Feature::{Change, Diff, Pending, Queue, Remove, Surplus, Undo};

const ALL: &[Feature] = &[Undo, Diff, Surplus, Change, Remove, Pending, Queue];
/// Django compares its models with its migrations, and SeaORM adds what is missing. Neither notices a surplus column.
const WITHOUT_SURPLUS: &[Feature] = &[Undo, Diff, Change, Remove, Pending, Queue];
/// Tools that have no comparison of models and database.
const WITHOUT_DIFF: &[Feature] = &[Undo, Change, Remove, Pending, Queue];

macro_rules! recipes {
    ($($test:ident: $directory:literal, $features:expr;)*) => {
        $(
            #[test]
            fn $test() {
                check($directory, $features);
            }
        )*

        /// Every directory in examples/ with a `run` is one of the recipes.
        #[test]
        fn every_example_is_tested() {
            let mut found: Vec<_> = std::fs::read_dir(e2e::root().join("examples")).unwrap().map(|entry| entry.unwrap().path())
                .filter(|path| path.join("run").exists()).map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
            found.sort();
            let mut tested = vec![$($directory),*];
            tested.sort_unstable();
            assert_eq!(found, tested);
        }
    };
}

recipes! {
    active_record: "rails", ALL;
    django: "django", WITHOUT_SURPLUS;
    drizzle: "drizzle", ALL;
    jdbc: "jdbc", WITHOUT_DIFF;
    knex: "knex", WITHOUT_DIFF;
    kysely: "kysely", WITHOUT_DIFF;
    langchain: "langchain", &[Undo];
    llamaindex: "llamaindex", &[Undo];
    node_postgres: "node-postgres", WITHOUT_DIFF;
    prisma: "prisma", ALL;
    psycopg: "psycopg", WITHOUT_DIFF;
    sea_orm: "seaorm", WITHOUT_SURPLUS;
    sequelize: "sequelize", ALL;
    sqlalchemy: "sqlalchemy", ALL;
    sqlalchemy_async: "sqlalchemy-async", ALL;
    sqlmodel: "sqlmodel", ALL;
    sqlx: "sqlx", WITHOUT_DIFF;
    typeorm: "typeorm", ALL;
}
