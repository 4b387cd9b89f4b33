//! What agents need of memory to move an image with as many chunks as one of 50 GB: its chunk map has 58 MB.
//!
//! Two agents and a coordinator on the loopback. The image is made of chunks that are as short as chunks get, so that it
//! has that many in a quarter of the bytes; each begins with a number that no cut point depends on, so that all differ.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use sifleet_common::chunk::{AVERAGE_CHUNK, MAX_CHUNK, MIN_CHUNK, cut};

use super::pair::{Pair, Run};
use super::process;
use super::report::{Table, number};
use crate::sif::SifBuilder;

/// As long as images get that people push.
const IMAGE: u64 = 50_000_000_000;
/// How long chunks are: the hash by which they are cut takes in 64 bytes, and begins behind the shortest.
const SHORT: Range<usize> = MIN_CHUNK + 128..MIN_CHUNK + 512;
/// One chunk of so many is another one in the next version.
const CHANGED: u64 = 50;

/// Measures.
///
/// # Errors
/// When a push fails, or the disk has no room for three images of 13 GB.
pub fn measure(_: &super::Plan) -> anyhow::Result<Vec<Table>> {
    let count = IMAGE / AVERAGE_CHUNK as u64;
    let block = block().context("no chunk is short")?;
    let pair = Pair::start("bench-large")?;
    let mut table = Table::new(
        format!("An image of {count} chunks, as many as one of {} GB has", IMAGE / 1_000_000_000),
        &["", "giving", "receiving", "took"],
    );
    let idle = "idle, before";
    table.row(row(idle, &resident(&pair)?, None));
    for (name, version, what) in
        [("large_v1.sif", 1, "first push"), ("large_v2.sif", 2, "next version, 2 % new")]
    {
        let path = pair.cluster.library().join(name);
        write(&path, &block, count, version)?;
        pair.known(name, 1)?;
        for agent in pair.agents()? {
            process::forget_peak(agent)?;
        }
        let run = pair.push(name)?;
        table.row(row(&format!("{what}, at most"), &peak(&pair)?, Some(&run)));
        table.row(row("afterwards", &resident(&pair)?, None));
        pair.forget(name)?;
    }
    table.note(format!(
        "Chunks of {} bytes: the image has {} GB.",
        block.len(),
        number((count * block.len() as u64) as f64 / 1e9)
    ));
    Ok(vec![table])
}

fn row(what: &str, memory: &[f64], run: Option<&Run>) -> [String; 4] {
    let of = |at: usize| memory.get(at).map_or_else(String::new, |memory| format!("{} MiB", number(*memory)));
    let took = run.map_or_else(String::new, |run| format!("{} s", number(run.took.as_secs_f64())));
    [what.to_owned(), of(0), of(1), took]
}

fn peak(pair: &Pair) -> anyhow::Result<Vec<f64>> {
    pair.agents()?.into_iter().map(|agent| process::memory(agent).map(|memory| memory.peak)).collect()
}

fn resident(pair: &Pair) -> anyhow::Result<Vec<f64>> {
    pair.agents()?.into_iter().map(|agent| process::memory(agent).map(|memory| memory.resident)).collect()
}

/// Finds bytes that are a chunk of their own wherever they stand behind one another, and hardly longer than the shortest:
/// long enough for the cut to depend on nothing but the last of them, and on the first of those that follow.
fn block() -> Option<Vec<u8>> {
    (0_u32..10_000).find_map(|seed| {
        let mut bytes = vec![0; MAX_CHUNK];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        let len = cut(&bytes, false).filter(|len| SHORT.contains(len))?;
        let next = bytes.get(len).copied();
        bytes.truncate(len);
        *bytes.first_mut()? = next?;
        Some(bytes)
    })
}

/// Writes an image whose trailing bytes are so many chunks.
fn write(path: &Path, block: &[u8], count: u64, version: u64) -> anyhow::Result<()> {
    SifBuilder::new().write(path)?;
    let mut file = BufWriter::with_capacity(1 << 20, File::options().append(true).open(path)?);
    let (first, rest) = block.split_at_checked(1).context("an empty block")?;
    let (_, rest) = rest.split_at_checked(size_of::<u64>()).context("a short block")?;
    for chunk in 0..count {
        let number = if chunk % CHANGED == 0 { chunk + version * count } else { chunk };
        file.write_all(first)?;
        file.write_all(&number.to_le_bytes())?;
        file.write_all(rest)?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sifleet_common::digest::Digest;

    use super::*;

    #[test]
    fn each_block_of_the_image_is_a_chunk_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (path, block) = (folder.path().join("a.sif"), block().unwrap());
        write(&path, &block, 1_000, 1).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let image = Digest::from(blake3::hash(&bytes));
        let map = sifleet_agent::map::make(image, &*bytes).unwrap();
        let own = map.chunks().iter().filter(|chunk| chunk.len as usize == block.len()).count();
        assert!(own > 990, "{own}");
    }
}
