//! The argument that names an execution provider.

use clap::ValueEnum;
use clip::Provider;

/// The execution providers, by their names in [`Provider::name`].
#[derive(Clone, Copy, ValueEnum)]
pub enum ProviderArgument {
    Cpu,
    Openvino,
    Cuda,
}

impl From<ProviderArgument> for Provider {
    fn from(argument: ProviderArgument) -> Self {
        match argument {
            ProviderArgument::Cpu => Self::Cpu,
            ProviderArgument::Openvino => Self::OpenVino,
            ProviderArgument::Cuda => Self::Cuda,
        }
    }
}
