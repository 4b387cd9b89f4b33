//! The program `sifleet-agent`: arguments, settings, telemetry, run, exit code.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use sifleet_agent::settings::{DEFAULT_PATH, Settings};
use sifleet_common::settings::{EXIT_BAD_SETTINGS, Loaded, SettingsError};
use sifleet_common::telemetry::{self, Chain};

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
}

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
    let loaded = match Settings::load(args.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(error) => return complain(&error, EXIT_BAD_SETTINGS),
    };
    if args.check_config { say(&checked(&loaded.files)) } else { start(args.config.as_deref(), loaded) }
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
            tracing::error!(error = %Chain(&error), "the agent cannot go on");
            ExitCode::from(if error.needs_admin() { EXIT_BAD_SETTINGS } else { 1 })
        }
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
    if writeln!(io::stderr(), "sifleet-agent: {}", Chain(error)).is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::from(exit)
}
