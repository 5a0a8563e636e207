//! A shop on the command line: it stores products with images, and finds them by text or by image. `run` lists the commands.

mod product;

use std::error::Error;
use std::{env, fs, process};

use product::Product;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgDatabaseError;

static MIGRATIONS: Migrator = sqlx::migrate!();

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
    let pool = PgPool::connect(&env::var("DATABASE_URL")?).await?;
    match *arguments {
        ["migrate"] => MIGRATIONS.run(&pool).await?,
        ["undo"] => MIGRATIONS.undo(&pool, 0).await?,
        ["add", title, price, image] => {
            println!("{}", product::add(&pool, title, price.parse()?, &fs::read(image)?).await?);
        }
        ["load", list] => load(&pool, list).await?,
        ["find", words, max] => print(&product::find(&pool, words, max.parse()?).await?),
        ["similar", image, max] => print(&product::similar(&pool, &fs::read(image)?, max.parse()?).await?),
        ["change", title, image] => {
            let mut product = Product::load(&pool, title).await?;
            product.image = fs::read(image)?;
            product.save(&pool).await?;
            // The object still has the embedding of its former image.
            product.price += 1;
            product.save(&pool).await?;
        }
        ["remove", title] => {
            if product::remove(&pool, title).await? == 0 {
                return Err(format!("no product has the title {title}").into());
            }
        }
        ["pending"] => {
            let (pending, failures) = product::pending(&pool).await?;
            println!("{pending} {failures}");
        }
        ["queue"] => product::queue(&pool).await?,
        _ => return Err("unknown command, or wrong number of arguments".into()),
    }
    Ok(())
}

/// Loads a list with lines of title, price and path of the image, separated by tabs.
async fn load(pool: &PgPool, list: &str) -> Result<()> {
    let (mut titles, mut prices, mut images) = (vec![], vec![], vec![]);
    for line in fs::read_to_string(list)?.lines() {
        let [title, price, image] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("this line has no three columns: {line}").into());
        };
        titles.push(title.to_owned());
        prices.push(price.parse()?);
        images.push(fs::read(image)?);
    }
    product::load(pool, &titles, &prices, &images).await?;
    Ok(())
}

fn print(titles: &[String]) {
    titles.iter().for_each(|title| println!("{title}"));
}

/// Prints the SQLSTATE, the message and the hint of an error of the database, and only the message of other errors.
fn report(error: &(dyn Error + 'static)) {
    let database = error.downcast_ref::<sqlx::Error>().and_then(|error| error.as_database_error());
    let Some(error) = database else { return eprintln!("{error}") };
    eprintln!("{}: {}", error.code().unwrap_or_default(), error.message());
    // The hint is one of the fields that only PostgreSQL has.
    if let Some(hint) = error.downcast_ref::<PgDatabaseError>().hint() {
        eprintln!("{hint}");
    }
}
