//! Which fields reach the journal, and how repeated lines are counted.

use super::*;
use tracing::{debug, error, info, info_span, warn};

#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Vec<Entry>>>);

impl Sink for Seen {
    fn write(&self, entry: &Entry) {
        self.0.lock().unwrap().push(entry.clone());
    }
}

/// Runs code under a subscriber of its own and returns what was logged, as `LEVEL message name=value …`.
fn logged(filter: &str, run: impl FnOnce()) -> Vec<String> {
    let seen = Seen::default();
    let layer = LogLayer::new(Box::new(seen.clone()));
    let shared = Arc::clone(&layer.shared);
    tracing::subscriber::with_default(Registry::default().with(parse(filter).unwrap()).with(layer), run);
    let mut entries = seen.0.lock().unwrap().clone();
    entries.extend(shared.repeats().drain());
    let show = |entry: &Entry| {
        let head = format!("{} {}", entry.level, entry.message);
        entry.fields.iter().fold(head, |text, (name, value)| format!("{text} {name}={value}"))
    };
    entries.iter().map(show).collect()
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the image")]
struct Outer {
    source: io::Error,
}

#[test]
fn values_are_fields_and_the_message_is_constant() {
    let lines = logged("info", || {
        info!(node = %"viz001", generation = 7, ok = true, "inventory changed");
        debug!("not shown");
    });
    assert_eq!(lines, ["INFO inventory changed node=viz001 generation=7 ok=true"]);
}

#[test]
fn an_error_is_logged_with_its_causes() {
    let lines = logged("info", || {
        let error = Outer { source: io::Error::other("disk on fire") };
        warn!(error = &error as &(dyn Error + 'static), "scan failed");
        info!(error = %Chain(&error), "scan failed");
    });
    let text = "error=cannot read the image: disk on fire";
    assert_eq!(lines, [format!("WARN scan failed {text}"), format!("INFO scan failed {text}")]);
}

#[test]
fn what_a_span_says_is_said_of_its_events() {
    let lines = logged("info", || {
        let outer = info_span!("session", node = %"viz001", peer = tracing::field::Empty);
        let _entered = outer.enter();
        outer.record("peer", "10.0.0.1");
        info_span!("inner", image = "a.sif").in_scope(|| info!(node = %"other", "said"));
    });
    assert_eq!(lines, ["INFO said node=other image=a.sif peer=10.0.0.1"]);
}

#[test]
fn the_same_warning_about_the_same_node_is_said_once_and_counted() {
    let lines = logged("info", || {
        for attempt in 0..5 {
            for node in ["a", "b"] {
                warn!(%node, attempt, "cannot connect");
            }
        }
        error!("something else");
    });
    assert_eq!(
        lines[..3],
        [
            "WARN cannot connect node=a attempt=0",
            "WARN cannot connect node=b attempt=0",
            "ERROR something else"
        ]
    );
    let mut counts = lines[3..].to_vec();
    counts.sort();
    assert_eq!(
        counts,
        ["WARN cannot connect node=a attempt=4 repeats=4", "WARN cannot connect node=b attempt=4 repeats=4"]
    );
}

#[test]
fn a_value_is_cut_before_it_fills_the_log() {
    let lines = logged("info", || info!(path = "é".repeat(MAX_VALUE), "odd file"));
    assert!(lines[0].len() < MAX_VALUE + 50 && lines[0].ends_with("é…"), "{}", lines[0].len());
}

#[test]
fn a_filter_that_cannot_be_read_is_refused() {
    assert!(parse("info,sifleet_agent=debug").is_ok());
    for bad in ["info,sifleet=loud", "a=b=c"] {
        assert!(matches!(parse(bad), Err(TelemetryError::Filter { .. })), "{bad}");
    }
}
