//! The RPM packages, with Debian's rpm: their dependencies are not solved, everything else is.

use sifleet_tests::programs::workspace;

use super::contents::both_kinds_hold_the_same;
use super::{difference, files, folder, machine, packages};

#[test]
fn rpms_are_sound_hold_what_debs_do_install_and_leave_nothing_but_data() {
    let made = packages("0.0.1");
    let test = "rpms_are_sound_hold_what_debs_do_install_and_leave_nothing_but_data";
    let Some(machine) = machine(test, &[folder(&made)]) else { return };
    both_kinds_hold_the_same(&machine, &made);
    let packages = format!("{}/*.rpm", folder(&made).display());
    let filters = std::fs::read(workspace().join("packaging/rpm/rpmlint.toml")).unwrap();
    machine.write("/tmp/rpmlint.toml", &filters).unwrap();
    let said = machine.output(&format!("rpmlint --config /tmp/rpmlint.toml {packages}"));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains(" 0 errors, 0 warnings"), "{said}");
    let before = files(&machine);
    let rpm = "rpm --dbpath /var/cache/rpm-test";
    machine.run(&format!("{rpm} -i --nodeps {packages}"));
    machine.run("id sifleet && test -d /var/lib/sifleet/agent");
    // Nothing runs, and nothing would: what was installed makes no decision.
    machine.run("systemctl cat sifleet-agent sifleet-coordinator");
    machine.run("! systemctl is-active sifleet-agent sifleet-coordinator");
    machine.run("sifleet --version && sifleet-agent --check-config && sifleet-coordinator --check-config");
    machine.run("echo '# ours' >>/etc/sifleet/agent.toml");
    machine.run("sifleet-coordinator ca init --name localhost");
    machine.run("systemctl enable --now sifleet-coordinator");
    machine.run(&format!("{rpm} -e sifleet sifleet-agent sifleet-coordinator"));
    machine.run("! systemctl is-active sifleet-coordinator");
    let left = difference(&before, &files(&machine));
    let is_data = |row: &String| {
        ["+ /var/lib/sifleet", "+ /etc/sifleet/agent.toml.rpmsave", "+ /opt/apptainers"]
            .iter()
            .any(|data| row.starts_with(data))
            // Red Hat's `filesystem` owns these.
            || ["+ /etc/sifleet", "+ /usr/share/fish", "+ /usr/share/fish/vendor_completions.d", "+ /usr/share/zsh/site-functions"].contains(&row.as_str())
    };
    let unexpected: Vec<_> = left.iter().filter(|row| !is_data(row)).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert!(left.contains(&"+ /var/lib/sifleet/coordinator/ca/ca.key".to_owned()), "{left:#?}");
    assert!(left.contains(&"+ /etc/sifleet/agent.toml.rpmsave".to_owned()), "{left:#?}");
}
