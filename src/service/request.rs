//! A request to the service.

pub use ::service::protocol::Class;
use ::service::protocol::{Kind, ToService};

use clip::Limits;

use crate::pg::settings;

/// The inputs of a request.
#[derive(Clone, Copy)]
pub enum Inputs<'a> {
    Texts(&'a [&'a str]),
    Images(&'a [&'a [u8]]),
}

/// A request of a session.
#[derive(Clone)]
pub struct Request<'a> {
    pub model: &'a str,
    pub digest: &'a str,
    pub dimensions: usize,
    pub inputs: Inputs<'a>,
    pub class: Class,
    pub limits: Limits,
    /// True if these inputs may have ended the service. Then the session must not compute them.
    pub suspect: bool,
}

impl<'a> Inputs<'a> {
    pub fn count(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Images(images) => images.len(),
        }
    }

    /// Returns the bytes of each input.
    pub fn bytes(&self) -> Vec<&'a [u8]> {
        match self {
            Self::Texts(texts) => texts.iter().map(|text| text.as_bytes()).collect(),
            Self::Images(images) => images.to_vec(),
        }
    }

    /// Returns the first inputs whose bytes are at most `limit`, one at least, and the others.
    pub fn split(self, limit: usize) -> (Self, Self) {
        let mut bytes = 0usize;
        let fits = |size: usize| {
            bytes += size;
            bytes <= limit
        };
        let sizes = self.bytes().into_iter().map(<[u8]>::len);
        let count = sizes.map(fits).take_while(|fits| *fits).count().clamp(1.min(self.count()), self.count());
        match self {
            Self::Texts(texts) => (Self::Texts(&texts[..count]), Self::Texts(&texts[count..])),
            Self::Images(images) => (Self::Images(&images[..count]), Self::Images(&images[count..])),
        }
    }
}

impl Request<'_> {
    /// Returns the message of the request.
    pub fn message(&self, number: u64) -> ToService {
        ToService::Embed {
            number,
            class: self.class,
            model: self.model.into(),
            digest: self.digest.into(),
            kind: match self.inputs {
                Inputs::Texts(_) => Kind::Texts,
                Inputs::Images(_) => Kind::Images,
            },
            // No value of Postgres has 4 GB.
            sizes: self.inputs.bytes().iter().map(|input| input.len() as u32).collect(),
            overflow: settings::text_overflow(),
            limits: self.limits.clone(),
        }
    }
}
