//! The door to the execution providers of ONNX Runtime. External crate: `ort`.
//!
//! Invariants: a session uses `threads` threads with each provider; a provider that cannot be used is an error, never a
//! silent change to another one; a graph of single precision is computed in single precision.

use std::path::Path;

use ort::ep::{ArbitrarilyConfigurableExecutionProvider, CPU, CUDA, ExecutionProvider, OpenVINO};
use ort::session::builder::SessionBuilder;

use crate::error::Error;
use crate::provider::Provider;
use crate::recipe::Precision;
use crate::runtime::cpu::has_bf16;
use crate::runtime::failure::one_line;
use crate::runtime::library::Runtime;

/// The way in which a session computes its graph.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Engine {
    pub provider: Provider,
    pub precision: Precision,
    pub threads: usize,
}

impl Engine {
    /// Returns the engine of in-backend inference.
    pub(crate) fn cpu(threads: usize) -> Self {
        Self { provider: Provider::Cpu, precision: Precision::Single, threads }
    }

    /// Adds the provider to a session. ONNX Runtime's own kernels compute the operators that a provider does not have.
    pub(super) fn register(self, builder: SessionBuilder) -> Result<SessionBuilder, Error> {
        self.add_to(builder).map_err(|error| {
            let reason = one_line(error.message());
            self.unusable(&format!("{reason}; its libraries must be in the directory of ONNX Runtime's library"))
        })
    }

    fn add_to(self, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        // The arena would keep the memory of the largest batch in every connection.
        let cpu = CPU::default().with_arena_allocator(false).build();
        let provider = match self.provider {
            Provider::Cpu => return Ok(builder.with_execution_providers([cpu])?),
            Provider::OpenVino => OpenVINO::default()
                .with_device_type("CPU")
                .with_arbitrary_config("load_config", self.openvino())
                .build(),
            // TensorFloat-32 has more digits than bf16 and fewer than single precision.
            Provider::Cuda => CUDA::default().with_tf32(self.precision == Precision::Bf16).build(),
        };
        Ok(builder.with_execution_providers([provider.error_on_failure(), cpu])?)
    }

    /// Returns OpenVINO's configuration, in JSON. Its own default precision is bf16 where the processor has it. Its own
    /// default pins threads to cores, so that the sessions of several models would share the first cores.
    fn openvino(self) -> String {
        let precision = if self.precision == Precision::Bf16 && has_bf16() { "bf16" } else { "f32" };
        format!(
            r#"{{"CPU":{{"INFERENCE_PRECISION_HINT":"{precision}","INFERENCE_NUM_THREADS":"{}","NUM_STREAMS":"1","ENABLE_CPU_PINNING":"NO"}}}}"#,
            self.threads.max(1)
        )
    }

    /// Fails if the loaded library was built without the provider.
    pub(super) fn check(self) -> Result<(), Error> {
        let available = match self.provider {
            Provider::Cpu => return Ok(()),
            Provider::OpenVino => OpenVINO::is_available(),
            Provider::Cuda => CUDA::is_available(),
        };
        match available {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.unusable("this ONNX Runtime was built without it")),
            Err(error) => Err(self.unusable(error.message())),
        }
    }

    /// Returns the error of a provider that cannot be used.
    pub(crate) fn unusable(self, reason: &str) -> Error {
        Error::Provider { provider: self.provider, reason: one_line(reason) }
    }
}

/// Fails if the library at `path` cannot be loaded, or was built without the provider. Whether the provider computes a
/// model correctly is known after the model is loaded.
pub fn check_provider(provider: Provider, path: &Path) -> Result<(), Error> {
    Runtime::load(path)?;
    Engine { provider, ..Engine::cpu(1) }.check()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bf16_graphs_are_computed_in_bf16() {
        let config = |precision, threads| Engine { provider: Provider::OpenVino, precision, threads }.openvino();
        let single = config(Precision::Single, 0);
        assert!(single.contains(r#""INFERENCE_PRECISION_HINT":"f32""#), "{single}");
        assert!(single.contains(r#""INFERENCE_NUM_THREADS":"1""#), "{single}");
        let expected = if has_bf16() { r#":"bf16""# } else { r#":"f32""# };
        let bf16 = config(Precision::Bf16, 3);
        assert!(bf16.contains(expected) && bf16.contains(r#""INFERENCE_NUM_THREADS":"3""#), "{bf16}");
    }
}
