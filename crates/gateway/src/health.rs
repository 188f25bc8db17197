//! `polygate health`: whether the gateway on this machine takes calls, for what runs containers and wants an exit code.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use polygate_engine::Config;
use polygate_engine::config::Server;
use polygate_engine::transport::{Transport, UpstreamBody};

use crate::config::env::Environment;
use crate::config::{Flags, listening};

/// What is asked.
const PAGE: &str = "/health/ready";

/// Where the gateway is that would be served. Reads what serving reads, and writes nothing.
pub fn own_url(flags: &Flags, directory: &Path) -> Result<Uri, String> {
    let environment = Environment::of_process(directory);
    let server = listening(flags, &environment, directory).map_err(|report| {
        let report = report.to_string().replace('\n', "; ");
        format!("where the gateway listens cannot be read, say it with --url: {report}")
    })?;
    url(&server)
}

fn url(server: &Server) -> Result<Uri, String> {
    if server.port == 0 {
        return Err("the system chose the port: say with --url which".to_owned());
    }
    let host = match server.host {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    let scheme = if server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let address = SocketAddr::new(host, server.port);
    format!("{scheme}://{address}")
        .parse()
        .map_err(|error| format!("{address}: {error}"))
}

/// Asks; what there is to say of a gateway that is ready, or of one that is not.
pub fn ask(url: &Uri, patience: Duration) -> Result<String, String> {
    let page = below(url, PAGE)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let answer = runtime.block_on(async { tokio::time::timeout(patience, status(&page)).await });
    // A name that is still looked up is not waited for.
    runtime.shutdown_background();
    let said = match answer {
        Ok(Ok(StatusCode::OK)) => return Ok(format!("{page}: ready")),
        Ok(Ok(status)) => format!("not ready ({status})"),
        Ok(Err(problem)) => problem,
        Err(_) => format!("no answer within {}", humantime::format_duration(patience)),
    };
    Err(format!("{page}: {said}"))
}

/// A page behind an address, whose path is where the gateway's pages are below.
pub fn below(url: &Uri, page: &str) -> Result<Uri, String> {
    let (Some("http" | "https"), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(format!("{url}: must begin with http:// or https://"));
    };
    let below = url.path().trim_end_matches('/');
    Uri::builder()
        .scheme(url.scheme_str().unwrap_or_default())
        .authority(authority.as_str())
        .path_and_query(format!("{below}{page}"))
        .build()
        .map_err(|error| format!("{url}: {error}"))
}

/// The way to a gateway.
pub fn transport(url: &Uri) -> Result<Transport, String> {
    let config = Config {
        // A gateway's certificate has names, and loopback is none of them; often it is its own authority, too. What is asked
        // over loopback does not leave the machine and carries no secret: whoever could answer there in the gateway's place
        // listens on its port already. Anywhere else the certificate is checked.
        verify_ssl: !is_loopback(url),
        ..Config::default()
    };
    Transport::beside_calls(&config)
}

async fn status(page: &Uri) -> Result<StatusCode, String> {
    let transport = transport(page)?;
    let request = Request::get(page)
        .body(UpstreamBody::from(Bytes::new()))
        .map_err(|error| error.to_string())?;
    let answer = transport.send(request).await;
    answer.map(|answer| answer.status()).map_err(|failure| {
        // The transport calls everyone whom it asks that.
        let message = failure.message.strip_prefix("the provider ");
        message.unwrap_or(&failure.message).to_owned()
    })
}

fn is_loopback(page: &Uri) -> bool {
    let host = page.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use polygate_engine::config::Tls;

    use super::*;

    fn server(host: &str, port: u16, is_tls: bool) -> Server {
        let mut server = Config::default().server;
        server.host = host.parse().expect("an address");
        server.port = port;
        server.tls = is_tls.then(|| Tls {
            cert: "cert.pem".into(),
            key: "key.pem".into(),
        });
        server
    }

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        for (host, is_tls, expected) in [
            ("0.0.0.0", false, "http://127.0.0.1:80/"),
            ("::", true, "https://[::1]:80/"),
            ("10.1.2.3", true, "https://10.1.2.3:80/"),
        ] {
            let url = url(&server(host, 80, is_tls)).expect(host);
            assert_eq!(url.to_string(), expected);
        }
        assert!(url(&server("::", 0, false)).is_err());
    }

    #[test]
    fn the_page_is_below_the_address() {
        for (url, expected) in [
            ("http://x", Some("http://x/health/ready")),
            ("https://x:1/ai/?a=b", Some("https://x:1/ai/health/ready")),
            ("x:1", None),
            ("ftp://x", None),
            ("/x", None),
        ] {
            let page = below(&url.parse().expect(url), PAGE).ok();
            assert_eq!(page.map(|page| page.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn only_on_loopback_is_any_certificate_good() {
        for (page, expected) in [
            ("https://127.0.0.1:1/", true),
            ("https://127.8.8.8:1/", true),
            ("https://[::1]/", true),
            ("https://localhost/", true),
            ("https://localhost.example/", false),
            ("https://127.0.0.1.example/", false),
            ("https://10.0.0.1/", false),
        ] {
            assert_eq!(is_loopback(&page.parse().expect(page)), expected, "{page}");
        }
    }
}
