//! A shop on the command line: it stores products with images, and finds them by text or by image. `run` lists the commands.

mod migration;
mod product;

use std::error::Error;
use std::{env, fs, process};

use migration::Migrator;
use product::{ActiveModel, Column, Entity};
use sea_orm::sqlx::postgres::PgDatabaseError;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, Database, DatabaseConnection, DbErr, EntityTrait, FromQueryResult,
    IntoActiveModel, QueryFilter, RuntimeErr, Set, Statement, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Err(error) = command(&arguments).await {
        report(&*error);
        process::exit(1);
    }
}

async fn command(arguments: &[&str]) -> Result<()> {
    let db = Database::connect(env::var("DATABASE_URL")?).await?;
    match *arguments {
        ["migrate"] => Migrator::up(&db, None).await?,
        ["undo"] => Migrator::down(&db, None).await?,
        ["diff"] => diff(&db).await?,
        ["add", title, price, image] => {
            println!("{}", row(title, price, image)?.insert(&db).await?.id);
        }
        ["load", list] => load(&db, list).await?,
        ["find", text, max] => print(&product::find(&db, text, max.parse()?).await?),
        ["similar", image, max] => print(&product::similar(&db, fs::read(image)?, max.parse()?).await?),
        ["change", title, image] => {
            let found = Entity::find().filter(Column::Title.eq(title)).one(&db).await?;
            let mut product = found.ok_or("no product has this title")?.into_active_model();
            product.image = Set(fs::read(image)?);
            let mut product = product.save(&db).await?;
            product.price = Set(product.price.unwrap() + 1);
            product.save(&db).await?;
        }
        ["remove", title] => {
            let done = Entity::delete_many().filter(Column::Title.eq(title)).exec(&db).await?;
            if done.rows_affected == 0 {
                return Err("no product has this title".into());
            }
        }
        ["pending"] => pending(&db).await?,
        ["queue"] => {
            db.execute_unprepared("SELECT clip_auto_embed('product', 'image', mode => 'queue')").await?;
        }
        _ => return Err("unknown command, or wrong number of arguments".into()),
    }
    Ok(())
}

fn row(title: &str, price: &str, image: &str) -> Result<ActiveModel> {
    let (title, price, image) = (title.to_owned(), price.parse()?, fs::read(image)?);
    Ok(ActiveModel { title: Set(title), price: Set(price), image: Set(image), ..Default::default() })
}

/// Loads a list in one statement: lines of title, price and path of the image, separated by tabs.
async fn load(db: &DatabaseConnection, list: &str) -> Result<()> {
    let mut rows = vec![];
    for line in fs::read_to_string(list)?.lines() {
        let [title, price, image] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("this line has no three columns: {line}").into());
        };
        rows.push(row(title, price, image)?);
    }
    Entity::insert_many(rows).exec_without_returning(db).await?;
    Ok(())
}

/// Fails if the schema sync of SeaORM would change the database. A transaction that has written has a number.
async fn diff(db: &DatabaseConnection) -> Result<()> {
    let transaction = db.begin().await?;
    db.get_schema_builder().register(Entity).sync(&transaction).await?;
    let sql = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL AS changed";
    let row = transaction.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    transaction.rollback().await?;
    match row.ok_or("no row")?.try_get("", "changed")? {
        true => Err("the database differs from the entity".into()),
        false => Ok(()),
    }
}

#[derive(FromQueryResult)]
struct Status {
    pending: i64,
    failed: i64,
}

/// Prints the numbers of rows that wait for a worker, and of rows that could not be embedded.
async fn pending(db: &DatabaseConnection) -> Result<()> {
    let sql = "SELECT pending, failed FROM clip_auto_embed_status WHERE relation = 'product'";
    let status = Status::find_by_statement(Statement::from_string(db.get_database_backend(), sql)).one(db).await?;
    let Status { pending, failed } = status.ok_or("the column is not managed")?;
    println!("{pending} {failed}");
    Ok(())
}

fn print(titles: &[String]) {
    titles.iter().for_each(|title| println!("{title}"));
}

/// Prints the SQLSTATE, the message and the hint of an error of the database, and only the message of other errors.
fn report(error: &(dyn Error + 'static)) {
    let Some(DbErr::Exec(RuntimeErr::SqlxError(sqlx)) | DbErr::Query(RuntimeErr::SqlxError(sqlx))) =
        error.downcast_ref()
    else {
        return eprintln!("{error}");
    };
    let Some(error) = sqlx.as_database_error() else { return eprintln!("{sqlx}") };
    eprintln!("{}: {}", error.code().unwrap_or_default(), error.message());
    // The hint is one of the fields that only PostgreSQL has.
    if let Some(hint) = error.downcast_ref::<PgDatabaseError>().hint() {
        eprintln!("{hint}");
    }
}
