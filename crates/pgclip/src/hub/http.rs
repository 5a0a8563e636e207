//! Requests over HTTP, each in its own thread, so that the caller can stop at any time. External crate: `ureq`.
//! The token is sent only to the hub's own scheme, host and port, so this module follows redirects itself.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;

use ureq::http::{HeaderMap, StatusCode, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, RequestBuilder, typestate::WithoutBody};

use super::environment::Settings;
use super::error::HubError;
use super::origin::{Origin, redirected};
use super::progress::Interrupted;
use super::retry::{AttemptError, LOOK_EVERY, attempt_error};

/// Bytes that are read at a time.
const CHUNK: usize = 128 * 1024;
/// Chunks that may be read before they are written to disk.
const CHUNKS_AHEAD: usize = 16;
const MAX_REDIRECTS: usize = 8;
/// Largest answer that is read into memory.
const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

pub(super) struct Client {
    agent: Agent,
    /// Address of the hub, without a slash at its end.
    endpoint: String,
    hub: Origin,
    token: Option<String>,
    interrupted: Interrupted,
}

/// A server's answer that is no redirect.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Headers of the hub's own answer, if it redirected the request.
    pub(super) hub: HeaderMap,
    /// True if the hub itself answered.
    pub(super) own: bool,
    pub(super) host: String,
    body: Receiver<Event>,
    interrupted: Interrupted,
}

/// Events of the thread of a request, in this order.
enum Event {
    Head(StatusCode, Box<HeaderMap>),
    Bytes(Vec<u8>),
    End,
    Failed(ureq::Error),
}

impl Client {
    pub(super) fn new(settings: &Settings, interrupted: Interrupted) -> Result<Self, HubError> {
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let invalid = |reason| HubError::Environment { variable: "HF_ENDPOINT", reason };
        let url: Uri = endpoint.parse().map_err(|error| invalid(format!("{endpoint:?}: {error}")))?;
        let hub = Origin::of(&url).ok_or_else(|| invalid(format!("{endpoint:?} is no address of HTTP")))?;
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("pgclip/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(settings.timeouts.connect))
            .timeout_connect(Some(settings.timeouts.connect))
            .timeout_per_read(Some(settings.timeouts.idle))
            .timeout_per_write(Some(settings.timeouts.idle))
            .build();
        Ok(Self { agent: config.new_agent(), endpoint, hub, token: settings.token.clone(), interrupted })
    }

    /// Requests `target`, a path below the endpoint, from byte `start` on.
    pub(super) fn get(&self, target: &str, start: u64) -> Result<Answer, AttemptError> {
        let unusable = |reason: String| AttemptError::Final(HubError::malformed("an address of the hub", reason));
        let mut url: Uri =
            format!("{}{target}", self.endpoint).parse().map_err(|error| unusable(format!("{error}")))?;
        let mut hub = HeaderMap::new();
        for _ in 0..=MAX_REDIRECTS {
            let mut answer = self.send(&url, start)?;
            if answer.own {
                hub.extend(answer.headers.clone());
            }
            if !answer.status.is_redirection() {
                answer.hub = hub;
                return Ok(answer);
            }
            let location = answer.text(header::LOCATION).ok_or_else(|| unusable("a redirect to nowhere".into()))?;
            url = redirected(&url, location).map_err(|reason| unusable(reason.into()))?;
        }
        Err(unusable("too many redirects".into()))
    }

    fn send(&self, url: &Uri, start: u64) -> Result<Answer, AttemptError> {
        let own = Origin::of(url).as_ref() == Some(&self.hub);
        // Compressed bytes cannot be resumed at an offset.
        let mut request = self.agent.get(url).header(header::ACCEPT_ENCODING, "identity");
        if let Some(token) = self.token.as_ref().filter(|_| own) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if start > 0 {
            request = request.header(header::RANGE, format!("bytes={start}-"));
        }
        let host = url.authority().map_or("", |authority| authority.as_str()).to_owned();
        let (sender, body) = sync_channel(CHUNKS_AHEAD);
        // An abandoned thread ends at its next byte, or at the timeout.
        let thread = thread::Builder::new().name("pgclip hub".into()).spawn(move || deliver(request, &sender));
        thread.map_err(|error| {
            AttemptError::Final(HubError::Unreachable { host: host.clone(), reason: error.to_string() })
        })?;
        match next(&body, self.interrupted, &host)? {
            Event::Head(status, headers) => Ok(Answer {
                status,
                headers: *headers,
                hub: HeaderMap::new(),
                own,
                host,
                body,
                interrupted: self.interrupted,
            }),
            _ => Err(AttemptError::passing(host, "it gave no answer")),
        }
    }
}

impl Answer {
    pub(super) fn text(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns a header of the hub's own answers.
    pub(super) fn hub_text(&self, name: &str) -> Option<&str> {
        self.hub.get(name)?.to_str().ok()
    }

    /// Returns the next bytes of the body, or None at its end.
    pub(super) fn chunk(&self) -> Result<Option<Vec<u8>>, AttemptError> {
        match next(&self.body, self.interrupted, &self.host)? {
            Event::Bytes(bytes) => Ok(Some(bytes)),
            _ => Ok(None),
        }
    }

    /// Returns the whole body, unless it is too long for memory.
    pub(super) fn document(&self) -> Result<Vec<u8>, AttemptError> {
        let mut document = Vec::new();
        while let Some(bytes) = self.chunk()? {
            let length = document.len() + bytes.len();
            if length > MAX_DOCUMENT {
                let (bytes, limit) = (length as u64, MAX_DOCUMENT as u64);
                return Err(AttemptError::Final(HubError::TooLarge { what: "the hub's answer".into(), bytes, limit }));
            }
            document.extend(bytes);
        }
        Ok(document)
    }
}

/// Runs the request in the thread. It ends as soon as nobody receives its events.
fn deliver(request: RequestBuilder<WithoutBody>, sender: &SyncSender<Event>) {
    let response = match request.call() {
        Ok(response) => response,
        Err(error) => return drop(sender.send(Event::Failed(error))),
    };
    let (head, body) = response.into_parts();
    let mut heard = sender.send(Event::Head(head.status, Box::new(head.headers))).is_ok();
    let mut reader = body.into_reader();
    while heard {
        let mut bytes = vec![0; CHUNK];
        let event = match reader.read(&mut bytes) {
            Ok(0) => Event::End,
            Ok(n) => {
                bytes.truncate(n);
                Event::Bytes(bytes)
            }
            Err(error) => Event::Failed(ureq::Error::from(error)),
        };
        let last = !matches!(event, Event::Bytes(_));
        heard = sender.send(event).is_ok() && !last;
    }
}

/// Waits for the next event of the thread.
fn next(events: &Receiver<Event>, interrupted: Interrupted, host: &str) -> Result<Event, AttemptError> {
    loop {
        if interrupted() {
            return Err(AttemptError::Final(HubError::Interrupted));
        }
        match events.recv_timeout(LOOK_EVERY) {
            Ok(Event::Failed(error)) => return Err(attempt_error(error, host)),
            Ok(event) => return Ok(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(AttemptError::passing(host, "the request was given up")),
        }
    }
}
