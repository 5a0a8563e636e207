//! The command line and its `--help`.

use std::path::PathBuf;

use crate::serve_arguments::ServeArguments;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use clip::{Choices, Pooling, TowerChoices};

use crate::quantize_arguments::QuantizeArguments;

// A paragraph is one line: it is wrapped for the terminal, and lines that were wrapped before would be wrapped twice.
const EXAMPLES: &str = "\
Examples:
  pgclip pull openai/clip-vit-base-patch32      download a model from the hub and install it
  pgclip add photos ./my-export                 install a model from a directory, without a network
  pgclip list                                   list the installed models
  psql -c \"SELECT clip_embed_text('a red car', 'clip-vit-base-patch32')\"

Exit codes:
  0 success · 1 failure · 2 wrong usage · 3 unknown model · 4 verify or check found a problem · 5 the model is in use";

/// Install CLIP models on a PostgreSQL server with pg_clip.
///
/// A model is a directory under the server's model path. pgclip copies the model there, runs it once as a test, and records a
/// digest of its files. Sessions can use the model at once, without a restart.
#[derive(Parser)]
#[command(name = "pgclip", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
    #[command(flatten)]
    pub place: Place,
    /// Print JSON for programs, on standard output
    #[arg(long, global = true)]
    pub json: bool,
}

/// Paths of the server.
#[derive(Args, Clone)]
pub struct Place {
    /// Directory of all models [default: SHAREDIR/pg_clip/models, from pg_config]
    #[arg(long, global = true, value_name = "DIR", env = "PGCLIP_MODEL_PATH")]
    pub model_path: Vec<PathBuf>,
    /// Directory of prepared weights, as in clip.prepared_path [default: within each model]
    #[arg(long, global = true, value_name = "DIR", env = "PGCLIP_PREPARED_PATH")]
    pub prepared_path: Option<PathBuf>,
    /// The pg_config of the server [default: the one next to pgclip, otherwise the first on the PATH]
    #[arg(long, global = true, value_name = "FILE", env = "PG_CONFIG")]
    pub pg_config: Option<PathBuf>,
    /// ONNX Runtime's library [default: PKGLIBDIR/pg_clip/libonnxruntime.so]
    #[arg(long, global = true, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Download a model from the Hugging Face Hub and install it
    #[command(after_help = PULL)]
    Pull {
        /// Catalog name or Hugging Face repository, optionally with @REVISION
        #[arg(value_name = "MODEL[@REVISION]")]
        model: String,
        /// Name in the database [default: the repository's]
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        choices: ChoiceArguments,
    },
    /// Install a model from a directory, or from a file of `pgclip export`
    #[command(after_help = ADD)]
    Add {
        /// Name in the database
        name: String,
        /// A directory in the layout of a Hugging Face ONNX export, of immich or of open_clip; or a file of `pgclip export`
        #[arg(value_name = "DIR|FILE")]
        source: PathBuf,
        #[command(flatten)]
        choices: ChoiceArguments,
    },
    /// List the installed models
    #[command(visible_alias = "ls")]
    List,
    /// Show everything about a model
    Show { name: String },
    /// Verify the files of installed models against their recorded checksums
    #[command(after_help = VERIFY)]
    Verify {
        /// [default: all]
        names: Vec<String>,
    },
    /// Remove a model
    #[command(after_help = REMOVE)]
    Rm {
        name: String,
        /// Refuse to remove the model if this database uses it (name or connection string; can be repeated)
        #[arg(long, value_name = "DBNAME")]
        database: Vec<String>,
        /// Remove the model even if a database uses it
        #[arg(long)]
        force: bool,
    },
    /// Prepare models so that all sessions share one copy of the weights
    ///
    /// `add` and `pull` prepare a model automatically. Run this command after a change of the processor or of ONNX Runtime, and
    /// after model files were copied or restored from a backup.
    #[command(after_help = PREPARE)]
    Prepare {
        /// [default: all]
        names: Vec<String>,
    },
    /// Create a faster copy of a model, with 8-bit or bf16 weights
    #[command(after_help = QUANTIZE)]
    Quantize {
        name: String,
        /// [default: NAME-int8]
        new_name: Option<String>,
        #[command(flatten)]
        samples: QuantizeArguments,
    },
    /// List the models that `pull` knows by name
    Catalog,
    /// Write a model with its digest to one file, for other servers
    #[command(after_help = EXPORT)]
    Export {
        name: String,
        /// The new file, a tar archive
        file: PathBuf,
    },
    /// Compare the models of several servers
    #[command(after_help = CHECK)]
    Check {
        /// A database of each server (name or connection string; can be repeated)
        #[arg(long, value_name = "DBNAME", required = true)]
        database: Vec<String>,
    },
    /// Run the embedding service, which computes for all sessions
    Serve(ServeArguments),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  pgclip completions bash > /etc/bash_completion.d/pgclip")]
    Completions { shell: Shell },
}

const PULL: &str = "\
Examples:
  pgclip pull openai/clip-vit-base-patch32
  pgclip pull siglip2-base --variant fp16 --name siglip2
  pgclip pull Xenova/clip-vit-base-patch16@main
  HF_TOKEN=hf_... pgclip pull company/private-clip

HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE have the same meaning as in huggingface_hub. To resume an interrupted \
download, run the same command again.";

const ADD: &str = "\
Examples:
  pgclip add photos ./clip-vit-base-patch32
  pgclip add photos-small ./clip-vit-base-patch32 --variant int8
  pgclip add odd ./export --text-output sentence_embedding --image-output 1234
  pgclip add photos photos.tar

The command downloads nothing. It copies the files, so you can delete the directory or the file afterwards.";

const EXPORT: &str = "\
Example, with two servers:
  pgclip export photos photos.tar
  scp photos.tar standby:
  ssh standby sudo pgclip add photos photos.tar

The file can be used with every release of PostgreSQL that pg_clip supports. It has no prepared weights, because these are bound to \
a processor: `pgclip add` prepares the model again. The command does not replace an existing file.";

const CHECK: &str = "\
Example:
  pgclip check --database 'host=primary dbname=shop' --database 'host=standby dbname=shop'

Lists each server that lacks a model, or has another model under its name. A server needs the models of the embedded columns of its \
database, and the models that the other servers have. If a model is missing, the exit code is 4.";

const VERIFY: &str = "\
Compares every file with its recorded checksum. Also reports files that others can write to, links, and files that are not \
part of the model.";

const PREPARE: &str = "\
Examples:
  pgclip prepare                  all models, for example after an update of ONNX Runtime
  pgclip prepare photos

Saves each ONNX file as ONNX Runtime optimizes and packs it for this processor, next to the model. This takes up to twice \
the size of the model. Models that are already prepared are skipped. Open sessions keep the weights that they have loaded.";

const QUANTIZE: &str = "\
Examples:
  pgclip quantize photos --images ./some-photos --texts queries.txt
  pgclip quantize photos photos-fast --tower image
  pgclip quantize photos --weights bf16 --provider openvino

With int8, the weights of matrix products become bytes with a scale per column. With bf16, the weights of products and convolutions \
become bf16 numbers, half as large, and the embedding service can compute the model in bf16. The new model has its own digest, and \
its embeddings are similar to those of the original, but not equal: never mix both in one column. The report shows how similar they \
are on your samples. Pass your own images and queries, because the built-in samples are not representative. With int8, the gain is \
large on processors with VNNI and small on others. With bf16, it needs the provider openvino and a processor with bf16 units.";

const REMOVE: &str = "\
Examples:
  pgclip rm photos --database shop --database archive
  pgclip rm photos --force

Sessions that use the model keep it until they end.";

/// Choices that the files of a model leave open.
#[derive(Args, Default)]
pub struct ChoiceArguments {
    /// One of several exports: fp16, int8, quantized, ...
    #[arg(long)]
    variant: Option<String>,
    /// ONNX file of the text tower, relative to the directory
    #[arg(long, value_name = "FILE")]
    text_graph: Option<String>,
    /// ONNX file of the image tower, relative to the directory
    #[arg(long, value_name = "FILE")]
    image_graph: Option<String>,
    /// Output of the text tower's ONNX file that is the embedding
    #[arg(long, value_name = "OUTPUT")]
    text_output: Option<String>,
    /// Output of the image tower's ONNX file that is the embedding
    #[arg(long, value_name = "OUTPUT")]
    image_output: Option<String>,
    /// Pooling over the text tower's token outputs
    #[arg(long, value_name = "HOW")]
    text_pooling: Option<PoolingArgument>,
    /// Pooling over the image tower's patch outputs
    #[arg(long, value_name = "HOW")]
    image_pooling: Option<PoolingArgument>,
    /// Do not rotate images according to their EXIF orientation
    #[arg(long)]
    ignore_exif_orientation: bool,
    /// Logit scale of the model, if it is not stored in its files
    #[arg(long, value_name = "NUMBER")]
    logit_scale: Option<f64>,
    /// Logit bias of the model, if it is not stored in its files
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    logit_bias: Option<f64>,
    /// License, as the database shows it
    #[arg(long)]
    license: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PoolingArgument {
    Cls,
    Mean,
    Last,
}

impl From<PoolingArgument> for Pooling {
    fn from(pooling: PoolingArgument) -> Self {
        match pooling {
            PoolingArgument::Cls => Self::Cls,
            PoolingArgument::Mean => Self::Mean,
            PoolingArgument::Last => Self::Last,
        }
    }
}

impl ChoiceArguments {
    pub fn into_choices(self) -> Choices {
        let tower = |graph, output, pooling: Option<PoolingArgument>| TowerChoices {
            graph,
            output,
            pooling: pooling.map(Into::into),
        };
        Choices {
            variant: self.variant,
            text: tower(self.text_graph, self.text_output, self.text_pooling),
            image: tower(self.image_graph, self.image_output, self.image_pooling),
            ignore_exif_orientation: self.ignore_exif_orientation,
            logit_scale: self.logit_scale,
            logit_bias: self.logit_bias,
            license: self.license,
            source: None,
        }
    }
}
