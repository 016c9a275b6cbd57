//! What is wrong in a `config.json` is told by its place, before anything is made.

use std::fs;

use anyhow::{Result, ensure};
use dhow_tests::Bundle;
use serde_json::{Value, json};

/// Shows: config/version-1, config/values-1, config/rlimits-1, config/annotations-1
#[test]
fn what_is_wrong_is_told_by_its_place() -> Result<()> {
    let limit = json!([{"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}]);
    let cases: [(&str, Value, &str); 8] = [
        ("/process/rlimits", limit, "process.rlimits[0].type: unknown variant"),
        ("/process/cwd", json!(7), "process.cwd: invalid type: integer"),
        ("/process/args", json!(["a", 5]), "process.args[1]: invalid type: integer"),
        ("/root", json!({"readonly": true}), "root.path: it is missing"),
        ("/linux/namespaces", json!([{"type": "time"}, {}]), "linux.namespaces[1]: missing field"),
        ("/annotations", json!({"": "x"}), "annotations: a key is empty"),
        ("/ociVersion", json!("one"), "ociVersion: "),
        (
            "/mounts",
            json!([{"destination": "/x", "options": "ro"}]),
            "mounts[0].options: invalid type",
        ),
    ];
    for (place, value, said) in cases {
        let bundle = Bundle::new(&["true"])?;
        bundle.change(|config| {
            let (parent, name) = place.rsplit_once('/').unwrap_or_default();
            if let Some(parent) = config.pointer_mut(parent) {
                parent[name] = value;
            }
        })?;
        let output = bundle.run()?;
        let want = format!("config.json: {said}");
        ensure!(output.code == 1 && output.stderr.contains(&want), "{want}: {output:?}");
        bundle.nothing_left()?;
    }
    Ok(())
}

#[test]
fn what_is_no_json_is_told_by_its_line() -> Result<()> {
    let bundle = Bundle::new(&["true"])?;
    let deep = format!("{{\"process\": {}", "[".repeat(1_000_000));
    let large = format!("{{\"x\": \"{}\"}}", "x".repeat(17 << 20));
    for (text, said) in [
        ("{\n  \"ociVersion\": nope\n}", "line 2 column"),
        ("[]", "config.json: it is not a JSON object"),
        ("", "config.json: it is not a JSON object"),
        (deep.as_str(), "config.json: "),
        (large.as_str(), "config.json: it is larger than 16 MiB"),
    ] {
        fs::write(bundle.path("config.json"), text)?;
        let output = bundle.run()?;
        ensure!(output.code == 1 && output.stderr.contains(said), "{said}: {output:?}");
        bundle.nothing_left()?;
    }
    Ok(())
}

/// Shows: config/extensibility-1, config/capabilities-1
#[test]
fn what_nobody_knows_is_passed_over() -> Result<()> {
    let bundle = Bundle::new(&["echo", "up"])?;
    bundle.change(|config| {
        config["linux"]["newer"] = json!({"than": ["we"]});
        if let Some(bounding) = config["process"]["capabilities"]["bounding"].as_array_mut() {
            bounding.push(json!("CAP_OF_TOMORROW"));
        }
    })?;
    let output = bundle.run()?;
    assert_eq!((output.code, output.stdout.as_str()), (0, "up\n"), "{output:?}");
    ensure!(output.stderr.contains("CAP_OF_TOMORROW"), "{output:?}");
    bundle.nothing_left()
}
