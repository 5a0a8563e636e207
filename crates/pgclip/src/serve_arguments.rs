//! The options of `pgclip serve`.

use std::path::PathBuf;

use clap::Args;
use clip::Provider;

use crate::provider_argument::provider;

const SERVE: &str = "\
Example:
  pgclip serve --socket /run/pg_clip/service --threads 4

With clip.service = on, the server starts this command. To run it on its own, name its socket in clip.service_socket. Only the user \
who runs the service, and root, can use it: run it as the server's user. The directory of the socket must have mode 0700, and is \
created if it is missing. SIGTERM ends the service.";

/// The socket and the limits of the service.
#[derive(Args)]
#[command(after_help = SERVE)]
pub struct ServeArguments {
    /// Socket to listen on
    #[arg(long, value_name = "FILE")]
    pub socket: PathBuf,
    /// Execution provider that computes models. ONNX Runtime with the provider is in the directory of its name, next to the library
    #[arg(long, value_parser = provider(), default_value_t = Provider::Cpu)]
    pub provider: Provider,
    /// Threads that compute [0: one for each core]
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Memory for models in bytes. The models that were used least recently are unloaded
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MEMORY)]
    pub memory: u64,
}

/// Both encoders of the largest published CLIP models take 2 GB in single precision.
const DEFAULT_MEMORY: u64 = 4 << 30;
