//! A server outside that remembers what it was sent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The server; it ends with the test.
pub(super) struct Server {
    pub(super) port: u16,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&kept)));
            }
        });
        Self { port, seen }
    }

    /// The first bytes of every connection that sent some.
    pub(super) fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().expect("a list").clone()
    }
}

async fn answer(mut stream: TcpStream, kept: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut bytes = vec![0; 8192];
    let count = stream.read(&mut bytes).await.unwrap_or(0);
    bytes.truncate(count);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if count > 0 {
        kept.lock().expect("a list").push(bytes);
    }
    let target = text.split(' ').nth(1);
    let answer = match target {
        Some("/ok") => "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        Some("/redirect") => {
            "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"
        }
        Some("/page") => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n\
             <html><head><title>t</title></head><h1>A head</h1><script>evil()</script><p>and <b>words</b></html>"
        }
        Some("/again") => "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n",
        Some("/slow") => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n").await;
            tokio::time::sleep(Duration::from_secs(90)).await;
            return;
        }
        _ => return,
    };
    let _ = stream.write_all(answer.as_bytes()).await;
}
