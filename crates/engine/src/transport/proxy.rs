//! The proxy in front of a provider: read once, and never shown with its password.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use polygate_core::Secret;

/// A proxy's address and what it is told of us.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// What it speaks.
    pub(super) kind: Kind,
    /// Where it is, without user and password.
    pub(super) uri: Uri,
    login: Option<(String, Secret)>,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// CONNECT, or whole addresses for plain HTTP.
    Http,
    /// SOCKS 5; names are resolved here.
    Socks5,
    /// SOCKS 5; names are resolved by the proxy.
    Socks5h,
}

/// Schemes, what they mean, how the proxy itself is reached, its default port.
const SCHEMES: [(&str, Kind, &str, u16); 4] = [
    ("http://", Kind::Http, "http", 80),
    ("https://", Kind::Http, "https", 443),
    ("socks5://", Kind::Socks5, "http", 1080),
    ("socks5h://", Kind::Socks5h, "http", 1080),
];

impl Proxy {
    /// Reads an address. The error repeats nothing of it: there may be a password inside.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = SCHEMES
            .iter()
            .find_map(|scheme| Some((scheme, text.strip_prefix(scheme.0)?)));
        let Some(((_, kind, scheme, port), rest)) = known else {
            return Err("must begin with http://, https://, socks5:// or socks5h://".to_owned());
        };
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(read_login(login)?), place),
            None => (None, rest),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let authority: http::uri::Authority = place
            .parse()
            .map_err(|_| "is no address of a proxy (http://host:port)".to_owned())?;
        let port = authority.port_u16().unwrap_or(*port);
        let uri = format!("{scheme}://{}:{port}", authority.host())
            .parse()
            .map_err(|_| "is no address of a proxy (http://host:port)".to_owned())?;
        Ok(Self {
            kind: *kind,
            uri,
            login,
        })
    }

    /// User and password.
    pub(super) fn login(&self) -> Option<(&str, &str)> {
        let (user, password) = self.login.as_ref()?;
        Some((user, password.reveal()))
    }

    /// `Proxy-Authorization`, where there is a password.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = self.login()?;
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl std::fmt::Display for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = SCHEMES.iter().find(|(_, kind, scheme, _)| {
            *kind == self.kind && Some(*scheme) == self.uri.scheme_str()
        });
        let scheme = scheme.map_or("http://", |(prefix, ..)| prefix);
        let place = self.uri.authority().map_or("", |place| place.as_str());
        write!(f, "{scheme}{place}")
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({:?} {})", self.kind, self.uri)
    }
}

fn read_login(text: &str) -> Result<(String, Secret), String> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let wrong = || "has a user or password that is not percent-encoded as it should be".to_owned();
    let user = decoded(user).ok_or_else(wrong)?;
    let password = decoded(password).ok_or_else(wrong)?;
    Ok((user, Secret::new(password)))
}

fn decoded(text: &str) -> Option<String> {
    let is_code = |piece: &str| piece.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    // What looks like a code and is none is a slip of whoever wrote it.
    let are_codes = text.split('%').skip(1).all(is_code);
    let decoded = are_codes.then(|| percent_decode_str(text).decode_utf8().ok());
    decoded.flatten().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_read_and_never_shown() {
        let proxy = Proxy::parse("http://user:p%40ss:w@proxy.example:3128/").unwrap();
        assert_eq!(proxy.uri, "http://proxy.example:3128/");
        assert_eq!(proxy.login(), Some(("user", "p@ss:w")));
        let header = proxy.authorization().unwrap();
        assert_eq!(header, "Basic dXNlcjpwQHNzOnc=");
        assert!(header.is_sensitive());
        let shown = format!("{proxy:?}");
        assert!(
            !shown.contains("p@ss") && !shown.contains("user"),
            "{shown}"
        );
    }

    #[test]
    fn each_scheme_has_its_port() {
        for (text, uri, kind) in [
            ("http://p", "http://p:80/", Kind::Http),
            ("https://p", "https://p:443/", Kind::Http),
            ("socks5://[::1]", "http://[::1]:1080/", Kind::Socks5),
            ("socks5h://p:9", "http://p:9/", Kind::Socks5h),
        ] {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!((proxy.uri.to_string().as_str(), proxy.kind), (uri, kind));
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_its_password() {
        for text in [
            "ftp://u:hush@p",
            "u:hush@p",
            "http://u:hush%zz@p",
            "http://u:hush@",
            "socks5://u:hush@p/x",
        ] {
            let error = Proxy::parse(text).unwrap_err();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
