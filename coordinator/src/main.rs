//! The program `sifleet-coordinator`: arguments, settings, telemetry, run, exit code.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use sifleet_common::manual;
use sifleet_common::nodeset::NodeSet;
use sifleet_common::settings::{EXIT_BAD_SETTINGS, Loaded, SettingsError};
use sifleet_common::telemetry::{self, Chain};
use sifleet_coordinator::settings::{DEFAULT_PATH, Settings};
use sifleet_coordinator::{RunError, ca, signatures};

/// Knows which node holds which image, and answers for it.
#[derive(Debug, Parser)]
#[command(name = "sifleet-coordinator", version, after_help = after_help())]
struct Args {
    /// The settings file
    #[arg(long, global = true, env = "SIFLEET_COORDINATOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Says whether the settings can be used, and ends
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes certificates of the cluster
    #[command(subcommand)]
    Ca(Ca),
    /// Writes the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory, which is made
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum Ca {
    /// Makes the cluster's authority and the coordinator's certificate
    Init {
        /// Another host name or address of the head node (repeatable)
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
    },
    /// Makes or renews certificates of nodes, each with its key
    IssueNode {
        /// Which nodes, such as compute[001-128],viz01
        nodeset: NodeSet,
        /// For how many days
        #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Prints the digest by which nodes know the authority when they enrol
    Pin,
    /// Makes another authority that will take over; then reload the coordinator, and wait until every node has renewed
    Next,
    /// Lets the next authority sign; then reload the coordinator, and wait until every node has renewed
    Switch,
    /// Ends the trust in every authority but the one that signs; then reload the coordinator
    Retire,
    /// Renews the coordinator's certificate; its key is kept, and so are its names unless others are given
    RenewCoordinator {
        /// Another host name or address of the head node (repeatable)
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// For how many days
        #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
}

fn after_help() -> String {
    format!(
        "Settings are read from {DEFAULT_PATH}, {DEFAULT_PATH}.d/*.toml and variables SIFLEET_COORDINATOR_…."
    )
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(usage) => {
            // Help and version are errors to clap, too; there is nobody to tell that they cannot be printed.
            drop(usage.print());
            return code(usage.exit_code());
        }
    };
    // The pages are made where there are no settings.
    if let Some(Command::Man { dir }) = &args.command {
        return write_manual(dir);
    }
    let loaded = match Settings::load(args.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(error) => return complain(&error, EXIT_BAD_SETTINGS),
    };
    match args.command {
        Some(Command::Man { dir }) => write_manual(&dir),
        Some(Command::Ca(command)) => make_certificates(&loaded.settings.ca_dir(), command),
        None if args.check_config => match signatures::read(&loaded.settings) {
            Ok(_) => say(&checked(&loaded.files)),
            Err(error) => complain(&error, EXIT_BAD_SETTINGS),
        },
        None => start(args.config.as_deref(), loaded),
    }
}

fn write_manual(dir: &Path) -> ExitCode {
    match manual::write_pages(Args::command(), "8", dir) {
        Ok(files) => say(&files.join("\n")),
        Err(error) => complain(&error, 1),
    }
}

fn start(config: Option<&Path>, loaded: Loaded<Settings>) -> ExitCode {
    let settings = loaded.settings;
    let telemetry = match telemetry::init(settings.log.output, &settings.log.filter) {
        Ok(telemetry) => telemetry,
        Err(error) => return complain(&error, EXIT_BAD_SETTINGS),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), settings = %list(&loaded.files), "starting");
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("coordinator").build() {
            Ok(runtime) => runtime,
            Err(error) => return complain(&error, 1),
        };
    let reload = || {
        let read = Settings::load(config)?.settings;
        if let Err(error) = telemetry.set_filter(&read.log.filter) {
            tracing::warn!(error = %Chain(&error), "the log filter is kept");
        }
        Ok::<_, SettingsError>(read)
    };
    match runtime.block_on(sifleet_coordinator::run(settings, reload)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "the coordinator cannot go on");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &RunError) -> u8 {
    if error.needs_admin() { EXIT_BAD_SETTINGS } else { 1 }
}

fn make_certificates(dir: &Path, command: Ca) -> ExitCode {
    let days = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
    let issued = |paths: ca::IssuedPaths| vec![paths.certificate.display().to_string()];
    let reload = "now run `systemctl reload sifleet-coordinator`".to_owned();
    let made = match command {
        Ca::Pin => ca::pin(dir).map(|pin| vec![pin.to_string()]),
        Ca::Next => ca::next(dir).map(|()| vec![reload]),
        Ca::Switch => ca::switch(dir).map(|_paths| vec![reload]),
        Ca::Retire => ca::retire(dir).map(|()| vec![reload]),
        Ca::Init { names } => ca::init(dir, &names).map(issued),
        Ca::RenewCoordinator { names, days: valid } => {
            ca::renew_coordinator(dir, &names, days(valid)).map(issued)
        }
        Ca::IssueNode { nodeset, days: valid } => {
            let issue = |node| ca::issue_node(dir, node, days(valid));
            nodeset.names().iter().map(|node| Ok(issue(node)?.certificate.display().to_string())).collect()
        }
    };
    match made {
        Ok(lines) => say(&lines.join("\n")),
        Err(error) => complain(&error, 1),
    }
}

fn checked(files: &[PathBuf]) -> String {
    format!("the settings can be used: {}", list(files))
}

fn list(files: &[PathBuf]) -> String {
    let shown: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
    if shown.is_empty() { "defaults only".to_owned() } else { shown.join(", ") }
}

fn say(text: &str) -> ExitCode {
    if writeln!(io::stdout(), "{text}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn complain(error: &dyn Error, exit: u8) -> ExitCode {
    if writeln!(io::stderr(), "sifleet-coordinator: {}", Chain(error)).is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::from(exit)
}

fn code(number: i32) -> ExitCode {
    u8::try_from(number).map_or(ExitCode::FAILURE, ExitCode::from)
}
