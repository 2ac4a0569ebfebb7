//! What is wrong with a table is told with its place.

use super::*;

#[track_caller]
fn wrong(json: &str, expected: &[&str]) {
    let said: Vec<_> = parse(json)
        .unwrap_err()
        .into_iter()
        .map(|error| error.under("limits").to_string())
        .collect();
    assert_eq!(said, expected);
}

#[test]
fn each_mistake_has_its_path() {
    let expected_rate =
        "expected a rate such as `30/second`, `30/minute`, `30/hour` or `30/day`, from 1 to 1000000000000";
    wrong(
        r#"[{"name": "Bad name", "rate": "0/minute"}, {"name": "a", "rate": "60/fortnight", "burst": 0}, {"name": "a", "rate": "5/second", "burst": 1.5}]"#,
        &[
            "limits[0].name: found `Bad name`, expected 1 to 40 characters of `a-z 0-9 -`",
            &format!("limits[0].rate: found `0/minute`, {expected_rate}"),
            &format!("limits[1].rate: found `60/fortnight`, {expected_rate}"),
            "limits[2].burst: found `1.5`, expected a whole number from 1 to 1000000000000",
        ],
    );
    wrong(
        r#"[{"name": "a", "rate": "1/day"}, {"name": "a", "rate": "1/day"}]"#,
        &["limits[1].name: found `a`, expected a name that no other limit has"],
    );
    wrong(
        r#"[{"name": "a", "per": ["key", "key"], "rate": "1/day"}]"#,
        &["limits[0].per[1]: found `key`, expected each name once"],
    );
    wrong(r#"[{"name": "a"}]"#, &["limits[0].rate: is missing"]);
    wrong(
        r#"[{"name": "cap", "rate": "1/day"}]"#,
        &["limits[0].name: `cap` is what the directory caps organizations and keys by; choose another name"],
    );
    wrong(
        r#"[{"name": "a", "count": "concurrent"}, {"name": "b", "count": "concurrent", "max": "0"}]"#,
        &[
            "limits[0].max: is missing",
            "limits[1].max: found `0`, expected a whole number from 1 to 4294967295",
        ],
    );
    wrong(
        r#"[{"name": "a", "rate": "1/day", "where": "global"}, {"name": "b", "rate": "1/day", "where": "here"}]"#,
        &[
            "limits[0].where: found `global`, expected `local` or `fleet`",
            "limits[1].where: found `here`, expected `local` or `fleet`",
        ],
    );
}

#[test]
fn sizes_go_with_their_counts() {
    wrong(
        r#"[{"name": "a", "rate": "1/day", "max": 1}, {"name": "b", "count": "concurrent", "max": 1, "rate": "1/day"}]"#,
        &[
            "limits[0].max: does not go with `count: requests`: requests in flight have `max`, all else has `rate` and `burst`",
            "limits[1].rate: does not go with `count: concurrent`: requests in flight have `max`, all else has `rate` and `burst`",
        ],
    );
}

#[test]
fn overrides_name_whom_they_are_for_and_what_they_change() {
    wrong(
        r#"[{"name": "a", "per": ["org"], "rate": "1/day", "overrides": [{"rate": "2/day"}, {"org": "acme"}, {"project": "x", "rate": "2/day"}, {"org": "x", "rate": "x"}]}]"#,
        &[
            "limits[0].overrides[0]: needs at least one of key, project, org, tier, model, endpoint",
            "limits[0].overrides[1]: changes nothing: expected rate, burst or max",
            "limits[0].overrides[2].project: is about one project of several that are counted together: add `project` to `per`, or name it in `when`",
            "limits[0].overrides[3].rate: found `x`, expected a rate such as `30/second`, `30/minute`, `30/hour` or `30/day`, from 1 to 1000000000000",
        ],
    );
}

#[test]
fn what_the_reader_finds_has_a_path_too() {
    for (json, said) in [
        (
            r#"[{"name": "a", "rat": "1/day"}]"#,
            "[0].rat: unknown field `rat`",
        ),
        (
            r#"[{"name": "a", "per": ["keys"]}]"#,
            "[0].per[0]: unknown variant `keys`",
        ),
        (
            r#"[{"name": "a", "count": "bytes"}]"#,
            "[0].count: unknown variant `bytes`",
        ),
        (
            r#"[{"name": "a", "when": {"endpoint": "chats"}}]"#,
            "[0].when.endpoint: unknown variant `chats`",
        ),
        (
            r#"[{"name": "a", "when": {"tier": 5}}]"#,
            "[0].when.tier: invalid type: integer `5`, expected a name or a list of names",
        ),
        (
            r#"[{"name": "a", "mode": "off"}]"#,
            "[0].mode: unknown variant `off`",
        ),
        (r#"[["a"]]"#, "[0]: invalid type: sequence, expected a limit"),
    ] {
        let errors = parse(json).unwrap_err();
        assert!(errors[0].to_string().starts_with(said), "{errors:?}");
    }
}

#[test]
fn at_most_so_many_rows() {
    let rows = |count: usize| {
        let rows: Vec<_> = (0..count)
            .map(|n| format!(r#"{{"name": "r{n}", "rate": "1/day"}}"#))
            .collect();
        format!("[{}]", rows.join(","))
    };
    // And two caps.
    assert_eq!(table(&rows(64)).rows().len(), 66);
    wrong(&rows(65), &["limits: found `65`, expected at most 64 limits"]);
}

#[test]
fn numbers_as_envoy_gives_them() {
    let table = table(
        r#"[{"name": "a", "rate": "4000000000/second", "burst": 100.0}, {"name": "b", "count": "concurrent", "max": "3.0"}]"#,
    );
    let bounds: Vec<_> = table.rows().iter().filter_map(|row| row.bound).collect();
    let quota = Quota::new("4000000000/second".parse().unwrap(), 100).unwrap();
    assert_eq!(bounds, [Bound::Rate(quota), Bound::Max(3)]);
}
