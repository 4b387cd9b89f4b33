//! Every target takes its seeds, and everything that ever went wrong.
//!
//! Seeds are made here, so that no binary file has to be kept; with `SIFLEET_FUZZ_CORPUS` set they are written
//! there for libFuzzer to start from. Inputs that broke a promise are kept in `regressions/TARGET/`.

use std::fs;
use std::path::{Path, PathBuf};

use sifleet_common::availability::Require;
use sifleet_common::capability::Capability;
use sifleet_common::chunk::span::SpanId;
use sifleet_common::chunk::{CHUNKER, Chunk, ChunkDigest, ChunkPrefix, MapDigest};
use sifleet_common::digest::Digest;
use sifleet_common::image::Arch;
use sifleet_common::inventory::{Generation, Inventory, InventoryDigest};
use sifleet_common::wire::chunk::{Choice, MapPart, Offer, Opening, OutlinePart, Rest, Run, Turn, Wish};
use sifleet_common::wire::control::{
    Delta, Heartbeat, Hello, Known, Snapshot, Stamp, StreamId, ToAgent, ToCoordinator, Welcome,
};
use sifleet_common::wire::frame::encode;
use sifleet_fuzz::TARGETS;
use sifleet_fuzz::control::{Site, changes};
use sifleet_fuzz::input::stretch;
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::sif::sign::{PgpSigner, PlainSigner, signed_as_before, signed_by_pgp, signed_by_plain};

#[test]
fn every_seed_is_taken() {
    let corpus = std::env::var_os("SIFLEET_FUZZ_CORPUS").map(PathBuf::from);
    for (name, run) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() > 2, "{name} has no seeds");
        for (number, seed) in seeds.iter().enumerate() {
            run(seed);
            if let Some(folder) = corpus.as_ref().map(|corpus| corpus.join(name)) {
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
            }
        }
    }
}

#[test]
fn what_once_went_wrong_goes_well() {
    for (name, run) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(name);
        for entry in fs::read_dir(folder).into_iter().flatten() {
            run(&fs::read(entry.unwrap().path()).unwrap());
        }
    }
}

#[test]
fn every_seed_cut_or_flipped_anywhere_is_taken() {
    for (name, run) in TARGETS {
        for seed in seeds(name) {
            // Images are long, and most of one is payload that nobody reads.
            let step = 1 + seed.len() / 500;
            for at in (0..seed.len()).step_by(step) {
                run(seed.get(..at).unwrap());
                let mut flipped = seed.clone();
                *flipped.get_mut(at).unwrap() ^= 1 << (at % 8);
                run(&flipped);
            }
        }
    }
}

#[test]
fn an_honest_site_answers_as_a_person_would() {
    let mut site = Site::new();
    site.honest(0, &["a.sif"], 1);
    site.honest(1, &["a.sif"], 2);
    site.partition(0b0111);
    let answer = site.view().availability("a", "p", Require::Any, site.now()).unwrap();
    assert_eq!((answer.nodes.ready.as_str(), answer.nodes.unknown.as_str()), ("n[0-1]", "n2"));
}

