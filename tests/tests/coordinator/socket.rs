//! Who asks over the unix socket, and tokens from their making to their end, with the real programs.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A number that no system gives to anybody.
const STRANGER: &str = "4123456789";

impl Site {
    /// Listens on a socket that everybody may reach, as the one in /run is.
    fn with_socket(more: &str) -> Self {
        let site = Self::ready();
        fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let text = fs::read_to_string(site.settings()).unwrap();
        let http =
            format!("http = {{ listen = \"127.0.0.1:0\", socket = {:?}{more} }}", site.path("http.sock"));
        fs::write(site.settings(), text.replace(r#"http = { listen = "127.0.0.1:0" }"#, &http)).unwrap();
        site
    }

    fn sifleet(&self, url: &str) -> Command {
        let mut command = Command::new(own("sifleet").unwrap());
        command.env("SIFLEET_URL", url).env_remove("SIFLEET_TOKEN_FILE").env_remove("SIFLEET_TOKEN");
        command
    }

    /// Runs the command line against the socket.
    fn locally(&self, arguments: &[&str]) -> Output {
        self.sifleet(&format!("unix:{}", self.path("http.sock").display())).args(arguments).output().unwrap()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn the_coordinators_own_user_makes_tokens_over_the_socket_and_they_end_when_revoked() {
    let site = Site::with_socket("");
    let running = site.start();
    let create = ["token", "create", "--role", "viewer", "--name", "dashboard", "-o", "name"];
    let made = site.locally(&create);
    assert_eq!(code(&made), 0, "{}", told(&made));
    let (secret, file) = (said(&made), site.path("token"));
    assert!(secret.starts_with("sifleet_4_"), "{secret}");
    fs::write(&file, format!("{secret}\n")).unwrap();
    let list = |file: &Path| {
        site.sifleet(&running.url).args(["node", "ls", "--token-file"]).arg(file).output().unwrap()
    };
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let open = list(&file);
    assert_eq!(code(&open), 2, "{}", told(&open));
    assert!(told(&open).contains("others may read") && told(&open).contains("chmod 600"), "{}", told(&open));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(code(&list(&file)), 0);

    let refused =
        site.sifleet(&running.url).args(["token", "ls"]).env("SIFLEET_TOKEN", &secret).output().unwrap();
    assert_eq!(code(&refused), 11, "{}", told(&refused));
    assert!(told(&refused).contains("needs the role admin"), "{}", told(&refused));
    assert_eq!(code(&site.sifleet(&running.url).args(["node", "ls"]).output().unwrap()), 11);

    assert_eq!(code(&site.locally(&["token", "revoke", "t-000004"])), 0);
    assert_eq!(code(&list(&file)), 11);
    let audit = said(&site.locally(&["audit", "-o", "csv"]));
    assert!(audit.contains("DELETE,/v1/tokens/{id},/v1/tokens/t-000004,200"), "{audit}");
    assert!(audit.contains(",403,") && audit.contains(",401,"), "{audit}");
    assert!(running.end(Signal::TERM).success());
    assert!(!site.path("http.sock").exists());
    let log = fs::read_to_string(site.path("log")).unwrap();
    assert!(log.contains("a change was asked for") && log.contains("a request was refused"), "{log}");
    assert!(!log.contains(secret.rsplit('_').next().unwrap()), "{log}");
}

#[test]
fn a_user_of_the_machine_may_what_the_settings_say_and_others_nothing() {
    if !rustix::process::geteuid().is_root() || sifleet_tests::programs::find("setpriv").is_none() {
        return;
    }
    let site = Site::with_socket(", users = { nobody = \"viewer\" }");
    let running = site.start();
    // Where it was built may be closed to others.
    let program = site.path("sifleet");
    fs::copy(own("sifleet").unwrap(), &program).unwrap();
    let url = format!("unix:{}", site.path("http.sock").display());
    let asks = |uid: &str, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", uid, "--clear-groups", "--"]).arg(&program).args(arguments);
        let output = command.env("SIFLEET_URL", &url).env_remove("SIFLEET_TOKEN_FILE").output().unwrap();
        (code(&output), told(&output))
    };
    assert_eq!(asks("65534", &["node", "ls"]).0, 0);
    let (refused, told) = asks("65534", &["node", "rescan", "viz001"]);
    assert!(refused == 11 && told.contains("needs the role operator, and the caller is viewer"), "{told}");
    let (refused, told) = asks(STRANGER, &["node", "ls"]);
    assert!(refused == 11 && told.contains("needs the role viewer, and none is given"), "{told}");
    let audit = said(&site.locally(&["audit", "-o", "csv"]));
    assert!(audit.contains("user,65534,nobody,socket,POST,"), "{audit}");
    assert!(audit.contains(&format!("user,{STRANGER},,socket,GET,")), "{audit}");
    assert!(running.end(Signal::TERM).success());
}
