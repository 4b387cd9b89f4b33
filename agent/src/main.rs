//! The program `sifleet-agent`: arguments, settings, telemetry, run, exit code.

use std::error::Error;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use sifleet_agent::enrol;
use sifleet_agent::enrol::dials::{self, Dials};
use sifleet_agent::settings::{DEFAULT_PATH, Settings};
use sifleet_common::manual;
use sifleet_common::name::NodeName;
use sifleet_common::settings::{EXIT_BAD_SETTINGS, Loaded, SettingsError};
use sifleet_common::telemetry::{self, Chain, catalog};
use sifleet_common::tls::Pin;
use sifleet_common::wire::enrol::Secret;

/// A file with a token holds little more than it.
const MAX_TOKEN_FILE: u64 = 4_096;

/// Finds the images of this node and tells the coordinator.
#[derive(Debug, Parser)]
#[command(name = "sifleet-agent", version, after_help = after_help())]
struct Args {
    /// The settings file
    #[arg(long, env = "SIFLEET_AGENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Says whether the settings can be used, and ends
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Gets this node's certificate with a token from `sifleet token create --nodes NODE`
    #[command(after_help = ENROL_HELP)]
    Enrol {
        /// The coordinator
        #[arg(long, value_name = "HOST:PORT")]
        coordinator: String,
        /// File with the token, or - for standard input
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// Digest of the public key of the cluster's authority, as printed with the token
        #[arg(long, value_name = "sha256:…")]
        ca_pin: Pin,
        /// What this node is called; its host name up to the first dot unless given
        #[arg(long, value_name = "NODE")]
        node: Option<NodeName>,
    },
    /// Writes the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory, which is made
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

const ENROL_HELP: &str = "Example:\n  sifleet-agent enrol --coordinator head01:7441 --ca-pin sha256:8d3f… --token-file token\n\n\
    The token serves once. The key is made on this node and never leaves it. Where the settings name no coordinator, this one is \
    written to agent.toml.d/00-enrolled.toml. Afterwards: systemctl enable --now sifleet-agent";

fn after_help() -> String {
    format!("Settings are read from {DEFAULT_PATH}, {DEFAULT_PATH}.d/*.toml and variables SIFLEET_AGENT_….")
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(usage) => {
            // Help and version are errors to clap, too; there is nobody to tell that they cannot be printed.
            drop(usage.print());
            return u8::try_from(usage.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
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
        Some(Command::Enrol { coordinator, token_file, ca_pin, node }) => {
            enrol((args.config.as_deref(), &loaded.settings), &coordinator, &token_file, (ca_pin, node))
        }
        None if args.check_config => say(&checked(&loaded.files)),
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
    // One thread: everything that takes time has threads of its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
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
    let ended = runtime.block_on(sifleet_agent::run(settings, reload));
    // A thread that waits for a dead file server would keep the runtime from ending.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.needs_admin() {
                tracing::error!(error = %Chain(&error), "the agent cannot go on");
                return ExitCode::FAILURE;
            }
            tracing::error!(message_id = catalog::NO_CERTIFICATE, error = %Chain(&error), "the agent cannot go on");
            ExitCode::from(EXIT_BAD_SETTINGS)
        }
    }
}

fn enrol(
    (config, settings): (Option<&Path>, &Settings),
    coordinator: &str,
    token_file: &Path,
    (pin, node): (Pin, Option<NodeName>),
) -> ExitCode {
    let token = match read_token(token_file) {
        Ok(token) => Secret(token.trim().to_owned()),
        Err(error) => return complain(&error, 1),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, 1),
    };
    let name = node.or_else(host_name);
    let request = enrol::Request { coordinator: coordinator.to_owned(), token, pin, name };
    match runtime.block_on(enrol::enrol(request, &settings.tls)) {
        Ok(node) => {
            say(&format!("{node} is enrolled; its certificate is {}", settings.tls.certificate.display()));
            say_whom_it_dials(config, coordinator)
        }
        Err(error) => complain(&error, 1),
    }
}

/// Has the agent dial the coordinator it was enrolled by; says whether it does, and what there is to do.
fn say_whom_it_dials(config: Option<&Path>, coordinator: &str) -> ExitCode {
    let set = format!("coordinators = [{coordinator:?}]");
    match dials::remember(config, coordinator) {
        Ok(Dials::Already) => say(&format!("It dials {coordinator}, as its settings say")),
        Ok(Dials::Now { file }) => say(&format!("It dials {coordinator}, as {} says now", file.display())),
        Ok(Dials::Others { names }) => say(&format!(
            "Its settings say that it dials {}: set `{set}` there if that is wrong",
            names.join(", ")
        )),
        Err(error) => {
            let file = config.unwrap_or(Path::new(DEFAULT_PATH)).display();
            let told = format!(
                "this node is enrolled and needs no other token, but whom it dials could not be written: see to it \
                 that {file}, or a file in {file}.d that comes last, says `{set}`, then start the agent"
            );
            complain(&Untold { told, source: error }, 1)
        }
    }
}

/// Says that a node got its certificate and nothing else.
#[derive(Debug, thiserror::Error)]
#[error("{told}")]
struct Untold {
    /// What is to be done.
    told: String,
    source: dials::DialsError,
}

/// Reads a token; a file is read no further than a token goes.
fn read_token(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().take(MAX_TOKEN_FILE).read_to_string(&mut text)?;
    } else {
        let told = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot read the token in {}: {error}", path.display()))
        };
        std::fs::File::open(path)
            .map_err(told)?
            .take(MAX_TOKEN_FILE)
            .read_to_string(&mut text)
            .map_err(told)?;
    }
    Ok(text)
}

/// Returns what Slurm usually calls this node.
fn host_name() -> Option<NodeName> {
    let uname = rustix::system::uname();
    let full = uname.nodename().to_str().ok()?;
    full.split('.').next().unwrap_or(full).parse().ok()
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
    if writeln!(io::stderr(), "sifleet-agent: {}", Chain(error)).is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::from(exit)
}