fn signed() -> Vec<Vec<u8>> {
    let (image, signer, plain) = (SifBuilder::new(), PgpSigner::new(1), PlainSigner::ed25519(1));
    vec![
        signed_by_pgp(&image, &signer).bytes(),
        signed_by_plain(&image, &[&plain]).bytes(),
        signed_as_before(&image, &signer),
        signer.public(),
        signer.armored().into_bytes(),
        plain.public_pem().into_bytes(),
    ]
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "frame" => frames(),
        "control" => sessions(),
        "chunk" => chunks(),
        "sif" => images(),
        "signatures" => signed(),
        "settings" => texts(&[
            "coordinators = [\"head01:7441\"]\n[[root]]\npath = \"/opt/apptainers\"\n[watch]\nsettle = \"1s\"\n",
            "[hash]\nthreads = 2\nrate = \"200MiB\"\n[log]\nfilter = \"debug\"\noutput = \"stderr\"\n",
            "state_dir = \"/s\"\n[control]\nlease = \"6s\"\nheartbeat = \"2s\"\n[limits]\nmax_nodes = 5\n",
            "[http]\nlisten = \"0.0.0.0:443\"\ntls = { certificate = \"/x.pem\", key = \"/x.key\" }\n",
            "[partitions]\nslurm = true\nslurm_interval = \"1h30m\"\n",
            "[partition]\nviz = \"viz[001-004]\"\ncompute = [\"c1\", \"c[2-9]\"]\n",
            "[control]\nlitsen = \"here\"\n",
        ]),
        "nodeset" => texts(&[
            "viz[001-004],compute001",
            "n[1-9,08-10,100-101]-ib,n[1-2]x[3-4]",
            "viz*|viz[001-004]\ncompute|c[1-4]\nempty|\nnone|(null)\n",
            "n[1-999999999999999]",
            "a,,b[",
        ]),
        "names" => texts(&[
            "vnc_desktop\np\nvnc",
            "openfoam_v2312.sif\np\nopen",
            "compute/openfoam_v2312\nq\n",
            "vnc_desktop@blake3:0101010101010101010101010101010101010101010101010101010101010101\np",
            "010101010101\np",
            "blake3:02020202\np",
            "bad\\\x01\u{202e}name/../x",
        ]),
        "registries" => texts(&[
            r#"{"container_registry_tags":{"$in":["ai","internal"]},"config.max_layer_size_mb":{"$gte":100,"$lt":1e9}}"#,
            r#"{"$or":[{"name":{"$regex":"^(a|in)+t"}},{"$not":{"metadata.mirrors.prio":{"$gt":4}}}],"tags":{"$nin":["x"]}}"#,
            r#"{"$and":[{"metadata.none":{"$exists":false}},{"tags.0":{"$ne":null}},{"name":{"$not":{"$eq":"x"}}}]}"#,
            r#"{"container_registry_name":"other","metadata.site.rack":7,"tags":["a"],"public_url":"http://[::1]:80/"}"#,
            r#"{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.sylabs.sif.layer.v1.sif","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":7}]}"#,
            "oras://r.example:5000/team/openfoam:v2312",
            "https://[::ffff:127.0.0.1]:5000",
            "http://0x7f.1/",
        ]),
        other => panic!("no seeds are made for {other}"),
    }
}

