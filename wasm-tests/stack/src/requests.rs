//! The access log as lines for a terminal, one a request.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

/// Follows the access log.
#[derive(Debug)]
pub(super) struct Requests {
    file: Option<File>,
    /// A line that is not yet whole.
    rest: String,
    /// So many lines are still to be left out.
    skip: usize,
}

impl Requests {
    /// All but the first requests, which nobody asks about. A missing file has none.
    pub(super) fn follow(path: &Path, skip: usize) -> Self {
        Self {
            file: File::open(path).ok(),
            rest: String::new(),
            skip,
        }
    }

    /// Lines for the requests logged since.
    pub(super) fn new_lines(&mut self) -> Vec<String> {
        let Some(file) = &mut self.file else {
            return Vec::new();
        };
        let mut bytes = Vec::new();
        if file.read_to_end(&mut bytes).is_err() {
            return Vec::new();
        }
        self.rest.push_str(&String::from_utf8_lossy(&bytes));
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let all = self.rest[..whole].lines();
        let skipped = self.skip.min(all.clone().count());
        self.skip -= skipped;
        let lines = all.skip(skipped).filter_map(line).collect();
        self.rest.drain(..whole);
        lines
    }
}

/// `12:31:07  200  POST /v1/chat/completions  acme/search key 7f3kq9x2mzd4  llama-70b at llama (primary)  12 ms`
fn line(record: &str) -> Option<String> {
    let record: Value = serde_json::from_str(record).ok()?;
    let text = |name: &str| record[name].as_str().filter(|text| !text.is_empty());
    let time = text("time")
        .and_then(|time| time.get(11..19))
        .unwrap_or("--:--:--");
    let who = match (text("org"), text("project"), text("key_id")) {
        (Some(org), Some(project), Some(id)) => format!("{org}/{project} key {id}"),
        (Some(org), None, Some(id)) => format!("{org} key {id}"),
        // Refused: the operator's reason, which is finer than what the customer is told.
        _ => text("details").unwrap_or("-").to_owned(),
    };
    if let (Some(event), Some(cluster)) = (text("event"), text("cluster")) {
        return Some(format!("{time}  {}  {event}: {cluster}", record["status"]));
    }
    let (method, path) = (text("method").unwrap_or("-"), text("path").unwrap_or("-"));
    let by = match (text("model"), text("cluster"), text("route")) {
        (Some(model), Some(cluster), Some(route)) => format!("  {model} at {cluster} ({route})"),
        _ => String::new(),
    };
    Some(format!(
        "{time}  {}  {method} {path}  {who}{by}  {} ms",
        record["status"], record["duration_ms"]
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn whole_records_become_lines() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let mut requests = Requests::follow(log.path(), 1);
        writeln!(log, "{{\"status\":200}}").unwrap();
        let good = r#"{"time":"2026-01-02T12:31:07.123Z","status":200,"method":"POST","path":"/v1/responses",
            "org":"acme","project":"search","key_id":"7f3kq9x2mzd4","duration_ms":12}"#;
        write!(log, "{}\n{{\"status\":", good.replace('\n', "")).unwrap();
        let line = "12:31:07  200  POST /v1/responses  acme/search key 7f3kq9x2mzd4  12 ms";
        assert_eq!(requests.new_lines(), [line]);
        assert_eq!(requests.new_lines(), [""; 0]);
        writeln!(
            log,
            "401,\"org\":\"\",\"details\":\"tollgate_expired\",\"duration_ms\":0}}"
        )
        .unwrap();
        assert_eq!(
            requests.new_lines(),
            ["--:--:--  401  - -  tollgate_expired  0 ms"]
        );
    }
}
