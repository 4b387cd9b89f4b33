//! One verb, one file: asks, prints, and tells how the program ends.

mod audit;
mod available;
mod completions;
mod drift;
mod events;
mod export;
mod image;
mod limits;
mod man;
mod node;
mod partition;
mod push;
mod registry;
mod token;
mod top;
mod wish;

use crate::args::{Args, Verb};
use crate::client::Client;
use crate::outcome::Outcome;
use crate::output::Screen;

/// Does what the command line asks for.
///
/// # Errors
/// Whatever the verb could not do; the verbs that ask for something to be done say what was.
pub(crate) fn run(args: Args, screen: &mut Screen) -> anyhow::Result<Outcome> {
    match args.verb {
        Verb::Completions { shell } => return completions::run(shell, screen),
        Verb::Man { dir } => return man::run(dir.as_deref(), screen),
        Verb::Available { .. }
        | Verb::Image(_)
        | Verb::Node(_)
        | Verb::Partition(_)
        | Verb::Push(_)
        | Verb::Top(_)
        | Verb::Limits(_)
        | Verb::Registry(_)
        | Verb::Drift
        | Verb::Export(_)
        | Verb::Token(_)
        | Verb::Audit(_)
        | Verb::Events { .. } => {}
    }
    let client = Client::new(&args.connection)?;
    match args.verb {
        Verb::Available { image, partition, require } => {
            available::run(&client, screen, &available::Question { image, partition, require })
        }
        Verb::Image(verb) => image::run(&client, screen, verb),
        Verb::Node(verb) => node::run(&client, screen, verb),
        Verb::Partition(verb) => partition::run(&client, screen, verb),
        Verb::Push(push) => push::run(&client, screen, *push),
        Verb::Top(every) => top::run(&client, screen, every.interval),
        Verb::Limits(verb) => limits::run(&client, screen, &verb),
        Verb::Registry(verb) => registry::run(&client, screen, verb),
        Verb::Drift => drift::run(&client, screen),
        Verb::Export(args) => export::run(&client, screen, &args),
        Verb::Token(verb) => token::run(&client, screen, verb),
        Verb::Audit(which) => audit::run(&client, screen, &which),
        Verb::Events { count } => events::run(&client, screen, count),
        Verb::Completions { .. } | Verb::Man { .. } => Ok(Outcome::Yes),
    }
}
