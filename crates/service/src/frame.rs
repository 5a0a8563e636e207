//! The bytes of messages. A frame: the size of its header and of its body as `u32`, little-endian; the header, a message in JSON; the
//! body, whose meaning depends on the message.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::{FromService, ToService};

/// Largest header. A request for as many texts as one call embeds together needs a tenth of it.
const MAX_HEADER: usize = 1 << 20;

/// Largest body: PostgreSQL has no larger values.
pub const MAX_BODY: usize = 1 << 30;

/// Bytes in front of the header.
pub const PREFIX: usize = 8;

/// The other side sent bytes that are no frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged;

/// A message and its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame<M> {
    pub message: M,
    pub body: Vec<u8>,
}

/// Returns the first bytes of a frame, which the body follows. None if the message or the body is too large.
pub fn opening<M: Serialize>(message: &M, body: usize) -> Option<Vec<u8>> {
    let header = serde_json::to_vec(message).ok()?;
    let sizes = [u32::try_from(header.len()).ok()?, u32::try_from(body).ok()?];
    if header.len() > MAX_HEADER || body > MAX_BODY {
        return None;
    }
    let mut bytes = Vec::with_capacity(PREFIX + header.len());
    sizes.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
    bytes.extend(header);
    Some(bytes)
}

/// Returns a frame without a body.
pub fn bare<M: Serialize>(message: &M) -> Option<Vec<u8>> {
    opening(message, 0)
}

/// Takes bytes as they arrive and returns frames.
pub struct Decoder<M> {
    bytes: Vec<u8>,
    /// Largest accepted body.
    limit: usize,
    message: std::marker::PhantomData<M>,
}

/// The decoder of a session.
pub type OfService = Decoder<FromService>;

/// The decoder of the service.
pub type OfSession = Decoder<ToService>;

impl<M: DeserializeOwned> Decoder<M> {
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit: limit.min(MAX_BODY), message: std::marker::PhantomData }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next complete frame.
    #[expect(clippy::should_implement_trait, reason = "bytes can follow after None")]
    pub fn next(&mut self) -> Result<Option<Frame<M>>, Damaged> {
        let Some(prefix) = self.bytes.first_chunk() else { return Ok(None) };
        let (header, body) = sizes(*prefix, self.limit)?;
        if self.bytes.len() < PREFIX + header + body {
            return Ok(None);
        }
        let rest = self.bytes.split_off(PREFIX + header + body);
        let mut frame = std::mem::replace(&mut self.bytes, rest);
        let message = message(&frame[PREFIX..PREFIX + header])?;
        frame.drain(..PREFIX + header);
        Ok(Some(Frame { message, body: frame }))
    }
}

/// Returns the sizes of the header and of the body, if a frame may have them.
pub fn sizes(prefix: [u8; PREFIX], limit: usize) -> Result<(usize, usize), Damaged> {
    let [a, b, c, d, e, f, g, h] = prefix;
    let (header, body) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]) as usize);
    if header > MAX_HEADER || body > limit { Err(Damaged) } else { Ok((header, body)) }
}

/// Returns the message in a header.
pub fn message<M: DeserializeOwned>(header: &[u8]) -> Result<M, Damaged> {
    serde_json::from_slice(header).map_err(|_| Damaged)
}

/// Returns the inputs of a request, if their sizes match its body.
pub fn inputs<'a>(mut body: &'a [u8], sizes: &[u32]) -> Result<Vec<&'a [u8]>, Damaged> {
    let mut inputs = Vec::with_capacity(sizes.len());
    for &size in sizes {
        let (input, rest) = body.split_at_checked(size as usize).ok_or(Damaged)?;
        inputs.push(input);
        body = rest;
    }
    if body.is_empty() { Ok(inputs) } else { Err(Damaged) }
}

/// Returns the numbers of the embeddings in a body, if there are as many as the message says.
pub fn numbers(body: &[u8], dimensions: u32, count: u32) -> Result<Vec<f32>, Damaged> {
    let wanted = u64::from(dimensions) * u64::from(count);
    if dimensions == 0 || body.len() as u64 != 4 * wanted {
        return Err(Damaged);
    }
    Ok(body.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect())
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it sent a message that is not valid")
    }
}

#[cfg(test)]
mod tests {
    use clip::Error;

    use super::*;

    fn through<M: Serialize + DeserializeOwned>(message: &M, body: &[u8], step: usize) -> Vec<Frame<M>> {
        let mut bytes = opening(message, body.len()).unwrap();
        bytes.extend_from_slice(body);
        bytes.extend(bare(message).unwrap());
        let mut decoder = Decoder::new(MAX_BODY);
        let mut found = Vec::new();
        for part in bytes.chunks(step) {
            decoder.feed(part);
            found.extend(std::iter::from_fn(|| decoder.next().unwrap()));
        }
        found
    }

    #[test]
    fn messages_arrive_as_they_were_sent_in_parts_of_any_size() {
        let error = Error::Item { index: 3, source: Box::new(Error::UnsupportedFormat { format: "HEIC" }) };
        let message = FromService::Failed { number: u64::MAX, error };
        for step in [1, 7, 4096] {
            let found = through(&message, b"body", step);
            assert_eq!(found[0], Frame { message: message.clone(), body: b"body".to_vec() });
            assert_eq!(found[1], Frame { message: message.clone(), body: vec![] });
        }
    }

    #[test]
    fn damaged_frames_are_rejected() {
        let mut decoder = OfSession::new(10);
        decoder.feed(&[1, 0, 0, 0, 11, 0, 0, 0]);
        assert_eq!(decoder.next(), Err(Damaged));
        let mut decoder = OfSession::new(10);
        decoder.feed(&[255, 255, 255, 255, 0, 0, 0, 0]);
        assert_eq!(decoder.next(), Err(Damaged));
        let mut decoder = OfSession::new(10);
        decoder.feed(b"\x02\0\0\0\0\0\0\0{]");
        assert_eq!(decoder.next(), Err(Damaged));
    }

    #[test]
    fn sizes_must_match_the_body() {
        assert_eq!(inputs(b"abc", &[1, 2]), Ok(vec![&b"a"[..], b"bc"]));
        assert_eq!(inputs(b"abc", &[1, 3]), Err(Damaged));
        assert_eq!(inputs(b"abc", &[1, 1]), Err(Damaged));
        assert_eq!(numbers(&1.5_f32.to_le_bytes(), 1, 1), Ok(vec![1.5]));
        assert_eq!(numbers(&[0; 8], 1, 1), Err(Damaged));
        assert_eq!(numbers(&[], 0, 0), Err(Damaged));
    }
}
