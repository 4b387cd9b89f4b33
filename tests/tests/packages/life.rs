//! The life of the Debian packages on one machine, from the first installation to the purge.

use std::collections::BTreeMap;

use serde_json::Value;
use sifleet_common::telemetry::catalog;
use sifleet_tests::machine::Machine;
use sifleet_tests::sif::SifBuilder;

use super::{DAEMONS, difference, files, folder, machine, packages};

/// The machine's name as a node.
const NODE: &str = "labnode";

#[test]
fn packages_install_run_are_watched_over_upgraded_removed_and_purged() {
    let (first, second) = (packages("0.0.1"), packages("0.0.2"));
    let test = "packages_install_run_are_watched_over_upgraded_removed_and_purged";
    let Some(machine) = machine(test, &[folder(&first), folder(&second)]) else { return };
    let before = files(&machine);
    install(&machine, folder(&first).to_str().unwrap());
    nothing_starts_by_itself_and_what_lacks_a_certificate_says_so_once(&machine);
    start(&machine);
    images_are_found(&machine);
    the_journal_can_be_asked(&machine);
    the_sandbox_is_applied(&machine);
    killed_services_come_back(&machine);
    standing_services_are_replaced(&machine);
    a_certificate_for_the_web_is_handed_over_by_systemd(&machine);
    an_upgrade_keeps_settings_and_restarts(&machine, folder(&second).to_str().unwrap());
    removal_keeps_data_and_purge_none(&machine, folder(&second).to_str().unwrap(), &before);
    a_purge_ends_whatever_lies_in_its_way(&machine, folder(&second).to_str().unwrap());
}

fn install(machine: &Machine, packages: &str) {
    machine.run(&format!("dpkg -i {packages}/*.deb"));
    let verified = machine.output("systemd-analyze verify sifleet-agent.service sifleet-coordinator.service");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty() && verified.stdout.is_empty(), "{said}");
    for daemon in DAEMONS {
        machine.run(&format!(
            "test -s /usr/share/man/man8/{daemon}.8.gz && test -s /etc/sifleet/{}.toml",
            &daemon[8..]
        ));
    }
    machine.run("bash -n /usr/share/bash-completion/completions/sifleet");
}

fn nothing_starts_by_itself_and_what_lacks_a_certificate_says_so_once(machine: &Machine) {
    for daemon in DAEMONS {
        assert_eq!(machine.property(daemon, "ActiveState"), "inactive");
        assert_eq!(machine.property(daemon, "UnitFileState"), "disabled");
        assert!(
            !machine.output(&format!("systemctl start {daemon}")).status.success(),
            "{daemon} has no certificate"
        );
        machine.until("it has ended", |machine| machine.property(daemon, "ActiveState") == "failed").unwrap();
        assert_eq!(machine.property(daemon, "ExecMainStatus"), "78", "{daemon}");
        assert_eq!(machine.property(daemon, "NRestarts"), "0", "{daemon}");
    }
    let entry = newest(machine, &format!("MESSAGE_ID={}", catalog::NO_CERTIFICATE));
    assert_eq!(entry["PRIORITY"], "3");
    let explained = machine.run(&format!("journalctl -x MESSAGE_ID={}", catalog::NO_CERTIFICATE));
    assert!(explained.contains("Subject: This node has no usable certificate"), "{explained}");
}

/// Gives the node its certificate by the line that is printed, and nothing else.
fn enrol(machine: &Machine) {
    let line = machine.run(&format!("sifleet token create --nodes {NODE} 2>/dev/null"));
    assert_eq!(line.lines().count(), 1, "{line}");
    // Careful roots let nobody read what they make.
    let said = machine.run(&format!("umask 077; {line}"));
    assert!(said.contains(&format!("{NODE} is enrolled")) && said.contains("00-enrolled.toml"), "{said}");
    let listed = machine.run("stat -c '%n %U:%G %a' /var/lib/sifleet/agent/tls/* | sort");
    let files = [("ca.pem", "600"), ("node.key", "600"), ("node.pem", "600")];
    let wanted =
        files.map(|(name, mode)| format!("/var/lib/sifleet/agent/tls/{name} sifleet:sifleet {mode}\n"));
    assert_eq!(listed, wanted.concat());
    let again = machine.output(&line);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(!again.status.success() && said.contains("serves once"), "{said}");
}

