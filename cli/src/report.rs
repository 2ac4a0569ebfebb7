//! `tollgate key report`: keys that somebody should look at, as they are old, end soon, or nobody uses them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Client, encoded};
use crate::show::{self, member};

/// List keys to rotate, to renew or to revoke, and whom to tell.
#[derive(Args)]
pub(crate) struct Report {
    /// Of this organization only.
    #[arg(long)]
    org: Option<String>,
    /// Keys that were made so long ago, such as `90d`.
    #[arg(long, default_value = "90d", value_parser = span)]
    older_than: SignedDuration,
    /// Keys that end within this time, such as `30d`.
    #[arg(long, default_value = "30d", value_parser = span)]
    ends_within: SignedDuration,
    /// Keys that were not used for so long, by the records of `--usage`.
    #[arg(long, default_value = "30d", value_parser = span, requires = "usage")]
    unused_for: SignedDuration,
    /// Usage records: a file of JSON lines, or several.
    #[arg(long, value_name = "FILE")]
    usage: Vec<PathBuf>,
}

/// What is read of a usage record. None of these texts has anything that JSON escapes.
#[derive(Deserialize)]
struct Record<'a> {
    event: &'a str,
    time: &'a str,
    #[serde(default)]
    key: Option<&'a str>,
}

impl Report {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let path = match &self.org {
            Some(org) => format!("/v1/keys?org={}", encoded(org)),
            None => "/v1/keys".to_owned(),
        };
        let used = last_used(&self.usage)?;
        let mut found = Vec::new();
        for key in client.list_all(&path).await? {
            let last = used.get(&member(&key, "id")).copied();
            let why = self.why(&key, last, Timestamp::now());
            if !why.is_empty() {
                let all = ["id", "org", "project", "name", "contacts"];
                let mut row: serde_json::Map<String, Value> = all
                    .iter()
                    .map(|name| ((*name).to_owned(), key.get(*name).cloned().unwrap_or_default()))
                    .collect();
                row.insert("last_used".to_owned(), json!(last.map(|last| last.to_string())));
                row.insert("why".to_owned(), json!(why));
                found.push(Value::Object(row));
            }
        }
        let all = ["id", "org", "project", "name", "contacts", "last_used", "why"];
        let members = all
            .iter()
            .filter(|name| **name != "last_used" || !self.usage.is_empty());
        show::list(client, &found, &members.copied().collect::<Vec<_>>())?;
        Ok(())
    }

    /// What there is to say of a key; nothing of one that is revoked, or has a successor already.
    fn why(&self, key: &Value, last: Option<Timestamp>, now: Timestamp) -> Vec<String> {
        if key.get("revoked_at").is_some() || key.get("rotation").is_some() {
            return Vec::new();
        }
        let time = |name: &str| key.get(name)?.as_str()?.parse::<Timestamp>().ok();
        let mut why = Vec::new();
        let made = time("created_at");
        if let Some(made) = made
            && now.duration_since(made) >= self.older_than
        {
            why.push(format!("made {made}: rotate it"));
        }
        if let Some(end) = time("expires_at")
            && end.duration_since(now) <= self.ends_within
        {
            let tense = if end <= now { "ended" } else { "ends" };
            why.push(format!("{tense} {end}"));
        }
        let since = last.or(made);
        if !self.usage.is_empty()
            && let Some(since) = since
            && now.duration_since(since) >= self.unused_for
        {
            why.push(match last {
                Some(last) => format!("not used since {last}"),
                None => "not used in these records".to_owned(),
            });
        }
        why
    }
}

