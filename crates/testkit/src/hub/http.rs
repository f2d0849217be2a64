//! As much of HTTP/1.1 as clients of a hub speak; one request a connection.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// More than any xorb has.
const MOST: u64 = 256 << 20;

pub(super) struct Request {
    pub(super) method: String,
    /// Without the query, decoded.
    pub(super) path: String,
    pub(super) query: String,
    headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn read(stream: &TcpStream) -> io::Result<Request> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        let mut body = Vec::new();
        if let Some(length) = headers.get("content-length") {
            let length: u64 = length.parse().map_err(io::Error::other)?;
            reader
                .by_ref()
                .take(length.min(MOST))
                .read_to_end(&mut body)?;
            if body.len() as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        } else if headers.contains_key("transfer-encoding") {
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                reader
                    .by_ref()
                    .take(size.min(MOST))
                    .read_to_end(&mut body)?;
                reader.read_line(&mut line)?;
                if size == 0 {
                    break;
                }
            }
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        Ok(Request {
            method,
            path: decode(path),
            query: query.to_owned(),
            headers,
            body,
        })
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(super) fn without_range(mut self) -> Request {
        self.headers.remove("range");
        self
    }

    /// A value of the query.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next()
    }

    /// The bytes that are asked for of so many: from, to, without the last.
    pub(super) fn range(&self, size: usize) -> Option<(usize, usize)> {
        let (from, to) = self
            .header("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        let to = to
            .parse::<usize>()
            .map_or(size, |to| size.min(to.saturating_add(1)));
        Some((from.parse().ok()?, to))
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let escaped = text
            .get(at + 1..at + 3)
            .filter(|_| bytes[at] == b'%')
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

pub(super) struct Reply {
    pub(super) status: u16,
    /// Lines, each with its end.
    pub(super) headers: String,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn new(status: u16, headers: String, body: Vec<u8>) -> Reply {
        Reply {
            status,
            headers,
            body,
        }
    }

    pub(super) fn json(status: u16, value: &serde_json::Value) -> Reply {
        let headers = "Content-Type: application/json\r\n".to_owned();
        Reply::new(status, headers, value.to_string().into_bytes())
    }

    pub(super) fn error(status: u16, code: &str, message: &str) -> Reply {
        let mut reply = Reply::json(status, &serde_json::json!({"error": message}));
        reply.headers.push_str(&format!("X-Error-Code: {code}\r\n"));
        reply
    }

    /// Bytes, or the range of them that was asked for.
    pub(super) fn bytes(request: &Request, headers: String, bytes: &[u8]) -> Reply {
        let size = bytes.len();
        let Some((from, to)) = request.range(size) else {
            return Reply::new(200, headers + "Accept-Ranges: bytes\r\n", bytes.to_vec());
        };
        match bytes.get(from..to).filter(|part| !part.is_empty()) {
            None => Reply::error(416, "Range", "there are no such bytes"),
            Some(part) => {
                let range = format!("Content-Range: bytes {from}-{}/{size}\r\n", to - 1);
                Reply::new(206, headers + &range, part.to_vec())
            }
        }
    }

    pub(super) fn write(self, stream: &mut TcpStream, request: &Request) -> io::Result<()> {
        let length = self.body.len();
        self.cut(length, stream, request)
    }

    /// Announces the whole body, and sends a part of it.
    pub(super) fn cut(
        self,
        bytes: usize,
        stream: &mut TcpStream,
        request: &Request,
    ) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {} -\r\n{}Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.status,
            self.headers,
            self.body.len()
        );
        stream.write_all(head.as_bytes())?;
        if request.method != "HEAD" {
            stream.write_all(&self.body[..bytes.min(self.body.len())])?;
        }
        stream.flush()
    }
}