fn start(machine: &Machine) {
    // By root, for the user that the coordinator runs as.
    machine.run("umask 022; sifleet-coordinator ca init --name localhost --name labnode");
    let listed = machine.run("cd /var/lib/sifleet/coordinator && stat -c '%n %U:%G %a' ca ca/*");
    let (dir, key, open) = ("sifleet:sifleet 700", "sifleet:sifleet 600", "sifleet:sifleet 644");
    assert_eq!(
        listed,
        format!(
            "ca {dir}\nca/ca.key {key}\nca/ca.pem {open}\nca/coordinator.key {key}\nca/coordinator.pem {open}\n"
        )
    );
    machine.run("systemctl enable --now sifleet-coordinator");
    enrol(machine);
    // `Type=notify`: whoever returns from this has been told that all is ready.
    machine.run("systemctl enable --now sifleet-agent");
    for daemon in DAEMONS {
        assert_eq!(machine.property(daemon, "ActiveState"), "active");
        assert_eq!(machine.property(daemon, "User"), "sifleet");
    }
    until_online(machine);
}

fn until_online(machine: &Machine) {
    machine
        .until("the node is online", |machine| {
            let said = machine.output("sifleet node ls -o json");
            String::from_utf8_lossy(&said.stdout).contains("\"online\"")
        })
        .unwrap();
}

fn images_are_found(machine: &Machine) {
    let image = SifBuilder::new().payload_bytes(1 << 20, 1).bytes();
    machine.write("/opt/apptainers/vnc_desktop.sif", &image).unwrap();
    machine
        .until("the image is ready", |machine| {
            let said = machine.output("sifleet node ls -o json");
            String::from_utf8_lossy(&said.stdout).contains("\"images\":1,")
        })
        .unwrap();
}

/// Returns the newest entry of the journal that matches.
fn newest(machine: &Machine, matches: &str) -> BTreeMap<String, Value> {
    let said = machine.run(&format!("journalctl -o json -n 1 {matches}"));
    assert!(!said.trim().is_empty(), "the journal has nothing of {matches}");
    serde_json::from_str(&said).unwrap()
}

fn the_journal_can_be_asked(machine: &Machine) {
    let entry = newest(machine, &format!("NODE={NODE} _SYSTEMD_UNIT=sifleet-coordinator.service"));
    assert_eq!(entry["MESSAGE"], "node is online");
    assert_eq!(entry["SYSLOG_IDENTIFIER"], "sifleet-coordinator");
    let entry = newest(machine, "PATH=/opt/apptainers _SYSTEMD_UNIT=sifleet-agent.service");
    assert!(entry.contains_key("CODE_FILE") && entry.contains_key("PRIORITY"), "{entry:?}");
    // What `systemctl status` shows is told every half minute.
    let status = machine.property("sifleet-agent", "StatusText");
    assert!(status.ends_with("connected to the coordinator"), "{status}");
}

fn pid(machine: &Machine, daemon: &str) -> String {
    machine.property(daemon, "MainPID")
}

/// Tells whether a service runs, as another process than before; 0 is none.
fn is_another(machine: &Machine, daemon: &str, old: &str) -> bool {
    let pid = pid(machine, daemon);
    pid != old && pid != "0" && machine.property(daemon, "ActiveState") == "active"
}

fn the_sandbox_is_applied(machine: &Machine) {
    // CAP_DAC_OVERRIDE is bit 1, CAP_LEASE bit 28.
    let powers = [("sifleet-agent", "0000000010000002"), ("sifleet-coordinator", "0000000000000000")];
    for (daemon, powers) in powers {
        let pid = pid(machine, daemon);
        let status = machine.run(&format!("cat /proc/{pid}/status"));
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap()
                .trim()
                .to_owned()
        };
        for set in ["CapBnd", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(set), powers, "{daemon}: {set}");
        }
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".to_owned(), "2".to_owned()), "{daemon}");
        let user = machine.run("id -u sifleet");
        assert!(field("Uid").split_whitespace().all(|id| id == user.trim()), "{daemon}: {}", field("Uid"));
        // What root could do from within: the disk is as the service sees it.
        for path in ["/etc", "/usr", "/opt", "/root", "/srv", "/var/lib", "/boot", "/proc/sys/kernel"] {
            let tried = machine.output(&format!("nsenter --target {pid} --mount -- touch {path}/tried"));
            assert!(!tried.status.success(), "{daemon} may write below {path}");
        }
        machine.run(&format!("nsenter --target {pid} --mount -- sh -c '! ls /dev/mem /dev/fuse /dev/kmsg'"));
    }
    let (agent, coordinator) = (pid(machine, "sifleet-agent"), pid(machine, "sifleet-coordinator"));
    machine.run(&format!("nsenter -t {agent} -m -- sh -c 'touch /opt/apptainers/x && rm /opt/apptainers/x'"));
    machine.run(&format!("nsenter -t {coordinator} -m -- sh -c '! touch /opt/apptainers/x'"));
    machine.run(
        "stat -c %a:%U /var/lib/sifleet/agent /var/lib/sifleet/coordinator | uniq | grep -qx 700:sifleet",
    );
    machine.run("test $(stat -c %a /var/lib/sifleet/coordinator/ca/ca.key) = 600");
}

