//! `make run`: the stack in the foreground, and what to paste.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::control::Key;
use super::reload::Edits;
use super::requests::Requests;
use super::{Control, Ports, Stack, free};
use tollgate_harness::config::repository;

/// How often the log and the files are looked at.
const LOOK: Duration = Duration::from_millis(300);

/// Runs the stack until it is told to stop: never returns `Ok`.
///
/// # Errors
/// It can't start, or Envoy ended by itself; in a sentence for people.
pub async fn run(ports: Ports) -> Result<()> {
    let place = Place::new()?;
    println!("Starting model servers, control plane and Envoy ...");
    free(ports.control, "CONTROL_PORT")?;
    let control = Control::start(ports.control)?;
    control.tenants().await?;
    let key = control.key("run").await?;
    let mut stack = Stack::following(ports, &control).await?;
    let files = place.point_at(&stack)?;
    let asked = control.reaches(&stack.gateway, &key).await?;
    let mut requests = Requests::follow(&stack.gateway.directory().join("access.log"), asked);
    // Before anybody is told which files to edit.
    let mut edits = Edits::watch(&stack.gateway).await;
    print!("{}", welcome(&stack, &control, &key, &files));
    loop {
        tokio::time::sleep(LOOK).await;
        if !stack.gateway.is_running() {
            bail!(
                "Envoy ended by itself; the end of its log:\n{}",
                last_lines(&stack.gateway.log())
            );
        }
        let lines = requests
            .new_lines()
            .into_iter()
            .chain(edits.look(&stack.gateway).await);
        lines.for_each(|line| println!("{line}"));
    }
}

/// `target/run`, where the files of a run lie: each run in a directory of its own, and `envoy` points at the
/// latest's.
struct Place {
    link: PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        let dir = repository().join("target/run");
        fs::create_dir_all(&dir).with_context(|| format!("{} can't be made", dir.display()))?;
        // The harness lays its files where temporary files go. An earlier choice is as good.
        tempfile::env::override_temp_dir(&dir).ok();
        Ok(Self {
            link: dir.join("envoy"),
        })
    }

    /// The directory to edit, as people should be told it.
    fn point_at(&self, stack: &Stack) -> Result<String> {
        fs::remove_file(&self.link).ok(); // the link of a run that is over, if there is one
        std::os::unix::fs::symlink(stack.gateway.directory().join("envoy"), &self.link)?;
        Ok("target/run/envoy".to_owned())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Another run may have its own link here by now; ours leads nowhere once the gateway's files are gone.
        if !self.link.exists() {
            fs::remove_file(&self.link).ok();
        }
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn welcome(stack: &Stack, control: &Control, key: &Key, files: &str) -> String {
    let (url, admin) = (stack.gateway.url(), stack.gateway.admin_addr());
    let (plane, token) = (control.url(), control.token());
    let Key { id, secret: key } = key;
    let program = control.program();
    let filters = stack.gateway.filter_files().into_iter();
    let filters = filters.map(|(file, what)| format!("  {files}/{file:<27}  {what}"));
    let filters = filters.collect::<Vec<_>>().join("\n");
    format!(
        r#"
  gateway   {url}/v1
  admin     http://{admin}
  control   {plane}
  key       {key}
            (organization acme, project search; made for this run, kept nowhere)

A streamed answer, with curl:

  curl -N {url}/v1/chat/completions \
    -H 'Authorization: Bearer {key}' \
    -H 'Content-Type: application/json' \
    -d '{{"model": "llama-70b", "stream": true, "messages": [{{"role": "user", "content": "Say hello"}}]}}'

With the OpenAI SDK for Python:

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="{key}")
  messages = [{{"role": "user", "content": "Say hello"}}]
  for chunk in client.chat.completions.create(model="llama-70b", messages=messages, stream=True):
      print(chunk.choices[0].delta.content or "", end="", flush=True)

Keys, by the control plane, from another terminal; the gateway follows within a second:

  export TOLLGATE_SERVER={plane} TOLLGATE_TOKEN={token}
  {program} key create --org acme --project search
  {program} freeze key {id} --for 30s --reason 'to see it'
  {program} audit show

The configuration of this run; an edit is taken up within a second, and what became of it is said here:

{filters}
  {files}/routes.yaml                  timeouts, retries
  {files}/clusters.yaml                model servers
  {files}/listener.yaml                HTTP settings, access log, chain of filters

Ctrl-C stops all of it. Requests:

"#
    )
}
