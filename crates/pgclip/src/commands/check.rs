//! `pgclip check`: the models of several servers, compared.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::json;

use crate::commands::session::Session;
use crate::commands::summary::yes_or_no;
use crate::database::query;
use crate::failure::{Exit, Failure};
use crate::output;

const QUERY: &str = include_str!("../models.sql");

/// A server, as one of its databases shows it.
#[derive(Deserialize)]
struct Server {
    server: String,
    /// The installed models, by name.
    models: BTreeMap<String, Installed>,
    /// The models of the embedded columns.
    columns: Vec<Recorded>,
    default_model: String,
}

#[derive(Deserialize)]
struct Installed {
    /// None if the model cannot be used.
    digest: Option<String>,
    prepared: bool,
}

#[derive(Deserialize)]
struct Recorded {
    model: String,
    digest: String,
}

/// The states of a model on a server, as in the view `clip_auto_embed_status`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Missing,
    Broken,
    /// The digest differs from that of the embedded columns or of the first server that has the model.
    Another,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Broken => "broken",
            Self::Another => "another",
        }
    }
}

impl Session {
    pub fn check(&self, databases: &[String]) -> Result<(), Failure> {
        let psql = self.place.psql();
        let servers = databases.iter().map(|database| {
            let failed = |reason: &str| {
                Failure::new(format!("could not ask a database for its models: {reason}"))
                    .hint("Name databases with the extension pg_clip, as psql accepts them: --database 'host=standby dbname=shop'")
            };
            match query(&psql, database, &[], QUERY).map_err(|reason| failed(&reason))? {
                answer if answer.trim().is_empty() => Err(failed("it does not have the extension pg_clip")),
                answer => serde_json::from_str::<Server>(&answer).map_err(|error| failed(&error.to_string())),
            }
        });
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        let needed: BTreeSet<&str> = servers.iter().flat_map(Server::needed).collect();
        let (mut rows, mut objects, mut wrong) = (Vec::new(), Vec::new(), 0);
        for server in &servers {
            for model in &needed {
                let installed = server.models.get(*model);
                let state = state(server, &servers, model);
                wrong += usize::from(state != State::Ok);
                let digest = installed.and_then(|installed| installed.digest.as_deref());
                let prepared = installed.is_some_and(|installed| installed.prepared);
                objects.push(json!({"server": server.server, "model": model, "state": state.name(), "digest": digest, "prepared": prepared}));
                let short = |digest: &str| digest.chars().take(12).collect::<String>();
                rows.push([
                    printable(&server.server),
                    printable(model),
                    state.name().into(),
                    digest.map(short).unwrap_or_default(),
                    yes_or_no(prepared).into(),
                ]);
            }
        }
        match self.json {
            true => output::json(&objects)?,
            false => output::table(["SERVER", "MODEL", "STATE", "DIGEST", "PREPARED"], &rows)?,
        }
        match wrong {
            0 => Ok(()),
            count => Err(Failure::new(format!(
                "{count} {} missing, broken or different",
                if count == 1 { "model is" } else { "models are" }
            ))
            .exit(Exit::Findings)
            .hint(
                "On a server that has the model: pgclip export NAME FILE. On the other server: pgclip add NAME FILE.",
            )),
        }
    }
}

impl Server {
    /// Returns the models that all servers need because of this one.
    fn needed(&self) -> impl Iterator<Item = &str> {
        let columns = self.columns.iter().map(|column| column.model.as_str());
        self.models.keys().map(String::as_str).chain(columns).chain([self.default_model.as_str()])
    }
}

fn state(server: &Server, servers: &[Server], model: &str) -> State {
    let Some(installed) = server.models.get(model) else { return State::Missing };
    let Some(digest) = &installed.digest else { return State::Broken };
    let mut recorded =
        server.columns.iter().filter(|column| column.model == model).map(|column| &column.digest).peekable();
    let is_expected = match recorded.peek() {
        Some(_) => recorded.all(|recorded| recorded == digest),
        None => {
            let mut others = servers.iter().filter_map(|server| server.models.get(model)?.digest.as_ref());
            others.next().is_none_or(|first| first == digest)
        }
    };
    if is_expected { State::Ok } else { State::Another }
}

/// Returns a text of a server without characters that control terminals.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}