/// Messages between two agents: which kind, then one of that kind.
fn chunks() -> Vec<Vec<u8>> {
    let (image, map) = (Digest::from_bytes([1; 32]), MapDigest::from_bytes([2; 32]));
    let runs = vec![Run { first: 0, count: 3 }, Run { first: 9, count: u32::MAX }];
    let chunk = Chunk { digest: ChunkDigest::of(b"x"), len: 40_000 };
    let follow = Opening::Follow { image, map, lacks: runs.clone(), capability: Capability::default() };
    let choice = Choice::Ask { span: SpanId(1), chunks: runs.clone() };
    let part = MapPart { chunker: CHUNKER, chunks: vec![chunk; 3], last: true };
    let bodies = [
        encode(&follow),
        encode(&Opening::Map { image, capability: Capability::default() }),
        encode(&Wish::Got(runs.clone())),
        encode(&Offer::Alone(runs)),
        encode(&Turn { image }),
        encode(&choice),
        encode(&part),
        encode(&Opening::Outline { image, capability: Capability::default() }),
        encode(&OutlinePart { prefixes: vec![ChunkPrefix::of(&chunk.digest); 3], last: true }),
        encode(&Rest { chunks: vec![Run { first: 1, count: 1 }] }),
    ];
    let kinds = [0, 0, 1, 2, 3, 4, 5, 0, 6, 7];
    let body = |body: Result<Vec<u8>, _>| body.unwrap_or_else(|error| panic!("a seed: {error}"));
    let seed = |(kind, encoded)| [vec![kind], body(encoded)].concat();
    kinds.into_iter().zip(bodies).map(seed).collect()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn said() -> Vec<ToCoordinator> {
    let changes = changes(&["a.sif", "x/b.sif"], 3);
    let mut inventory = Inventory::default();
    for change in &changes {
        inventory.apply(change.clone());
    }
    let hello = Hello {
        stream: StreamId(9),
        generation: Generation(1),
        digest: inventory.digest(),
        build: "0.1.0".to_owned(),
        arch: Arch::Amd64,
        partitions: "p".parse().into_iter().collect(),
        transfer_port: 7_442,
    };
    let beat = Heartbeat { generation: Generation(1), digest: inventory.digest(), stamp: Stamp(1) };
    let (first, second) = changes.split_at(1);
    let part = |part, last, changes: &[_]| Snapshot {
        generation: Generation(1),
        part,
        last,
        changes: changes.to_vec(),
    };
    vec![
        ToCoordinator::Hello(hello),
        ToCoordinator::Snapshot(part(0, false, first)),
        ToCoordinator::Snapshot(part(1, true, second)),
        ToCoordinator::Delta(Delta { generation: Generation(2), changes }),
        ToCoordinator::Heartbeat(beat),
        ToCoordinator::Goodbye,
    ]
}

fn frames() -> Vec<Vec<u8>> {
    let mut all = vec![3];
    let mut each: Vec<Vec<u8>> = Vec::new();
    for message in said() {
        let body = encode(&message).unwrap_or_default();
        let mut frame = u32::try_from(body.len()).unwrap_or(0).to_le_bytes().to_vec();
        frame.extend(body);
        all.extend(&frame);
        each.push([vec![200], frame].concat());
    }
    each.push(all);
    each.push(vec![1, 0xff, 0xff, 0xff, 0xff]);
    each
}

/// Steps as `control::run` reads them: what, who, and what goes with it.
fn sessions() -> Vec<Vec<u8>> {
    let say = |message: &ToCoordinator| [vec![1, 0], stretch(&encode(message).unwrap_or_default())].concat();
    let open = [vec![0, 0], stretch(&[])].concat();
    let all: Vec<Vec<u8>> = said().iter().map(say).collect();
    let welcome =
        ToAgent::Welcome(Welcome { known: Known::Nothing, lease_ms: 1, heartbeat_ms: 1, stamp: Stamp(1) });
    let agent = |message: &ToAgent| [vec![7, 1], stretch(&encode(message).unwrap_or_default())].concat();
    let beat = Heartbeat { generation: Generation(0), digest: InventoryDigest::default(), stamp: Stamp(1) };
    vec![
        [vec![6, 0, 7], open.clone(), all.concat(), vec![3, 0, 5, 0, 100, 3, 0, 5, 0, 255, 4, 0]].concat(),
        [vec![0, 0], stretch(&encode(&beat).unwrap_or_default()), all.concat(), vec![3, 0]].concat(),
        [
            vec![6, 0, 3, 0, 1],
            stretch(&[]),
            agent(&welcome),
            agent(&ToAgent::Resync { stamp: Stamp(2) }),
            vec![3, 1],
        ]
        .concat(),
        [open.clone(), vec![3, 0, 5, 0, 150, 3, 0, 5, 0, 60], open, vec![5, 0, 201, 6, 0, 0]].concat(),
    ]
}

fn images() -> Vec<Vec<u8>> {
    let squashfs = SifBuilder::new().bytes().windows(4).position(|magic| magic == b"hsqs");
    let bare =
        squashfs.and_then(|at| SifBuilder::new().bytes().get(at..).map(<[u8]>::to_vec)).unwrap_or_default();
    vec![
        SifBuilder::new().bytes(),
        SifBuilder::new().label("a", "b").overlay(4_096).signature(b"signed", [7; 20]).trailing(3).bytes(),
        bare,
        b"#!/bin/sh\n".to_vec(),
        vec![0; 2_048],
    ]
}
