//! The command line's grammar and help.
//!
//! Owns names, defaults, environment variables and examples. Values are parsed into the words of the common
//! crate here, once; nothing here talks to anybody.

mod export;
mod limits;
mod push;
mod registry;
mod remove;
mod token;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use sifleet_common::availability::Require;
use sifleet_common::name::{NodeName, PartitionName};
use sifleet_common::nodeset::NodeSet;
use sifleet_common::units::{Period, Rate};

pub(crate) use export::ExportArgs;
pub(crate) use limits::LimitsVerb;
pub(crate) use push::{Interval, Progress, PushArgs, PushVerb, Wish};
pub(crate) use registry::{
    Adding, Credentials as RegistryCredentials, Importing, Object, RegistryVerb, Setting,
};
pub(crate) use remove::Removing;
pub(crate) use token::{AuditArgs, Making, TokenVerb};

use crate::outcome::EXIT_CODES;
use crate::output::Format;

const EXAMPLES: &str = "\
Examples:
  sifleet available vnc_desktop -p viz            can it run on every node of viz?
  sifleet available vnc_desktop -p viz && sbatch -p viz job.sh
  sifleet push vnc_desktop.sif -p viz             puts a file onto every node of viz
  sifleet image show vnc_desktop                  where it is, what it says of itself
  sifleet node show viz001                        what is on one node
  sifleet events -o json                          follow what changes";

const AVAILABLE_HELP: &str = "\
Examples:
  sifleet available vnc_desktop -p viz
  sifleet available openfoam_v2312 -p compute --require 4
  sifleet available vnc_desktop@blake3:5f0c9e1b7a2d -p viz -o json
  sifleet available vnc_desktop -p viz -o name    the ready nodes, folded

Ends with 0 when the requirement is met, 1 when it is not and no node is ready, \
3 when only some nodes are ready or it depends on nodes that do not report.";

