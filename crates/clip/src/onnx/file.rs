//! An ONNX file in memory. External crate: `prost`, for its bytes.

use prost::bytes::Bytes;

use crate::error::Error;
use crate::folder::Folder;
use crate::onnx::proto::{GraphProto, ModelProto, Refusal, decode};

/// An ONNX file in memory.
pub(crate) struct Onnx {
    /// The file without its graph.
    pub model: ModelProto,
    pub graph: GraphProto,
}

impl Onnx {
    pub(crate) fn read(folder: Folder<'_>, file: &str) -> Result<Self, Error> {
        let bytes = std::fs::read(folder.path.join(file)).map_err(|error| folder.unreadable(file, error))?;
        Self::parse(bytes).map_err(|reason| Error::invalid(folder.model, file, reason))
    }

    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Refusal> {
        let mut model = decode::<ModelProto>(&Bytes::from(bytes), "model")?;
        let graph = model.graph.take().ok_or("it is no ONNX file: there is no graph in it")?;
        Ok(Self { model, graph })
    }
}
