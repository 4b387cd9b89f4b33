//! One image that is pushed by many and under many names at once, each step of which may come between two of another's.
#![cfg(test)]

use std::fs;

use sifleet_common::time::UnixMillis;

use super::super::manifest::{self, SifLayer};
use super::super::publish::{Step, Wish};
use super::super::stage::Source;
use super::*;

/// Reads a manifest that is to be pushed, and what it says of its image.
fn wished(repository: &str, tag: &str, bytes: Vec<u8>) -> (SifLayer, Wish) {
    let sif = manifest::read(&bytes, None).unwrap().sif.unwrap();
    let (repository, reference) = (of(repository), meant(tag));
    let pushed = Pushed { repository, reference, tags: Vec::new(), content_type: None, bytes };
    (sif, Wish::read(pushed, UnixMillis(0)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_tagged_many_times_at_once_is_found_under_every_tag_at_every_moment() {
    let lab = lab(Options::default());
    let bytes = sif(1);
    let layer = lab.push_blob(&bytes, Algorithm::Sha256).await;
    let body = manifest(&layer, bytes.len());
    lab.put("viz/vnc", "v1", body.clone()).await.unwrap();
    let tags: Vec<String> = (0..16).map(|n| format!("t{n}")).collect();
    let tagged = futures_util::future::join_all(tags.iter().map(|tag| async {
        let (put, found) = tokio::join!(lab.put("viz/vnc", tag, body.clone()), lab.find("viz/vnc", "v1"));
        put.and(found)
    }));
    for found in tagged.await {
        assert_eq!(found.unwrap().layer.unwrap().digest, layer);
    }
    for tag in &tags {
        assert_eq!(lab.find("viz/vnc", tag).await.unwrap().bytes, body, "{tag}");
        assert!(lab.is(&format!("viz/vnc_{tag}.sif"), &bytes));
    }
    // Those that are left are known, though every one that goes changes their file.
    let deleted = futures_util::future::join_all(tags.iter().map(|tag| lab.delete("viz/vnc", tag)));
    deleted.await.into_iter().for_each(|deleted| deleted.unwrap());
    lab.push("viz/vnc", "v2", &bytes).await.unwrap();
    lab.push("viz/vnc", "v1", &sif(2)).await.unwrap();
    assert_eq!(lab.find("viz/vnc", "v2").await.unwrap().layer.unwrap().digest, layer);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_image_that_is_pushed_by_many_at_once_is_published_by_all() {
    let lab = lab(Options::default());
    let bytes = sif(1);
    let names: Vec<String> = (0..12).map(|n| format!("r{n}")).collect();
    let pushed = names.iter().map(|name| lab.push(name, "v1", &bytes));
    futures_util::future::join_all(pushed).await.into_iter().for_each(|taken| drop(taken.unwrap()));
    for name in &names {
        assert!(lab.find(name, "v1").await.unwrap().layer.is_some(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_published_though_others_push_its_bytes_anew_while_they_are_read() {
    let lab = lab(Options::default());
    let bytes = sif(1);
    let layer = lab.push_blob(&bytes, Algorithm::Sha256).await;
    let body = manifest(&layer, bytes.len());
    let (sif, wish) = wished("viz/vnc", "v1", body);
    let staged = lab.registry.stage(&sif, Source::Blob).await.unwrap();
    lab.push_blob(&bytes, Algorithm::Sha256).await;
    let taken = lab.registry.on_names(move |registry| registry.take(&wish, staged)).await.unwrap();
    assert!(matches!(taken, Step::Done(_)), "with many who push, it would be read for ever");
    assert_eq!(lab.find("viz/vnc", "v1").await.unwrap().layer.unwrap().digest, layer);
    assert!(lab.is("viz/vnc_v1.sif", &bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_published_where_a_file_can_have_no_second_name() {
    let lab = lab(Options::default());
    let bytes = sif(1);
    let layer = lab.push_blob(&bytes, Algorithm::Sha256).await;
    let body = manifest(&layer, bytes.len());
    lab.put("a", "v1", body.clone()).await.unwrap();
    let (sif, wish) = wished("a", "v2", body);
    let staged = lab.registry.stage(&sif, Source::Copy).await.unwrap().unwrap();
    lab.registry.on_names(move |registry| registry.take(&wish, Some(staged)).map(drop)).await.unwrap();
    assert!(lab.is("a_v2.sif", &bytes));
    let ino = |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(lab.path(name)).unwrap());
    assert_ne!(ino("a_v1.sif"), ino("a_v2.sif"));
    assert!(lab.find("a", "v2").await.is_ok() && lab.find("a", "v1").await.is_ok());
    let hidden = fs::read_dir(lab.path(".sifleet")).unwrap().count();
    assert_eq!(hidden, 0, "no draft is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_pushed_anew_before_it_was_thrown_away_is_kept() {
    let lab = lab(Options::default());
    let name = stored::blob_name(&lab.push_blob(b"config", Algorithm::Sha256).await);
    let path = lab.path(".sifleet").join(&name);
    let reap = || {
        let name = name.clone();
        lab.registry.on_names(move |registry| registry.reap(&name))
    };
    let age = |path| fs::File::open(path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    age(&path);
    lab.push_blob(b"config", Algorithm::Sha256).await;
    reap().await.unwrap();
    assert!(path.exists());
    age(&path);
    reap().await.unwrap();
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_cannot_be_read_is_told_as_what_it_is() {
    let lab = lab(Options::default());
    let bytes = sif(1);
    let layer = lab.push_blob(&bytes, Algorithm::Sha256).await;
    let (sif, wish) = wished("a", "v1", manifest(&layer, bytes.len()));
    let staged = lab.registry.stage(&sif, Source::Blob).await.unwrap();
    let path = lab.path(".sifleet").join(&staged.as_ref().unwrap().name);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    let told = lab.registry.on_names(move |registry| registry.take(&wish, staged)).await;
    assert!(matches!(told, Err(OciError::Library(_))), "{:?}", told.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_end_was_asked_for_becomes_a_blob_though_the_client_went_away() {
    let lab = lab(Options::default());
    let digest = Algorithm::Sha256.of(b"config");
    let id = lab.registry.begin_upload().await.unwrap();
    let receiving = lab.registry.receive(id, None).await.unwrap().append(b"config".to_vec()).await.unwrap();
    let turn = Arc::clone(&lab.registry.0.naming).lock_owned().await;
    let mut asked = Box::pin(receiving.finish(digest.clone()));
    tokio::select! {
        biased;
        _ = &mut asked => panic!("somebody else gives a name"),
        () = std::future::ready(()) => {}
    }
    drop((asked, turn));
    let named = async {
        while lab.registry.blob(&of("a"), &digest).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), named).await.unwrap();
}
