//! Which server a reference means, and by which scheme it is asked.

use std::net::IpAddr;

use hyper::Uri;

/// Docker Hub's API lives under another name than its images.
const HUB: &str = "docker.io";
const HUB_API: &str = "registry-1.docker.io";

/// The address of a registry's API: `https://registry-1.docker.io/v2`.
pub(crate) fn registry_url(domain: &str) -> String {
    let domain = if domain == HUB { HUB_API } else { domain };
    let scheme = if is_local(host_of(domain)) { "http" } else { "https" };
    format!("{scheme}://{domain}/v2")
}

/// Whether `host` is this machine: 127.0.0.0/8, ::1 or localhost.
pub(crate) fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether two addresses are of one server: scheme, host and port.
pub(crate) fn is_same(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.authority() == other.authority()
}

/// Whether secrets may go to this address: by https, or within this machine.
pub(crate) fn is_private(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https") || uri.host().is_some_and(is_local)
}

/// Where a `Location` leads, seen from `base`; none if it cannot be asked.
pub(crate) fn follow(base: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = base.clone().into_parts();
        parts.path_and_query = Some(location.parse().ok()?);
        return Uri::from_parts(parts).ok();
    }
    let uri: Uri = location.parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    (is_http && uri.host().is_some()).then_some(uri)
}

fn host_of(domain: &str) -> &str {
    match domain.rsplit_once(':') {
        Some((host, _)) if !domain.ends_with(']') => host,
        _ => domain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_in_clear() {
        for (domain, url) in [
            ("docker.io", "https://registry-1.docker.io/v2"),
            ("localhost", "http://localhost/v2"),
            ("localhost:5000", "http://localhost:5000/v2"),
            ("127.1.2.3:5000", "http://127.1.2.3:5000/v2"),
            ("[::1]:5000", "http://[::1]:5000/v2"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
            ("localhost.evil.org", "https://localhost.evil.org/v2"),
        ] {
            assert_eq!(registry_url(domain), url);
        }
    }

    #[test]
    fn follows_absolute_and_rooted_locations() {
        let base: Uri = "https://a.org/v2/x".parse().unwrap();
        assert_eq!(follow(&base, "/b?c").unwrap().to_string(), "https://a.org/b?c");
        assert_eq!(follow(&base, "http://b.org/c").unwrap().to_string(), "http://b.org/c");
        for bad in ["file:///etc/passwd", "//b.org", "x", ""] {
            assert!(follow(&base, bad).is_none(), "{bad}");
        }
    }
}
