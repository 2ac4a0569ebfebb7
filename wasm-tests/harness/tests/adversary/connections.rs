//! Connections and answers that their clients leave lying: they go, and honest customers are served meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tollgate_harness::client::Request;
use tollgate_harness::models::FAULT_HEADER;
use tollgate_harness::{Gateway, net};

use crate::frames;
use crate::scripted::Scripted;
use crate::stage::{CHAT, Stage};

/// A heap that a test can fill.
const HEAP: &str = "max_heap_size_bytes: 134217728";

/// A client whose window is shut asks so often over a new connection; it never reads.
async fn unread(gateway: SocketAddr, request: impl Fn(u32) -> Vec<u8>, count: u32) -> TcpStream {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    let mut bytes = frames::preface(&[(frames::WINDOW, 0)]);
    for at in 0..count {
        bytes.extend(request(1 + 2 * at));
    }
    // Envoy may be short of something, and close.
    let _ = stream.write_all(&bytes).await;
    stream
}

/// A stranger's request, with as many headers as one may have.
fn strangers(stream: u32) -> Vec<u8> {
    let (names, value): (Vec<String>, _) = ((0..25).map(|at| format!("x-{at}")).collect(), [b'y'; 500]);
    let mut headers: Vec<(&[u8], &[u8])> = vec![
        (b":method", b"GET"),
        (b":path", b"/v1/models"),
        (b":scheme", b"http"),
        (b":authority", b"x"),
    ];
    headers.extend(names.iter().map(|name| (name.as_bytes(), &value[..])));
    frames::block(stream, &headers)
}

/// A request for a stream that goes so.
fn stream(stage: &Stage, fault: &str) -> Request {
    let request = stage.gateway.post(CHAT).key(&stage.key);
    request.json(streamed()).header(FAULT_HEADER, fault)
}

fn streamed() -> Value {
    json!({"model": "llama-70b", "stream": true, "messages": [{"role": "user", "content": "one"}]})
}

async fn served(stage: &Stage) {
    net::eventually("an honest customer is served", async || {
        let reply = stage.ask(CHAT).try_send().await.ok()?;
        (reply.status == 200).then_some(())
    })
    .await;
}

async fn counter(gateway: &Gateway, name: &str) -> u64 {
    gateway.stats().await.counter(name)
}

#[tokio::test]
async fn refusals_that_nobody_takes_lock_nobody_out() {
    let stage =
        Stage::with(|options| options.edit("envoy.yaml", "max_heap_size_bytes: 4294967296", HEAP)).await;
    // A stream that is under way all the time.
    let slow = tokio::spawn(stream(&stage, "tokens=10,hold=5").http2().send());
    // Two and a half times the heap, if they stayed.
    let mut held = Vec::new();
    for _ in 0..8 {
        for _ in 0..8 {
            held.push(unread(stage.gateway.addr(), strangers, 100).await);
        }
        served(&stage).await;
    }
    assert!(counter(&stage.gateway, "http2.tx_flush_timeout").await > 1_000);
    stage.models.release();
    let slow = slow.await.unwrap().expect(200);
    assert!(slow.text().trim_end().ends_with("data: [DONE]"));
}

