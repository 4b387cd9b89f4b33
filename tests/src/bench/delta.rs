//! What crosses the network when a node has an older version of the image, and how long that takes.
//!
//! Images are built by mksquashfs, as apptainer does, from a tree of some hundred megabytes: once as it was, once with two of a
//! hundred files changed, once with packages added. Bytes are counted by the nodes' links, so chunk map, headers, acknowledgements and
//! heartbeats are in them. casync carries the same pair of images over the same kind of link.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use sifleet_agent::map;
use sifleet_common::chunk::ChunkMap;
use sifleet_common::digest::Digest;

use super::casync;
use super::report::{Table, number};
use super::swarm::{Swarm, World};
use super::tree::Tree;
use crate::programs;

/// Nodes of the large cluster.
const NODES: usize = 16;
/// Bits a second of every link.
const RATE: u64 = 50_000_000;
/// What mksquashfs packs with.
const COMPRESSIONS: [&str; 2] = ["gzip", "zstd"];
const MB: f64 = 1e6;

/// Measures.
///
/// # Errors
/// When images cannot be built, or a push fails.
pub fn measure(plan: &super::Plan) -> anyhow::Result<Vec<Table>> {
    let mut table = Table::new(
        "A push of the next version",
        &[
            "",
            "image",
            "unique chunks",
            "on the wire, one node",
            "casync, 64 KiB, one node",
            "its chunks and index",
            "16 nodes, last",
            "on the wire, each of 16",
        ],
    );
    if !rustix::process::geteuid().is_root() {
        table.note("skipped: namespaces and shaped links need root");
        return Ok(vec![table]);
    }
    let folder = programs::workspace().join("target/clusters/bench-delta");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let built = Built::make(&folder)?;
    for pair in &built.pairs {
        let unique = unique(pair)?;
        let casync = casync::download(&folder, &pair.old, &pair.new, RATE);
        let one = push(pair, 1)?;
        let many = (0..plan.rounds).map(|_| push(pair, NODES)).collect::<anyhow::Result<Vec<_>>>()?;
        let many = |figure: fn(&super::swarm::Outcome) -> f64| super::report::Figure::of(&many, figure);
        let megabytes = |bytes: f64| format!("{} MB", number(bytes / MB));
        let share = |bytes: f64| format!("{}, {} × unique", megabytes(bytes), number(bytes / unique));
        table.row([
            pair.name.clone(),
            megabytes(fs::metadata(&pair.new)?.len() as f64),
            format!(
                "{} ({:.1} %)",
                megabytes(unique),
                100.0 * unique / fs::metadata(&pair.new)?.len() as f64
            ),
            share(one.received),
            casync.as_ref().map_or_else(|error| format!("skipped: {error:#}"), |bytes| share(bytes.wire)),
            casync.as_ref().map_or_else(|_skipped| String::new(), |bytes| megabytes(bytes.stored)),
            many(|outcome| outcome.seconds).show(" s"),
            share(many(|outcome| outcome.received).median()),
        ]);
    }
    let whole = built.pairs.first().context("no images")?;
    let size = u32::try_from(fs::metadata(&whole.new)?.len())?;
    let world = World { nodes: NODES, size, rate: RATE, ..World::default() };
    let whole = Swarm::start(world)?.measure()?;
    table.note(format!(
        "{}. Links of {} Mbit/s. As many bytes of which the nodes have none reach {NODES} nodes in {} s.",
        built.what,
        RATE / 1_000_000,
        number(whole.seconds)
    ));
    fs::remove_dir_all(&folder)?;
    Ok(vec![table])
}

/// Two versions of an image.
struct Pair {
    name: String,
    old: PathBuf,
    new: PathBuf,
}

struct Built {
    what: String,
    pairs: Vec<Pair>,
}

impl Built {
    fn make(folder: &Path) -> anyhow::Result<Self> {
        let tree = Tree::make(folder.join("tree"))?;
        let images = |stem: &str, seed| -> anyhow::Result<()> {
            for compression in COMPRESSIONS {
                tree.image(compression, &folder.join(format!("{stem}-{compression}.sif")), seed)?;
            }
            Ok(())
        };
        images("old", 1)?;
        let (packages, more) = tree.add_packages()?;
        images("added", 2)?;
        tree.remove_packages()?;
        let files = tree.change_files()?;
        images("changed", 3)?;
        let pair = |stem: &str, what: &str, compression: &str| Pair {
            name: format!("{what}, {compression}"),
            old: folder.join(format!("old-{compression}.sif")),
            new: folder.join(format!("{stem}-{compression}.sif")),
        };
        let mut pairs = Vec::new();
        for compression in COMPRESSIONS {
            pairs.push(pair("changed", "2 % of files changed", compression));
            pairs.push(pair("added", "packages added", compression));
        }
        let what = format!(
            "A tree of {} MB of Debian's packages; {files} files changed; {packages} packages of {} MB added",
            number(tree.bytes as f64 / MB),
            number(more as f64 / MB)
        );
        Ok(Self { what, pairs })
    }
}

/// Returns the bytes of the chunks that only the new image has, each once.
fn unique(pair: &Pair) -> anyhow::Result<f64> {
    let (old, new) = (cut(&pair.old)?, cut(&pair.new)?);
    let mut seen: HashSet<_> = old.chunks().iter().map(|chunk| chunk.digest).collect();
    let fresh = new.chunks().iter().filter(|chunk| seen.insert(chunk.digest));
    Ok(fresh.map(|chunk| f64::from(chunk.len)).sum())
}

fn cut(image: &Path) -> anyhow::Result<ChunkMap> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(image)?)?;
    Ok(map::make(Digest::from(hasher.finalize()), File::open(image)?)?)
}

fn push(pair: &Pair, nodes: usize) -> anyhow::Result<super::swarm::Outcome> {
    let size = u32::try_from(fs::metadata(&pair.new)?.len())?;
    let images = Some([pair.new.clone(), pair.old.clone()]);
    Swarm::start(World { images, nodes, size, rate: RATE, ..World::default() })?.measure()
}