/// Tells which container image is on which node.
#[derive(Debug, Parser)]
#[command(name = "sifleet", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"), arg_required_else_help = true)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// How to print the answer.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Where the coordinator is and how to trust it.
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// Where the coordinator is and how to trust it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Address of the coordinator, or unix:PATH for its socket; else the socket of this machine if there is one, else
    /// http://127.0.0.1:7440. Proxies of the environment are not used.
    #[arg(long, global = true, env = "SIFLEET_URL", value_hint = ValueHint::Url)]
    pub(crate) url: Option<String>,
    /// Reads the token that says who asks from this file, which nobody else may read; SIFLEET_TOKEN holds one itself.
    #[arg(long, global = true, env = "SIFLEET_TOKEN_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// Trusts the certificates of this PEM file instead of the system's.
    #[arg(long, global = true, env = "SIFLEET_CA_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Waits at most so long for an answer, in seconds.
    #[arg(long, global = true, default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Tells whether an image is ready on the nodes of a partition
    #[command(after_help = AVAILABLE_HELP)]
    Available {
        /// Name, path below a root, digest prefix (12 digits or more) or NAME@blake3:DIGEST.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        image: String,
        /// The partition, as Slurm calls it.
        #[arg(short, long)]
        partition: PartitionName,
        /// How many nodes are enough: all, any or a number.
        #[arg(long, default_value_t, value_name = "all|any|N")]
        require: Require,
    },
    /// Lists images, shows one, brings one into the library, or removes one from nodes
    #[command(subcommand)]
    Image(ImageVerb),
    /// Lists nodes, shows one, has nodes look again, or marks them as busy
    #[command(subcommand)]
    Node(NodeVerb),
    /// Lists partitions, or shows one
    #[command(subcommand)]
    Partition(PartitionVerb),
    /// Puts an image onto nodes, or tells of pushes
    Push(Box<PushArgs>),
    /// Shows running pushes and the rates of their nodes, as they change
    #[command(after_help = push::TOP_HELP)]
    Top(Interval),
    /// Shows or sets how fast images may move
    #[command(subcommand)]
    Limits(LimitsVerb),
    /// Writes external registries down, and looks how they are
    #[command(subcommand)]
    Registry(RegistryVerb),
    /// Lists names under which nodes hold different bytes
    #[command(after_help = "Examples:\n  sifleet drift\n  sifleet drift -o csv > drift.csv")]
    Drift,
    /// Follows changes of nodes, images and partitions, one line each
    #[command(
        after_help = "Examples:\n  sifleet events\n  sifleet events -o json | jq 'select(.node==\"viz001\")'\n  sifleet events --count 1    wait for the next change"
    )]
    Events {
        /// Ends after so many events.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Writes the library as a tree of files that any web server can serve
    #[command(after_help = export::EXPORT_HELP)]
    Export(ExportArgs),
    /// Makes, lists and revokes tokens: who may ask the coordinator what
    #[command(subcommand)]
    Token(TokenVerb),
    /// Shows who asked for changes, and who was refused
    Audit(AuditArgs),
    /// Prints the completion script of a shell
    #[command(
        after_help = "Examples:\n  sifleet completions bash > /etc/bash_completion.d/sifleet\n  sifleet completions zsh > \"${fpath[1]}/_sifleet\""
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Prints the manual page, or writes all of them
    #[command(
        after_help = "Examples:\n  sifleet man | man -l -\n  sifleet man --dir /usr/local/share/man/man1"
    )]
    Man {
        /// Writes one page for each command into this directory.
        #[arg(long, value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Lists images and where they are ready
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  sifleet image ls\n  sifleet image ls openfoam -p compute -o wide"
    )]
    Ls {
        /// Only names that contain this.
        query: Option<String>,
        /// Only images on nodes of this partition.
        #[arg(short, long)]
        partition: Option<PartitionName>,
    },
    /// Shows where an image is and what it says of itself
    #[command(
        after_help = "Examples:\n  sifleet image show vnc_desktop\n  sifleet image show 5f0c9e1b7a2d -o wide    with definition file, scripts and help"
    )]
    Show {
        /// Name, path below a root, or digest prefix (12 digits or more).
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        image: String,
    },
    /// Brings an image of a registry, an archive or a file into the library
    #[command(after_help = registry::IMPORT_HELP)]
    Import(Box<Importing>),
    /// Removes an image from nodes, where nobody uses it
    #[command(visible_alias = "remove", after_help = remove::RM_HELP)]
    Rm(Box<Removing>),
    /// Lists removals, newest first, or ends one
    #[command(after_help = remove::REMOVALS_HELP)]
    Removals {
        /// Ends this one; nodes that still have the image keep it.
        #[arg(long, value_name = "ID")]
        cancel: Option<String>,
    },
}

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// Lists nodes and how current they are
    #[command(visible_alias = "list", after_help = "Examples:\n  sifleet node ls\n  sifleet node ls -o wide")]
    Ls,
    /// Shows a node's roots and what is below them
    #[command(after_help = "Examples:\n  sifleet node show viz001\n  sifleet node show viz001 -o csv")]
    Show {
        /// The node.
        node: NodeName,
    },
    /// Has nodes scan their roots at once
    #[command(
        after_help = "Examples:\n  sifleet node rescan viz001\n  sifleet node rescan 'compute[001-128],viz[001-004]'\n\nEnds with 0 when all were told, 3 when only some, 1 when none."
    )]
    Rescan {
        /// The nodes, such as compute[001-128],viz001.
        nodes: NodeSet,
    },
    /// Ends the trust in nodes' certificates: they are cut off, and stay out until they enrol again
    #[command(
        after_help = "Examples:\n  sifleet node revoke viz001\n\nTheir tokens become void as well. Ends with 0 when all are revoked, 3 when only some, 12 when nobody ever heard of them."
    )]
    Revoke {
        /// The nodes, such as compute[001-128],viz001.
        nodes: NodeSet,
    },
    /// Marks nodes as busy: they are held to lower limits
    #[command(
        after_help = "Examples:\n  sifleet node busy 'viz[001-004]'\n  sifleet node busy \"$SLURMD_NODENAME\"    in a prolog of Slurm\n\n`sifleet limits set --busy-up 50M` says to which. Ends with 0 when all are marked, 3 when only some, 12 when no node is called so."
    )]
    Busy {
        /// The nodes, such as compute[001-128],viz001.
        nodes: NodeSet,
    },
    /// Takes the mark of being busy off nodes
    #[command(
        after_help = "Examples:\n  sifleet node idle 'viz[001-004]'\n\nNodes on which Slurm runs jobs are busy all the same. Ends like `sifleet node busy`."
    )]
    Idle {
        /// The nodes, such as compute[001-128],viz001.
        nodes: NodeSet,
    },
}

/// What to do with partitions.
#[derive(Debug, Subcommand)]
pub(crate) enum PartitionVerb {
    /// Lists partitions and their nodes
    #[command(visible_alias = "list", after_help = "Examples:\n  sifleet partition ls")]
    Ls,
    /// Shows a partition and the images on it
    #[command(
        after_help = "Examples:\n  sifleet partition show viz\n  sifleet partition show viz -o name    its nodes, folded"
    )]
    Show {
        /// The partition.
        partition: PartitionName,
    },
}

/// Longest deadline that the coordinator takes: a month.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// Least rate that the coordinator takes, in bytes a second.
const LEAST_RATE: u64 = 100_000;

