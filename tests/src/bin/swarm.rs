//! `tests/bench/swarm [--nodes N] [--size MIB] [--rate MBIT] [--slow N] [--kill N] [--loss N] [--mtu N] [--peers 1]`: one push through a
//! shaped network, as root. Prints what it took as multiples of what one link needs at least; with `--peers 1` also what
//! other programs take for the same.

use anyhow::{Context, bail};
use sifleet_tests::bench::peers::{self, Program};
use sifleet_tests::bench::swarm::{Swarm, World};
use sifleet_tests::programs;

fn main() -> anyhow::Result<()> {
    let mut world = World::default();
    let mut with_peers = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value: u32 = arguments.next().and_then(|value| value.parse().ok()).with_context(|| {
            format!(
                "usage: {name} takes a number; --nodes, --size (MiB), --rate (Mbit/s), --slow, --kill, --loss (nodes), \
                 --mtu (bytes), --peers (1: other programs too)"
            )
        })?;
        match name.as_str() {
            "--nodes" => world.nodes = value as usize,
            "--size" => world.size = value << 20,
            "--rate" => world.rate = u64::from(value) * 1_000_000,
            "--slow" => world.slow = value as usize,
            "--kill" => world.kill = value as usize,
            "--loss" => world.lossy = value as usize,
            "--mtu" => world.mtu = value,
            "--peers" => with_peers = value > 0,
            _ => bail!("there is no {name}"),
        }
    }
    anstream::println!("{world:?}");
    let outcome = Swarm::start(world.clone())?.measure()?;
    anstream::println!("sifleet: {outcome}");
    for program in Program::ALL.into_iter().filter(|_| with_peers) {
        let (name, package) = program.name();
        match programs::find(name) {
            Some(_) => anstream::println!("{}", peers::measure(program, &world)?),
            None => anstream::println!("{name} is missing: apt install {package}"),
        }
    }
    Ok(())
}
