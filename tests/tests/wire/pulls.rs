//! One of every question that a node asks for its jobs, and of every answer.

use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;
use sifleet_common::wire::pull::{Answer, Manifest, Pull, Pulled, Wanted};

fn name() -> ImageName {
    "compute/openfoam_v2312.sif".parse().unwrap_or_else(|_| panic!("a name"))
}

pub(super) fn pulls() -> Vec<(String, Pull)> {
    let manifest = Wanted::Manifest { repository: "compute/openfoam".into(), reference: "v2312".into() };
    let image = Wanted::Image { image: Digest::from_bytes([5; 32]), name: name() };
    vec![
        ("Pull manifest".into(), Pull { id: 7, wanted: manifest }),
        ("Pull image".into(), Pull { id: 8, wanted: image }),
    ]
}

pub(super) fn pulled() -> Vec<(String, Pulled)> {
    let manifest = Manifest {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        digest: "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".into(),
        body: b"{}".to_vec(),
        layer: "sha256:0606".into(),
        size: 300,
        image: Digest::from_bytes([5; 32]),
        name: name(),
    };
    let refused = Answer::Refused { code: "no_space".into(), detail: "12 GB are missing".into() };
    vec![
        ("Pulled manifest".into(), Pulled { id: 7, answer: Answer::Manifest(Box::new(manifest)) }),
        ("Pulled ready".into(), Pulled { id: 8, answer: Answer::Ready }),
        ("Pulled unknown".into(), Pulled { id: 9, answer: Answer::Unknown }),
        ("Pulled refused".into(), Pulled { id: 10, answer: refused }),
    ]
}
