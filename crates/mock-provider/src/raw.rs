//! Answers written by hand: heads and framings that no HTTP library would send.

use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::script::Fault;

/// What is written to the connection, which closes then.
#[derive(Debug)]
pub(crate) struct Raw {
    bytes: Vec<u8>,
    /// Between any two bytes; all at once where it is zero.
    every: Duration,
}

/// What a fault writes by hand instead of an answer with this type and body.
pub(crate) fn raw(fault: &Fault, kind: &str, body: &[u8], every: Duration) -> Option<Raw> {
    let head = match fault {
        Fault::Raw(bytes) => {
            let bytes = bytes.clone().into_bytes();
            return Some(Raw { bytes, every });
        }
        Fault::Length(length) => format!("HTTP/1.1 200 OK\r\ncontent-length: {length}"),
        Fault::EarlyHints => format!(
            "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: {}",
            body.len()
        ),
        Fault::CloseDelimited => "HTTP/1.0 200 OK".to_owned(),
        _ => return None,
    };
    let head = format!("{head}\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
    let bytes = [head.as_bytes(), body].concat();
    let every = Duration::ZERO;
    Some(Raw { bytes, every })
}

impl Raw {
    /// Writes it all, as far as somebody listens.
    pub(crate) async fn write(self, stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        if self.every.is_zero() {
            stream.write_all(&self.bytes).await?;
        } else {
            for byte in self.bytes {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(self.every).await;
            }
        }
        stream.shutdown().await
    }
}
