//! How many connections a server holds, and from whom.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod server;

use core::net::SocketAddr;
use core::time::Duration;
use std::time::Instant;

use server::{Server, client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// A connection from an address that was answered and is idle from then on; `None` where it was closed.
async fn idle(from: &str, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(to).await.ok()?;
    let asked = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(asked).await.ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.ok()?;
    assert_eq!(&answer, b"HTTP/1.1 200");
    Some(stream)
}

/// As many as pass of these.
async fn many(count: usize, from: &str, to: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.extend(idle(from, to).await);
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_from_one_address_keep_nobody_else_out() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let bounds = ["--max-connections", "20", "--max-connections-per-address", "8"];
    let server = Server::start_with(&database, &bounds);
    let to: SocketAddr = server.url.strip_prefix("http://").unwrap().parse().unwrap();
    let (http, token) = (client(), server.token.clone().unwrap());

    let mut flood = many(30, "127.0.0.2", to).await;
    assert_eq!(flood.len(), 8);
    let told = server.says("found no place");
    assert!(
        told.contains("127.0.0.2") && told.contains("--max-connections-per-address"),
        "{told}"
    );
    let url = format!("{}/v1/orgs", server.url);
    let operators = http.get(&url).bearer_auth(&token).header("connection", "close");
    let operators = operators.send().await.unwrap();
    assert_eq!(operators.status().as_u16(), 200);
    operators.bytes().await.unwrap();

    // One place is free again once its connection has ended.
    flood.pop();
    fill(&mut flood, 8, "127.0.0.2", to).await;

    // And all of them together.
    let mut others = many(10, "127.0.0.3", to).await;
    assert_eq!(others.len(), 8);
    fill(&mut others, 12, "127.0.0.4", to).await;
    assert!(idle("127.0.0.5", to).await.is_none());
    server.says("20 are open (--max-connections)");
}

/// Until there are so many: the server hears of a connection that ended when it looks.
async fn fill(held: &mut Vec<TcpStream>, count: usize, from: &str, to: SocketAddr) {
    let started = Instant::now();
    while held.len() < count {
        assert!(started.elapsed() < Duration::from_secs(30));
        held.extend(idle(from, to).await);
    }
}
