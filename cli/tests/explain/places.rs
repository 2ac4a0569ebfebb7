//! Where each rule stands: what `explain` prints of the files in `files/`, as it stands in `told.txt` behind each command.

use std::path::Path;
use std::process::Command;

fn files() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain/files")
}

/// A command's output and what it complained of.
fn run(command: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(command.split_whitespace().skip(1))
        .current_dir(files())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).unwrap()
}

/// With `TOLLGATE_TELL` the file is written anew, for somebody to read.
#[test]
fn each_rule_is_told_with_its_place() {
    let file = files().join("../told.txt");
    let wanted = std::fs::read_to_string(&file).unwrap();
    let commands = wanted.lines().filter_map(|line| line.strip_prefix("$ "));
    let told: Vec<String> = commands
        .map(|command| format!("$ {command}\n{}", run(command)))
        .collect();
    let told = told.join("\n");
    if std::env::var_os("TOLLGATE_TELL").is_some() {
        std::fs::write(&file, told).unwrap();
        return;
    }
    for (line, (told, wanted)) in told.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(told, wanted, "told.txt:{}", line + 1);
    }
    assert_eq!(told.lines().count(), wanted.lines().count());
}

/// A shell in a folder with a gateway that has its directory fetched.
fn shell(folder: &Path, line: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_tollgate"));
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(folder)
        .env("PATH", path)
        .env("TOLLGATE_AUDIT_KEY", "audit.key")
        .env_remove("TOLLGATE_SERVER")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_control_plane_says_by_what_a_key_is_frozen() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = "
key_auth: {directory: {http: {max_stale: 1h, on_stale: deny}}}
tenant_router: {catalogue: {models: {llama-70b: {endpoints: [chat], targets: [{cluster: llama}]}}}}
rate_limit: {limits: []}
";
    std::fs::write(folder.path().join("gateway.yaml"), gateway).unwrap();
    let shell = |line: &str| shell(folder.path(), line);
    shell("tollgate init");
    shell("tollgate org create acme --models 'llama-*'");
    shell("tollgate project create acme/search");
    let key = shell("tollgate key create --org acme --project search 2>/dev/null");
    let id = key.trim().split('-').nth(2).unwrap();
    let explain = format!("tollgate explain gateway.yaml --key {id} --model llama-70b");
    assert!(shell(&explain).contains("`llama-70b` at llama"));
    shell("tollgate budget create acme-monthly --org acme --tokens 9000 --per month");
    let said = shell(&explain);
    assert!(
        said.contains("budget `acme-monthly`: takes ")
            && said.contains(" tokens of what is left; see tollgate budget show acme-monthly")
            && said.contains("`llama-70b` at llama"),
        "{said}"
    );
    shell("tollgate drain llama --reason 'a new disk'");
    let said = shell(&explain);
    assert!(
        said.contains("503 model_unavailable") && said.contains("control plane, tollgate status"),
        "{said}"
    );
    shell("tollgate undrain llama");
    shell("tollgate freeze project acme/search --reason 'runs away' --for 2h");
    let said = shell(&explain);
    assert!(
        said.contains("project_suspended: frozen by ") && said.contains(": runs away, until "),
        "{said}"
    );
    shell(&format!("tollgate key revoke {id} --reason left"));
    let said = shell(&explain);
    assert!(
        said.contains("unknown_key: revoked at ") && said.contains(&format!("control plane, key {id}")),
        "{said}"
    );
}

#[test]
fn what_is_out_of_use_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = "key_auth:
  directory:
    inline:
      version: 1
      orgs: {acme: {models: ['*']}}
      keys: [{id: ci, org: acme, sha256: 0f9a8e5c6a6e1f0d2d3c4b5a69788796a5b4c3d2e1f00112233445566778899a}]
      traffic:
        drained: [a]
        shed: [{tier: default, model: small}]
tenant_router:
  catalogue:
    models:
      large: {endpoints: [chat], targets: [{cluster: a}, {cluster: b}]}
      small: {endpoints: [chat], targets: [{cluster: c}]}
rate_limit: {limits: []}
";
    std::fs::write(folder.path().join("gateway.yaml"), gateway).unwrap();
    let explain = |model: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["explain", "gateway.yaml", "--key", "ci", "--model", model])
            .current_dir(folder.path())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for (model, lines) in [
        (
            "large",
            ["drained `a` gateway.yaml:8:19", "goes to `b` gateway.yaml:13:"],
        ),
        (
            "small",
            [
                "shed `small` for the tier `default` gateway.yaml:9:16",
                "result 503 model_unavailable",
            ],
        ),
    ] {
        let said = explain(model);
        let words: Vec<&str> = said.split_whitespace().collect();
        let said = words.join(" ");
        for line in lines {
            assert!(said.contains(line), "{line}: {said}");
        }
    }
}

/// Envoy would go on with what it had; nobody knows here what that was.
#[test]
fn files_with_mistakes_are_not_explained() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(files().join("gateway.yaml"), folder.path().join("gateway.yaml")).unwrap();
    std::fs::write(
        folder.path().join("rate-limit.yaml"),
        "limits: [{name: a, rate: 1/min}]\n",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["explain", ".", "--key", "ci", "--model", "llama"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("rate-limit.yaml:1:26: limits[0].rate"),
        "{said}"
    );
}