#[tokio::test]
async fn answers_that_a_customer_does_not_read_lock_nobody_out() {
    let stage =
        Stage::with(|options| options.edit("envoy.yaml", "max_heap_size_bytes: 4294967296", HEAP)).await;
    let authorization = format!("Bearer {}", stage.key.reveal());
    let body = streamed().to_string();
    let long = |stream: u32| {
        let headers: [(&[u8], &[u8]); 7] = [
            (b":method", b"POST"),
            (b":path", CHAT.as_bytes()),
            (b":scheme", b"http"),
            (b":authority", b"x"),
            (b"authorization", authorization.as_bytes()),
            (b"content-type", b"application/json"),
            (FAULT_HEADER.as_bytes(), b"tokens=20000,batch=100"),
        ];
        frames::post(stream, &headers, body.as_bytes())
    };
    let ended = async || {
        let stats = stage.gateway.stats().await;
        stats.counter("envoy.overload_actions.reset_high_memory_stream.count")
    };
    let mut held = Vec::new();
    // How many it takes depends on what the modules take.
    while ended().await == 0 {
        assert!(held.len() < 32, "no stream was ended");
        for _ in 0..2 {
            held.push(unread(stage.gateway.addr(), long, 50).await);
        }
        served(&stage).await;
    }
    for _ in 0..2 {
        served(&stage).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_over_does_not_wait_for_its_client() {
    let stage = Stage::with(|options| {
        options.edit(
            "listener.yaml",
            "stream_flush_timeout: 120s",
            "stream_flush_timeout: 1s",
        )
    })
    .await;
    let _held = unread(stage.gateway.addr(), strangers, 10).await;
    // Three times as long as the timeout, and read as it comes.
    let slow = stream(&stage, "tokens=30,pace=100ms")
        .http2()
        .send()
        .await
        .expect(200);
    assert!(slow.text().trim_end().ends_with("data: [DONE]"));
    net::eventually("what nobody took is gone", async || {
        (counter(&stage.gateway, "http2.tx_flush_timeout").await == 10).then_some(())
    })
    .await;
    assert_eq!(
        counter(&stage.gateway, "http.gateway.downstream_rq_active").await,
        0
    );
}

/// A client with a small buffer of its own asks, and reads nothing so far.
async fn asks(stage: &Stage) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(65_536).unwrap();
    let mut stream = socket.connect(stage.gateway.addr()).await.unwrap();
    let body = streamed().to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        stage.key.reveal(),
        body.len(),
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_connection_that_is_not_read_is_closed_and_one_that_is_read_slowly_is_not() {
    let server = Scripted::start().await;
    // More than all buffers on the way.
    let event = format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(1_000));
    let body = event.repeat(24_000) + "data: [DONE]\n\n";
    server.answer("200 OK", &["content-type: text/event-stream"], &body);
    let stage = Stage::with(|options| {
        options.llama(server.addr()).edit(
            "listener.yaml",
            "per_connection_buffer_high_watermark_timeout: 120s",
            "per_connection_buffer_high_watermark_timeout: 2s",
        )
    })
    .await;
    let mut slow = asks(&stage).await;
    let _never = asks(&stage).await;
    let mut read = Vec::new();
    let mut piece = vec![0; 256 * 1024];
    while !read.ends_with(b"0\r\n\r\n") && !read.ends_with(b"data: [DONE]\n\n") {
        let len = slow.read(&mut piece).await.unwrap();
        assert_ne!(len, 0, "closed after {} bytes", read.len());
        read.extend(&piece[..len]);
        // At least 3 MB/s where half a MiB in two seconds is asked for, and several times those two seconds in all.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(read.len() > body.len());
    net::eventually("only the one that reads is still there", async || {
        let active = counter(&stage.gateway, "http.gateway.downstream_cx_active").await;
        (active == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn idle_connections_make_room_for_others() {
    let stage = Stage::with(|options| {
        options.edit(
            "envoy.yaml",
            "max_active_downstream_connections: 20000",
            "max_active_downstream_connections: 40",
        )
    })
    .await;
    let slow = tokio::spawn(stream(&stage, "tokens=10,hold=5").send());
    net::eventually("the stream is under way", async || {
        (counter(&stage.gateway, "http.gateway.downstream_rq_active").await == 1).then_some(())
    })
    .await;
    let closed = async || counter(&stage.gateway, "http.gateway.downstream_cx_idle_timeout").await;
    for asks in [false, true] {
        let before = closed().await;
        let mut held = Vec::new();
        for _ in 0..60 {
            let mut stream = TcpStream::connect(stage.gateway.addr()).await.unwrap();
            if asks {
                let _ = stream
                    .write_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
                    .await;
            }
            held.push(stream);
        }
        served(&stage).await;
        assert!(closed().await > before);
    }
    stage.models.release();
    let slow = slow.await.unwrap().expect(200);
    assert!(slow.text().trim_end().ends_with("data: [DONE]"));
}