/// When each key was last used, by usage records. Other lines may stand between them.
fn last_used(files: &[PathBuf]) -> Result<HashMap<String, Timestamp>> {
    let mut used = HashMap::new();
    for file in files {
        let cannot = || format!("cannot read {}", file.display());
        let mut lines = BufReader::new(File::open(file).with_context(cannot)?);
        let (mut line, mut records) = (String::new(), 0_u64);
        while lines.read_line(&mut line).with_context(cannot)? > 0 {
            if let Ok(Record {
                event: "usage",
                time,
                key,
            }) = serde_json::from_str(&line)
                && let Ok(time) = time.parse::<Timestamp>()
            {
                records += 1;
                if let Some(key) = key {
                    let last = used.entry(key.to_owned()).or_insert(time);
                    *last = time.max(*last);
                }
            }
            line.clear();
        }
        ensure!(
            records > 0,
            "{} has no usage record: expected lines such as {{\"event\":\"usage\",…}} (docs/usage-record.md)",
            file.display()
        );
    }
    Ok(used)
}

/// A time span such as `90d` or `12h`; a day has 24 hours.
pub(crate) fn span(text: &str) -> Result<SignedDuration, String> {
    let span = text.parse::<Span>().ok();
    let span = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    span.filter(|span| *span > SignedDuration::ZERO)
        .ok_or_else(|| "expected a time span such as `90d` or `12h`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn report(usage: bool) -> Report {
        Report {
            org: None,
            older_than: span("90d").unwrap(),
            ends_within: span("30d").unwrap(),
            unused_for: span("30d").unwrap(),
            usage: if usage { vec![PathBuf::from("x")] } else { vec![] },
        }
    }

    #[test]
    fn a_key_is_named_for_each_reason() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let of = |key: Value, last: Option<&str>, usage| {
            report(usage).why(&key, last.map(|last| last.parse().unwrap()), now)
        };
        let none: [&str; 0] = [];
        assert_eq!(
            of(json!({"created_at": "2026-05-01T00:00:00Z"}), None, false),
            none
        );
        assert_eq!(
            of(json!({"created_at": "2026-03-03T00:00:00Z"}), None, false),
            ["made 2026-03-03T00:00:00Z: rotate it"]
        );
        let both = json!({"created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-07-01T00:00:00Z"});
        assert_eq!(
            of(both.clone(), Some("2026-05-30T00:00:00Z"), true),
            [
                "made 2026-01-01T00:00:00Z: rotate it",
                "ends 2026-07-01T00:00:00Z"
            ]
        );
        let young = json!({"created_at": "2026-04-01T00:00:00Z", "expires_at": "2026-07-02T00:00:01Z"});
        assert_eq!(of(young.clone(), None, false), none);
        assert_eq!(of(young.clone(), None, true), ["not used in these records"]);
        assert_eq!(
            of(young, Some("2026-05-02T00:00:00Z"), true),
            ["not used since 2026-05-02T00:00:00Z"]
        );
        for done in ["revoked_at", "rotation"] {
            let mut key = both.clone();
            key[done] = json!("x");
            assert_eq!(of(key, None, true), none);
        }
    }

    #[test]
    fn the_last_use_is_the_latest_of_all_records() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for line in [
            r#"{"event":"usage","time":"2026-05-02T00:00:00Z","key":"a"}"#,
            r#"{"event":"usage","time":"2026-05-01T00:00:00Z","key":"a"}"#,
            r#"{"event":"breaker","time":"2026-05-09T00:00:00Z","key":"a"}"#,
            "no record",
            r#"{"event":"usage","time":"2026-05-03T00:00:00Z"}"#,
        ] {
            writeln!(file, "{line}").unwrap();
        }
        let used = last_used(&[file.path().to_owned()]).unwrap();
        let a: Timestamp = "2026-05-02T00:00:00Z".parse().unwrap();
        assert_eq!(used, HashMap::from([("a".to_owned(), a)]));
        let empty = tempfile::NamedTempFile::new().unwrap();
        let error = last_used(&[empty.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains("has no usage record"), "{error}");
    }

    #[test]
    fn spans() {
        assert_eq!(span("2d").unwrap(), SignedDuration::from_hours(48));
        for wrong in ["", "90", "-3d", "0d", "soon"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
