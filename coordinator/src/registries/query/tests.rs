//! Questions and whom they find.

#![cfg(test)]

use serde_json::json;

use super::*;
use crate::registries::record;

fn records() -> Vec<RegistryRecord> {
    let record = |value: Value| {
        let request = serde_json::from_value(value).unwrap();
        record::make(request, "x".to_owned(), sifleet_common::time::UnixMillis(1)).unwrap()
    };
    vec![
        record(
            json!({"id": "a", "name": "internal-ai", "public_url": "https://a.example", "tags": ["ai", "internal"],
            "metadata": {"owner": "mlops", "mirrors": [{"host": "m1", "prio": 1}, {"host": "m2", "prio": 5}], "none": null},
            "config": {"auth_required": true, "max_layer_size_mb": 500},
            "storage_info": {"storage_type": "s3", "storage_size": -1}}),
        ),
        record(json!({"id": "b", "name": "mirror", "public_url": "http://b.example", "tags": ["mirror"],
            "config": {"max_layer_size_mb": 100.5}, "storage_info": {"storage_type": "fs", "storage_size": 2000}})),
        record(json!({"id": "c", "name": "Docker Hub", "public_url": "https://c.example"})),
    ]
}

fn found(query: &Value) -> String {
    let records = records();
    let read = Query::read(query.as_object().unwrap()).unwrap_or_else(|error| panic!("{query}: {error}"));
    read.pick(&records).unwrap().into_iter().map(|record| record.id.as_str()).collect()
}

fn refused(query: &Value) -> String {
    Query::read(query.as_object().unwrap()).expect_err(&query.to_string()).0
}

#[test]
fn every_operator_finds_what_it_means() {
    for (query, expected) in [
        (json!({}), "abc"),
        (json!({"container_registry_tags": {"$in": ["ai", "mirror"]}}), "ab"),
        (json!({"tags": {"$nin": ["ai"]}}), "bc"),
        (json!({"tags": "ai"}), "a"),
        (json!({"tags": ["ai", "internal"]}), "a"),
        (json!({"tags.1": "internal"}), "a"),
        (json!({"name": {"$eq": "mirror"}}), "b"),
        (json!({"name": {"$ne": "mirror"}}), "ac"),
        (json!({"config.max_layer_size_mb": {"$gt": 100.5}}), "a"),
        (json!({"config.max_layer_size_mb": {"$gte": 100.5}}), "ab"),
        (json!({"config.max_layer_size_mb": {"$lt": 500}}), "b"),
        (json!({"config.max_layer_size_mb": {"$lte": 500.0}}), "ab"),
        (json!({"config.max_layer_size_mb": {"$gt": 100, "$lt": 200}}), "b"),
        (json!({"config.max_layer_size_mb": {"$gt": "100"}}), ""),
        (json!({"config.max_layer_size_mb": 500.0}), "a"),
        (json!({"storage_info.storage_size": -1}), "a"),
        (json!({"config.auth_required": {"$exists": true}}), "a"),
        (json!({"config.auth_required": {"$exists": false}}), "bc"),
        (json!({"metadata.none": {"$exists": true}}), "a"),
        (json!({"metadata.none": null}), "abc"),
        (json!({"public_url": {"$regex": "^https://"}}), "ac"),
        (json!({"name": {"$regex": "(?i)docker"}}), "c"),
        (json!({"name": {"$regex": r"^\w+-(?-u:\w)+$"}}), "a"),
        (json!({"tags": {"$regex": "^int"}}), "a"),
        (json!({"name": {"$not": {"$regex": "^internal"}}}), "bc"),
        (json!({"metadata.mirrors.host": "m2"}), "a"),
        (json!({"metadata.mirrors.prio": {"$gt": 4}}), "a"),
        (json!({"metadata.mirrors.0.prio": {"$gt": 4}}), ""),
        (json!({"metadata": {"owner": "mlops"}}), ""),
        (json!({"$and": [{"tags": "ai"}, {"name": "mirror"}]}), ""),
        (json!({"$or": [{"tags": "ai"}, {"name": "mirror"}]}), "ab"),
        (json!({"$not": {"tags": "ai"}}), "bc"),
        (json!({"name": {"$gte": "internal"}, "tags": {"$exists": true}}), "ab"),
    ] {
        assert_eq!(found(&query), expected, "{query}");
    }
}

