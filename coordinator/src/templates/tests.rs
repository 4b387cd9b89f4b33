//! Which of the templates of files and of the API counts, and what survives a restart.

use sifleet_common::api::templates::TemplateBody;
use sifleet_common::time::UnixMillis;

use super::*;
use crate::store::sqlite;

fn record(id: &str, image: &str) -> TemplateRecord {
    let body = TemplateBody {
        name: None,
        description: None,
        image: image.to_owned(),
        partition: "viz".to_owned(),
        require: None,
        digest: None,
        signer: None,
    };
    TemplateRecord::read(id.parse().unwrap(), body, UnixMillis(5)).unwrap()
}

fn shelf(id: &str, image: &str) -> Shelf {
    let filed = Filed { record: record(id, image), file: format!("{id}.yaml"), mistake: None };
    Shelf { filed: [(filed.record.id.clone(), filed)].into(), ..Shelf::default() }
}

fn image(templates: &Templates, id: &str) -> String {
    match templates.book().find(id) {
        Ok(Found::Template(record)) => record.image,
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_put_is_found_again_after_a_restart_and_what_was_deleted_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.db");
    let (store, restored) = sqlite::open(&path).unwrap();
    let templates = Templates::new(store.clone());
    templates.restore(restored.templates);
    assert!(templates.put(record("a", "1.sif")).await.unwrap());
    assert!(templates.put(record("b", "2.sif")).await.unwrap());
    assert!(!templates.put(record("a", "3.sif")).await.unwrap());
    templates.delete("b").await.unwrap();
    drop(templates);
    store.close().await.unwrap();
    let (_store, restored) = sqlite::open(&path).unwrap();
    assert_eq!(restored.templates, [record("a", "3.sif")]);
}

#[tokio::test]
async fn a_file_goes_before_what_was_put_and_cannot_be_changed_over_the_api() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = sqlite::open(&folder.path().join("coordinator.db")).unwrap();
    let templates = Templates::new(store);
    templates.put(record("a", "put.sif")).await.unwrap();
    templates.shelve(&shelf("a", "file.sif"));
    assert_eq!(image(&templates, "a"), "file.sif");
    assert!(matches!(templates.put(record("a", "x.sif")).await, Err(TemplateError::OfFile { .. })));
    assert!(matches!(templates.delete("a").await, Err(TemplateError::OfFile { .. })));
    templates.shelve(&Shelf::default());
    assert_eq!(image(&templates, "a"), "put.sif");
    let Err(TemplateError::Unknown { candidates, .. }) = templates.delete("aa").await else { panic!() };
    assert_eq!(candidates, ["a"]);
}

#[tokio::test]
async fn a_file_that_never_could_be_read_is_told_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = sqlite::open(&folder.path().join("coordinator.db")).unwrap();
    let templates = Templates::new(store);
    let mistake = wrong("bad.yaml");
    templates.shelve(&unread("bad", &mistake));
    assert_eq!(templates.book().find("bad").unwrap(), Found::Unreadable(mistake));
    assert!(templates.book().find("other").is_err());
}

#[tokio::test]
async fn what_was_put_does_not_answer_for_a_file_that_was_never_read() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = sqlite::open(&folder.path().join("coordinator.db")).unwrap();
    let templates = Templates::new(store);
    templates.put(record("drop", "old.sif")).await.unwrap();
    let mistake = wrong("drop.yaml");
    templates.shelve(&unread("drop", &mistake));
    assert_eq!(templates.book().find("drop").unwrap(), Found::Unreadable(mistake.clone()));
    assert_eq!(templates.book().show("drop").unwrap().mistake, Some(mistake));
    assert!(matches!(templates.put(record("drop", "x.sif")).await, Err(TemplateError::OfFile { .. })));
    templates.delete("drop").await.unwrap();
    assert!(matches!(templates.delete("drop").await, Err(TemplateError::Unknown { .. })));
    assert!(matches!(templates.book().find("drop"), Ok(Found::Unreadable(_))));
}

fn wrong(file: &str) -> TemplateMistake {
    TemplateMistake { file: file.into(), line: Some(3), column: None, message: "what is wrong".to_owned() }
}

fn unread(id: &str, mistake: &TemplateMistake) -> Shelf {
    let unread = [(id.to_owned(), mistake.clone())].into();
    Shelf { mistakes: vec![mistake.clone()], unread, ..Shelf::default() }
}
