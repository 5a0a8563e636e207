//! The command line, as `--help` teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use clip::{Choices, Pooling, TowerChoices};

// A paragraph is one line: it is wrapped for the terminal, and lines that were wrapped before would be wrapped twice.
const EXAMPLES: &str = "\
Examples:
  pgclip pull openai/clip-vit-base-patch32      fetch a model from the hub and add it
  pgclip add photos ./my-export                 add a model from a folder, without any network
  pgclip list                                   what the server has
  psql -c \"SELECT clip_embed_text('a red car', 'clip-vit-base-patch32')\"

Exit codes:
  0 done · 1 failed · 2 wrong usage · 3 no such model · 4 verify found something · 5 the model is in use";

/// Add CLIP models to a PostgreSQL server that has pg_clip.
///
/// A model is a folder under the server's model path. It is copied there, run once to see what it gives, and from then
/// on pinned by its digest; connections use it at once, no restart is needed.
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

/// Where the server keeps things.
#[derive(Args, Clone)]
pub struct Place {
    /// Folder of all models [default: SHAREDIR/pg_clip/models, as pg_config says]
    #[arg(long, global = true, value_name = "DIR", env = "PGCLIP_MODEL_PATH")]
    pub model_path: Option<PathBuf>,
    /// The pg_config of the server [default: the one beside pgclip, else the one on the PATH]
    #[arg(long, global = true, value_name = "FILE", env = "PG_CONFIG")]
    pub pg_config: Option<PathBuf>,
    /// ONNX Runtime's library [default: PKGLIBDIR/pg_clip/libonnxruntime.so]
    #[arg(long, global = true, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Fetch a model from the Hugging Face Hub and add it
    #[command(after_help = PULL)]
    Pull {
        /// A name of the catalogue, or a repository of the hub, and perhaps a revision
        #[arg(value_name = "MODEL[@REVISION]")]
        model: String,
        /// Name in the database [default: the repository's]
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        choices: ChoiceArguments,
    },
    /// Add a model from a folder
    #[command(after_help = ADD)]
    Add {
        /// Name in the database
        name: String,
        /// A folder in the layout of Hugging Face's ONNX exports, of immich or of open_clip
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        #[command(flatten)]
        choices: ChoiceArguments,
    },
    /// List the models that the server has
    #[command(visible_alias = "ls")]
    List,
    /// Show everything about a model
    Show { name: String },
    /// Check that models are what they were when they were added
    #[command(after_help = VERIFY)]
    Verify {
        /// [default: all]
        names: Vec<String>,
    },
    /// Remove a model
    #[command(after_help = REMOVE)]
    Rm {
        name: String,
        /// A database that must not use the model: a name or a connection string, as psql takes them
        #[arg(long, value_name = "DBNAME")]
        database: Vec<String>,
        /// Remove it though a database uses it
        #[arg(long)]
        force: bool,
    },
    /// Prepare models so that all connections share one copy of their weights
    ///
    /// `add` and `pull` do it by themselves. It is needed again after the processor or ONNX Runtime has changed, and after
    /// model files were copied or restored from a backup.
    #[command(after_help = PREPARE)]
    Prepare {
        /// [default: all]
        names: Vec<String>,
    },
    /// Make a faster model of a stored one, with 8-bit weights
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

HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE mean what they mean to huggingface_hub. An interrupted download is \
resumed by the same command.";

const ADD: &str = "\
Examples:
  pgclip add photos ./clip-vit-base-patch32
  pgclip add photos-small ./clip-vit-base-patch32 --variant int8
  pgclip add odd ./export --text-output sentence_embedding --image-output 1234

Nothing is fetched. What is added is a copy: the folder may go away afterwards.";

const VERIFY: &str = "\
Compares every file with the digest it was added with, and reports files that others could change, links, and files that \
do not belong there.";

const PREPARE: &str = "\
Examples:
  pgclip prepare                  all models, as after a new ONNX Runtime
  pgclip prepare photos

Saves each graph as ONNX Runtime optimises and packs it for this processor, beside the model, in up to twice its size. \
What is prepared already is left as it is. Connections that are open keep what they have.";

const QUANTIZE: &str = "\
Examples:
  pgclip quantize photos --images ./some-photos --texts queries.txt
  pgclip quantize photos photos-fast --tower image

The weights of matrix products become bytes with a scale per column. The new model has a digest of its own; its vectors are \
near those of the original, not equal to them: never mix the two in one column. The report says how near, on the samples \
given; built-in texts and drawn pictures, which stand in where none are given, say little. The gain is large on processors \
with VNNI, small on others.";

const REMOVE: &str = "\
Examples:
  pgclip rm photos --database shop --database archive
  pgclip rm photos --force

Connections that use the model keep it until they end.";

/// What is made smaller, and on what it is compared.
#[derive(Args)]
pub struct QuantizeArguments {
    /// Which tower gets 8-bit weights
    #[arg(long, value_enum, default_value_t = TowerArgument::Both)]
    pub tower: TowerArgument,
    /// Pictures to compare on: files, or folders of files
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    pub images: Vec<PathBuf>,
    /// Texts to compare on, one per line
    #[arg(long, value_name = "FILE")]
    pub texts: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum TowerArgument {
    Both,
    Text,
    Image,
}

/// What the files of a model leave open.
#[derive(Args, Default)]
pub struct ChoiceArguments {
    /// Which of several exports: fp16, int8, quantized, ...
    #[arg(long)]
    variant: Option<String>,
    /// Graph of the text tower, within the folder
    #[arg(long, value_name = "FILE")]
    text_graph: Option<String>,
    /// Graph of the image tower, within the folder
    #[arg(long, value_name = "FILE")]
    image_graph: Option<String>,
    /// Output of the text graph that is the embedding
    #[arg(long, value_name = "OUTPUT")]
    text_output: Option<String>,
    /// Output of the image graph that is the embedding
    #[arg(long, value_name = "OUTPUT")]
    image_output: Option<String>,
    /// How one row is made of the text graph's row per token
    #[arg(long, value_name = "HOW")]
    text_pooling: Option<PoolingArgument>,
    /// How one row is made of the image graph's row per patch
    #[arg(long, value_name = "HOW")]
    image_pooling: Option<PoolingArgument>,
    /// Do not turn pictures upright by their EXIF orientation
    #[arg(long)]
    ignore_exif_orientation: bool,
    /// Learned factor of the cosine, where no file has it
    #[arg(long, value_name = "NUMBER")]
    logit_scale: Option<f64>,
    /// Learned summand of the cosine, where no file has it
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    logit_bias: Option<f64>,
    /// Licence, as the database shows it
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
