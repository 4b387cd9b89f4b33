//! The rules of this repository as tests: what may be where, what may use what, how long a file may grow.
//!
//! Every failure lists all places and says what to do about them. Rules that the compiler or clippy can hold are
//! in `Cargo.toml` and `clippy.toml`; here are those that they cannot see. [`tree`] reads the files, [`docs`]
//! holds the pages against them.

#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/tree.rs"]
mod tree;

use tree::{Source, cargo_dependencies, rust_sources, text_files};

/// Longest file, in lines.
const MAX_LINES: usize = 400;

/// Files that may be longer, and why.
const LONG: [(&str, &str); 0] = [];

/// Decide, and do nothing: given the same events and times they give the same effects.
const PURE: [&str; 12] = [
    "coordinator/src/plan",
    "coordinator/src/state",
    "coordinator/src/view",
    "agent/src/fetch.rs",
    "agent/src/fetch/set.rs",
    "agent/src/layout.rs",
    "agent/src/serve/giving.rs",
    "agent/src/serve/offer.rs",
    "common/src/chunk",
    "agent/src/session/report.rs",
    "agent/src/session/backoff.rs",
    "agent/src/watch/settle.rs",
];

/// Words that may stand only in some places.
struct Fence {
    words: &'static [&'static str],
    /// Where the words are looked for: files, folders, or `x` for both `x.rs` and `x/`.
    within: &'static [&'static str],
    /// Where they may stand.
    except: &'static [&'static str],
    advice: &'static str,
}

const EVERYWHERE: [&str; 6] = ["common", "agent", "coordinator", "cli", "tests", "fuzz"];

const FENCES: [Fence; 7] = [
    Fence {
        words: &["async", "tokio", "Instant::now", "SystemTime", "std::fs", "std::net", "rand::random"],
        within: &PURE,
        except: &["coordinator/src/state/run.rs", "coordinator/src/state/run/handle.rs"],
        advice: "this file decides only: take the time or the answer as an argument, and act in its loop",
    },
    Fence {
        words: &["tokio", "std::fs", "std::net", "Instant::now", "SystemTime"],
        within: &[
            "common/src/api",
            "common/src/availability",
            "common/src/digest",
            "common/src/image",
            "common/src/inventory",
            "common/src/name",
            "common/src/nodeset",
            "common/src/sif",
            "common/src/time",
            "common/src/wire/control",
            "common/src/wire/code",
        ],
        // How files are read at an offset; whoever opens them is elsewhere.
        except: &["common/src/sif.rs"],
        advice: "the words of `common` do no I/O and know no clock: move this to the daemon that needs it",
    },
    Fence {
        words: &["rusqlite", "SELECT", "INSERT INTO", "DELETE FROM", "CREATE TABLE", "PRAGMA"],
        within: &["common/src", "agent/src", "coordinator/src", "cli/src"],
        except: &["coordinator/src/store", "agent/src/memory"],
        advice: "SQL lives in coordinator/src/store and agent/src/memory only: add a method there",
    },
    Fence {
        words: &["bincode"],
        within: &EVERYWHERE,
        except: &["common/src/wire/frame"],
        advice: "only common/src/wire/frame.rs encodes: use wire::frame::encode and decode, which are limited",
    },
    Fence {
        words: &["pgp::"],
        within: &["common/src", "agent/src", "coordinator/src", "cli/src"],
        except: &["common/src/keyring"],
        advice: "the crate `pgp` checks neither times nor revocations: ask common/src/keyring, which does",
    },
    Fence {
        words: &["StatusCode"],
        within: &["common/src", "agent/src", "coordinator/src"],
        // Where else than in the API: what registries answered us, and what a node's own registry answers.
        except: &[
            "coordinator/src/http",
            "agent/src/pull",
            "coordinator/src/registries/outside",
            "coordinator/src/registries/health",
            "coordinator/src/registries/source",
        ],
        advice: "HTTP statuses live in coordinator/src/http: return an error and map it in http/problem.rs",
    },
    Fence {
        words: &["unsafe", "unsafe_code"],
        within: &EVERYWHERE,
        except: &["agent/src/sys"],
        advice: "unsafe code lives in agent/src/sys.rs only: put a safe wrapper there, with its reason",
    },
];

/// Reports all offenders of one rule at once.
#[track_caller]
pub(crate) fn none(offenders: &[String], advice: &str) {
    assert!(offenders.is_empty(), "{advice}:\n  {}", offenders.join("\n  "));
}

#[test]
fn words_stay_behind_their_fences() {
    let sources = rust_sources();
    let mut offenders = Vec::new();
    for fence in &FENCES {
        let fenced = |source: &&Source| source.is_in(fence.within) && !source.is_in(fence.except);
        // This test has to name the words.
        for source in sources.iter().filter(fenced).filter(|source| !source.is_in(&["tests/tests/tidy"])) {
            for (number, line) in source.code() {
                for word in fence.words.iter().filter(|word| tree::has_word(line, word)) {
                    offenders.push(format!("{}:{number}: `{word}`: {}", source.path, fence.advice));
                }
            }
        }
    }
    none(&offenders, "some words are where they must not be");
}

