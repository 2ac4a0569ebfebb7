//! The repository's own `envoy/` files, copied for one Envoy with only ports and paths replaced.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::{CONFIGURATION, parse, repository};
use crate::form::{self, Form};
use crate::models::FAULT_HEADER;
use crate::options::{Cluster, Options};

/// The line of `envoy/filters/tenant-router.yaml` before which [`TESTS_OWN`] are allowed.
const BREAKER: &str = "          breaker: {failures: 5,";

/// Headers by which tests speak to the stand-in model servers.
const TESTS_OWN: [&str; 8] = [
    FAULT_HEADER,
    "x-mark",
    "x-mine",
    "x-number",
    "x-plan-number",
    "x-play",
    "x-refuse-later",
    "x-routing",
];

/// A directory for one Envoy to run in: a copy of `envoy/`, its log, its access log.
#[derive(Debug)]
pub(crate) struct Staged {
    dir: TempDir,
    form: Form,
}

impl Staged {
    /// Copies the files and replaces what `options` says.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tollgate-").tempdir()?;
        copy(&repository().join("envoy"), &dir.path().join("envoy"))?;
        // Another module than key-auth's takes key-auth's place alone.
        let form = if options.chain || options.module.is_some() {
            Form::Chain
        } else {
            Form::of_environment()
        };
        let mut staged = Self {
            dir,
            form: Form::Chain,
        };
        if options.documents.is_some() {
            fs::copy(
                staged.file("filters/key-auth-http.yaml"),
                staged.file("filters/key-auth.yaml"),
            )?;
        }
        staged.replace_ports(options)?;
        staged.replace_paths(options)?;
        let names = json!(TESTS_OWN);
        staged.replace(
            "filters/tenant-router.yaml",
            BREAKER,
            &format!("{0}allow_headers: {names}\n{BREAKER}", " ".repeat(10)),
        )?;
        for (file, from, to) in &options.edits {
            staged.replace(file, from, to)?;
        }
        if let Some(configuration) = &options.key_auth {
            staged.set_configuration("key-auth", configuration)?;
        }
        if let Some(configuration) = &options.router {
            staged.set_configuration("tenant-router", configuration)?;
        }
        if let Some(configuration) = &options.limits {
            staged.set_configuration("rate-limit", configuration)?;
        }
        if options.unbroken {
            let never = json!({"failures": 1000, "open": "1ms", "longest": "1ms"});
            staged.change_configuration("tenant-router", |configuration| configuration["breaker"] = never)?;
        }
        staged.add_clusters(&options.clusters)?;
        if form != Form::Chain {
            staged.form = form;
            staged.join_filters()?;
        }
        Ok(staged)
    }

    /// How the filters are loaded.
    pub(crate) const fn form(&self) -> Form {
        self.form
    }

    /// From three modules to one filter.
    fn join_filters(&self) -> Result<()> {
        if self.form == Form::Native {
            self.load_library()?;
        } else {
            self.load_module()?;
        }
        let listener = fs::read_to_string(self.file("listener.yaml"))?;
        self.put("listener.yaml", &form::one_filter(&listener, self.form.file())?)?;
        self.join_sections()
    }

    /// Everything comes from the native library.
    fn load_library(&self) -> Result<()> {
        let file = "dist/libtollgate.so";
        let library = repository().join(file);
        ensure!(
            library.is_file(),
            "{} is missing: `make native` makes it",
            library.display()
        );
        let library = library.display().to_string();
        self.replace(self.form.file(), file, &library)?;
        let listener = fs::read_to_string(self.file("listener.yaml"))?;
        let log = self.usage_log().display().to_string();
        let journal = self.journal().display().to_string();
        let filter = fs::read_to_string(self.file(self.form.file()))?;
        self.put(
            "listener.yaml",
            &form::usage_logger(&listener, &filter, &log, &journal)?,
        )?;
        let [wasm, dynamic] = form::KINDS;
        for file in ["listener.yaml", "clusters.yaml"] {
            let text = fs::read_to_string(self.file(file))?;
            self.put(file, &text.replace(wasm, dynamic))?;
        }
        let logger = [
            "envoy.extensions.access_loggers.wasm.v3.WasmAccessLog",
            "envoy.extensions.access_loggers.dynamic_modules.v3.DynamicModuleAccessLog",
        ];
        let extension = [
            "envoy.extensions.wasm.v3.WasmService",
            "envoy.extensions.bootstrap.dynamic_modules.v3.DynamicModuleBootstrapExtension",
        ];
        for (file, kinds, names) in [
            (
                "filters/upstream-adapter.yaml",
                form::KINDS,
                ["filter_name", "filter_config"],
            ),
            ("listener.yaml", logger, ["logger_name", "logger_config"]),
            (
                "directory-http.yaml",
                extension,
                ["extension_name", "extension_config"],
            ),
            ("fleet.yaml", extension, ["extension_name", "extension_config"]),
        ] {
            let text = fs::read_to_string(self.file(file))?;
            self.put(file, &form::native(&text, kinds, names, &library)?)?;
        }
        self.replace(
            "listener.yaml",
            "envoy.access_loggers.wasm",
            "envoy.access_loggers.dynamic_modules",
        )?;
        for file in ["directory-http.yaml", "fleet.yaml"] {
            self.replace(file, "envoy.bootstrap.wasm", "envoy.bootstrap.dynamic_modules")?;
        }
        Ok(())
    }

    /// Everything but the adapter comes from the one module.
    fn load_module(&self) -> Result<()> {
        let (chain, module) = ("dist/tollgate-key-auth.wasm", "dist/tollgate-gateway.wasm");
        let module_path = repository().join(module).display().to_string();
        self.replace(self.form.file(), module, &module_path)?;
        let directory = "directory-http.yaml";
        self.replace(
            directory,
            &repository().join(chain).display().to_string(),
            &module_path,
        )?;
        self.replace(directory, "vm_id: tollgate.key-auth", "vm_id: tollgate.gateway")?;
        let limits = repository().join("dist/tollgate-rate-limit.wasm");
        self.replace("fleet.yaml", &limits.display().to_string(), &module_path)?;
        self.replace(
            "fleet.yaml",
            "vm_id: tollgate.rate-limit",
            "vm_id: tollgate.gateway",
        )?;
        self.replace("listener.yaml", "dist/tollgate-tenant-router.wasm", module)?;
        self.replace(
            "listener.yaml",
            "vm_id: tollgate.tenant-router",
            "vm_id: tollgate.gateway",
        )
    }

    /// Makes the one filter's file of the three's, or, where one of them is no YAML, of that: Envoy is to see it too.
    fn join_sections(&self) -> Result<()> {
        let file = self.form.file();
        let joined = form::joined(parse(&self.file(file))?, self.form.configuration(), |filter| {
            let file = parse(&self.file(&format!("filters/{filter}.yaml")))?;
            let configuration = file.pointer(CONFIGURATION).context("there is no configuration")?;
            Ok(configuration.clone())
        });
        let text = match joined {
            Ok(file) => serde_saphyr::to_string(&file)?,
            Err(_) => "no: [yaml".to_owned(),
        };
        self.write(file, &text)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path below the copy of `envoy/`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join("envoy").join(name)
    }

    /// The access log's file.
    pub(crate) fn access_log(&self) -> PathBuf {
        self.path().join("access.log")
    }

    /// The usage records' file.
    pub(crate) fn usage_log(&self) -> PathBuf {
        self.path().join("usage.log")
    }

    /// The folder of the native form's journals.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path().join("journal")
    }

    /// Puts `configuration` into a filter's file, by rename as an operator does.
    pub(crate) fn set_configuration(&self, filter: &str, configuration: &Value) -> Result<()> {
        self.change_configuration(filter, |place| {
            place.clone_from(configuration);
            if let ("tenant-router", Some(members)) = (filter, place.as_object_mut()) {
                members.entry("allow_headers").or_insert_with(|| json!(TESTS_OWN));
            }
        })
    }

    fn change_configuration(&self, filter: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let name = format!("filters/{filter}.yaml");
        let mut resource = parse(&self.file(&name))?;
        let place = resource
            .pointer_mut(CONFIGURATION)
            .with_context(|| format!("{name} has no configuration"))?;
        change(place);
        self.put(&name, &resource.to_string())
    }

    /// Adds copies of the cluster `gpt-oss`, under other names and with other addresses.
    fn add_clusters(&self, clusters: &[Cluster]) -> Result<()> {
        if clusters.is_empty() {
            return Ok(());
        }
        let mut file = parse(&self.file("clusters.yaml"))?;
        let resources = file["resources"]
            .as_array_mut()
            .context("clusters.yaml has no resources")?;
        let model = resources
            .iter()
            .find(|resource| resource["name"] == "gpt-oss")
            .context("clusters.yaml has no gpt-oss")?
            .clone();
        for Cluster { name, addr, checked } in clusters {
            let mut cluster = model.clone();
            if !checked && let Some(members) = cluster.as_object_mut() {
                members.remove("health_checks");
            }
            cluster["name"] = json!(name);
            cluster["load_assignment"]["cluster_name"] = json!(name);
            cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"] =
                json!({"address": addr.ip(), "port_value": addr.port()});
            resources.push(cluster);
        }
        self.put("clusters.yaml", &file.to_string())
    }

    /// Replaces a file by rename, so that Envoy sees it whole or not at all.
    pub(crate) fn put(&self, name: &str, text: &str) -> Result<()> {
        self.write(name, text)?;
        if self.form.is_made_of(name) {
            self.join_sections()?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.path())?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.persist(self.file(name))?;
        Ok(())
    }

    /// Replaces each `from` in a file; that there is none is an error.
    pub(crate) fn replace(&self, name: &str, from: &str, to: &str) -> Result<()> {
        let path = self.file(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(
            text.contains(from),
            "envoy/{name} does not say `{from}`, so it can't be replaced by `{to}`"
        );
        self.put(name, &text.replace(from, to))
    }

    fn replace_ports(&self, options: &Options) -> Result<()> {
        self.replace(
            "envoy.yaml",
            "port_value: 9901",
            &format!("port_value: {}", options.admin_port),
        )?;
        self.replace(
            "listener.yaml",
            "port_value: 10000",
            &format!("port_value: {}", options.port),
        )?;
        for (port, to) in [
            (11001, options.llama),
            (11002, options.gpt_oss),
            (11080, options.documents.or(options.fleet)),
        ] {
            if let Some(to) = to {
                self.replace(
                    "clusters.yaml",
                    &socket(&([127, 0, 0, 1], port).into()),
                    &socket(&to),
                )?;
            }
        }
        Ok(())
    }

    fn replace_paths(&self, options: &Options) -> Result<()> {
        let module = options
            .module
            .clone()
            .unwrap_or_else(|| repository().join("dist/tollgate-key-auth.wasm"));
        ensure!(
            module.is_file(),
            "{} is missing: `make wasm` makes it",
            module.display()
        );
        for file in ["filters/key-auth.yaml", "directory-http.yaml"] {
            self.replace(file, "dist/tollgate-key-auth.wasm", &module.display().to_string())?;
        }
        for (file, filter) in [
            ("filters/tenant-router.yaml", "tenant-router"),
            ("listener.yaml", "tenant-router"),
            ("filters/rate-limit.yaml", "rate-limit"),
            ("fleet.yaml", "rate-limit"),
            ("filters/upstream-adapter.yaml", "upstream-adapter"),
        ] {
            let module = format!("dist/tollgate-{filter}.wasm");
            let path = repository().join(&module).display().to_string();
            self.replace(file, &module, &path)?;
        }
        self.replace(
            "listener.yaml",
            "path: /dev/stdout # usage records",
            &format!("path: {} # usage records", self.usage_log().display()),
        )?;
        let log = options.access_log.clone().unwrap_or_else(|| self.access_log());
        self.replace(
            "listener.yaml",
            "path: /dev/stdout",
            &format!("path: {}", log.display()),
        )
    }
}

fn socket(addr: &SocketAddr) -> String {
    format!("address: {}, port_value: {}}}", addr.ip(), addr.port())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&source, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
        } else {
            bail!("{} is neither a file nor a directory", source.display());
        }
    }
    Ok(())
}
