//! Tests of reading, ordering and folding node sets.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn names(text: &str) -> Vec<String> {
    text.parse::<NodeSet>().unwrap().names().iter().map(ToString::to_string).collect()
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(names(text), expected, "{text}");
}

fn check_fold(names: &[&str], expected: &str) {
    assert_eq!(fold(names.iter().copied()), expected);
    let parsed: BTreeSet<String> = self::names(expected).into_iter().collect();
    assert_eq!(parsed, names.iter().map(ToString::to_string).collect(), "{expected}");
}

fn error(text: &str) -> NodeSetError {
    text.parse::<NodeSet>().unwrap_err()
}

#[test]
fn the_syntax_of_slurm_and_clustershell_is_read() {
    check("viz01", &["viz01"]);
    check("n[1-3]", &["n1", "n2", "n3"]);
    check("n[08-11]", &["n08", "n09", "n10", "n11"]);
    check("n[98-101]", &["n98", "n99", "n100", "n101"]);
}

#[test]
fn brackets_multiply_and_lists_join() {
    check("n[1-2,5]-ib,n[9]", &["n9", "n1-ib", "n2-ib", "n5-ib"]);
    check("rack[1-2]n[01-02]", &["rack1n01", "rack1n02", "rack2n01", "rack2n02"]);
    check("n[1-9/2]", &["n1", "n3", "n5", "n7", "n9"]);
    check("n[1-8/3]", &["n1", "n4", "n7"]);
    check("[1-2]", &["1", "2"]);
    check("n1[01-02]", &["n101", "n102"]);
    check(" n2 , n1,n[ 1 , 2 ] ", &["n1", "n2"]);
    check(
        "compute[001-128,200],viz01",
        &names("viz01,compute200,compute[001-128]").iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

#[test]
fn a_padded_range_may_grow_past_its_width_but_not_change_it() {
    check("n[08-100/46]", &["n08", "n54", "n100"]);
    assert!(matches!(error("n[01-9]"), NodeSetError::Range { .. }));
    assert!(matches!(error("n[1-010]"), NodeSetError::Range { .. }));
    assert!(matches!(error("n[001-0010]"), NodeSetError::Range { .. }));
}

#[test]
fn what_is_not_a_node_set_is_refused_with_the_reason() {
    let deep = "n[1-2]".repeat(300);
    for (text, part) in [
        ("", "empty"),
        ("  ", "empty"),
        ("a,,b", "byte 2"),
        ("a,", "byte 2"),
        (",a", "byte 0"),
        ("@viz", "partition"),
        ("a,@viz:gpu", "@viz:gpu"),
        ("a!b", "'!'"),
        ("n*", "'*'"),
        ("n[1-2", "byte 1"),
        ("n1-2]", "byte 4"),
        ("n[[1-2]]", "byte 2"),
        ("n[]", "brackets"),
        ("n[1,]", "brackets"),
        ("n[a-b]", "brackets"),
        ("n[-1]", "brackets"),
        ("n[1-2-3]", "brackets"),
        ("n[+1]", "brackets"),
        ("n[3-1]", "ends before"),
        ("n[1-9/0]", "at least 1"),
        ("n[5/2]", "follows a range"),
        ("n[1234567890123456789]", "18 digits"),
        ("n 1", "node names"),
        ("-n1", "node names"),
        ("é", "node names"),
        ("n[é]", "brackets"),
        (&deep, "node names"),
    ] {
        let shown = error(text).to_string();
        assert!(shown.contains(part), "{text}: {shown}");
        assert!(shown.len() < 300, "{shown}");
    }
}

#[test]
fn names_are_counted_before_the_first_is_made() {
    assert_eq!("n[1-100000]".parse::<NodeSet>().unwrap().len(), 100_000);
    for text in [
        "n[0-100000]",
        "a[1-50001],b[1-50000]",
        "[1-1000]x[1-101]",
        "[1-999999999999999999]x[1-999999999999999999]",
    ] {
        let NodeSetError::TooManyNames { names } = error(text) else { panic!("{text}") };
        assert!(names > MAX_NAMES);
    }
    assert!(matches!(error(&"n,".repeat(MAX_EXPRESSION)), NodeSetError::TooLong { .. }));
}

#[test]
fn names_fold_over_their_last_number() {
    assert_eq!(fold([]), "");
    check_fold(&["viz01"], "viz01");
    check_fold(&["head", "viz01", "head"], "head,viz01");
    check_fold(&["c10", "c9", "c11", "c200", "c9"], "c[9-11,200]");
    check_fold(&["rack1n01", "rack1n02", "rack2n01"], "rack1n[01-02],rack2n01");
    check_fold(&["gpu-a100-02", "gpu-a100-01"], "gpu-a100-[01-02]");
    check_fold(&["c1-eth", "c2-eth", "c1", "c2"], "c[1-2],c[1-2]-eth");
    check_fold(&["1", "2", "3"], "[1-3]");
}

#[test]
fn zero_padding_is_kept_exactly() {
    check_fold(&["n1", "n01"], "n[1,01]");
    check_fold(&["n08", "n09", "n10", "n11"], "n[08-11]");
    check_fold(&["n8", "n9", "n10"], "n[8-10]");
    check_fold(&["n98", "n99", "n100", "n101"], "n[98-101]");
    check_fold(&["n008", "n009", "n10"], "n[008-009,10]");
    check_fold(&["n09", "n10", "n99", "n100"], "n[09-10,99-100]");
    check_fold(&["n0", "n00", "n000"], "n[0,00,000]");
    check_fold(&["n0", "n1", "n00", "n01"], "n[0,00,1,01]");
}

#[test]
fn a_padded_range_is_closed_where_its_width_ends() {
    let written: Vec<String> = (8..=101).map(|n| format!("n{n:02}")).collect();
    assert_eq!(fold(written.iter().map(String::as_str)), "n[08-99,100-101]");
}

#[test]
fn numbers_too_long_to_count_stay_text() {
    let (long, next) = (format!("n{}", "9".repeat(40)), format!("n{}8", "9".repeat(39)));
    check_fold(&[&long, &next], &format!("{next},{long}"));
}

#[test]
fn a_set_is_shown_folded_and_knows_its_members() {
    let set: NodeSet = "viz02,compute[001-003],viz01".parse().unwrap();
    assert_eq!(set.to_string(), "compute[001-003],viz[01-02]");
    assert_eq!(format!("{set:?}"), "NodeSet(compute[001-003],viz[01-02])");
    assert!(set.contains("viz01") && set.contains("compute003"));
    assert!(!set.contains("viz1") && !set.contains("viz"));
    assert_eq!(set.len(), 5);
    assert!(NodeSet::default().is_empty());
}

#[test]
fn natural_order_counts_like_people() {
    let mut names = ["n10", "n2", "n1", "n01", "n", "m3", "rack10n1", "rack2n2", "rack2n10", "n2-ib"];
    names.sort_by(|one, other| natural_cmp(one, other));
    assert_eq!(names, ["m3", "n", "n1", "n01", "n2", "n10", "n2-ib", "rack2n2", "rack2n10", "rack10n1"]);
}

#[test]
fn keys_beside_each_other_share_their_text() {
    let one = FoldKey::of("gpu-a100-01");
    let two = FoldKey::beside("gpu-a100-02", &one);
    assert!(std::sync::Arc::ptr_eq(&one.prefix, &two.prefix));
    assert_eq!(two, FoldKey::of("gpu-a100-02"));
    assert_eq!(fold_sorted([&one, &two]), "gpu-a100-[01-02]");
}

#[test]
fn unsorted_keys_fold_longer_but_to_the_same_names() {
    let keys: Vec<FoldKey> = ["n3", "n1", "a1", "n2"].into_iter().map(FoldKey::of).collect();
    assert_eq!(fold_sorted(&keys), "n[3,1],a1,n2");
}

/// Names in which everything goes wrong that can: digits of all widths next to each other, few letters.
fn hostile_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-b]{0,2}[0-2]{1,3}",
        "[0a][0-1]{0,4}[-._a]{0,2}[0-9]{0,3}[-b]{0,1}",
        "[a-zA-Z0-9][a-zA-Z0-9._-]{0,30}"
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn parsing_a_fold_gives_the_names_back(written in proptest::collection::btree_set(hostile_name(), 1..40)) {
        let folded = fold(written.iter().map(String::as_str));
        let parsed: BTreeSet<String> = names(&folded).into_iter().collect();
        prop_assert_eq!(&parsed, &written, "{}", folded);
        prop_assert_eq!(folded.parse::<NodeSet>().unwrap().to_string(), folded);
    }

    #[test]
    fn natural_order_is_total(a in hostile_name(), b in hostile_name(), c in hostile_name()) {
        let order = natural_cmp(&a, &b);
        prop_assert_eq!(order.is_eq(), a == b);
        prop_assert_eq!(order, natural_cmp(&b, &a).reverse());
        prop_assert_eq!(order, FoldKey::of(&a).cmp(&FoldKey::of(&b)));
        if order.is_le() && natural_cmp(&b, &c).is_le() {
            prop_assert!(natural_cmp(&a, &c).is_le());
        }
    }

    #[test]
    fn no_text_breaks_the_parser(text in "[n0-9\\[\\],/ -]{0,30}|\\PC{0,40}") {
        if let Ok(set) = text.parse::<NodeSet>() {
            prop_assert!(!set.is_empty());
            prop_assert_eq!(&set.to_string().parse::<NodeSet>().unwrap(), &set);
        }
    }

    #[test]
    fn folding_any_text_ends(texts in proptest::collection::vec("\\PC{0,20}", 0..20)) {
        prop_assert!(fold(texts.iter().map(String::as_str)).len() <= texts.iter().map(|text| text.len() + 3).sum());
    }
}
