//! The chart: whole and free of leftovers, as far as its files tell; Helm itself is asked in `helm.rs`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/fivetuple");

fn yaml(name: &str) -> Value {
    let text = fs::read_to_string(Path::new(CHART).join(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn templates() -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(Path::new(CHART).join("templates")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The paths behind `.Values.` in a text.
fn values_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(".Values.").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '.').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn it_is_of_this_version() {
    let chart = yaml("Chart.yaml");
    assert_eq!((&chart["apiVersion"], &chart["name"]), (&"v2".into(), &"fivetuple".into()));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn templates_use_all_values_and_no_others() {
    let values = yaml("values.yaml");
    let mut used = BTreeSet::new();
    for (path, text) in templates() {
        for name in values_in(&text) {
            let pointer = format!("/{}", name.replace('.', "/"));
            assert!(values.pointer(&pointer).is_some(), "{}: no value {name}", path.display());
            used.insert(name.to_owned());
        }
    }
    let (mut unused, mut all) = (Vec::new(), vec![(String::new(), &values)]);
    while let Some((name, value)) = all.pop() {
        if used.contains(&name) {
            continue;
        }
        match value.as_object() {
            Some(parts) if !parts.is_empty() => {
                all.extend(
                    parts
                        .iter()
                        .map(|(part, v)| (format!("{name}.{part}").trim_start_matches('.').to_owned(), v)),
                );
            }
            _ => unused.push(name),
        }
    }
    assert_eq!(unused, Vec::<String>::new(), "values that no template uses");
}

#[test]
fn blocks_of_templates_end() {
    for (path, text) in templates() {
        let actions: Vec<&str> =
            text.split("{{").skip(1).map(|rest| rest.trim_start_matches(['-', ' '])).collect();
        assert_eq!(text.matches("}}").count(), actions.len(), "{}", path.display());
        let opens = ["if ", "range ", "with ", "define "];
        let opened =
            actions.iter().filter(|action| opens.iter().any(|word| action.starts_with(word))).count();
        assert_eq!(
            actions.iter().filter(|action| action.starts_with("end ")).count(),
            opened,
            "{}",
            path.display()
        );
    }
}

/// Three capabilities, as in the unit, and nothing that makes root mighty.
#[test]
fn its_rights_are_the_unit_s() {
    let unit = include_str!("../../fivetuple.service");
    let of_unit = unit.lines().find_map(|line| line.strip_prefix("AmbientCapabilities=")).unwrap();
    let context = &yaml("values.yaml")["securityContext"];
    let added: Vec<_> =
        context["capabilities"]["add"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    assert_eq!(format!("CAP_{}", added.join(" CAP_")), of_unit);
    assert_eq!(context["capabilities"]["drop"][0], "ALL");
    assert_eq!(
        (&context["privileged"], &context["allowPrivilegeEscalation"]),
        (&false.into(), &false.into())
    );
}
