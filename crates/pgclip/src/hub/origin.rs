//! Origins of addresses, and the targets of redirects.

use ureq::http::Uri;
use ureq::http::uri::Scheme;

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Origin {
    /// Returns the origin of an address, or None if it is not one of HTTP.
    pub(super) fn of(url: &Uri) -> Option<Self> {
        let scheme = url.scheme()?.clone();
        let port = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let host = url.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        Some(Self { scheme, host, port: url.port_u16().unwrap_or(port) })
    }
}

/// Returns the target of the header `Location` in the answer to `url`.
pub(super) fn redirected(url: &Uri, location: &str) -> Result<Uri, &'static str> {
    let (scheme, authority) = (url.scheme_str().unwrap_or(""), url.authority().map_or("", |part| part.as_str()));
    let location = location.split('#').next().unwrap_or("");
    let target = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let directory = url.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    let target: Uri = target.parse().map_err(|_| "a redirect to no address")?;
    match Origin::of(&target) {
        None => Err("a redirect to no address of HTTP"),
        Some(origin) if origin.scheme == Scheme::HTTP && scheme == "https" => Err("a redirect that gives up TLS"),
        Some(_) => Ok(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Option<Origin> {
        Origin::of(&url.parse().unwrap())
    }

    #[test]
    fn the_same_host_has_the_same_origin() {
        assert_eq!(origin("https://Hub.co/a"), origin("https://hub.co:443/b?c"));
        for other in ["http://hub.co", "https://hub.co:8443", "https://cdn.hub.co", "https://hub.co.evil"] {
            assert_ne!(origin("https://hub.co"), origin(other), "{other}");
        }
        assert_eq!(origin("ftp://hub.co"), None);
    }

    #[test]
    fn redirects_are_resolved() {
        let leads =
            |location| redirected(&"https://hub.co/a/b?c".parse().unwrap(), location).map(|url| url.to_string());
        assert_eq!(leads("https://cdn/x?y#z"), Ok("https://cdn/x?y".into()));
        assert_eq!(leads("//cdn/x"), Ok("https://cdn/x".into()));
        assert_eq!(leads("/x"), Ok("https://hub.co/x".into()));
        assert_eq!(leads("x"), Ok("https://hub.co/a/x".into()));
        assert!(leads("http://hub.co/x").is_err());
        assert!(leads("https://a b").is_err());
    }
}
