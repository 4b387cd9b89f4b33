//! Images of the library: those that were pushed, and those that appeared by themselves.

use std::fs;
use std::thread;

use serde_json::json;
use sifleet_common::role::Role;
use sifleet_coordinator::oci::digest::Algorithm;
use sifleet_tests::cluster::{COORDINATOR, LIMIT};
use sifleet_tests::wait::until;

use crate::client::{IMAGE, Lab, SIF_LAYER, image, sif};

/// How often the coordinator says that it hashed an image.
fn hashed(lab: &Lab, name: &str) -> usize {
    let log = lab.cluster.log(COORDINATOR);
    let said = |line: &&str| line.contains("has its SHA-256") && line.contains(name);
    log.lines().filter(said).count()
}

#[test]
fn an_image_that_is_pushed_becomes_a_file_of_the_library_and_is_pulled_at_once() {
    let lab = Lab::start("oci_push_image");
    let bytes = image(1);
    let layer = Algorithm::Sha256.of(&bytes);
    lab.push_image("compute/openfoam", "v2312", &bytes).is(201);
    let file = lab.cluster.library().join("compute/openfoam_v2312.sif");
    assert_eq!(fs::read(&file).unwrap(), bytes);
    // Before any inventory shows it.
    let manifest = lab.get("/v2/compute/openfoam/manifests/v2312").is(200).json();
    assert_eq!(manifest["layers"][0]["digest"], layer.to_string());
    assert_eq!(lab.get(&format!("/v2/compute/openfoam/blobs/{layer}")).is(200).body, bytes);
    assert_eq!(lab.get("/v2/compute/openfoam/tags/list").is(200).json()["tags"], json!(["v2312"]));
    lab.wait_for_library("compute/openfoam_v2312.sif");
    assert_eq!(lab.get("/v2/_catalog").is(200).json()["repositories"], json!(["compute/openfoam"]));
    assert_eq!(lab.get("/v2/compute/openfoam/manifests/v2312").is(200).json(), manifest);
    assert_eq!(hashed(&lab, "openfoam"), 0, "what was pushed is known");
    lab.push_image("compute/openfoam", "latest", &bytes).is(201);
    assert_eq!(fs::read(lab.cluster.library().join("compute/openfoam.sif")).unwrap(), bytes);
    assert_eq!(
        lab.get("/v2/compute/openfoam/manifests/v2312").is(200).json(),
        manifest,
        "a second name changes nothing"
    );
    let hidden = fs::read_dir(lab.cluster.library().join(".sifleet")).unwrap();
    let left: Vec<_> = hidden.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let left: Vec<_> =
        left.iter().filter(|name| name.contains(layer.hex()) || name.contains("draft")).collect();
    assert_eq!(left, Vec::<&String>::new(), "nothing lies twice");
}

#[test]
fn a_tag_of_an_image_is_another_name_of_its_file_and_goes_with_it() {
    let lab = Lab::start("oci_tag_image");
    let bytes = image(2);
    lab.push_image("viz/vnc", "v1", &bytes).is(201);
    let manifest = lab.get("/v2/viz/vnc/manifests/v1").is(200);
    let tag = |tag: &str| {
        lab.send(
            ("PUT", &format!("/v2/viz/vnc/manifests/{tag}")),
            &[("content-type", IMAGE)],
            Some(&manifest.body),
        )
    };
    tag("stable").is(201);
    tag("stable").is(201);
    let names = ["viz/vnc_v1.sif", "viz/vnc_stable.sif"].map(|name| lab.cluster.library().join(name));
    assert!(names.iter().all(|name| fs::read(name).unwrap() == bytes));
    lab.delete("/v2/viz/vnc/manifests/v1").is(202);
    lab.get("/v2/viz/vnc/manifests/v1").says(404, "MANIFEST_UNKNOWN");
    assert!(!names[0].exists());
    assert_eq!(lab.get("/v2/viz/vnc/manifests/stable").is(200).body, manifest.body);
    tag("old").is(201);
    let digest = manifest.header("docker-content-digest");
    lab.delete(&format!("/v2/viz/vnc/manifests/{digest}")).is(202);
    assert!(!names[1].exists() && !lab.cluster.library().join("viz/vnc_old.sif").exists());
    lab.get("/v2/viz/vnc/manifests/stable").says(404, "MANIFEST_UNKNOWN");
    let layer = Algorithm::Sha256.of(&bytes);
    lab.get(&format!("/v2/viz/vnc/blobs/{layer}")).says(404, "BLOB_UNKNOWN");
}

