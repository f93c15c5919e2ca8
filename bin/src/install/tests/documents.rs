//! What the guides say is what this program takes, and nothing that they owe is missing.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Component, Path, PathBuf},
};

use crate::settings;

const OPERATE: &str = include_str!("../../../../design/operate.md");

/// The blocks of a document that begin with this fence.
fn blocks(document: &str, fence: &str) -> Vec<String> {
    let fence = format!("```{fence}");
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in document.lines().map(str::trim) {
        if inside && line == "```" {
            inside = false;
        } else if inside {
            *found.last_mut().unwrap() += &format!("{line}\n");
        } else if line == fence {
            inside = true;
            found.push(String::new());
        }
    }
    found
}

#[test]
fn settings_files_of_the_operators_guide_are_taken_by_their_command() {
    for (command, count) in [("relay", 1), ("run", 2)] {
        let files = blocks(OPERATE, &format!("toml {command}"));
        assert_eq!(files.len(), count, "{command}");
        for text in files {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let path = file.path().to_str().unwrap();
            let arguments = ["punchline", command, "--config", path];
            settings::read(arguments.map(Into::into).to_vec(), |_| None)
                .unwrap_or_else(|error| panic!("{command}: {error}\n{text}"));
        }
    }
}

#[test]
fn every_alert_has_a_section_of_the_operators_guide_and_leads_to_it() {
    let rules = super::documents("prometheus/alerts.yml");
    let rules = rules[0]["groups"][0]["rules"].as_array().unwrap();
    let section = OPERATE.split("\n## Alerts\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let sections: BTreeSet<_> = section.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts: BTreeSet<_> = rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    assert_eq!(sections, alerts);
    for rule in rules {
        let anchor = rule["alert"].as_str().unwrap().to_lowercase();
        assert_eq!(rule["annotations"]["runbook_url"], format!("{RUNBOOKS}#{anchor}"));
    }
}

/// Every flag of every command.
fn flags() -> BTreeSet<String> {
    let mut commands = vec![<crate::cli::Cli as clap::CommandFactory>::command()];
    let mut flags = BTreeSet::new();
    while let Some(command) = commands.pop() {
        flags.extend(command.get_arguments().filter_map(|flag| flag.get_long()).map(str::to_owned));
        commands.extend(command.get_subcommands().cloned());
    }
    flags
}

#[test]
fn every_flag_that_the_operators_guide_names_is_one_of_this_program() {
    let (flags, mut named) = (flags(), 0);
    // What is typed for others stands in blocks, or begins with the name of its program.
    let ours = OPERATE.split('`').skip(1).step_by(2).filter(|code| {
        code.starts_with("--") || code.starts_with("punchline ") || code.starts_with("[--")
    });
    for flag in ours.flat_map(|code| code.split_whitespace()).filter_map(|word| word.strip_prefix("--"))
    {
        let flag = flag.split(['=', ',', '|', ']']).next().unwrap_or_default();
        let known = flags.contains(flag) || flag == "help" || flag.starts_with("libp2p-");
        assert!(known, "--{flag}");
        named += 1;
    }
    assert!(named > 60, "only {named}");
}

/// Where the Debian package puts the guide.
const RUNBOOKS: &str = "file:///usr/share/doc/punchline/design/operate.md";

/// Where the checkout is.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The pages of this directory of the checkout.
fn pages(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(directory)).unwrap();
    let names = entries.map(|entry| Path::new(directory).join(entry.unwrap().file_name()));
    names.filter(|name| name.extension().is_some_and(|kind| kind == "md")).collect()
}

/// The files that a page of the checkout leads to, with the section if it names one.
fn links(page: &Path) -> Vec<(PathBuf, Option<String>)> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ', '\n']).next());
    let inside = targets.filter(|target| !target.contains("://"));
    let link = |target: &str| {
        let (path, section) = target.split_once('#').unwrap_or((target, ""));
        let path = match path {
            "" => page.to_owned(),
            path => plain(&page.parent().unwrap().join(path)),
        };
        (path, (!section.is_empty()).then(|| section.to_owned()))
    };
    inside.map(link).collect()
}

/// Without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(found.pop(), "{}", path.display()),
            Component::CurDir => {}
            part => found.push(part),
        }
    }
    found
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn links_of_documents_lead_to_files_and_sections_that_there_are() {
    let documents = [PathBuf::from("README.md"), PathBuf::from("CONTRIBUTING.md")];
    for page in documents.into_iter().chain(pages("design")).chain(pages("design/decisions")) {
        for (target, section) in links(&page) {
            let at = format!("{} leads to {}", page.display(), target.display());
            assert!(root().join(&target).exists(), "{at}");
            let Some(section) = section else { continue };
            let text = fs::read_to_string(root().join(&target)).unwrap();
            let mut headings = text.lines().filter(|line| line.starts_with('#'));
            assert!(headings.any(|heading| anchor(heading) == section), "{at}#{section}");
        }
    }
}

#[test]
fn the_debian_package_has_what_its_readme_and_its_guides_lead_to() {
    let manifest = include_str!("../../../Cargo.toml");
    let manifest: toml::Table = manifest.parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let base = "usr/share/doc/punchline/";
    // Only `*` before the extension is used there.
    let documents = assets.iter().filter_map(|asset| {
        let (from, to) = (asset[0].as_str().unwrap(), asset[1].as_str().unwrap());
        Some((plain(&Path::new("bin").join(from)), to.strip_prefix(base)?.to_owned()))
    });
    let documents: Vec<_> = documents.collect();
    let is_there = |file: &Path| {
        let directory = format!("{}/", file.parent().unwrap().display());
        documents.iter().any(|(from, to)| {
            let there = *to == directory || Path::new(to) == file || directory == "/" && to.is_empty();
            let same_kind = from.file_stem().unwrap() == "*" && from.extension() == file.extension();
            there && from.parent() == file.parent() && (same_kind || from == file)
        })
    };
    // Those who read the sources have the rest.
    let of_sources = ["examples", "plan.md", "CONTRIBUTING.md", "LICENSE-MIT", "LICENSE-APACHE"];
    let guides = ["README.md", "design/operate.md", "design/kaspad.md", "design/kaspad-network.md"];
    for page in guides.map(PathBuf::from) {
        assert!(is_there(&page), "{}", page.display());
        let led_to = links(&page).into_iter().map(|(target, _)| target);
        for target in led_to.filter(|target| root().join(target).is_file()) {
            let first = target.components().next().unwrap().as_os_str().to_str().unwrap();
            assert!(
                of_sources.contains(&first) || is_there(&target),
                "{} leads to {}",
                page.display(),
                target.display()
            );
        }
    }
}
