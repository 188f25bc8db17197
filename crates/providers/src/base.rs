//! Base addresses as people write them: with or without a trailing slash, with or without a version.

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// An upstream's base address, ready to have paths appended.
#[derive(Clone, Debug)]
pub struct Base {
    scheme: Scheme,
    authority: Authority,
    /// Without a trailing slash; with the version.
    path: String,
}

impl Base {
    /// Reads an address; `version` (`/v1`) is added where the address has none. One of chats (`…/chat/completions`) tells where its
    /// siblings are, with or without a version.
    pub fn parse(address: &str, version: &str) -> Result<Self, String> {
        let uri: Uri = address.trim().parse().map_err(|_| "not a URL".to_owned())?;
        let parts = uri.into_parts();
        let scheme = parts
            .scheme
            .filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
        let (Some(scheme), Some(authority)) = (scheme, parts.authority) else {
            return Err(
                "a base address starts with http:// or https:// and names a host".to_owned(),
            );
        };
        if authority.as_str().contains('@') {
            return Err("a base address carries no user or password".to_owned());
        }
        let path = parts
            .path_and_query
            .as_ref()
            .map_or("", PathAndQuery::path)
            .trim_end_matches('/');
        let (path, version) = match path.strip_suffix("/chat/completions") {
            Some(path) => (path, ""),
            None if path.split('/').any(is_version) => (path, ""),
            None => (path, version),
        };
        Ok(Self {
            scheme,
            authority,
            path: format!("{path}{version}"),
        })
    }

    /// The host, without a port.
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// The path that everything is appended to.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The address of this path and query below the base.
    pub fn join(&self, tail: &str) -> Result<Uri, http::Error> {
        let mut path = String::with_capacity(self.path.len() + tail.len());
        path.push_str(&self.path);
        path.push_str(tail);
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
    }

    /// For people: scheme, host and path.
    pub fn display(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.path)
    }
}

/// `v1`, `v4`, `v1beta`, `v2alpha1`.
fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('v') else {
        return false;
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let tail = rest.get(digits..).unwrap_or_default();
    digits > 0 && (tail.is_empty() || tail.starts_with("alpha") || tail.starts_with("beta"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_a_version_is_the_same() {
        for (address, expected) in [
            ("https://api.openai.com", "https://api.openai.com/v1/x"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1/x"),
            ("http://h:8080/api/paas/v4", "http://h:8080/api/paas/v4/x"),
            ("https://h/v1beta/openai", "https://h/v1beta/openai/x"),
            ("https://h/vendor", "https://h/vendor/v1/x"),
            ("https://h/vendor/chat/completions", "https://h/vendor/x"),
            ("https://h/v1/chat/completions/", "https://h/v1/x"),
        ] {
            let uri = Base::parse(address, "/v1")
                .and_then(|base| base.join("/x").map_err(|error| error.to_string()));
            assert_eq!(uri.map(|uri| uri.to_string()), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn what_is_no_base_is_refused() {
        for address in [
            "",
            "api.openai.com",
            "ftp://h/",
            "https://user:pw@h/",
            "/v1",
        ] {
            assert!(Base::parse(address, "/v1").is_err(), "{address}");
        }
    }
}
