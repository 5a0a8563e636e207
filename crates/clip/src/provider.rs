//! The execution providers: the parts of ONNX Runtime that compute a graph.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An execution provider. Only the embedding service uses another one than [`Provider::Cpu`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// ONNX Runtime's own kernels. Every library of ONNX Runtime has them.
    #[default]
    Cpu,
    /// OpenVINO on the processor. Computes bf16 models in bf16 where the processor has units for it.
    OpenVino,
    /// The first GPU of NVIDIA.
    Cuda,
}

impl Provider {
    pub const ALL: [Self; 3] = [Self::Cpu, Self::OpenVino, Self::Cuda];

    /// Returns the name in settings and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::OpenVino => "openvino",
            Self::Cuda => "cuda",
        }
    }

    /// Returns the provider of that name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_has_one_name() {
        for provider in Provider::ALL {
            assert_eq!(Provider::named(provider.name()), Some(provider));
            assert_eq!(Provider::named(&provider.name().to_uppercase()), Some(provider));
            assert_eq!(serde_json::to_value(provider).unwrap(), provider.name());
        }
        for unknown in ["", "gpu", "cpu ", "openvino,cpu"] {
            assert_eq!(Provider::named(unknown), None, "{unknown:?}");
        }
        assert_eq!(Provider::default(), Provider::Cpu);
    }
}
