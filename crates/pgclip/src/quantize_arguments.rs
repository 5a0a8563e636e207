//! The arguments of `pgclip quantize`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clip::Provider;
use clip::admin::Weights;

use crate::provider_argument::provider;

/// The weights and the towers of the new model, and the samples to compare.
#[derive(Args)]
pub struct QuantizeArguments {
    /// Form of the weights
    #[arg(long, value_enum, default_value_t = WeightsArgument::Int8)]
    pub weights: WeightsArgument,
    /// Execution provider that runs the new model in the comparison. The original runs with cpu
    #[arg(long, value_parser = provider(), default_value_t = Provider::Cpu)]
    pub provider: Provider,
    /// Tower that gets new weights
    #[arg(long, value_enum, default_value_t = TowerArgument::Both)]
    pub tower: TowerArgument,
    /// Images to compare: files, or directories of files
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    pub images: Vec<PathBuf>,
    /// Texts to compare, one per line
    #[arg(long, value_name = "FILE")]
    pub texts: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum WeightsArgument {
    Int8,
    Bf16,
}

impl From<WeightsArgument> for Weights {
    fn from(argument: WeightsArgument) -> Self {
        match argument {
            WeightsArgument::Int8 => Self::Int8,
            WeightsArgument::Bf16 => Self::Bf16,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum TowerArgument {
    Both,
    Text,
    Image,
}