#[test]
fn what_is_no_question_is_refused_with_the_reason() {
    let deep = (0..20).fold(json!({"name": "a"}), |inner, _| json!({"$not": inner}));
    for (query, reason) in [
        (json!({"name": {"$where": "1"}}), "no operator \"$where\""),
        (json!({"$where": "1"}), "no operator \"$where\""),
        (json!({"$nor": []}), "there are $and, $or, $not"),
        (json!({"password": "x"}), "no field \"password\""),
        (json!({"credentials.password": "x"}), "no field"),
        (json!({"metadata..x": 1}), "no path"),
        (json!({"$or": []}), "at least one"),
        (json!({"$or": {"a": 1}}), "takes a list"),
        (json!({"$and": [1]}), "takes an object"),
        (json!({"name": {"$in": "a"}}), "takes a list"),
        (json!({"name": {"$gt": null}}), "a number or a text"),
        (json!({"name": {"$exists": 1}}), "true or false"),
        (json!({"name": {"$not": "x"}}), "takes an object"),
        (json!({"name": {"$not": {"a": 1}}}), "takes operators"),
        (json!({"name": {"$eq": {"$gt": 1}}}), "plain value"),
        (json!({"name": {"$regex": "("}}), "cannot be read"),
        (json!({"name": {"$regex": "x".repeat(600)}}), "at most 512 bytes"),
        (json!({"name": {"$regex": "(a{1000}){1000}"}}), "more than 64 KiB"),
        (json!({"name": {"$regex": "[ab]{0,5000}[c-z]"}}), "more than 64 KiB"),
        (json!({"name": {"$in": vec![1; 300]}}), "at most 256 items"),
        (json!({"$or": vec![json!({"name": "a"}); 600]}), "at most 1000 values"),
        (json!({"$or": vec![json!({"name": {"$regex": "a"}}); 9]}), "at most 8 regular"),
        (deep, "levels deep"),
    ] {
        let said = refused(&query);
        assert!(said.contains(reason), "{query}: {said}");
    }
}

#[test]
fn an_answer_takes_a_bounded_number_of_steps() {
    let mut record = records().remove(0);
    let text = "a".repeat(30_000);
    record.metadata =
        json!({"list": vec![json!({"x": "y"}); 3_000], "text": text}).as_object().unwrap().clone();
    let all = vec![record; 1_000];
    for query in [
        json!({"metadata.list.x": {"$in": vec!["z"; 200]}}),
        json!({"$or": vec![json!({"metadata.list.x": "z"}); 100]}),
        json!({"$or": vec![json!({"metadata.text": {"$regex": "(a|aa)+$b"}}); 8]}),
    ] {
        let begun = Instant::now();
        let error = Query::read(query.as_object().unwrap()).unwrap().pick(&all).expect_err("too much");
        assert!(error.0.contains("too long to answer"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_pattern_that_is_held_against_every_byte_is_paid_for() {
    let mut record = records().remove(0);
    record.metadata = json!({"text": "a".repeat(600_000)}).as_object().unwrap().clone();
    let pick = |pattern: &str| {
        let query = json!({"metadata.text": {"$regex": pattern}});
        let query = Query::read(query.as_object().unwrap()).unwrap();
        query.pick([&record]).map(|picked| picked.len())
    };
    assert_eq!((pick("^a"), pick("b")), (Ok(1), Ok(0)));
    for counted in ["[ab]{0,400}[c-z]", "(?s)(.{0,2}x){0,20}y"] {
        assert!(pick(counted).unwrap_err().0.contains("too long to answer"), "{counted}");
    }
}

#[test]
fn an_answer_ends_when_its_time_is_over_whatever_the_steps_say() {
    let records = records();
    let query = Query::read(json!({"tags": "ai"}).as_object().unwrap()).unwrap();
    assert!(query.pick_until(Instant::now(), &records).unwrap_err().0.contains("too long to answer"));
    let mut steps = Steps { left: MAX_STEPS, unlooked: 0, end: Instant::now() };
    assert!((0..LOOK).any(|_| steps.take(1).is_err()), "within a record, too");
}