fn killed_services_come_back(machine: &Machine) {
    for daemon in DAEMONS {
        let old = pid(machine, daemon);
        machine.run(&format!("kill -9 {old}"));
        machine.until("it runs again", |machine| is_another(machine, daemon, &old)).unwrap();
        assert_eq!(machine.property(daemon, "NRestarts"), "1", "{daemon}");
    }
    until_online(machine);
}

fn standing_services_are_replaced(machine: &Machine) {
    // A minute is what the units give; nobody waits for that here. Twice the agent's slowest beat is the least it can do with.
    let patience = "[Service]\nWatchdogSec=12\nTimeoutAbortSec=1\n";
    for daemon in DAEMONS {
        let drop_in = format!("/etc/systemd/system/{daemon}.service.d/test.conf");
        machine.write(&drop_in, patience.as_bytes()).unwrap();
    }
    machine.run("systemctl daemon-reload && systemctl restart sifleet-coordinator sifleet-agent");
    let old = DAEMONS.map(|daemon| pid(machine, daemon));
    // Longer than the patience: whoever moves is left alone.
    machine.run("sleep 15");
    assert_eq!(DAEMONS.map(|daemon| pid(machine, daemon)), old, "a service that moves was replaced");
    machine.run(&format!("kill -STOP {} {}", old[0], old[1]));
    for (daemon, old) in DAEMONS.iter().zip(&old) {
        machine.until("it was replaced", |machine| is_another(machine, daemon, old)).unwrap();
        let said = machine.run(&format!("journalctl -u {daemon} -o cat"));
        assert!(said.contains("Watchdog timeout"), "{daemon}: {said}");
    }
    machine.run("rm -r /etc/systemd/system/sifleet-*.service.d && systemctl daemon-reload");
    machine.run("systemctl restart sifleet-coordinator sifleet-agent");
    until_online(machine);
}

fn a_certificate_for_the_web_is_handed_over_by_systemd(machine: &Machine) {
    let (ca, own) = ("/var/lib/sifleet/coordinator/ca", "/etc/ssl/private/web");
    // Root's alone, in a directory that the coordinator cannot read.
    machine.run(&format!(
        "install -d -m 700 {own} && install -m 600 {ca}/coordinator.pem {own}/sifleet-web.pem \
         && install -m 600 {ca}/coordinator.key {own}/sifleet-web.key"
    ));
    let drop_in: String = ["[Service]\n".to_owned()]
        .into_iter()
        .chain(
            ["pem", "key"].map(|end| format!("LoadCredential=sifleet-web.{end}:{own}/sifleet-web.{end}\n")),
        )
        .collect();
    machine.write("/etc/systemd/system/sifleet-coordinator.service.d/web.conf", drop_in.as_bytes()).unwrap();
    let given = "/run/credentials/sifleet-coordinator.service";
    let settings = format!(
        "[http]\ntls = {{ certificate = \"{given}/sifleet-web.pem\", key = \"{given}/sifleet-web.key\" }}\n"
    );
    machine.write("/etc/sifleet/coordinator.toml.d/tls.toml", settings.as_bytes()).unwrap();
    machine.run("systemctl daemon-reload && systemctl restart sifleet-coordinator");
    machine.run(&format!(
        "SIFLEET_URL=https://localhost:7440 SIFLEET_CA_FILE={ca}/ca.pem sifleet image ls || test $? = 11"
    ));
    machine.run(
        "rm -r /etc/ssl/private/web /etc/systemd/system/sifleet-coordinator.service.d /etc/sifleet/coordinator.toml.d/tls.toml",
    );
    machine.run("systemctl daemon-reload && systemctl restart sifleet-coordinator");
}

