//! What is in the packages, without installing them.

use std::collections::BTreeSet;
use std::fs;

use sifleet_tests::packaging::run;
use std::process::Command;

use super::packages;

#[test]
fn the_same_programs_give_the_same_packages_and_both_kinds_hold_the_same() {
    let (made, again) = (packages("0.0.1"), packages("0.0.1+again"));
    let bytes = |path| fs::read(path).unwrap();
    for (one, other) in made.iter().zip(&again) {
        assert!(bytes(one) == bytes(other), "{} is not the same twice", one.display());
    }
    let (debian, redhat) = made.split_at(3);
    for (deb, rpm) in debian.iter().zip(redhat) {
        let listed = run(Command::new("dpkg-deb").arg("-c").arg(deb)).unwrap();
        let of_deb: BTreeSet<_> = listed.lines().filter(|line| !line.starts_with('d')).map(deb_row).collect();
        let Ok(listed) = run(Command::new("rpm")
            .args(["-qp", "--qf", "[%{FILEMODES:perms} %{FILESIZES} %{FILENAMES}\n]"])
            .arg(rpm))
        else {
            println!("skipped: rpm is missing; the machine's own compares the names");
            continue;
        };
        let of_rpm: BTreeSet<_> = listed.lines().filter(|line| !line.starts_with('d')).map(rpm_row).collect();
        assert_eq!(of_deb, of_rpm, "{}", deb.display());
    }
}

fn deb_row(line: &str) -> (String, String, String) {
    let words: Vec<_> = line.split_whitespace().collect();
    let path = words[5].trim_start_matches('.').replace("/zsh/vendor-completions/", "/zsh/site-functions/");
    (words[0].to_owned(), words[2].to_owned(), path)
}

fn rpm_row(line: &str) -> (String, String, String) {
    let words: Vec<_> = line.split_whitespace().collect();
    (words[0].to_owned(), words[1].to_owned(), words[2].to_owned())
}
