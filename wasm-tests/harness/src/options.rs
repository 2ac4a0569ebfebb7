//! How a gateway is to be started.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::directory::Directory;

/// What differs from the repository's own files. By default: free ports, two workers, no model server
/// (nothing listens at the clusters' addresses), the directory of the files (no keys), their catalogue, no limits.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) workers: u32,
    pub(crate) port: u16,
    pub(crate) admin_port: u16,
    pub(crate) llama: Option<SocketAddr>,
    pub(crate) gpt_oss: Option<SocketAddr>,
    pub(crate) documents: Option<SocketAddr>,
    pub(crate) fleet: Option<SocketAddr>,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) key_auth: Option<Value>,
    pub(crate) router: Option<Value>,
    pub(crate) limits: Option<Value>,
    pub(crate) unbroken: bool,
    pub(crate) chain: bool,
    pub(crate) module: Option<PathBuf>,
    pub(crate) access_log: Option<PathBuf>,
    pub(crate) edits: Vec<(String, String, String)>,
    pub(crate) log_level: String,
    pub(crate) arguments: Vec<String>,
}

/// One more cluster than `envoy/clusters.yaml` has.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    /// Whether Envoy asks it how it is.
    pub(crate) checked: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 2,
            port: 0,
            admin_port: 0,
            llama: None,
            gpt_oss: None,
            documents: None,
            fleet: None,
            clusters: Vec::new(),
            key_auth: None,
            router: None,
            limits: Some(json!({"limits": []})),
            unbroken: false,
            chain: false,
            module: None,
            access_log: None,
            edits: Vec::new(),
            // `main` lists every extension that is built in.
            log_level: "info,main:warning".into(),
            arguments: Vec::new(),
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Worker threads.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Fixed ports for the gateway and for Envoy's admin, instead of free ones.
    #[must_use]
    pub fn ports(mut self, gateway: u16, admin: u16) -> Self {
        (self.port, self.admin_port) = (gateway, admin);
        self
    }

    /// The model server of the cluster `llama`.
    #[must_use]
    pub fn llama(mut self, addr: SocketAddr) -> Self {
        self.llama = Some(addr);
        self
    }

    /// The model server of the cluster `gpt-oss`.
    #[must_use]
    pub fn gpt_oss(mut self, addr: SocketAddr) -> Self {
        self.gpt_oss = Some(addr);
        self
    }

    /// One more cluster, a copy of `gpt-oss` with the model server at `addr`.
    #[must_use]
    pub fn cluster(self, name: &str, addr: SocketAddr) -> Self {
        self.one_more(name, addr, true)
    }

    /// The same without a health check, for what is no model server, or takes no connections: the gateway starts without
    /// waiting until it is well.
    #[must_use]
    pub fn unchecked_cluster(self, name: &str, addr: SocketAddr) -> Self {
        self.one_more(name, addr, false)
    }

    fn one_more(mut self, name: &str, addr: SocketAddr, checked: bool) -> Self {
        let name = name.into();
        self.clusters.push(Cluster { name, addr, checked });
        self
    }

    /// Models and targets, in tenant-router's own file.
    #[must_use]
    pub fn catalogue(self, catalogue: &Catalogue) -> Self {
        self.router(catalogue.configuration())
    }

    /// The whole `configuration` of tenant-router.
    #[must_use]
    pub fn router(mut self, configuration: Value) -> Self {
        self.router = Some(configuration);
        self
    }

    /// The whole `configuration` of rate-limit.
    #[must_use]
    pub fn limits(mut self, configuration: Value) -> Self {
        self.limits = Some(configuration);
        self
    }

    /// The limits of the repository's own `envoy/filters/rate-limit.yaml`.
    #[must_use]
    pub fn own_limits(mut self) -> Self {
        self.limits = None;
        self
    }

    /// No target is ever left alone: for tests in which model servers fail on purpose, and the next request is to
    /// meet them all the same.
    #[must_use]
    pub fn unbroken(mut self) -> Self {
        self.unbroken = true;
        self
    }

    /// Three modules, whatever `TOLLGATE_FORM` says: for tests that are about one of them in the chain, or about its
    /// file.
    #[must_use]
    pub fn chain(mut self) -> Self {
        self.chain = true;
        self
    }

    /// The directory inline, in key-auth's own file.
    #[must_use]
    pub fn directory(self, directory: &Directory) -> Self {
        self.key_auth(directory.inline())
    }

    /// The directory from an HTTP server: `directory-http.yaml` and `filters/key-auth-http.yaml`.
    #[must_use]
    pub fn documents(mut self, addr: SocketAddr) -> Self {
        self.documents = Some(addr);
        self
    }

    /// The directory from this control plane, which knows the gateway by this token and answers once something changes.
    #[must_use]
    pub fn watch(self, control: SocketAddr, token: &str) -> Self {
        let file = "directory-http.yaml";
        self.documents(control)
            .edit(file, "path: /directory.json", "path: /v1/directory")
            .edit(file, "# watch: 25s", "watch: 25s")
            .edit(file, "# token: tg-token-…", &format!("token: {token}"))
    }

    /// A member of the fleet of this control plane, which knows it by this token: `fleet.yaml`. Where the directory comes
    /// from a server too, it is the same one.
    #[must_use]
    pub fn fleet(mut self, control: SocketAddr, token: &str) -> Self {
        self.fleet = Some(control);
        self.edit("fleet.yaml", "# token: tg-token-…", &format!("token: {token}"))
    }

    /// The whole `configuration` of key-auth.
    #[must_use]
    pub fn key_auth(mut self, configuration: Value) -> Self {
        self.key_auth = Some(configuration);
        self
    }

    /// Another module than `dist/tollgate-key-auth.wasm`.
    #[must_use]
    pub fn module(mut self, path: impl Into<PathBuf>) -> Self {
        self.module = Some(path.into());
        self
    }

    /// A file, pipe or terminal for the access log, instead of a file of the gateway's own; its records are then
    /// not read here.
    #[must_use]
    pub fn access_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.access_log = Some(path.into());
        self
    }

    /// Changes a setting: in `envoy/{file}`, each `from` becomes `to`. Starting fails where there is no `from`,
    /// so that a test can't go on about a setting that was renamed.
    #[must_use]
    pub fn edit(mut self, file: &str, from: &str, to: &str) -> Self {
        self.edits.push((file.into(), from.into(), to.into()));
        self
    }

    /// Envoy's log level, for all components or as `info,wasm:debug`. Default: `info,main:warning`.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        self.log_level = level.into();
        self
    }

    /// One more argument for Envoy.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }
}
