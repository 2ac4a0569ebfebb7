//! The server: the API at an address, with TLS or on this machine alone.

use core::convert::Infallible;
use core::time::Duration;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
pub use ed25519_dalek::SigningKey;
use tokio::task::JoinHandle;

use crate::api::{self, App};
use crate::connections::{Connections, Most};
use crate::fleet::{Fleet, FleetStore};
use crate::store::Store;
use crate::timer;
use crate::webhook::Webhook;

/// How to serve.
pub struct Settings {
    /// The address to listen at.
    pub listen: SocketAddr,
    /// Certificate chain and key, as PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Signs checkpoints of the trail.
    pub signing: Option<SigningKey>,
    /// How many connections at once.
    pub connections: Most,
    /// Is told when a budget reaches a threshold.
    pub webhook: Option<Webhook>,
    /// Where the books are of limits that gateways keep together.
    pub fleet: FleetStore,
}

/// A connection is closed that has not asked anything so long after it began.
const FIRST: Duration = Duration::from_secs(10);
/// The same of each later request.
const IDLE: Duration = Duration::from_secs(75);

/// Why it does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Tokens would go over the network in clear.
    #[error(
        "`{0}` can be reached from other machines, and tokens would go there in clear: give --tls-cert and --tls-key, \
         or listen at 127.0.0.1"
    )]
    PlainText(SocketAddr),
    /// The certificate or its key can't be used.
    #[error("cannot use the certificate {0} with its key: {1}")]
    Certificate(PathBuf, std::io::Error),
    /// The address can't be listened at.
    #[error("cannot listen at {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The store of the fleet's books can't be used.
    #[error("cannot use --fleet-store: {0}")]
    Fleet(tollgate_fleet::Error),
    /// Freezes would not end, and other servers' changes not be seen.
    #[error("what the server does by itself has stopped, and it does not go on without it: {0}")]
    Timer(tokio::task::JoinError),
}

/// Serves until `stop` is done; requests under way have ten seconds to end. `ready` is told the address.
pub async fn serve(
    store: Arc<Store>,
    settings: Settings,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let listen = settings.listen;
    if settings.tls.is_none() && !listen.ip().is_loopback() {
        return Err(ServeError::PlainText(listen));
    }
    let tls = match settings.tls {
        None => None,
        Some((certificate, key)) => {
            let tls = RustlsConfig::from_pem_file(&certificate, &key).await;
            let tls = tls.map_err(|error| ServeError::Certificate(certificate, error))?;
            let mut config = (*tls.get_inner()).clone();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Some(RustlsConfig::from_config(Arc::new(config)))
        }
    };
    let fleet = Fleet::open(&store, settings.fleet).map_err(ServeError::Fleet)?;
    let cannot = |error| ServeError::Listen(listen, error);
    let socket = std::net::TcpListener::bind(listen).map_err(cannot)?;
    socket.set_nonblocking(true).map_err(cannot)?;
    ready(socket.local_addr().map_err(cannot)?);
    let handle = Handle::new();
    let ending = handle.clone();
    tokio::spawn(async move {
        stop.await;
        ending.graceful_shutdown(Some(Duration::from_secs(10)));
    });
    let timer = tokio::spawn(timer::run(Arc::clone(&store), settings.webhook));
    let at_once = handle.clone();
    let app = api::router(App::with_fleet(store, settings.signing, fleet));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let connections = Connections::new(settings.connections);
    let served = async move {
        match tls {
            None => {
                let server = axum_server::from_tcp(socket)?.acceptor(connections);
                with_timeouts(server, handle).serve(app).await
            }
            Some(tls) => {
                let acceptor = RustlsAcceptor::new(tls).acceptor(connections);
                let server = axum_server::from_tcp(socket)?.acceptor(acceptor);
                with_timeouts(server, handle).serve(app).await
            }
        }
    };
    let served = until_timer_fails(timer, async { served.await.map_err(cannot) }).await;
    at_once.shutdown();
    served
}

/// A server that closes connections which ask nothing within [`FIRST`] or [`IDLE`]. HTTP/2 is not spoken: its connections
/// would stay for as long as a client answers pings, whatever it asks.
fn with_timeouts<A>(mut server: Server<SocketAddr, A>, handle: Handle<SocketAddr>) -> Server<SocketAddr, A> {
    server.http_builder().http1().header_read_timeout(IDLE);
    server.http1_only().handle(handle).first_request_timeout(FIRST)
}

/// Serves until it is told to stop, or until the timer fails, which is an error.
async fn until_timer_fails(
    mut timer: JoinHandle<Infallible>,
    served: impl Future<Output = Result<(), ServeError>>,
) -> Result<(), ServeError> {
    let served = tokio::select! {
        served = served => served,
        ended = &mut timer => match ended {
            Ok(never) => match never {},
            Err(why) => Err(ServeError::Timer(why)),
        },
    };
    timer.abort();
    served
}

/// The key that signs checkpoints, from its file; made there where there is none.
pub fn signing_key(file: &Path) -> std::io::Result<SigningKey> {
    use std::io::{Error, ErrorKind, Write as _};
    match std::fs::read(file) {
        Ok(bytes) => {
            let seed: [u8; 32] = bytes
                .try_into()
                .map_err(|_| Error::new(ErrorKind::InvalidData, "expected the 32 bytes of an Ed25519 key"))?;
            Ok(SigningKey::from_bytes(&seed))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(Error::other)?;
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut created = options.open(file)?;
            created.write_all(&seed)?;
            created.sync_all()?;
            Ok(SigningKey::from_bytes(&seed))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_ends_with_what_it_does_by_itself() {
        let timer = tokio::spawn(async { panic!("the timer has failed") });
        let ended = until_timer_fails(timer, core::future::pending()).await;
        let why = ended.unwrap_err().to_string();
        assert!(why.contains("does not go on without it"), "{why}");

        let timer = tokio::spawn(core::future::pending());
        assert!(
            until_timer_fails(timer, core::future::ready(Ok(())))
                .await
                .is_ok()
        );
    }
}