/// Reads how long something may go on, such as `90m` or `1h30m`.
fn deadline(text: &str) -> Result<Duration, String> {
    let time = text.parse::<Period>().map(Period::get).ok();
    let fits = |time: &Duration| (Duration::from_secs(1)..=LONGEST).contains(time);
    time.filter(fits).ok_or_else(|| "write a time from 1s to 30d, such as 30m, 1h30m or 2d".to_owned())
}

/// Reads a rate that the coordinator takes.
fn rate(text: &str) -> Result<Rate, String> {
    let rate = text.parse::<Rate>().ok();
    let fits = |rate: &Rate| rate.get().is_none_or(|rate| rate >= LEAST_RATE);
    rate.filter(fits).ok_or_else(|| {
        "write a rate of at least 100kB, such as 100M, 1.5GB or 64MiB (bytes a second), or none".to_owned()
    })
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err("write whole seconds from 1 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        fn check(command: &clap::Command) {
            if command.has_subcommands() {
                command.get_subcommands().for_each(check);
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:"), "{}", command.get_name());
            }
        }
        check(&Args::command());
    }

    #[test]
    fn examples_fit_into_a_line_and_sentences_are_left_to_be_wrapped() {
        fn check(command: &clap::Command) {
            command.get_subcommands().for_each(check);
            let help = command.get_after_help().filter(|_| command.get_name() != "sifleet");
            let help = help.map(ToString::to_string).unwrap_or_default();
            let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
            let lines: Vec<&str> = help.lines().collect();
            for line in lines.iter().filter(|line| line.starts_with(' ')) {
                assert!(line.chars().count() <= 100, "{}: {line}", command.get_name());
            }
            for pair in lines.windows(2) {
                assert!(!pair.iter().all(|line| is_prose(line)), "{}: {pair:?}", command.get_name());
            }
        }
        check(&Args::command());
    }

    #[test]
    fn an_image_and_a_verb_of_push_are_told_apart() {
        let push = |line: &str| {
            let verb = Args::try_parse_from(line.split(' ')).unwrap().verb;
            if let Verb::Push(push) = verb { *push } else { panic!("{verb:?}") }
        };
        assert!(matches!(push("sifleet push ls").verb, Some(PushVerb::Ls)));
        assert!(matches!(push("sifleet push show 7 -o wide").verb, Some(PushVerb::Show { .. })));
        for image in ["ls.sif", "./ls", "vnc_desktop"] {
            let wish = push(&format!("sifleet push {image} -p viz --rate 100M")).wish;
            assert_eq!(
                (wish.image.unwrap().as_str(), wish.rate.and_then(Rate::get)),
                (image, Some(100_000_000))
            );
        }
    }

    #[test]
    fn a_deadline_has_units_and_an_end() {
        for (text, seconds) in [("90s", 90), ("1h30m", 5_400), ("2d", 172_800), ("30d", 2_592_000)] {
            assert_eq!(deadline(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "90", "m", "1x", "0s", "500ms", "31d", "99999999999999999999s", "1h 30m"] {
            assert!(deadline(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wrong_values_are_refused_with_the_reason() {
        for (line, part) in [
            ("sifleet available x", "--partition"),
            ("sifleet available x -p viz --require none", "all, any or a number"),
            ("sifleet available x -p v/z", "partition name"),
            ("sifleet node rescan @viz", "partition instead"),
            ("sifleet node rescan n[1-1000000]", "at most 100000 names"),
            ("sifleet push x", "--partition"),
            ("sifleet push x -p viz -w n1", "cannot be used with"),
            ("sifleet push x -p viz --rate fast", "at least 100kB"),
            ("sifleet push x -p viz --rate 10", "at least 100kB"),
            ("sifleet push rate 7 99kB", "at least 100kB"),
            ("sifleet limits set --total 10K", "or none"),
            ("sifleet push x -p viz --completion most", "from 1% to 100%"),
            ("sifleet push x -p viz --completion 0%", "from 1% to 100%"),
            ("sifleet push x -p viz --deadline soon", "from 1s to 30d"),
            ("sifleet image rm x -p viz --deadline 400d", "from 1s to 30d"),
            ("sifleet top --interval 2h", "from 1s to 1h"),
            ("sifleet push rate 7", "<RATE>"),
            ("sifleet token create --role root --name x", "viewer, operator or admin"),
            ("sifleet token create --role admin --name x --ttl 2y", "from 1m to 365d"),
            ("sifleet token create --name x", "--role"),
            ("sifleet audit --token sifleet_1_00", "--token"),
            ("sifleet drift --timeout 0", "1 to 3600"),
            ("sifleet drift -o yaml", "table, wide, json, name, csv"),
        ] {
            let shown = Args::try_parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(shown.contains(part), "{line}: {shown}");
        }
    }
}