fn an_upgrade_keeps_settings_and_restarts(machine: &Machine, packages: &str) {
    machine.run("echo '# ours' >>/etc/sifleet/agent.toml && echo '# ours' >>/etc/sifleet/coordinator.toml");
    let old = DAEMONS.map(|daemon| pid(machine, daemon));
    machine.run(&format!("dpkg -i {packages}/*.deb"));
    for (daemon, old) in DAEMONS.iter().zip(&old) {
        assert_eq!(machine.property(daemon, "ActiveState"), "active");
        assert_ne!(pid(machine, daemon), *old, "{daemon} still runs the old program");
        assert_eq!(machine.property(daemon, "UnitFileState"), "enabled");
        machine.run(&format!("grep -qx '# ours' /etc/sifleet/{}.toml", &daemon[8..]));
    }
    until_online(machine);
}

fn removal_keeps_data_and_purge_none(machine: &Machine, packages: &str, before: &[String]) {
    // Root's scripts run beside what the user has put into its own directory.
    let planted = "runuser -u sifleet -- ln -s /etc/passwd /var/lib/sifleet/agent/roots";
    machine.run(&format!("{planted} && sha256sum /etc/passwd >/run/passwd.sum"));
    machine.run("dpkg -r sifleet-agent sifleet-coordinator sifleet");
    machine.run("sha256sum --quiet -c /run/passwd.sum && test -L /var/lib/sifleet/agent/roots");
    for daemon in DAEMONS {
        assert_eq!(machine.property(daemon, "ActiveState"), "inactive");
        machine.run(&format!(
            "test ! -e /usr/bin/{daemon} && grep -qx '# ours' /etc/sifleet/{}.toml",
            &daemon[8..]
        ));
    }
    machine
        .run("test -s /var/lib/sifleet/coordinator/ca/ca.key && test -s /var/lib/sifleet/agent/tls/node.key");
    // Back again: what was enabled is enabled, with the same authority and the same node.
    machine.run(&format!("dpkg -i {packages}/*.deb && systemctl start sifleet-coordinator sifleet-agent"));
    assert_eq!(machine.property("sifleet-agent", "UnitFileState"), "enabled");
    until_online(machine);
    // An image that was brought here is its user's, and stays; so does the user, whichever package goes last.
    machine.run(
        "chown sifleet: /opt/apptainers/vnc_desktop.sif && install -d -o sifleet /opt/apptainers/.sifleet",
    );
    machine.run("dpkg -P sifleet-agent && dpkg -P sifleet-coordinator sifleet");
    let left = difference(before, &files(machine));
    assert_eq!(left, ["+ /opt/apptainers", "+ /opt/apptainers/vnc_desktop.sif"]);
    machine.run("test $(stat -c %U /opt/apptainers/vnc_desktop.sif) = sifleet");
    machine.run("sha256sum --quiet -c /run/passwd.sum");
    // Without any, nothing stays but the user.
    machine.run("rm /opt/apptainers/vnc_desktop.sif");
    machine.run(&format!("dpkg -i {packages}/*.deb && dpkg -P sifleet sifleet-coordinator sifleet-agent"));
    assert_eq!(difference(before, &files(machine)), Vec::<String>::new());
    machine.run("id sifleet && ! systemctl cat sifleet-agent 2>/dev/null");
}

fn a_purge_ends_whatever_lies_in_its_way(machine: &Machine, packages: &str) {
    let purged = |prepare: &str, after: &str| {
        machine.run(&format!("dpkg -i {packages}/*.deb && {prepare}"));
        machine.run("dpkg -P sifleet sifleet-agent sifleet-coordinator");
        machine.run("test ! -e /etc/sifleet && ! dpkg -s sifleet-agent 2>/dev/null");
        machine.run(after);
    };
    // Images elsewhere, maybe of many nodes.
    purged(
        "mkdir -p /srv/images/.sifleet && rmdir /opt/apptainers && ln -s /srv/images /opt/apptainers",
        "test -d /srv/images/.sifleet && rm /opt/apptainers && rm -r /srv/images",
    );
    purged(
        "mount -t tmpfs images /opt/apptainers && mkdir /opt/apptainers/.sifleet",
        "test -d /opt/apptainers/.sifleet && umount /opt/apptainers && rmdir /opt/apptainers",
    );
    // What cannot be removed is left alone; all else goes.
    purged(
        "mount -t tmpfs state /var/lib/sifleet/agent",
        "test ! -e /var/lib/sifleet/coordinator && umount /var/lib/sifleet/agent",
    );
}
