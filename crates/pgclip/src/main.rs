//! The command `pgclip`, which installs models in a server's model directory and removes them.
//! Invariants: standard output has the result, standard error has everything else; the command asks no questions; only
//! `pull` uses the network.

mod catalog;
mod cli;
mod commands;
mod database;
mod failure;
mod in_use;
mod output;
mod provider_argument;
mod quantize_arguments;
mod serve_arguments;
mod server_paths;

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::{CommandFactory, Parser};
use cli::{Cli, Verb};
use commands::session::{STOP, Session};
use failure::Failure;

/// Turns off telemetry before ONNX Runtime is loaded: see [`clip::TELEMETRY_OFF`].
fn disable_telemetry() {
    for name in clip::TELEMETRY_OFF {
        // SAFETY: this runs first, while the process has one thread.
        unsafe { std::env::set_var(name, "1") };
    }
}

fn main() -> ExitCode {
    disable_telemetry();
    let Cli { verb, place, json } = Cli::parse();
    // The first signal ends the work cleanly, the second at once.
    let stop = || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(failure::Exit::Interrupted as i32);
        }
    };
    // The service waits for signals itself, because it is isolated while it has one thread.
    if !matches!(verb, Verb::Serve(_))
        && let Err(error) = ctrlc::set_handler(stop)
    {
        eprintln!("pgclip: signals cannot be handled: {error}");
    }
    match run(verb, &Session { place, json }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { exit, message, hint }) => {
            eprintln!("pgclip: {message}");
            if let Some(hint) = hint {
                eprintln!("  {hint}");
            }
            ExitCode::from(exit as u8)
        }
    }
}

fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Pull { model, name, choices } => session.pull(&model, name, choices),
        Verb::Add { name, source, choices } => session.add(&name, &source, &choices.into_choices()),
        Verb::List => session.list(),
        Verb::Show { name } => session.show(&name),
        Verb::Verify { names } => session.verify(&names),
        Verb::Rm { name, database, force } => session.remove(&name, &database, force),
        Verb::Prepare { names } => session.prepare(&names),
        Verb::Quantize { name, new_name, samples } => session.quantize(&name, new_name, &samples),
        Verb::Catalog => session.catalog(),
        Verb::Export { name, file } => session.export(&name, &file),
        Verb::Check { database } => session.check(&database),
        Verb::Serve(arguments) => session.serve(&arguments),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "pgclip", &mut std::io::stdout());
            Ok(())
        }
    }
}