#[test]
fn every_fence_still_stands_around_something() {
    let sources = rust_sources();
    let named = |fence: &Fence| fence.within.iter().chain(fence.except).copied().collect::<Vec<_>>();
    let gone: Vec<_> = FENCES
        .iter()
        .flat_map(named)
        .filter(|place| *place != "fuzz" && !sources.iter().any(|source| source.is_in(&[place])))
        .map(str::to_owned)
        .collect();
    none(&gone, "these places of tests/tests/tidy.rs are gone: name where the rule holds instead");
}

#[test]
fn common_uses_no_other_crate_and_the_programs_only_common() {
    let mut offenders = Vec::new();
    for (member, allowed) in [
        ("common", &[][..]),
        ("agent", &["sifleet-common"]),
        ("coordinator", &["sifleet-common"]),
        ("cli", &["sifleet-common"]),
    ] {
        let used = cargo_dependencies(member);
        assert!(used.len() > 3, "{member}/Cargo.toml was not understood");
        for name in used.iter().map(|(name, _)| name.as_str()) {
            if name.starts_with("sifleet") && !allowed.contains(&name) {
                offenders.push(format!("{member}/Cargo.toml: {name}"));
            }
        }
    }
    none(&offenders, "programs share through `common` only: move what both need there");
}

#[test]
fn the_command_line_leaves_the_plumbing_out() {
    let common = cargo_dependencies("cli").into_iter().find(|(name, _)| name == "sifleet-common");
    let (_, line) = common.expect("the command line uses sifleet-common");
    assert!(
        !line.contains("node"),
        "cli/Cargo.toml: the feature `node` would link QUIC into the command line"
    );
}

#[test]
fn every_file_starts_by_saying_what_it_owns() {
    let silent: Vec<_> = rust_sources()
        .into_iter()
        .filter(|source| {
            !source.text.starts_with("//! ") || source.text.lines().next().is_some_and(|l| l.len() < 20)
        })
        .map(|source| source.path)
        .collect();
    none(
        &silent,
        "begin these files with `//!` lines: what it owns, what it must not do, where its facts are from",
    );
}

#[test]
fn no_file_is_longer_than_a_person_reads_at_once() {
    let sources = rust_sources();
    let long: Vec<&Source> =
        sources.iter().filter(|source| source.text.lines().count() > MAX_LINES).collect();
    let excused = |source: &Source| LONG.iter().any(|(path, _)| *path == source.path);
    let offenders: Vec<_> = long
        .iter()
        .filter(|source| !excused(source))
        .map(|source| format!("{}: {} lines", source.path, source.text.lines().count()))
        .collect();
    none(
        &offenders,
        "split these files by what they own (x.rs + x/), or give a reason in tests/tests/tidy.rs",
    );
    let needless: Vec<_> = LONG
        .iter()
        .filter(|(path, _)| !long.iter().any(|source| source.path == *path))
        .map(|(path, reason)| format!("{path} ({reason})"))
        .collect();
    none(&needless, "these files are short enough: take them off the list");
}

#[test]
fn modules_are_named_after_their_files() {
    let offenders: Vec<_> = rust_sources()
        .into_iter()
        .filter(|source| source.path.ends_with("/mod.rs"))
        .map(|source| source.path)
        .collect();
    none(&offenders, "write x.rs + x/ instead");
}

#[test]
fn tests_are_named_as_sentences() {
    let mut offenders = Vec::new();
    for source in rust_sources() {
        let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
        for (number, pair) in lines.windows(2).enumerate() {
            let [attribute, function] = pair else { continue };
            if !matches!(*attribute, "#[test]" | "#[tokio::test]") {
                continue;
            }
            let name =
                function.trim_start_matches("async ").strip_prefix("fn ").and_then(|f| f.split('(').next());
            if let Some(name) = name.filter(|name| name.split('_').count() < 3) {
                offenders.push(format!("{}:{}: {name}", source.path, number + 2));
            }
        }
    }
    none(&offenders, "say in the name what is true, such as an_expired_lease_answers_unknown");
}

#[test]
fn nothing_is_left_for_later_and_nothing_is_shouted() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("db", "g!(")];
    let rules = ["-", "=", "\u{2500}", "\u{2014}", "*", "#", "~"].map(|sign| sign.repeat(4));
    let mut offenders = Vec::new();
    for source in text_files().into_iter().chain(rust_sources()) {
        for (number, line) in (1..).zip(source.text.lines()) {
            let banner = line.trim_start().strip_prefix("// ").is_some_and(|comment| {
                source.path.ends_with(".rs") && rules.iter().any(|rule| comment.contains(rule.as_str()))
            });
            if banner || marks.iter().any(|mark| tree::has_word(line, mark)) {
                offenders.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    none(&offenders, "do it, or open an issue; structure a file by modules, not by banners");
}
