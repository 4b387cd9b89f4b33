//! Frames and lines as they are seen.
#![cfg(test)]

use sifleet_common::api::pushes::PushState;

use super::super::samples::{push, push_node};
use super::*;

fn seen(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{}\n", anstream::adapter::strip_str(line))).collect()
}

#[test]
fn a_frame_shows_bar_phases_and_the_slowest_nodes() {
    let nodes: Vec<_> =
        (1..=5).map(|n: u8| push_node(&format!("n{n}"), u64::from(n) * 100_000, 1024)).collect();
    assert_eq!(
        seen(&frame(&push(PushState::Running), &nodes, 100)),
        "\
vnc_desktop.sif  ████████████░░░░░░░░░░░░   50 %  2.4 MiB of 4.8 MiB  100 kB/s  25s left
  fetching      1  viz003
  done          2  viz[001-002]
  failed        1  viz004
  deferred      1  viz005
  slowest          n1 10 % 1.0 kB/s, n2 20 % 1.0 kB/s, n3 30 % 1.0 kB/s
"
    );
}

#[test]
fn no_line_is_wider_than_the_terminal_and_none_acts_on_it() {
    let mut hostile = push(PushState::Running);
    hostile.image = "한글\u{1b}[2J".repeat(40);
    hostile.phases.iter_mut().for_each(|one| one.nodes = "n\u{202e}".repeat(100));
    let nodes = [push_node("\u{1b}]0;x\u{7}", 1, 1)];
    for width in [1, 20, 79] {
        for line in frame(&hostile, &nodes, width).iter().chain(&top(
            &[(hostile.clone(), nodes.to_vec())],
            None,
            width,
            24,
        )) {
            let shown = anstream::adapter::strip_str(line).to_string();
            assert!(unicode_width::UnicodeWidthStr::width(shown.as_str()) <= width, "{shown:?}");
            assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
        }
    }
}

#[test]
fn a_log_has_one_line_for_a_push() {
    let shown = anstream::adapter::strip_str(&line(&push(PushState::Running))).to_string();
    assert_eq!(
        shown,
        "push 7: vnc_desktop.sif: 1 fetching, 2 done, 1 failed, 1 deferred; 50 %  2.4 MiB of 4.8 MiB  100 kB/s  25s left"
    );
    let bytes = Bytes { done: 5, total: 10, rate: 0 };
    assert_eq!(
        anstream::adapter::strip_str(&plain("hashing", bytes)).to_string(),
        "hashing: 50 %  5 B of 10 B"
    );
}

#[test]
fn top_shows_the_busiest_nodes_that_fit() {
    let nodes: Vec<_> = (1..=50).map(|n: u8| push_node(&format!("n{n}"), 1, u64::from(n))).collect();
    let shown = seen(&top(&[(push(PushState::Running), nodes)], None, 100, 6));
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), 6, "{shown}");
    assert!(lines[0].starts_with("1 push running, 100 kB/s"), "{shown}");
    assert!(lines[3].starts_with("n50 ") && lines[5].starts_with("n48 "), "{shown}");
    assert_eq!(seen(&top(&[], None, 100, 6)), "0 pushes running, 0 B/s\n");
    assert_eq!(seen(&top(&[], Some("nobody answers"), 100, 6)), "0 pushes running, 0 B/s\nnobody answers\n");
}
