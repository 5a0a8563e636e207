//! The open connections, and their end with the service.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::locks::unpoisoned;

#[derive(Default)]
pub struct Connections {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    numbers: u64,
    open: BTreeMap<u64, Arc<UnixStream>>,
    is_closing: bool,
}

/// An open connection. Dropping it removes the connection.
pub struct Open {
    connections: Arc<Connections>,
    number: u64,
}

impl Connections {
    pub fn add(self: &Arc<Self>, stream: &Arc<UnixStream>) -> Open {
        let mut state = unpoisoned(&self.state);
        if state.is_closing {
            stream.shutdown(Shutdown::Read).ok();
        }
        state.numbers += 1;
        let number = state.numbers;
        state.open.insert(number, stream.clone());
        Open { connections: self.clone(), number }
    }

    pub fn count(&self) -> u64 {
        unpoisoned(&self.state).open.len() as u64
    }

    /// Returns true if the service ends. Then a connection writes its answers before it ends.
    pub fn is_closing(&self) -> bool {
        unpoisoned(&self.state).is_closing
    }

    /// Takes no more messages than those that have arrived, and waits until they are answered, or for a time. A peer that sends another
    /// one gets an error, so it knows that the service has not read the message.
    pub fn close(&self, limit: Duration) {
        let mut state = unpoisoned(&self.state);
        state.is_closing = true;
        state.open.values().for_each(|stream| drop(stream.shutdown(Shutdown::Read)));
        drop(self.ended.wait_timeout_while(state, limit, |state| !state.open.is_empty()));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        unpoisoned(&self.connections.state).open.remove(&self.number);
        self.connections.ended.notify_all();
    }
}
