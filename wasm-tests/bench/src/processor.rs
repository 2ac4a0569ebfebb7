//! The external processor that Envoy's `ext_proc` asks: reads the model from the body, sets a header.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Part;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Answer;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, ProcessingRequest, ProcessingResponse,
};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// A server on a thread of its own, for as long as the process lives.
pub(crate) struct Processor {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    thread: i32,
}

impl Processor {
    /// Starts it.
    pub(crate) fn start() -> Result<Self> {
        let (up, started) = mpsc::channel();
        std::thread::Builder::new()
            .name("processor".to_owned())
            .spawn(move || {
                // Envoy then answers 500, which the load reports; here is why.
                if let Err(error) = serve(&up) {
                    eprintln!("the external processor stopped: {error:#}");
                }
            })?;
        let (addr, thread) = started.recv().context("the external processor did not start")?;
        Ok(Self { addr, thread })
    }

    /// CPU time that it used so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.thread))?;
        // The first number is the time on a CPU in nanoseconds.
        let nanos = stat.split(' ').next().and_then(|first| first.parse().ok());
        Ok(Duration::from_nanos(nanos.context("no CPU time in schedstat")?))
    }
}

fn serve(up: &mpsc::Sender<(SocketAddr, i32)>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        up.send((
            listener.local_addr()?,
            rustix::thread::gettid().as_raw_nonzero().get(),
        ))?;
        let service = ExternalProcessorServer::new(ByModel).max_decoding_message_size(usize::MAX);
        Server::builder()
            // As much as the largest body, so that it never waits for leave to send more.
            .initial_stream_window_size(16 << 20)
            .initial_connection_window_size(64 << 20)
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await?;
        Ok(())
    })
}

struct ByModel;

#[tonic::async_trait]
impl ExternalProcessor for ByModel {
    type ProcessStream = std::pin::Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let answers = request.into_inner().map(|part| answer(&part?));
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The least that has to be read of a chat request.
#[derive(Deserialize)]
struct Chat<'a> {
    model: &'a str,
}

fn answer(part: &ProcessingRequest) -> Result<ProcessingResponse, Status> {
    let response = match &part.request {
        // They wait for the body.
        Some(Part::RequestHeaders(_)) => Answer::RequestHeaders(HeadersResponse::default()),
        Some(Part::RequestBody(body)) => Answer::RequestBody(route(&body.body)?),
        _ => return Err(Status::invalid_argument("only requests are processed")),
    };
    Ok(ProcessingResponse {
        response: Some(response),
        ..ProcessingResponse::default()
    })
}

/// The model as a header, and the route chosen again.
fn route(body: &[u8]) -> Result<BodyResponse, Status> {
    let chat: Chat<'_> =
        serde_json::from_slice(body).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let header = HeaderValue {
        key: "x-model".to_owned(),
        raw_value: chat.model.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let mutation = HeaderMutation {
        set_headers: vec![HeaderValueOption {
            header: Some(header),
            ..HeaderValueOption::default()
        }],
        ..HeaderMutation::default()
    };
    let common = CommonResponse {
        header_mutation: Some(mutation),
        clear_route_cache: true,
        ..CommonResponse::default()
    };
    Ok(BodyResponse {
        response: Some(common),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::service::ext_proc::v3::{HttpBody, HttpHeaders};

    #[test]
    fn the_model_becomes_a_header_and_the_route_is_chosen_again() {
        let common = route(br#"{"messages": [], "model": "m"}"#)
            .unwrap()
            .response
            .unwrap();
        assert!(common.clear_route_cache);
        let header = common
            .header_mutation
            .unwrap()
            .set_headers
            .remove(0)
            .header
            .unwrap();
        assert_eq!(
            (header.key.as_str(), header.raw_value.as_slice()),
            ("x-model", b"m".as_slice())
        );
    }

    #[test]
    fn what_is_no_chat_is_refused() {
        assert!(route(b"{").is_err());
        assert!(route(b"{}").is_err());
    }

    #[test]
    fn each_part_gets_an_answer_of_its_kind() {
        let ask = |part| {
            answer(&ProcessingRequest {
                request: Some(part),
                ..ProcessingRequest::default()
            })
        };
        let headers = ask(Part::RequestHeaders(HttpHeaders::default())).unwrap();
        assert!(matches!(headers.response, Some(Answer::RequestHeaders(_))));
        let body = HttpBody {
            body: br#"{"model": "m"}"#.to_vec(),
            ..HttpBody::default()
        };
        let body = ask(Part::RequestBody(body)).unwrap();
        assert!(matches!(body.response, Some(Answer::RequestBody(_))));
        assert!(ask(Part::ResponseBody(HttpBody::default())).is_err());
    }
}
