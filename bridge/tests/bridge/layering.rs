//! The layers point one way: a module names only lower ones. This holds the table.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The rooms and files of `bridge/src`, lowest first; those of one row may name each other.
const LAYERS: [&[&str]; 9] = [
    &["path", "nat", "addr", "proxy", "service", "config", "error", "event", "status", "stream", "word"],
    &["engine"],
    &["incoming"],
    &["net"],
    &["node"],
    &["endpoint"],
    &["relay"],
    &["grpc"],
    &["lib"],
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every source file below `folder`, with its text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// The lines that are neither comments nor tests. Only the item under a `#[cfg(test)]` is left out, not
/// what follows it.
fn code(text: &str) -> Vec<&str> {
    let (mut lines, mut kept) = (text.lines(), Vec::new());
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim() == "#[cfg(test)]" {
            let end = format!("{indent}}}");
            let opens = |line: &str| !line.ends_with(';') && !line.ends_with('}');
            if lines.next().is_some_and(opens) {
                lines.find(|line| *line == end);
            }
        } else if !line.trim_start().starts_with("//") {
            kept.push(line);
        }
    }
    kept
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// The room or file of `bridge/src` that a path belongs to.
fn room(path: &Path, source: &Path) -> String {
    let first = path.strip_prefix(source).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Every name that follows `crate::` in code, also within braces.
fn named(text: &str) -> Vec<String> {
    let code = code(text).join("\n");
    let mut names = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(list) => names.extend(top_level(list)),
            None => names.push(first_word(after)),
        }
    }
    names
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first word of each entry of a braced list, down to its closing brace.
fn top_level(list: &str) -> Vec<String> {
    let (mut depth, mut entry, mut entries) = (0, String::new(), Vec::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => entries.push(std::mem::take(&mut entry)),
            _ if depth == 0 => entry.push(c),
            _ => {}
        }
    }
    entries.push(entry);
    entries.iter().map(|entry| first_word(entry.trim())).filter(|word| !word.is_empty()).collect()
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn what_follows_a_test_module_is_read_too() {
    let text = "use a;\n#[cfg(test)]\nmod tests;\nuse crate::b;\n#[cfg(test)]\nmod more {\n    x\n}\nuse c;\n// d";
    assert_eq!(code(text), ["use a;", "use crate::b;", "use c;"]);
}

#[test]
fn a_module_names_only_lower_layers() {
    let source = workspace().join("bridge/src");
    let mut wrong = Vec::new();
    for (path, text) in sources(&source).into_iter().filter(|(path, _)| !is_test(path)) {
        let here = room(&path, &source);
        let own = layer(&here).unwrap_or_else(|| panic!("{here} is in no layer: put it into the table"));
        for name in named(&text) {
            // Types that lib.rs exports at the top are named by their module elsewhere.
            let Some(other) = layer(&name) else { continue };
            if other > own {
                wrong.push(format!("{} names {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_three_rooms_know_the_swarm_and_only_the_grpc_room_knows_tonic() {
    let source = workspace().join("bridge/src");
    let mut wrong = Vec::new();
    for (path, text) in sources(&source).into_iter().filter(|(path, _)| !is_test(path)) {
        let here = room(&path, &source);
        let lines = code(&text);
        let names = |what: &str| lines.iter().any(|line| line.contains(what));
        // A connection's id is libp2p's own, wrapped.
        let swarm = names("SwarmEvent") || names("libp2p::swarm");
        if swarm && !["net", "node", "relay", "path"].contains(&here.as_str()) {
            wrong.push(format!("{} names libp2p's swarm", path.display()));
        }
        if names("tonic") && here != "grpc" {
            wrong.push(format!("{} names tonic", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_stream_crate_knows_neither_libp2p_nor_the_bridge() {
    let folder = workspace().join("stream");
    let mut texts = sources(&folder.join("src"));
    let manifest = folder.join("Cargo.toml");
    texts.push((manifest.clone(), fs::read_to_string(manifest).unwrap()));
    for (path, text) in texts {
        for other in ["libp2p", "punchline_bridge", "punchline-bridge"] {
            assert!(!text.contains(other), "{} names {other}", path.display());
        }
    }
}

/// The same inputs must give the same outputs, or a recorded run cannot be replayed.
#[test]
fn what_decides_reads_no_clock_draws_no_lots_and_keeps_its_maps_in_order() {
    let forbidden =
        ["Instant::now", "SystemTime::now", "HashMap", "HashSet", "rand::rng", "random()", "tokio"];
    let mut wrong = Vec::new();
    for folder in
        ["bridge/src/engine", "bridge/src/relay/machine", "stream/src/machine", "stream/src/frame"]
    {
        let found = sources(&workspace().join(folder));
        assert!(!found.is_empty(), "{folder} has no sources: where is it now?");
        for (path, text) in found.into_iter().filter(|(path, _)| !is_test(path)) {
            for line in code(&text) {
                let names = forbidden.iter().filter(|name| line.contains(**name));
                wrong.extend(names.map(|name| format!("{} names {name}", path.display())));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bridge_and_protocol_do_not_know_each_other() {
    for (package, other) in [("bridge", "punchline_protocol"), ("protocol", "punchline_bridge")] {
        for (path, text) in sources(&workspace().join(package).join("src")) {
            assert!(!text.contains(other), "{} names {other}", path.display());
        }
    }
}

#[test]
fn no_file_is_longer_than_five_hundred_lines_and_no_library_prints() {
    let libraries = ["stream", "bridge", "protocol"];
    let folders = ["src", "tests", "benches"];
    let packages = libraries.into_iter().chain(["bin", "tests", "tests/sim", "examples"]);
    let mut wrong = Vec::new();
    for (package, folder) in packages.flat_map(|package| folders.map(|folder| (package, folder))) {
        let place = workspace().join(package).join(folder);
        for (path, text) in place.is_dir().then(|| sources(&place)).into_iter().flatten() {
            let lines = text.lines().count();
            if lines > 500 {
                wrong.push(format!("{} has {lines} lines", path.display()));
            }
            let library = libraries.contains(&package) && folder == "src";
            if library && ["println!", "eprintln!", "dbg!"].iter().any(|name| text.contains(name)) {
                wrong.push(format!("{} prints", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