#[test]
fn an_image_that_appears_by_itself_is_its_stem_and_is_hashed_once_however_many_ask() {
    let lab = Lab::start("oci_appears");
    let bytes = image(3);
    let name = "compute/GROMACS_2024.sif";
    fs::create_dir_all(lab.cluster.library().join("compute")).unwrap();
    fs::write(lab.cluster.library().join(name), &bytes).unwrap();
    lab.wait_for_library(name);
    let bearer = lab.cluster.callers().bearer(Role::Viewer);
    let answers: Vec<_> = thread::scope(|scope| {
        let ask = || {
            lab.send(
                ("GET", "/v2/compute/gromacs_2024/manifests/latest"),
                &[("authorization", &bearer)],
                None,
            )
        };
        let asking: Vec<_> = (0..100).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asked| asked.join().unwrap().is(200).body).collect()
    });
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(hashed(&lab, "GROMACS"), 1);
    let layer = Algorithm::Sha256.of(&bytes);
    let expected = format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{{"mediaType":"application/vnd.sylabs.sif.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}},"layers":[{{"mediaType":"{SIF_LAYER}","size":{},"digest":"{layer}","annotations":{{"org.opencontainers.image.title":"GROMACS_2024.sif"}}}}]}}"#,
        bytes.len()
    );
    assert_eq!(String::from_utf8(answers[0].clone()).unwrap(), expected);
    let digest = Algorithm::Sha256.of(expected.as_bytes());
    for path in [
        format!("/v2/compute/gromacs_2024/manifests/{digest}"),
        "/v2/compute/gromacs/manifests/2024".to_owned(),
    ] {
        assert_eq!(lab.get(&path).is(200).body, expected.as_bytes(), "{path}");
    }
    assert_eq!(lab.get("/v2/_catalog").is(200).json()["repositories"], json!(["compute/gromacs_2024"]));
    assert_eq!(lab.get("/v2/compute/gromacs_2024/tags/list").is(200).json()["tags"], json!(["latest"]));
    let config = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(lab.get(&format!("/v2/compute/gromacs_2024/blobs/{config}")).is(200).body, b"{}");
    assert_eq!(lab.get(&format!("/v2/compute/gromacs_2024/blobs/{layer}")).is(200).body, bytes);
}

#[test]
fn a_file_that_changed_is_not_served_as_what_it_was() {
    let lab = Lab::start("oci_changed");
    let (old, new) = (image(4), image(5));
    assert_eq!(old.len(), new.len());
    lab.push_image("a", "v1", &old).is(201);
    lab.wait_for_library("a_v1.sif");
    let before = lab.get("/v2/a/manifests/v1").is(200);
    let file = lab.cluster.library().join("a_v1.sif");
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    // In place, and dated back: only the time of the last change of its facts tells.
    fs::write(&file, &new).unwrap();
    let dated = fs::File::options().write(true).open(&file).unwrap();
    dated.set_times(fs::FileTimes::new().set_modified(modified)).unwrap();
    drop(dated);
    let layer = Algorithm::Sha256.of(&old);
    lab.get(&format!("/v2/a/blobs/{layer}")).says(404, "BLOB_UNKNOWN");
    let digest = before.header("docker-content-digest");
    lab.get(&format!("/v2/a/manifests/{digest}")).says(404, "MANIFEST_UNKNOWN");
    let shown = until("the tag means what the file is", LIMIT, || {
        let answer = lab.get("/v2/a/manifests/v1");
        assert!(answer.body != before.body, "the old manifest is never served again");
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.status) }
    });
    let (manifest, _) = shown.unwrap();
    assert_eq!(manifest["layers"][0]["digest"], Algorithm::Sha256.of(&new).to_string());
    fs::remove_file(&file).unwrap();
    until("a file that is gone is no image", LIMIT, || {
        let status = lab.get("/v2/a/manifests/v1").status;
        if status == 404 { Ok(()) } else { Err(status) }
    })
    .unwrap();
}

#[test]
fn what_is_no_image_is_not_published_as_one() {
    let lab = Lab::start("oci_no_image");
    lab.push_image("a", "v1", b"no image at all").says(400, "MANIFEST_INVALID");
    assert!(!lab.cluster.library().join("a_v1.sif").exists());
    let config = lab.push_blob("a", b"{}");
    let bytes = image(6);
    let layer = lab.push_blob("a", &bytes);
    let wrong_size = sif(&config, (&layer, bytes.len() - 1));
    lab.put_manifest("/v2/a/manifests/v1", IMAGE, &wrong_size).says(400, "MANIFEST_INVALID");
    fs::create_dir(lab.cluster.library().join("a_v2.sif")).unwrap();
    let manifest = sif(&config, (&layer, bytes.len()));
    assert_eq!(
        lab.put_manifest("/v2/a/manifests/v2", IMAGE, &manifest).status,
        409,
        "a directory is in the way"
    );
    lab.put_manifest("/v2/a/manifests/v1", IMAGE, &manifest).is(201);
    let long = Algorithm::Sha512.of(&bytes);
    let whole = [lab.begin("b"), format!("?digest={long}")].concat();
    lab.send(("PUT", &whole), &[], Some(&bytes)).is(201);
    lab.put_manifest("/v2/b/manifests/v1", IMAGE, &sif(&config, (&long, bytes.len()))).is(201);
    assert_eq!(lab.get(&format!("/v2/b/blobs/{long}")).is(200).body, bytes);
}
