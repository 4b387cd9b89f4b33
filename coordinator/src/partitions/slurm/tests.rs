//! Tests of reading what `sinfo` prints, and of running one that misbehaves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::*;
use crate::partitions::reason;
use sifleet_common::nodeset::NodeSet;

fn show(answer: Result<Members, SlurmError>) -> String {
    match answer {
        Ok(members) => members
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
        "compute|c[1-4]\nviz|v[1-2]\nshared|c[1-2],v1\nempty|\n",
        "compute=c[1-4] empty= shared=c[1-2],v1 viz=v[1-2]",
    );
    check("a|n1\nb|n1\na|n[2-3]", "a=n[1-3] b=n1");
    check("a|(null)\nb|n/a\n\n", "a= b=");
    check("", "");
    check("a|n1   \r\n", "a=n1");
}

#[test]
fn a_line_that_is_not_a_partition_is_named() {
    check("a|n1\nsinfo: error", "line 2 of what sinfo printed is not NAME|NODES: \"sinfo: error\"");
    check("a b|n1", "line 1 of what sinfo printed cannot be used: not the name of a partition: ' ' cannot…");
    check("a|n[1-", "line 1 of what sinfo printed cannot be used: the nodes of partition a cannot be read…");
    check("a|n[1-999999999999]", "line 1 of what sinfo printed cannot be used: the nodes of partition a…");
    check("a|b|c", "line 1 of what sinfo printed cannot be used: the nodes of partition a cannot…");
    check(b"a|\xff", "line 1 of what sinfo printed is not NAME|NODES: \"a|\u{fffd}\"");
    check(
        "x".repeat(500),
        &format!("line 1 of what sinfo printed is not NAME|NODES: \"{}\"", "x".repeat(80)),
    );
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
    let script = r#"[ "$*" = "-h --all -o %R|%N" ] && echo "viz|v[1-2]""#;
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
