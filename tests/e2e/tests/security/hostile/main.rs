//! Malicious images: small files that need much memory or time. Each is rejected or embedded, within half a gigabyte
//! and a quarter of a minute, and the connection stays usable.

mod files;
mod limits;
mod tiff;

use std::io::Write;
use std::time::Duration;

use e2e::{Cluster, limit_memory, picture, sqlstate};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use postgres::Client;
use postgres::error::SqlState;

const MEGABYTES: u64 = 512;

const LONGEST: Duration = Duration::from_secs(15);

use files::*;
use tiff::*;
