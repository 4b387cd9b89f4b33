//! Tests of reading what `sinfo` prints, and of running one that misbehaves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::*;
use crate::partitions::reason;
use sifleet_common::nodeset::NodeSet;

fn show(answer: Result<Heard, SlurmError>) -> String {
    match answer {
        Ok(heard) => heard
            .members
            .into_iter()
            .map(|(name, nodes)| format!("{name}={}", nodes.into_iter().collect::<NodeSet>()))
            .collect::<Vec<_>>()
            .join(" "),
        Err(error) => reason(&error),
    }
}

fn check(printed: impl AsRef<[u8]>, expected: &str) {
    let shown = show(parse(printed.as_ref()));
    assert!(
        shown == expected || (expected.ends_with('…') && shown.starts_with(expected.trim_end_matches('…'))),
        "{shown}"
    );
}

#[test]
fn lines_of_one_partition_are_joined_and_empty_partitions_kept() {
    check(
        "compute|idle|c[1-4]\nviz|idle|v[1-2]\nshared|idle|c[1-2],v1\nempty|n/a|\n",
        "compute=c[1-4] empty= shared=c[1-2],v1 viz=v[1-2]",
    );
    check("a|idle|n1\nb|idle|n1\na|mixed|n[2-3]", "a=n[1-3] b=n1");
    check("a|n/a|(null)\nb|n/a|n/a\n\n", "a= b=");
    check("", "");
    check("a|idle|n1   \r\n", "a=n1");
}

#[test]
fn a_line_that_is_not_a_partition_is_named() {
    check(
        "a|idle|n1\nsinfo: error",
        "line 2 of what sinfo printed is not NAME|STATE|NODES: \"sinfo: error\"",
    );
    check(
        "a b|idle|n1",
        "line 1 of what sinfo printed cannot be used: not the name of a partition: ' ' cannot…",
    );
    check(
        "a|idle|n[1-",
        "line 1 of what sinfo printed cannot be used: the nodes of partition a cannot be read…",
    );
    check(
        "a|idle|n[1-999999999999]",
        "line 1 of what sinfo printed cannot be used: the nodes of partition a…",
    );
    check("a|idle|b|c", "line 1 of what sinfo printed cannot be used: the nodes of partition a cannot…");
    check(b"a|\xff", "line 1 of what sinfo printed is not NAME|STATE|NODES: \"a|\u{fffd}\"");
    check(
        "x".repeat(500),
        &format!("line 1 of what sinfo printed is not NAME|STATE|NODES: \"{}\"", "x".repeat(80)),
    );
}

#[test]
fn jobs_run_on_nodes_in_these_states_whatever_the_mark_behind() {
    let printed = "a|allocated|n1\na|mixed-|n2\na|completing*|n3\na|draining@|n4\na|idle~|n5\na|drained|n6\n\
        b|mixed|n7\na|down*|n8\na|planned|n9\na|reserved|n10\na|allocated#|n1\n";
    let busy: NodeSet = parse(printed.as_bytes()).unwrap().busy.unwrap().into_iter().collect();
    assert_eq!(busy.to_string(), "n[1-4,7]");
}

/// Runs a shell script in place of `sinfo`.
async fn ask(script: &str, limit: Duration) -> String {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("sinfo");
    fs::write(&program, format!("#!/bin/sh\n{}", script.replace("DIR", dir.path().to_str().unwrap())))
        .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let sinfo = Sinfo { program: program.into(), interval: Duration::from_secs(60), limit };
    show(sinfo.ask().await).replace(dir.path().to_str().unwrap(), "")
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn it_is_asked_with_the_arguments_that_every_release_knows() {
    let script = r#"[ "$*" = "-h --all -o %R|%T|%N" ] && echo "viz|idle|v[1-2]""#;
    assert_eq!(ask(script, LONG).await, "viz=v[1-2]");
}

#[tokio::test]
async fn its_failures_are_told_with_their_reason() {
    let failed = "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1";
    let expected =
        "/sinfo failed with exit status: 1: slurm_load_partitions: Unable to contact slurm controller";
    assert_eq!(ask(failed, LONG).await, expected);
    assert_eq!(ask("exit 3", LONG).await, "/sinfo failed with exit status: 3: it did not say why");
    let long = ask("yes complaint | head -c 1000000 >&2; exit 1", LONG).await;
    assert!(long.len() < 1_024 && long.ends_with("complaint"), "{long}");
    assert_eq!(ask("yes 'a|b'", LONG).await, "/sinfo printed more than 16777216 bytes");
    let absent = Sinfo { program: "/does/not/exist".into(), interval: LONG, limit: LONG };
    let told = show(absent.ask().await);
    assert_eq!(
        told,
        "cannot run /does/not/exist; is Slurm installed on this machine?: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn one_that_hangs_is_ended_with_everything_it_started() {
    // The shell ends at once; its child keeps the pipe open, as a wrapper script's would.
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("alive");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let script =
        format!("(exec 3<>{0}; echo started >&3; exec sleep 1000) & read line <{0}; wait", fifo.display());
    let began = Instant::now();
    let told = ask(&script, Duration::from_millis(500)).await;
    assert_eq!(told, "/sinfo did not answer within 500ms; is slurmctld running?");
    assert!(began.elapsed() < LONG);
    // Only when the last process that holds the FIFO for writing is gone does reading it end.
    let ended = tokio::task::spawn_blocking(move || {
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
        let mut reader =
            std::os::unix::fs::OpenOptionsExt::custom_flags(fs::File::options().read(true), flags)
                .open(&fifo)
                .unwrap();
        while io::Read::read(&mut reader, &mut [0; 64]).is_err() {
            assert!(began.elapsed() < LONG, "what sinfo started is still there");
            std::thread::yield_now();
        }
    });
    ended.await.unwrap();
}
