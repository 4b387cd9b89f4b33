//! What is in the packages, without installing them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use sifleet_tests::machine::Machine;

use super::packages;

/// Mode, size and path of a file.
type Row = (String, String, String);

#[test]
fn the_same_programs_give_the_same_packages() {
    let (made, again) = (packages("0.0.1"), packages("0.0.1+again"));
    let bytes = |path| fs::read(path).unwrap();
    for (one, other) in made.iter().zip(&again) {
        assert!(bytes(one) == bytes(other), "{} is not the same twice", one.display());
    }
}

/// Compares what a Debian and a Red Hat package hold: paths, sizes and modes. The machine has the tools of both.
pub(super) fn both_kinds_hold_the_same(machine: &Machine, made: &[PathBuf]) {
    let (debian, redhat) = made.split_at(3);
    for (deb, rpm) in debian.iter().zip(redhat) {
        let of_deb = machine.run(&format!("dpkg-deb -c {}", deb.display()));
        let of_rpm = machine.run(&format!(
            r"rpm -qp --qf '[%{{FILEMODES:perms}} %{{FILESIZES}} %{{FILENAMES}}\n]' {}",
            rpm.display()
        ));
        let (of_deb, of_rpm) = (rows(&of_deb, deb_row), rows(&of_rpm, rpm_row));
        assert!(of_deb.len() > 5, "{}: {of_deb:?}", deb.display());
        assert_eq!(of_deb, of_rpm, "{}", deb.display());
    }
}

fn rows(listed: &str, row: fn(&str) -> Row) -> BTreeSet<Row> {
    listed.lines().filter(|line| !line.starts_with('d')).map(row).collect()
}

fn deb_row(line: &str) -> Row {
    let words: Vec<_> = line.split_whitespace().collect();
    let path = words[5].trim_start_matches('.').replace("/zsh/vendor-completions/", "/zsh/site-functions/");
    (words[0].to_owned(), words[2].to_owned(), path)
}

fn rpm_row(line: &str) -> Row {
    let words: Vec<_> = line.split_whitespace().collect();
    (words[0].to_owned(), words[1].to_owned(), words[2].to_owned())
}
